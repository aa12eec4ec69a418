"""How much device memory a batch of grasps takes, and how many grasps fit at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import warp as wp

from .distance import DeviceMesh
from .model import HandModel
from .optimize import Descent
from .options import Stage
from .pose import Pose

FREE_SHARE = 0.8
"""Share of the free memory that a batch may take; the rest is for graphs, fragments and other programs."""


def bytes_per_grasp(model: HandModel, mesh: DeviceMesh, object_point: np.ndarray, stage: Stage, **options: Any) -> int:
    """Device memory that one more grasp takes in a :class:`Descent` with these arguments.

    It is what two grasps take over what one takes: whatever a descent allocates counts, and nothing has to be added up
    by hand when a term is added. It grows linearly with the points on the hand and on the object, by 16 bytes or more
    each for every array of vectors; with links, joints and pushes; and, where the object is simulated, with points,
    simulations and steps as :func:`warpgrasp.dynamics.allocate` and ``ExactDynamics`` say. Mesh and model are shared.

    Args:
        model: The hand, with its points.
        mesh: The object.
        object_point: Points on the object's surface [m], shape (object point, 3).
        stage: Terms, and how the object is simulated.
        options: ``phong_alpha``, ``phong_mode`` and ``surroundings``, as for a descent.
    """
    joints = model.hand.open_position

    def taken(count: int) -> int:
        pose = Pose(np.zeros((count, 3)), np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)), np.tile(joints, (count, 1)))
        return allocated_bytes(
            Descent(model, mesh, object_point, pose, stage, **options), shared=(model, mesh, *options.values())
        )

    return taken(2) - taken(1)


def grasps_that_fit(
    model: HandModel, mesh: DeviceMesh, object_point: np.ndarray, stage: Stage, **options: Any
) -> float:
    """Grasps of a descent with these arguments that the device has room for now: at least 1, infinite on a CPU."""
    free = free_bytes(model.device)
    if not np.isfinite(free):
        return free
    return max(1, FREE_SHARE * free // bytes_per_grasp(model, mesh, object_point, stage, **options))


def free_bytes(device: str) -> float:
    """Free memory of a GPU; infinite for a CPU, whose batches are small."""
    target = wp.get_device(device)
    return target.free_memory if target.is_cuda else np.inf


def allocated_bytes(owner: Any, shared: tuple[Any, ...] = ()) -> int:
    """Bytes of all arrays that an object holds, however deep, with their gradients; each memory counts once.

    Args:
        owner: An array, an object of this package, or a tuple, list or dictionary of such.
        shared: Objects that do not count.
    """
    seen = {id(entry) for entry in shared}
    return sum({array.ptr: array.capacity for array in _arrays(owner, seen) if array.ptr}.values())


def _arrays(owner: Any, seen: set[int]) -> Iterator[wp.array]:
    if id(owner) in seen:
        return
    seen.add(id(owner))
    if isinstance(owner, wp.array):
        yield owner
        inner = (owner.grad,) if owner.requires_grad else ()
    elif isinstance(owner, tuple | list):
        inner = owner
    elif isinstance(owner, dict):
        inner = owner.values()
    else:
        own = type(owner).__module__.startswith(f"{__package__}.")
        inner = getattr(owner, "__dict__", {}).values() if own else ()
    for entry in inner:
        yield from _arrays(entry, seen)
