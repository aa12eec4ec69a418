"""Importing the package is cheap, and so is asking the command line for help."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "mujoco", "matplotlib", "pytorch_kinematics", "viser", "ray")


def fastest(arguments: list[str], repeats: int = 3) -> float:
    """Wall time [s] of the fastest of some runs of Python; one run may be slow on a busy machine."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def loaded_by(code: str) -> set[str]:
    """Names of the top-level modules that are loaded after some code."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import warpgrasp", "import warpgrasp; warpgrasp.load_hand"])
def test_import_loads_nothing_heavy(code):
    assert loaded_by(code).isdisjoint(HEAVY)


def test_import_takes_less_than_a_second():
    assert fastest(["-c", "import warpgrasp"]) - fastest(["-c", "pass"]) < 1.0


def test_help_is_quick_and_starts_no_warp():
    assert loaded_by("import warpgrasp.cli; warpgrasp.cli.make_parser()").isdisjoint({"warp", "numpy", *HEAVY})
    assert fastest(["-m", "warpgrasp", "--help"]) - fastest(["-c", "pass"]) < 0.5


def test_every_public_name_exists():
    import warpgrasp

    public = [name for name in dir(warpgrasp) if not name.startswith("_")]
    assert {"load_hand", "load_object", "synthesize", "load_grasps", "WarpgraspError"} <= set(public)
    assert [name for name in public if not hasattr(warpgrasp, name)] == []


def test_a_public_function_is_not_hidden_by_a_module_of_its_name():
    code = "import warpgrasp; warpgrasp.synthesize; assert callable(warpgrasp.load_hand), warpgrasp.load_hand"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
