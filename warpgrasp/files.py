"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

TEMPORARY = ".tmp"
"""Suffix of files that are being written; what a killed process leaves of them may be deleted."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever looks finds what was there before or all of the new content, also after a crash.

    It is written under another name beside it, flushed to the disk and renamed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Have the disk remember a new name in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
