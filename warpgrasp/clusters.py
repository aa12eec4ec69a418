"""Points in small compact clusters, so that most of them need not be looked at one by one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import warp as wp

CLUSTER_SIZE = 16
"""Most points of a cluster."""


@dataclass(frozen=True, eq=False)
class PointClusters:
    """Runs of points that belong to one link, with a sphere around each, on one device."""

    begin: wp.array
    """First point of each cluster and, last, the number of points, shape [cluster + 1]."""

    link: wp.array
    """Link that the points of each cluster belong to, the number of links where to none, shape [cluster]."""

    sphere: wp.array
    """Centre in the link's frame, or in the object's, and radius [m], vec4, shape [cluster]."""

    def __len__(self) -> int:
        return self.link.shape[0]


def cluster_points(position: np.ndarray, link: np.ndarray, device: str | None) -> PointClusters:
    """Cut points into clusters.

    Args:
        position: In the frame of their link, or in the object's [m], shape (point, 3); in :func:`compact_order`, or the
            clusters are larger than they need be.
        link: Link of each, sorted, shape (point,).
        device: Where the clusters go.
    """
    ends = np.flatnonzero(np.diff(link, append=-1)) + 1
    runs = itertools.pairwise([0, *ends.tolist()])
    begin = [first for start, end in runs for first in range(start, end, CLUSTER_SIZE)]
    parts = [position[a:b] for a, b in itertools.pairwise([*begin, len(position)])]
    return PointClusters(
        begin=wp.array(np.array([*begin, len(position)], np.int32), dtype=int, device=device),
        link=wp.array(np.asarray(link)[begin].astype(np.int32), dtype=int, device=device),
        sphere=wp.array(np.array([_around(p) for p in parts], np.float32).reshape(-1, 4), dtype=wp.vec4, device=device),
    )


def _around(points: np.ndarray) -> np.ndarray:
    center = 0.5 * (points.min(axis=0) + points.max(axis=0))
    rounding = 1.0e-6
    return np.append(center, np.linalg.norm(points - center, axis=1).max() + rounding)


def compact_order(position: np.ndarray) -> np.ndarray:
    """An order of points (point, 3) in which every run of ``CLUSTER_SIZE`` lies close together, shape (point,).

    Halves along the longest side of the box around them, at a multiple of the cluster size.
    """
    order = np.arange(len(position))
    waiting = [(0, len(position))]
    while waiting:
        begin, end = waiting.pop()
        if end - begin <= CLUSTER_SIZE:
            continue
        part = order[begin:end]
        axis = int(np.ptp(position[part], axis=0).argmax())
        order[begin:end] = part[np.argsort(position[part, axis], kind="stable")]
        middle = begin + CLUSTER_SIZE * -(-(end - begin) // (2 * CLUSTER_SIZE))
        waiting += [(begin, middle), (middle, end)]
    return order
