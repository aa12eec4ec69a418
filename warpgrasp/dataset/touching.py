"""Where the links of hands touch an object: what ``measure_geometry`` finds too, without what contacts do not need."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import warp as wp

from ..clusters import cluster_points
from ..collision import HandOnDevice
from ..distance import DeviceMesh
from ..geometry import Skin, signed_distances
from ..hand import Hand
from ..kinematics import place_points
from ..label import HAND_POINTS
from ..mesh import ObjectMesh
from ..pose import Pose
from ..surface import surface_points

BATCH = 256
"""Grasps that are looked at at once; each takes about 100 kB."""

ROUNDING = 1.0e-6
"""What distances in float32 may be off by [m]."""


def nearest_points(
    hand: Hand, obj: ObjectMesh, pose: Pose, *, reach: float, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The point of each link that is nearest to the object, or deepest in it, of the points that labels look at.

    Args:
        hand: The hand, L links.
        obj: The object.
        pose: N poses in the object's frame, all finite.
        reach: Largest distance that is of interest [m].
        device: Warp device.

    Returns:
        Signed distance of that point, inf beyond ``reach`` [m], shape (N, L); the object's surface next to it, in the
        object's frame [m], shape (N, L, 3); and the unit normal into the object there, shape (N, L, 3).

    Raises:
        HandError: The hand has no geometry.
    """
    skin, mesh = _remembered(HandOnDevice(hand, hand.hash, device)), DeviceMesh(obj, device)
    found = [_nearest(skin, mesh, pose[a : a + BATCH], reach) for a in range(0, max(len(pose), 1), BATCH)]
    distance, position, normal = (np.concatenate(each) for each in zip(*found, strict=True))
    return distance, position, normal


class _ClusteredSkin(Skin):
    """The hand with points on its skin, cut into clusters of which one point in the middle stands for the others."""

    def __init__(self, hand: Hand, device: str) -> None:
        points = surface_points(hand, HAND_POINTS, even=False, device=device)
        super().__init__(hand, points, device)
        local = self.point_local.numpy()
        clusters = cluster_points(local, points.link, device)
        begin, center = np.asarray(clusters.begin.numpy(), int), clusters.sphere.numpy()[:, :3]
        self.links, self.link_of_point = len(hand.links), points.link
        self.link_of_cluster = np.asarray(clusters.link.numpy(), int)
        self.cluster_of_point = np.repeat(np.arange(len(clusters)), np.diff(begin))
        aside = np.linalg.norm(local - center[self.cluster_of_point], axis=1)
        self.middle = np.array([a + aside[a:b].argmin() for a, b in itertools.pairwise(begin)])
        self.apart = np.linalg.norm(local - local[self.middle][self.cluster_of_point], axis=1)


@lru_cache(maxsize=1)
def _remembered(key: HandOnDevice) -> _ClusteredSkin:
    return _ClusteredSkin(key.hand, key.device)


def _nearest(
    skin: _ClusteredSkin, mesh: DeviceMesh, pose: Pose, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (len(pose), len(skin.link_of_point), 3)
    placed = wp.array(np.empty(shape, np.float32), dtype=wp.vec3, device=mesh.device)
    place_points(skin.point_link, skin.point_local, skin.place(pose), placed)
    points = placed.numpy()
    grasp, point, far = _candidates(skin, mesh, points, reach)
    there = points[grasp, point]
    distance, gradient = _distances(mesh, there, far)

    shape = (len(pose), skin.links)
    group = grasp * skin.links + skin.link_of_point[point]
    order = np.lexsort((distance, group))
    group, first = np.unique(group[order], return_index=True)
    near = distance[order[first]] <= reach
    group, least = group[near], order[first][near]
    least_distance = np.full(shape, np.inf)
    position, normal = np.zeros((2, *shape, 3))
    least_distance.reshape(-1)[group] = distance[least]
    position.reshape(-1, 3)[group] = there[least] - distance[least, None] * gradient[least]
    normal.reshape(-1, 3)[group] = -gradient[least]
    return least_distance, position, normal


def _candidates(
    skin: _ClusteredSkin, mesh: DeviceMesh, points: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Grasps and points among which each link's nearest is, if it is within reach, and how far to look for faces [m].

    A point of a cluster is nearer to the object than the one in the middle by the distance between the two at most.
    """
    # A point inside is at most half the object's shortest side from the surface.
    far = max(0.501 * float(mesh.object.extents.min()), reach + float(skin.apart.max())) + ROUNDING
    if not mesh.object.watertight:  # distances jump where a hole is
        every = np.indices(points.shape[:2]).reshape(2, -1)
        return every[0], every[1], far
    middle = _distances(mesh, points[:, skin.middle].reshape(-1, 3), far)[0].reshape(len(points), len(skin.middle))
    least = np.full((len(points), skin.links), reach)
    link, first = np.unique(skin.link_of_cluster, return_index=True)
    least[:, link] = np.minimum(np.minimum.reduceat(middle, first, axis=1), reach)
    around = middle[:, skin.cluster_of_point]
    worth = around - skin.apart <= least[:, skin.link_of_point] + ROUNDING
    grasp, point = np.nonzero(worth)
    return grasp, point, min(far, float((np.abs(around) + skin.apart)[worth].max(initial=reach)) + ROUNDING)


def _distances(mesh: DeviceMesh, points: np.ndarray, far: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances of points (M, 3) [m] and their gradients."""
    placed = wp.array(points[None], dtype=wp.vec3, device=mesh.device)
    distance, gradient = signed_distances(mesh, placed, far)
    return distance.numpy()[0], gradient.numpy()[0]
