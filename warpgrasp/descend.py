"""Running a recipe on many grasps: stages one after the other, batches side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .device import CPU_BATCH, GPU_BATCH
from .distance import DeviceMesh
from .hand import Hand
from .memory import grasps_that_fit
from .mesh import ObjectMesh
from .model import HandModel, hand_model
from .optimize import Descent
from .options import Recipe, Stage
from .pose import Pose, concatenate
from .surface import SurfacePoints, grasping_links, object_points, surface_points
from .surroundings import NOTHING, Surroundings

ProgressCallback = Callable[[int, int], None]
"""Called with the work done and the work in all; from several threads on a CPU."""


def descend(
    hand: Hand,
    obj: ObjectMesh,
    mesh: DeviceMesh,
    start: Pose,
    recipe: Recipe,
    points: int,
    report: ProgressCallback | None,
    surroundings: Surroundings = NOTHING,
) -> tuple[Pose, np.ndarray]:
    """Run the first stage of a recipe from every start, and each other from the best of each grasp's.

    Args:
        hand: The hand.
        obj: The object.
        mesh: The same object on the device to run on, as :func:`smooth_mesh` makes it.
        start: Poses to start from, ``recipe.restarts`` for each of N grasps, those of one grasp N apart.
        recipe: What to do.
        points: Points on the skin of the palm and the fingers, before a stage's own density.
        report: Told how far it is, where given.
        surroundings: What the hand must respect besides the object.

    Returns:
        The poses at the end, and the loss of the last stage, shape (N,); the start and NaN where a stage diverged.
    """
    count = len(start) // recipe.restarts
    progress = _Progress(_work(recipe, count), report)
    pose, loss = start, np.zeros(len(start))
    for stage in recipe.stages:
        model = hand_model(hand, stage_skin(hand, stage, points, mesh.device), mesh.device)
        inner = object_points(obj, stage.object_points)
        pose, ended = run_stage(
            model, mesh, inner, pose, stage, recipe=recipe, surroundings=surroundings, on_step=progress.add
        )
        loss = np.where(np.isfinite(loss), ended, np.nan)
        kept = least_of_each(loss, count, stage.keep)
        pose, loss = pose[kept], loss[kept]
    return pose[:count], loss[:count]


def stage_skin(hand: Hand, stage: Stage, points: int, device: str) -> SurfacePoints:
    """Points on palm and fingers that a stage looks at; ``points`` are those of density 1."""
    count = max(1, round(stage.density * points))
    return surface_points(hand, count, links=grasping_links(hand), device=device)


def _work(recipe: Recipe, count: int) -> int:
    """Iterations of all stages, times the starts that do them."""
    work, starts = 0, recipe.restarts
    for stage in recipe.stages:
        work += stage.iterations * starts * count
        starts = min(starts, stage.keep)
    return work


def run_stage(
    model: HandModel,
    mesh: DeviceMesh,
    object_point: np.ndarray,
    start: Pose,
    stage: Stage,
    *,
    recipe: Recipe | None = None,
    surroundings: Surroundings = NOTHING,
    on_step: Callable[[int], None] = lambda count: None,
) -> tuple[Pose, np.ndarray]:
    """One stage from every start, in batches.

    A GPU takes large batches one after the other, no larger than its free memory allows. On a CPU a kernel runs on one
    core, so there is one batch per core. Grasps do not feel each other, so how they are batched does not change the
    result. A hand that is nowhere in the end is put back to where it started; its loss is NaN.
    """
    options: dict[str, Any] = {"surroundings": surroundings}
    if recipe is not None:
        options |= {"phong_alpha": recipe.phong_alpha, "phong_mode": recipe.phong_mode}
    workers = len(os.sched_getaffinity(0)) if model.device == "cpu" else 1
    limit = CPU_BATCH if model.device == "cpu" else GPU_BATCH
    limit = int(min(limit, grasps_that_fit(model, mesh, object_point, stage, **options)))

    with ThreadPoolExecutor(workers) as pool:

        def run_round(batches: list[Pose]) -> list[tuple[Pose, np.ndarray]]:
            descents = [Descent(model, mesh, object_point, batch, stage, **options) for batch in batches]
            for descent in descents:
                descent.capture()
            list(pool.map(lambda descent: descent.run(lambda: on_step(len(descent))), descents))
            return [(descent.pose(), descent.loss()) for descent in descents]

        ended = [end for batches in _rounds(start, workers, limit) for end in run_round(batches)]
    poses, losses = zip(*ended, strict=True)
    return _keep_finite(concatenate(list(poses)), np.concatenate(losses), start)


def _keep_finite(pose: Pose, loss: np.ndarray, start: Pose) -> tuple[Pose, np.ndarray]:
    ends, starts = ((p.wrist_position, p.wrist_quaternion, p.joint_position) for p in (pose, start))
    finite = np.isfinite(np.hstack(ends).sum(axis=1))
    kept = [np.where(finite[:, None], last, first) for first, last in zip(starts, ends, strict=True)]
    return Pose(*kept), np.where(finite, loss, np.nan)


def _rounds(start: Pose, workers: int, limit: int) -> Iterator[list[Pose]]:
    """The starts cut into batches of at most ``limit``, as many at a time as there are workers."""
    size = min(limit, -(-len(start) // workers))
    batches = [start[begin : begin + size] for begin in range(0, len(start), size)]
    for begin in range(0, len(batches), workers):
        yield batches[begin : begin + workers]


def least_of_each(loss: np.ndarray, count: int, keep: int = 1) -> np.ndarray:
    """Indices of the ``keep`` least losses among the starts of each of ``count`` grasps, shape (keep * count,).

    Those of one grasp lie ``count`` apart, before and after.
    """
    loss = loss.reshape(-1, count)
    best = np.argsort(np.where(np.isfinite(loss), loss, np.inf), axis=0, kind="stable")[:keep]
    return (best * count + np.arange(count)).ravel()


def smooth_mesh(obj: ObjectMesh, recipe: Recipe, device: str) -> DeviceMesh:
    """The object as a recipe sees it: made ready for Phong smoothing, but as it is for the printed form of it."""
    return DeviceMesh(obj, device, phong_alpha=0.0 if recipe.phong_mode == "printed" else recipe.phong_alpha)


class _Progress:
    """Counts what several threads do."""

    def __init__(self, total: int, report: ProgressCallback | None) -> None:
        self.done, self.total, self.report = 0, total, report
        self.lock = threading.Lock()

    def add(self, done: int) -> None:
        if self.report is not None:
            with self.lock:
                self.done += done
                self.report(self.done, self.total)
