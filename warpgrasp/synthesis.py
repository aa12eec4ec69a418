"""``synthesize(hand, mesh)``: the whole chain on one page."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import warp as wp

from . import device as devices
from . import hands
from .descend import ProgressCallback, descend, object_points
from .distance import DeviceMesh
from .errors import OptionError
from .hand import Hand
from .hand_file import load_hand
from .initialize import back_off, starting_poses
from .label import Limits, measure, reasons, residuals
from .mesh import ObjectMesh, load_object
from .model import hand_model
from .options import Recipe
from .options import recipe as find_recipe
from .phases import pregrasp, squeeze
from .result import Grasps
from .surface import surface_points

if TYPE_CHECKING:
    import trimesh

CHECK_POINTS = 4096
"""Points of the hand, and of the object, that the labels are measured with."""


def synthesize(
    hand: Hand | str | Path,
    mesh: ObjectMesh | trimesh.Trimesh | str | Path,
    *,
    count: int = 64,
    seed: int = 0,
    scale: float = 1.0,
    device: str | None = None,
    recipe: Recipe | str = "default",
    iterations: int | None = None,
    points: int = 512,
    valid_only: bool = False,
    limits: Limits | None = None,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Find grasps of an object by a hand.

    Initialize around the object, descend, add the pregrasp and squeeze phases, measure, label and sort.

    Args:
        hand: A hand, the name of a bundled one, or the path of a URDF or MJCF file.
        mesh: An object, a trimesh, or the path of a mesh file; metres.
        count: Number of grasps to attempt; all are returned, labelled, unless ``valid_only``.
        seed: Seed of every random draw; equal seed, device and version give equal grasps.
        scale: Factor on the mesh's coordinates.
        device: Warp device such as "cpu" or "cuda:0"; the first GPU, else the CPU, where omitted.
        recipe: Name of a recipe, or one of your own.
        iterations: Gradient steps in all; the recipe's where omitted.
        points: Points on the hand's skin that the loss is summed over.
        valid_only: Return only grasps that pass every check; there may be fewer than ``count``.
        limits: What a valid grasp may not exceed.
        on_progress: Called with the work done and the work in all; from several threads on a CPU.

    Returns:
        The grasps, best first: valid ones by rising wrench residual, then the others.

    Raises:
        WarpgraspError: The hand, the mesh, the device or an option cannot be used; the message says why.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if iterations is not None:
        _require_whole(1, iterations=iterations)
        chosen = chosen.shortened(iterations)
    _require_whole(1, count=count, points=points)
    _require_whole(0, seed=seed)
    target = devices.choose(device)
    hand = load_hand(hand)
    obj = load_object(mesh, scale=scale)
    begin = time.perf_counter()

    device_mesh = DeviceMesh(obj, target)
    check = hand_model(hand, surface_points(hand, CHECK_POINTS, even=False, device=target), target)
    start = starting_poses(
        hand,
        obj,
        count,
        distance=chosen.start_distance,
        joint_noise=chosen.joint_noise,
        rng=np.random.default_rng(seed),
    )
    start = back_off(check, device_mesh, start)
    grasp, loss = descend(hand, obj, device_mesh, start, chosen, points, on_progress)

    before, clearance = pregrasp(check, device_mesh, grasp)
    measurement = measure(check, device_mesh, object_points(obj, CHECK_POINTS), grasp)
    metrics = {
        "penetration_depth_m": measurement.penetration_depth,
        "self_penetration_depth_m": measurement.self_penetration_depth,
        "links_in_contact_2mm": measurement.links_in_contact(),
        "wrench_residual_mu02": residuals(measurement, obj),
        "pregrasp_clearance_m": clearance,
        "loss": loss,
    }
    reason = reasons(hand, metrics, limits or Limits())
    seconds = time.perf_counter() - begin

    order = np.lexsort((metrics["wrench_residual_mu02"], reason != ""))
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=before,
        squeeze=squeeze(hand, grasp, before),
        valid=reason == "",
        reason=reason,
        metrics=metrics,
        hand_source=_source(hand),
        hand_hash=hand.hash,
        object_name=obj.name,
        object_vertices=obj.vertices,
        object_faces=obj.faces,
        info=_info(chosen, seed, points, target, seconds),
    )[order]
    grasps.hand, grasps.object = hand, obj
    return grasps[grasps.valid] if valid_only else grasps


def _require_whole(least: int, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _source(hand: Hand) -> str:
    """What loads this hand again: its bundled name, or the path of its file."""
    bundled = hands.folder() / hand.name / "hand.urdf"
    return hand.name if hand.path == bundled else str(hand.path)


def _info(recipe: Recipe, seed: int, points: int, device: str, seconds: float) -> dict[str, object]:
    from . import __version__

    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "points": points,
        "device": device,
        "seconds": round(seconds, 3),
        "warpgrasp": __version__,
        "warp": wp.__version__,
    }
