"""Files that appear whole or not at all: however the writer ends, the old content or the new one is there."""

import os
import subprocess
import sys

import pytest

from warpgrasp.files import TEMPORARY, atomic_file, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from warpgrasp.files import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["half a metre is 0.5 m², two lines\n", b"\x00\r\n\xff"])
def test_content_replaces_what_was_there(content, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_changes_nothing(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_writer_that_is_killed_leaves_the_old_file_and_one_to_sweep(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"
    left = [name for name in names(tmp_path) if name != "file.txt"]
    assert len(left) == 1
    assert left[0].startswith(".file.txt.")
    assert left[0].endswith(TEMPORARY)


def test_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    done = []
    fsync, replace = os.fsync, os.replace

    def flush(handle):
        done.append(("flush", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def rename(source, target):
        done.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    with atomic_file(path, ".usda") as temporary:
        temporary.write_text("new")
    assert temporary.suffix == ".usda"
    assert done == [("flush", temporary.name), ("rename", "file.txt"), ("flush", tmp_path.name)]


def test_two_writers_at_once_do_not_share_a_name(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_file(path) as first, atomic_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file.txt"]


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    write_atomically(tmp_path / "whole.txt", "x")
    (tmp_path / "plain.txt").write_text("x")
    assert (tmp_path / "whole.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode
