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
    friction_coefficient: float,
    center: np.ndarray,
    torque_length: float,
    weights: str,
    slack_weight: float,
) -> float:
    """V of the q-score of one grasp by Clarabel, in three-vectors of friction that are held across the normals.

    Variables: friction y (C, 3) as a share of the total force, sizes t (C), slack s (6) and its size.
    """
    import importlib

    from scipy.sparse import csc_matrix, vstack

    clarabel: Any = importlib.import_module("clarabel")
    count = len(position)
    share = force / force.sum()
    weight = share if weights == "force" else np.full(count, 1.0 / count)
    cross = [np.cross(p - center, np.eye(3)).T / torque_length for p in position]
    balance = np.hstack([np.vstack([np.eye(3), c]) for c in cross])
    net = sum(s * np.concatenate([n, c @ n]) for s, n, c in zip(share, normal, cross, strict=True))
    across = np.zeros((count, 3 * count))
    for i, n in enumerate(normal):
        across[i, 3 * i : 3 * i + 3] = n
    rows, bounds, cones = [], [], []

    def add(block: np.ndarray, right: np.ndarray, cone: object) -> None:
        rows.append(csc_matrix(block))
        bounds.append(right)
        cones.append(cone)

    size = 4 * count + 7
    pick = np.eye(size)
    equalities = np.zeros((6 + count, size))
    equalities[:6, : 3 * count], equalities[:6, 4 * count : -1], equalities[6:, : 3 * count] = (
        balance,
        np.eye(6),
        across,
    )
    add(equalities, np.concatenate([-np.asarray(net), np.zeros(count)]), clarabel.ZeroConeT(6 + count))
    for i in range(count):
        friction = pick[3 * i : 3 * i + 3]
        add(-np.vstack([pick[3 * count + i], friction]), np.zeros(4), clarabel.SecondOrderConeT(4))
        limit = np.array([friction_coefficient * share[i], 0.0, 0.0, 0.0])
        add(-np.vstack([np.zeros(size), friction]), limit, clarabel.SecondOrderConeT(4))
    add(-np.vstack([pick[-1], pick[4 * count : -1]]), np.zeros(7), clarabel.SecondOrderConeT(7))
    cost = np.zeros(size)
    cost[3 * count : 4 * count] = weight / (friction_coefficient * share)
    cost[-1] = slack_weight
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    zero = csc_matrix((size, size))
    matrix = csc_matrix(vstack(rows))
    solution = clarabel.DefaultSolver(zero, cost, matrix, np.concatenate(bounds), cones, settings).solve()
    return float(solution.obj_val)
