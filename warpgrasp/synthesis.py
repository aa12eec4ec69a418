"""``synthesize(hand, mesh)``: the whole chain on one page."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import warp as wp

from . import device as devices
from . import hands
from .distance import DeviceMesh
from .errors import OptionError
from .hand import Hand
from .hand_file import load_hand
from .initialize import back_off, starting_poses
from .label import Limits, measure, reasons, residuals
from .mesh import ObjectMesh, load_object
from .model import HandModel, hand_model
from .optimize import Descent
from .options import Recipe
from .options import recipe as find_recipe
from .phases import pregrasp, squeeze
from .pose import Pose, concatenate
from .result import Grasps
from .surface import sample_triangles, surface_points

if TYPE_CHECKING:
    import trimesh

OBJECT_POINTS = 512
"""Object points that are kept out of the hand while optimizing."""

CHECK_POINTS = 4096
"""Points of the hand, and of the object, that the labels are measured with."""

GPU_BATCH = 4096
"""Grasps that are optimized at once on a GPU."""


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
    on_progress: Callable[[int, int], None] | None = None,
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
        iterations: Gradient steps; the recipe's where omitted.
        points: Points on the hand's skin that the loss is summed over.
        valid_only: Return only grasps that pass every check; there may be fewer than ``count``.
        limits: What a valid grasp may not exceed.
        on_progress: Called with iterations done and iterations in all; from several threads on a CPU.

    Returns:
        The grasps, best first: valid ones by rising wrench residual, then the others.

    Raises:
        WarpgraspError: The hand, the mesh, the device or an option cannot be used; the message says why.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if iterations is not None:
        chosen = replace(chosen, iterations=iterations)
    _require_whole(1, count=count, points=points, iterations=chosen.iterations)
    _require_whole(0, seed=seed)
    target = devices.choose(device)
    hand = load_hand(hand)
    obj = load_object(mesh, scale=scale)
    begin = time.perf_counter()

    model = hand_model(hand, surface_points(hand, points), target)
    device_mesh = DeviceMesh(obj, target)
    start = starting_poses(
        hand,
        obj,
        count,
        distance=chosen.start_distance,
        joint_noise=chosen.joint_noise,
        rng=np.random.default_rng(seed),
    )
    start = back_off(model, device_mesh, start)
    grasp, loss = descend(model, device_mesh, object_points(obj, OBJECT_POINTS), start, chosen, on_progress)

    check = hand_model(hand, surface_points(hand, CHECK_POINTS, even=False), target)
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


def descend(
    model: HandModel,
    mesh: DeviceMesh,
    object_point: np.ndarray,
    start: Pose,
    recipe: Recipe,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Pose, np.ndarray]:
    """Run the recipe from every start: the poses it ends in and their losses, shape (N,).

    A GPU takes them in large batches. On a CPU a kernel runs on one core, so each core takes a share of the grasps;
    grasps do not feel each other, so the shares do not change the result.
    """
    workers = len(os.sched_getaffinity(0)) if model.device == "cpu" else 1
    size = GPU_BATCH if workers == 1 else max(1, -(-len(start) // workers))
    descents = [
        Descent(model, mesh, object_point, start[begin : begin + size], recipe) for begin in range(0, len(start), size)
    ]
    for descent in descents:
        descent.capture()
    progress = _Progress(recipe.iterations * len(descents), on_progress)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda descent: descent.run(progress.advance), descents):
            pass
    return concatenate([d.pose() for d in descents]), np.concatenate([d.state.loss() for d in descents])


class _Progress:
    """Counts iterations of several threads."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.report = 0, total, report
        self.lock = threading.Lock()

    def advance(self) -> None:
        if self.report is not None:
            with self.lock:
                self.done += 1
                self.report(self.done, self.total)


def object_points(obj: ObjectMesh, count: int) -> np.ndarray:
    """Points spread by area over the object [m], shape (count, 3)."""
    return sample_triangles(obj.vertices[obj.faces], count)[1]


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
