"""Slow and obvious float64 versions of what the kernels compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def central_difference(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Gradient of the scalar ``f`` at ``x``; the error is of order ``step**2``."""
    assert x.dtype == np.float64, "differences in float32 measure rounding, not the slope"
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        forward, backward = x.copy(), x.copy()
        forward[index] += step
        backward[index] -= step
        gradient[index] = (f(forward) - f(backward)) / (2.0 * step)
    return gradient


def closest_point_of_segment(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    t = (p - a) @ (b - a) / ((b - a) @ (b - a))
    return a + np.clip(t, 0.0, 1.0) * (b - a)


def closest_barycentric(p: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Weights of the corners at the point of a triangle (3, 3) closest to p: its projection, or the best edge point."""
    a, b, c = triangle
    frame = np.stack([b - a, c - a], axis=1)
    v, w = np.linalg.lstsq(frame, p - a, rcond=None)[0]
    if v < 0.0 or w < 0.0 or v + w > 1.0:
        edges = [closest_point_of_segment(p, *edge) for edge in ((a, b), (b, c), (c, a))]
        r = min(edges, key=lambda q: np.linalg.norm(p - q))
        v, w = np.linalg.lstsq(frame, r - a, rcond=None)[0]
    return np.array([1.0 - v - w, v, w])


def triangle_distance(p: np.ndarray, triangle: np.ndarray) -> float:
    """Unsigned distance from a point to a triangle (3, 3)."""
    return float(np.linalg.norm(p - closest_barycentric(p, triangle) @ triangle))


def phong_signed_distance(
    p: np.ndarray, triangle: np.ndarray, normals: np.ndarray, alpha: float, mode: str, side: float
) -> float:
    """Signed distance to the Phong point of one triangle (3, 3) with corner normals (3, 3).

    ``side`` is 1 for points outside the flat mesh and -1 inside.
    """
    weight = closest_barycentric(p, triangle)
    r = weight @ triangle
    d = p - phong_point(weight, triangle, normals, alpha)
    normal = weight @ normals
    if mode != "printed" and np.linalg.norm(p - r) < np.linalg.norm(p - r - d):
        side = float(np.sign(d @ normal))
    if mode == "plane":
        q = 0.0003 * normal + side * d
        return float(d @ q / np.linalg.norm(q))
    return float(side * np.linalg.norm(d))


def phong_height(p: np.ndarray, triangle: np.ndarray, normals: np.ndarray, alpha: float) -> float:
    """Height over the plane through the Phong point with the interpolated normal."""
    weight = closest_barycentric(p, triangle)
    normal = weight @ normals
    return float((p - phong_point(weight, triangle, normals, alpha)) @ normal / np.linalg.norm(normal))


def phong_point(weight: np.ndarray, triangle: np.ndarray, normals: np.ndarray, alpha: float) -> np.ndarray:
    """Point of the Phong surface over barycentric weights."""
    r = weight @ triangle
    projections = [r - ((r - v) @ n) * n for v, n in zip(triangle, normals, strict=True)]
    return (1.0 - alpha) * r + alpha * weight @ np.array(projections)


def printed_gradient(p: np.ndarray, triangle: np.ndarray, normals: np.ndarray, alpha: float, side: float) -> np.ndarray:
    """(r - r*_rho) / rho of Fast-Grasp'D, section III-B."""
    d = p - phong_point(closest_barycentric(p, triangle), triangle, normals, alpha)
    return side * d / np.linalg.norm(d)


def winding_number(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Generalized winding number of triangles (face, 3, 3) at points (N, 3): solid angle over 4 pi."""
    total = np.zeros(len(points))
    for start in range(0, len(points), 64):
        q = triangles[None] - points[start : start + 64, None, None]
        length = np.linalg.norm(q, axis=-1)
        a, b, c = np.moveaxis(q, 2, 0)
        la, lb, lc = np.moveaxis(length, 2, 0)
        numerator = (a * np.cross(b, c)).sum(-1)
        denominator = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        total[start : start + 64] = np.arctan2(numerator, denominator).sum(axis=1) / (2.0 * np.pi)
    return total


def signed_crossings(points: np.ndarray, triangles: np.ndarray, cells: int = 64) -> np.ndarray:
    """Winding number of a closed surface (face, 3, 3) at points (N, 3): signed crossings of the ray along +z.

    Points and triangles meet in the cells of a grid over the xy plane.
    """
    low = np.minimum(points.min(axis=0), triangles.min(axis=(0, 1)))[:2]
    step = (np.maximum(points.max(axis=0), triangles.max(axis=(0, 1)))[:2] - low).max() * 1.001 / cells
    first, last = (((end[:, :2] - low) / step).astype(int) for end in (triangles.min(axis=1), triangles.max(axis=1)))
    size = last - first + 1
    f, rank = _expand(size.prod(axis=1))
    cell_of_pair = (first[f, 0] + rank // size[f, 1]) * cells + first[f, 1] + rank % size[f, 1]
    cell_of_point = ((points[:, :2] - low) / step).astype(int) @ [cells, 1]
    order = np.argsort(cell_of_point)
    begin = np.searchsorted(cell_of_point[order], cell_of_pair)
    pair, rank = _expand(np.searchsorted(cell_of_point[order], cell_of_pair, side="right") - begin)
    point, f = order[begin[pair] + rank], f[pair]

    a, b, c = np.moveaxis(triangles[f], 1, 0) - points[point]
    areas = np.stack([x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0] for x, y in ((b, c), (c, a), (a, b))])
    total = areas.sum(axis=0)
    hit = ((areas > 0.0).all(axis=0) | (areas < 0.0).all(axis=0)) & (total != 0.0)
    height = (areas[0] * a[:, 2] + areas[1] * b[:, 2] + areas[2] * c[:, 2])[hit] / total[hit]
    return np.bincount(point[hit], weights=np.sign(total[hit]) * (height > 0.0), minlength=len(points))


def _expand(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i repeated count[i] times, and the rank within the repetition."""
    index = np.repeat(np.arange(len(count)), count)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
