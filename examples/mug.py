"""A mug from scratch, one closed triangle mesh. Run it as ``python examples/mug.py mug.obj``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import trimesh


def distance(points: np.ndarray) -> np.ndarray:
    """About the distance [m] to the mug's surface, negative inside, of points of shape (..., 3); z is up."""
    x, y, z = np.moveaxis(points, -1, 0)
    across = np.hypot(x, y)
    body = -union(0.032 - across, 0.038 - abs(z), 0.005)
    cavity = -union(0.026 - across, 0.043 - abs(z - 0.010), 0.005)
    handle = np.hypot(np.hypot(1.15 * (x - 0.034), z) - 0.023, 0.75 * y) - 0.0045
    return -union(-union(body, handle, 0.010), cavity, 0.003)


def union(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The smaller of two distances, with a smooth seam of the given width [m]."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    return b + (a - b) * share - width * share * (1.0 - share)


def mug(cell: float = 0.0023) -> trimesh.Trimesh:
    """Surface nets (Gibson 1998): a vertex in each grid cell that the surface crosses, a quad around each such edge."""
    axes = [np.arange(-0.04, end, cell) for end in (0.07, 0.04, 0.05)]
    inside = distance(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)) < 0.0
    filled = np.lib.stride_tricks.sliding_window_view(inside, (2, 2, 2)).mean(axis=(3, 4, 5))
    crossed = (filled > 0.0) & (filled < 1.0)
    vertex = np.cumsum(crossed).reshape(crossed.shape) - 1

    quads = []
    for along, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        first, second = (np.take(inside, range(i, inside.shape[along] - 1 + i), axis=along) for i in (0, 1))
        node = np.argwhere(first != second)
        step = np.eye(3, dtype=int)
        around = [node, node - step[b], node - step[b] - step[c], node - step[c]]
        quad = np.stack([vertex[tuple(corner.T)] for corner in around], axis=1)
        quads.append(np.where(first[tuple(node.T)][:, None], quad, quad[:, ::-1]))
    quad = np.concatenate(quads)

    points = np.array([axis[0] for axis in axes]) + cell * (np.argwhere(crossed) + 0.5)
    for _ in range(6):  # each vertex to the middle of its quads, then a Newton step to the surface
        middle = np.repeat(points[quad].mean(axis=1), 4, axis=0)
        points = np.stack([np.bincount(quad.ravel(), weight) for weight in middle.T], axis=1)
        points /= np.bincount(quad.ravel())[:, None]
        slope = np.stack([distance(points + step) - distance(points - step) for step in 1.0e-5 * np.eye(3)], axis=-1)
        points -= 2.0e-5 * distance(points)[:, None] * slope / (slope**2).sum(axis=-1, keepdims=True)
    return trimesh.Trimesh(points, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]), process=False)


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "mug.obj")
    path.parent.mkdir(parents=True, exist_ok=True)
    mug().export(path)
