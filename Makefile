# `make demo` and `make test` set up everything they need on a fresh machine with Python 3.11 or newer and a network.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WHEEL_VENV := .venv-wheel

.DELETE_ON_ERROR:
.PHONY: demo test setup lint types check wheel pictures clean

## demo: find grasps of a mug with an Allegro hand, and draw them
demo: $(READY)
	@mkdir -p demo
	$(BIN)/python examples/mug.py demo/mug.obj
	$(BIN)/warpgrasp synthesize allegro demo/mug.obj --count 16 --out demo/grasps.npz --preview demo/grasps.png
	@echo
	@echo "mesh     $(CURDIR)/demo/mug.obj"
	@echo "grasps   $(CURDIR)/demo/grasps.npz"
	@echo "picture  $(CURDIR)/demo/grasps.png"

## test: everything that continuous integration runs
test: lint types check wheel
	@echo "all checks passed"

setup: $(READY)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

check: $(READY)
	$(BIN)/python -m pytest -q --durations=10

## wheel: build the wheel, install it away from the checkout and use it there
wheel: $(READY)
	rm -rf build dist $(WHEEL_VENV)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --no-deps dist/*.whl
	@# The dependencies are borrowed. A path in a .pth file adds a folder, and not that folder's own .pth files, so the
	@# editable install of the checkout stays behind.
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(WHEEL_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	cd $(WHEEL_VENV) && bin/python -I ../tests/installed.py

## pictures: draw the pictures of the documentation again
pictures: $(READY)
	$(BIN)/python docs/pictures.py

# torch comes first and alone, so that no other requirement chooses its version.
$(READY): pyproject.toml
	@$(if $(PYTHON),,echo "make: needs Python 3.11 or newer; install it or pass PYTHON=/path/to/python3" >&2; exit 1)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON) is not Python 3.11 or newer; pass PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv module; install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install torch==2.13.0
	$(BIN)/python -m pip install -e . --group dev
	@touch $@

clean:
	rm -rf build dist demo *.egg-info $(VENV) $(WHEEL_VENV)
