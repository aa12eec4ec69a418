"""Slow and obvious float64 versions of the grasp metrics, and contacts to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError


def random_contacts(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) [m] on a sphere, an ellipsoid or a box, clustered like fingers, with normals into it."""
    half = np.array([0.03, 0.04, 0.06])
    finger = rng.normal(size=(rng.integers(3, 7), 3))
    direction = finger[rng.integers(0, len(finger), count)] + 0.6 * rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shape = rng.integers(3)
    if shape == 0:
        return 0.04 * direction, -direction
    if shape == 1:
        normal = -direction / half
        return half * direction, normal / np.linalg.norm(normal, axis=1, keepdims=True)
    side = np.abs(direction).argmax(axis=1)
    point = half * direction / np.abs(direction).max(axis=1, keepdims=True)
    normal = np.zeros_like(point)
    normal[np.arange(count), side] = -np.sign(direction[np.arange(count), side])
    return point, normal


def random_pinch(rng: np.random.Generator, count: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contacts like those of ``random_contacts``, in opposed pairs that balance but for noise, with forces."""
    position, normal = random_contacts(rng, count)
    half = count // 2
    along = (position[:half] * normal[:half]).sum(axis=1, keepdims=True)
    position[half : 2 * half] = position[:half] - 2.0 * along * normal[:half]
    normal[half : 2 * half] = -normal[:half]
    force = rng.uniform(0.2, 1.0, count)
    force[half : 2 * half] = force[:half]
    force *= np.exp(0.5 * noise * rng.normal(size=count))
    normal = normal + noise * rng.normal(size=normal.shape)
    return position, normal / np.linalg.norm(normal, axis=1, keepdims=True), force


def wrenches(
    position: np.ndarray,
    normal: np.ndarray,
    *,
    friction_coefficient: float,
    edge_count: int,
    torque_length: float,
    center: np.ndarray,
    tangent: np.ndarray,
) -> np.ndarray:
    """Edge wrenches of one grasp, contact by contact and edge by edge, shape (C * edge_count, 6)."""
    rows = []
    for p, n, t in zip(position, normal, tangent, strict=True):
        first = t - (t @ n) * n
        first /= np.linalg.norm(first)
        for j in range(edge_count):
            angle = 2.0 * np.pi * j / edge_count
            force = n + friction_coefficient * (np.cos(angle) * first + np.sin(angle) * np.cross(n, first))
            rows.append(np.concatenate([force, np.cross(p - center, force) / torque_length]))
    return np.array(rows)


def hull_radius(points: np.ndarray) -> float:
    """Distance of the origin to the nearest facet of the hull of points (M, 6); 0 where it is not inside."""
    try:
        return max(float((-ConvexHull(points).equations[:, -1]).min()), 0.0)
    except QhullError:
        return 0.0


def least_weight(points: np.ndarray) -> float:
    """Largest l so that weights a >= l of points (M, 6) sum to one and cancel; -inf where there are none."""
    count = len(points)
    result = linprog(
        np.append(np.zeros(count), -1.0),
        A_ub=np.hstack([-np.eye(count), np.ones((count, 1))]),
        b_ub=np.zeros(count),
        A_eq=np.vstack([np.hstack([points.T, np.zeros((6, 1))]), np.append(np.ones(count), 0.0)]),
        b_eq=np.append(np.zeros(6), 1.0),
        bounds=[(None, None)] * (count + 1),
        method="highs",
    )
    return float(result.x[-1]) if result.status == 0 else -np.inf


def gauge(points: np.ndarray, target: np.ndarray) -> float:
    """Least sum b so that b >= 0 and points' b = target."""
    result = linprog(np.ones(len(points)), A_eq=points.T, b_eq=target, method="highs")
    return float(result.fun)


def support_l1(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Support of the hull of points (M, 6) along directions (K, 6)."""
    return (direction @ points.T).max(axis=1)


def support_linf(points: np.ndarray, direction: np.ndarray, edge_count: int) -> np.ndarray:
    """Support of the sum over contacts of the hulls of the origin and their points (C * edge_count, 6)."""
    along = (direction @ points.T).reshape(len(direction), -1, edge_count)
    return np.maximum(along.max(axis=2), 0.0).sum(axis=1)


def friction_program(
    position: np.ndarray,
    normal: np.ndarray,
    force: np.ndarray,
    *,
    friction_coefficient: Any,
    center: np.ndarray,
    torque_length: float,
    weights: str = "force",
    slack_weight: float = 20.0,
    wrench: Any = (0.0,) * 6,
) -> tuple[float, float]:
    """V and residual of the q-score of one grasp by Clarabel, in three-vectors of friction held across the normals.

    Variables: friction y (C, 3) as a share of the total force, sizes t (C), slack s (6) and its size.
    """
    import importlib

    from scipy.sparse import block_diag, coo_matrix, csc_matrix

    clarabel: Any = importlib.import_module("clarabel")
    count, size = len(position), 4 * len(position) + 7
    friction = np.broadcast_to(np.asarray(friction_coefficient, float), (count,))
    share = force / force.sum()
    weight = share if weights == "force" else np.full(count, 1.0 / count)
    cross = np.array([np.cross(p - center, np.eye(3)).T / torque_length for p in position])
    arms = np.concatenate([np.broadcast_to(np.eye(3), cross.shape), cross], axis=1)  # (C, 6, 3)
    net = np.einsum("c,cij,cj->i", share, arms, normal)
    net = net + np.divide(wrench, [1, 1, 1, *[torque_length] * 3]) / force.sum()

    # Rows: balance, across, then for each contact the cones (t, y) and (mu share, y), then (size, s).
    contact, entry = np.divmod(np.arange(3 * count), 3)
    first = 6 + count + 8 * contact + 1 + entry
    parts = []
    for block, row, column in (
        (np.concatenate(list(arms), axis=1), 0, 0),
        (np.eye(6), 0, 4 * count),
        (block_diag([n[None] for n in normal]), 6, 0),
        (-np.eye(1), 6 + 9 * count, size - 1),
        (-np.eye(6), 7 + 9 * count, 4 * count),
    ):
        entries = coo_matrix(block)
        parts.append((entries.data, entries.row + row, entries.col + column))
    parts.append((-np.ones(3 * count), first, np.arange(3 * count)))
    parts.append((-np.ones(3 * count), first + 4, np.arange(3 * count)))
    parts.append((-np.ones(count), 6 + count + 8 * np.arange(count), 3 * count + np.arange(count)))
    data, row, column = (np.concatenate(column) for column in zip(*parts, strict=True))
    right = np.zeros(6 + 9 * count + 7)
    right[:6] = -net
    right[6 + count + 4 : 6 + 9 * count : 8] = friction * share
    cones = [clarabel.ZeroConeT(6 + count), *[clarabel.SecondOrderConeT(4)] * 2 * count, clarabel.SecondOrderConeT(7)]
    cost = np.zeros(size)
    cost[3 * count : 4 * count] = weight / (friction * share)
    cost[-1] = slack_weight
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    matrix = csc_matrix((data, (row, column)), shape=(len(right), size))
    solution = clarabel.DefaultSolver(csc_matrix((size, size)), cost, matrix, right, cones, settings).solve()
    return float(solution.obj_val), float(np.linalg.norm(np.array(solution.x)[4 * count : -1]))
