"""Arm descriptions shipped with warpgrasp: a URDF with primitive geometry and a YAML of what URDF cannot say."""

from importlib import resources
from pathlib import Path


def names() -> list[str]:
    """Names of the bundled arms, sorted."""
    return sorted(p.parent.name for p in folder().glob("*/arm.yaml"))


def folder() -> Path:
    """Folder that holds one folder per bundled arm."""
    return Path(str(resources.files(__name__)))
