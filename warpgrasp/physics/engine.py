"""MuJoCo and mujoco-warp, imported on first use."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from ..errors import WarpgraspError
from .protocols import Protocol


@cache
def mujoco() -> Any:
    """The module; its compiled half carries no types, and a user who only synthesizes need not wait for it."""
    return importlib.import_module("mujoco")


def mujoco_warp() -> Any:
    """The module.

    Raises:
        WarpgraspError: It is not installed.
    """
    try:
        return importlib.import_module("mujoco_warp")
    except ModuleNotFoundError as error:
        if error.name != "mujoco_warp":
            raise
        raise WarpgraspError("simulating on a device needs mujoco-warp: pip install 'warpgrasp[gpu-sim]'") from None


def set_options(option: Any, protocol: Protocol) -> None:
    """Solver and integrator of a ``mujoco.MjOption``: what the outcome depends on is not left to MuJoCo's version."""
    mj = mujoco()
    option.timestep = protocol.time_step
    option.integrator = mj.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mj.mjtSolver.mjSOL_NEWTON
    option.cone = mj.mjtCone.mjCONE_ELLIPTIC
    option.impratio = protocol.impratio
    option.noslip_iterations = protocol.noslip_iterations
    option.iterations, option.tolerance = 100, 1.0e-8
    # Gravity, where a protocol has it, is a force on the object: motors would hold the hand against it.
    off = mj.mjtDisableBit.mjDSBL_GRAVITY | mj.mjtDisableBit.mjDSBL_ISLAND
    # MuJoCo would begin a diverged simulation anew, with the object at rest where it was: it would count as held.
    off |= mj.mjtDisableBit.mjDSBL_AUTORESET
    if not protocol.several_contacts:
        off |= mj.mjtDisableBit.mjDSBL_MULTICCD
    option.disableflags = int(off)
