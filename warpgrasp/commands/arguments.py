"""What commands accept, and what they refuse before the long work."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import FileFormatError


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
positive_number = number(float, lambda value: value > 0.0, "a positive number")


def check_output(path: Path | None, suffix: str) -> None:
    """Raise before the long work if a file could not be written after it."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise FileFormatError(path, f"give a name that ends in {suffix}")
    if path.is_dir():
        raise FileFormatError(path, "is a folder")
    if not path.parent.is_dir():
        raise FileFormatError(path, f"the folder {path.parent} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FileFormatError(path, "no permission to write there")
