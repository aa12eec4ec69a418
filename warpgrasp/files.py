"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

TEMPORARY = ".tmp"
"""Suffix of files that are being written; what a killed process leaves of them may be deleted."""


@contextmanager
def atomic_file(path: Path, suffix: str = TEMPORARY) -> Iterator[Path]:
    """A name beside a file to write to, so that whoever looks finds what was there before or all of the new content.

    When the block ends, what was written is flushed to the disk and renamed, so a crash changes nothing about it. When
    it raises, the file stays as it was.

    Args:
        path: The file.
        suffix: What the other name ends in, for writers that choose a format by it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # The new name. Windows opens no folder, and some file systems flush none; the file is whole there too.
    with suppress(OSError):
        _flush(path.parent, os.O_RDONLY)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file as :func:`atomic_file` does; text is UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write a compressed ``.npz`` file as :func:`atomic_file` does."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _flush(path: Path, mode: int) -> None:
    """Have the disk remember a file, or the names in a folder."""
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
