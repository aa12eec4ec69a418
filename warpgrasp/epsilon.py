"""The radius of the largest ball in a set of contact wrenches, of many grasps, with bounds that are proved."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import warp as wp

from .kernels import epsilon as kernels
from .kernels.gauge import Mat66, Program, Vec6
from .wrench import wrench_space

STARTS = 16
"""Local maximizations before the proof begins; more find the value sooner, fewer cost less."""

STACK = 320
"""Cones that wait at once: 64 and one for each cut that led to the current one."""

CPU_BATCH = 64
"""Grasps of one launch on a CPU core."""

GPU_BATCH = 1024
"""Grasps of one launch on a GPU."""


def epsilon_bounds(
    wrench: np.ndarray,
    count: np.ndarray,
    edge: np.ndarray,
    *,
    summed: bool,
    tolerance: float,
    cone_limit: int,
    device: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of epsilon for the wrenches of N grasps.

    Args:
        wrench: Wrenches of normal force, friction and torsion, shape (N, C, 4, 6); see ``cone_wrenches``.
        count: Contacts of each grasp, shape (N,).
        edge: Edges of the friction cones in tangents, shape (E, 2); none: circular cones.
        summed: Forces are bounded at each contact (L-infinity) and not in sum (L1).
        tolerance: Relative difference of the bounds to stop at.
        cone_limit: Most cones of one grasp; where it does not do, the lower bound is what was proved by then.
        device: Warp device.

    Returns:
        Lower and upper bounds, and the number of cones that the proof took; each of shape (N,).
    """
    size = CPU_BATCH if device == "cpu" else GPU_BATCH
    batches = [slice(begin, begin + size) for begin in range(0, len(wrench), size)]
    wp.load_module(kernels, device=device)

    def solve(batch: slice) -> tuple[np.ndarray, ...]:
        return _solve(wrench[batch], count[batch], edge, summed, tolerance, cone_limit, device)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if device == "cpu" else 1) as pool:
        parts = list(pool.map(solve, batches))
    if not parts:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
    lower, upper, cone_count = (np.concatenate(column) for column in zip(*parts, strict=True))
    return lower, upper, cone_count


def _solve(
    wrench: np.ndarray,
    count: np.ndarray,
    edge: np.ndarray,
    summed: bool,
    tolerance: float,
    cone_limit: int,
    device: str,
) -> tuple[np.ndarray, ...]:
    """One launch."""
    grasps = len(wrench)
    lower, upper = (_empty(grasps, wp.float64, device) for _ in range(2))
    cone_count = _empty(grasps, int, device)
    rays, faces = (_empty((grasps, STACK), Mat66, device) for _ in range(2))
    programs = _empty((grasps, STACK), Program, device)
    wp.launch(
        kernels.epsilon_bounds,
        dim=grasps,
        inputs=[
            wrench_space(wrench, count, edge, summed=summed, device=device),
            wp.array(_starts(), dtype=Vec6, device=device),
            wp.array(_frames(wrench), dtype=Mat66, device=device),
            wp.float64(tolerance),
            cone_limit,
        ],
        outputs=[rays, faces, programs, lower, upper, cone_count],
        device=device,
    )
    return lower.numpy(), upper.numpy(), cone_count.numpy()


def _empty(shape: Any, dtype: Any, device: str) -> wp.array:
    return wp.empty(shape, dtype=dtype, device=device)


def _starts() -> np.ndarray:
    """Directions spread over the unit sphere, the same for every grasp, shape (STARTS, 6)."""
    direction = np.random.default_rng(0).normal(size=(STARTS, 6))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


def _frames(wrench: np.ndarray) -> np.ndarray:
    """Principal axes of each grasp's wrenches in rows: the ball touches near the weakest, shape (N, 6, 6)."""
    flat = wrench.reshape(len(wrench), 4 * wrench.shape[1], 6)
    return np.linalg.eigh(np.einsum("nwi,nwj->nij", flat, flat))[1].transpose(0, 2, 1)
