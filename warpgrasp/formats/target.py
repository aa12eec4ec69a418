"""Where an export goes: checked before the work, and whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileFormatError
from ..files import atomic_file


@contextmanager
def whole_file(path: Path, *suffixes: str) -> Iterator[Path]:
    """A name to write to; the file gets its own name when everything went well.

    Raises:
        FileFormatError: The name has another suffix, or its folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise FileFormatError(path, f"give a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise FileFormatError(path, "is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"the folder {path.parent} does not exist")
    with atomic_file(path, path.suffix) as temporary:
        yield temporary


def empty_folder(path: Path) -> Path:
    """A folder that is there and empty: grasps of two exports in one would pass for grasps of one.

    Raises:
        FileFormatError: It holds something, or a file has its name.
    """
    if path.exists() and not path.is_dir():
        raise FileFormatError(path, "is a file; this format is a folder")
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileFormatError(path, "is not empty; delete it or export to another folder")
    return path


def matching_files(path: Path, suffix: str) -> list[Path]:
    """The file itself, or all files below a folder, by name and number.

    Raises:
        FileFormatError: There is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileFormatError(path, "there is no such file or folder")
    files = sorted(path.rglob(f"*{suffix}"), key=lambda file: (str(file.parent), len(file.name), file.name))
    if not files:
        raise FileFormatError(path, f"there is no {suffix} file in the folder")
    return files
