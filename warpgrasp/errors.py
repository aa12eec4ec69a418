"""Every exception that warpgrasp raises on purpose.

A message says what was wrong, what was given and what would work, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class WarpgraspError(Exception):
    """Base class: catch this to catch them all."""


class ShapeError(WarpgraspError, ValueError):
    """An array has the wrong shape."""

    def __init__(self, name: str, expected: str, actual: tuple[int, ...]) -> None:
        super().__init__(f"{name} has shape {actual}, expected {expected}")


class OptionError(WarpgraspError, ValueError):
    """An option has a value that cannot work."""


class DeviceError(WarpgraspError, ValueError):
    """The device does not exist or cannot be used."""


class HandNotFoundError(WarpgraspError, LookupError):
    """Neither a bundled hand nor a file has the given name."""

    def __init__(self, name: str, available: Iterable[str]) -> None:
        available = sorted(available)
        close = difflib.get_close_matches(name, available, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(
            f"no hand named {name!r}.{hint} Bundled hands: {', '.join(available)}. "
            "For your own hand, pass the path of a .urdf or .xml (MJCF) file."
        )


class HandError(WarpgraspError, ValueError):
    """A hand description cannot be used."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class ArmNotFoundError(WarpgraspError, LookupError):
    """Neither a bundled arm nor a file has the given name."""

    def __init__(self, name: str, available: Iterable[str]) -> None:
        available = sorted(available)
        close = difflib.get_close_matches(name, available, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(
            f"no arm named {name!r}.{hint} Bundled arms: {', '.join(available)}. "
            "For your own arm, pass the path of a .urdf file."
        )


class ArmError(WarpgraspError, ValueError):
    """An arm description cannot be used."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class MountError(WarpgraspError, ValueError):
    """A hand cannot be mounted on an arm, or the arm stands where it cannot reach the object."""


class MeshError(WarpgraspError, ValueError):
    """An object mesh cannot be used."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class ContactError(WarpgraspError, ValueError):
    """A contact cannot be used; the message names the grasp and the contact."""


class FileFormatError(WarpgraspError, ValueError):
    """A file is missing, damaged or not what its name says."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {' '.join(problem.split())}")
