"""What commands accept, and what they refuse before the long work."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileFormatError, WarpgraspError

if TYPE_CHECKING:
    from ..result import Grasps


def number(kind: Callable[[str], float], accept: Callable[[float], bool], words: str) -> Callable[[str], float]:
    """An argparse type that accepts only some numbers."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and accept(value)):
            raise argparse.ArgumentTypeError(f"expected {words}, got {text!r}")
        return value

    return convert


positive_integer = number(int, lambda value: value > 0, "a positive whole number")
natural_number = number(int, lambda value: value >= 0, "a whole number, 0 or larger")
finite_number = number(float, lambda value: True, "a number")
positive_number = number(float, lambda value: value > 0.0, "a positive number")


def add_grasps(parser: argparse.ArgumentParser) -> None:
    """The file that most commands read."""
    parser.add_argument("grasps", type=Path, metavar="GRASPS", help="file of grasps: what synthesize --out wrote")


def read_grasps(path: Path) -> Grasps:
    """Load grasps for a command that needs at least one of them, and their hand.

    Raises:
        FileFormatError: The file cannot be read, it has no grasp, or its hand is gone or not the same any more.
    """
    from ..result import load_grasps

    grasps = load_grasps(path)
    if not len(grasps):
        raise FileFormatError(path, "there is no grasp in it; synthesize with a larger --count or without --valid-only")
    try:
        grasps.hand  # noqa: B018 - read now, not after the long work
    except WarpgraspError as error:
        if Path(grasps.hand_source).exists():
            raise
        problem = f"its grasps are of the hand {grasps.hand_source!r}, which is not there any more; put the file back"
        raise FileFormatError(path, problem) from error
    return grasps


def check_output(path: Path | None, *suffixes: str) -> None:
    """Raise before the long work if a file could not be written after it."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise FileFormatError(path, f"give a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise FileFormatError(path, "is a folder")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"the folder {path.parent} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FileFormatError(path, "no permission to write there")
