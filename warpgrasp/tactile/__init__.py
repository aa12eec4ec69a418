"""The soft-body check: fingertips as soft pads, contact forces, tactile sensors.

A backend is a class with a ``name``, ``is_available() -> (ok, reason)`` and, made by :func:`open`, a method
``run(grasps) -> TactileResults``. ``quasistatic`` is the default: condensed finite elements on Warp, with exact Coulomb
contact. See docs/tactile.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from ..errors import OptionError, WarpgraspError
from ..hand import Hand
from ..mesh import ObjectMesh
from ..result import Grasps
from .material import Material as Material
from .material import find_material as find_material
from .options import Load as Load
from .options import Solver as Solver
from .result import TactileResults as TactileResults
from .result import load_tactile as load_tactile

ProgressCallback = Callable[[int, int], object]
"""Called with the grasps done and the grasps in all."""

BACKENDS = {
    "quasistatic": ("quasistatic", "Quasistatic"),
    "mujoco": ("mujoco_flex", "MujocoFlex"),
    "mujoco-warp": ("mujoco_warp_flex", "MujocoWarpFlex"),
    "isaacgym": ("isaac", "IsaacGym"),
}
"""Module and class of each backend; imported on first use."""


class Backend(Protocol):
    """What closes grasps on soft pads."""

    name: str

    @staticmethod
    def is_available() -> tuple[bool, str]:
        """Whether it can run here, and if not, one line that says why and what to do."""
        ...

    def run(self, grasps: Grasps, *, on_progress: ProgressCallback | None = None) -> TactileResults:
        """Close every grasp on soft pads, pull it six ways, and read its sensors."""
        ...


def find_backend(name: str) -> Any:
    """The class of a backend.

    Raises:
        OptionError: There is none of that name.
    """
    if name not in BACKENDS:
        close = difflib.get_close_matches(str(name), BACKENDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"there is no tactile backend {name!r}.{hint} There are: {', '.join(BACKENDS)}.")
    module, attribute = BACKENDS[name]
    return getattr(import_module(f".{module}", __name__), attribute)


def open(hand: Hand, obj: ObjectMesh, *, backend: str = "quasistatic", **options: Any) -> Backend:
    """A backend for one hand and object.

    Args:
        hand: The hand.
        obj: The object.
        backend: Its name.
        options: ``pads``, ``material``, ``load``, ``device``, and what the backend takes besides.

    Raises:
        OptionError: There is no such backend.
        WarpgraspError: It cannot run here; the message says why and what to do.
    """
    chosen = find_backend(backend)
    available, reason = chosen.is_available()
    if not available:
        raise WarpgraspError(f"the backend {backend!r} is not available: {reason}")
    return chosen(hand, obj, **options)
