"""Fewer convex pieces: CoACD cuts a surface that is merely rough into many, and every piece costs contacts."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from ..distance import signed_distance
from ..mesh import ObjectMesh
from ..surface import sample_triangles

SAMPLES = 256
"""Points on a hull where its distance to the mesh is measured."""


def merge_pieces(obj: ObjectMesh, pieces: tuple[np.ndarray, ...], tolerance: float) -> tuple[np.ndarray, ...]:
    """Join pieces two by two, best first, while the hull of both leaves the mesh by no more than a tolerance.

    Args:
        obj: The mesh that was cut.
        pieces: Corners of the convex pieces [m], each of shape (corner, 3).
        tolerance: Largest distance from a joined piece's surface outward to the mesh [m], at ``SAMPLES`` points.
    """
    left = dict(enumerate(_corners(piece) for piece in pieces))
    order = list(left)
    excess = _excess(obj, left, [(a, b) for n, a in enumerate(order) for b in order[n + 1 :]], tolerance)
    while excess:
        a, b = min(excess, key=lambda pair: (excess[pair], pair))
        joined = _corners(np.concatenate([left.pop(a), left.pop(b)]))
        excess = {pair: value for pair, value in excess.items() if not {a, b} & set(pair)}
        new = max(order) + 1
        order.append(new)
        left[new] = joined
        excess |= _excess(obj, left, [(old, new) for old in left if old != new], tolerance)
    return tuple(left.values())


def _corners(points: np.ndarray) -> np.ndarray:
    return points[ConvexHull(points).vertices]


def _excess(
    obj: ObjectMesh, pieces: dict[int, np.ndarray], pairs: list[tuple[int, int]], tolerance: float
) -> dict[tuple[int, int], float]:
    """Distance by which the hull of a pair leaves the mesh [m], of those pairs that may be joined."""
    pairs = [(a, b) for a, b in pairs if _near(pieces[a], pieces[b], tolerance)]
    if not pairs:
        return {}
    hulls = [_corners(np.concatenate([pieces[a], pieces[b]])) for a, b in pairs]
    points = [sample_triangles(hull[ConvexHull(hull).simplices], SAMPLES)[1] for hull in hulls]
    outside = signed_distance(obj, np.concatenate(points), device="cpu").reshape(len(pairs), SAMPLES).max(axis=1)
    return {pair: float(value) for pair, value in zip(pairs, outside, strict=True) if value <= tolerance}


def _near(a: np.ndarray, b: np.ndarray, distance: float) -> bool:
    gap = np.maximum(a.min(axis=0) - b.max(axis=0), b.min(axis=0) - a.max(axis=0))
    return bool((gap <= distance).all())
