"""Everything that stays constant during a run, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from . import collision
from .clusters import PointClusters, cluster_points
from .device import transforms
from .hand import Hand
from .surface import SurfacePoints


@dataclass(frozen=True, eq=False)
class HandModel:
    """A hand on one device."""

    hand: Hand

    points: SurfacePoints

    device: str

    joint_parent: wp.array
    """Parent link of each joint, shape [joint]."""

    joint_kind: wp.array
    """0 revolute, 1 prismatic, shape [joint]."""

    joint_origin: wp.array
    """Child frame in the parent frame at zero, transform, shape [joint]."""

    joint_axis: wp.array
    """Unit axis in the child frame, vec3, shape [joint]."""

    joint_map: wp.array
    """A in q = A x + b, shape [joint, free]."""

    joint_offset: wp.array
    """b in q = A x + b [rad or m], shape [joint]."""

    free_lower: wp.array
    """Lower ends of the free coordinates' ranges, rounded inwards [rad or m], shape [free]."""

    free_upper: wp.array
    """Upper ends, likewise."""

    coupling: wp.array
    """G in G x >= g, shape [coupling, free]."""

    coupling_minimum: wp.array
    """g in G x >= g, shape [coupling]."""

    point_link: wp.array
    """Link of each surface point, shape [point]."""

    point_local: wp.array
    """Surface points in their link's frame [m], vec3, shape [point]."""

    link_begin: wp.array
    """First point of each link and, last, the number of points, shape [link + 1]."""

    clusters: PointClusters
    """Clusters of the surface points."""

    shapes: collision.CollisionShapes

    may_touch: wp.array
    """See ``kernels.collision.deepest_link``, shape [link + 1, link]."""


def _inwards(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges in float32 that lie inside those in float64, so that no rounding leaves a joint's range."""
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    return np.minimum(low, high), high


def hand_model(hand: Hand, points: SurfacePoints, device: str) -> HandModel:
    """Put a hand and its surface points on the device."""

    def floats(values: np.ndarray) -> wp.array:
        return wp.array(np.asarray(values, np.float32), dtype=float, device=device)

    def integers(values: np.ndarray) -> wp.array:
        return wp.array(np.asarray(values, np.int32), dtype=int, device=device)

    def vectors(values: np.ndarray) -> wp.array:
        return wp.array(np.asarray(values, np.float32).reshape(-1, 3), dtype=wp.vec3, device=device)

    joints = hand.joints
    lower, upper = _inwards(hand.free_lower, hand.free_upper)
    coupling, minimum = hand.coupling_matrix()
    return HandModel(
        hand=hand,
        points=points,
        device=device,
        joint_parent=integers(np.array([joint.parent for joint in joints])),
        joint_kind=integers(np.array([int(joint.kind == "prismatic") for joint in joints])),
        joint_origin=transforms(
            np.array([joint.position for joint in joints]), np.array([joint.quaternion for joint in joints]), device
        ),
        joint_axis=vectors(np.array([joint.axis for joint in joints])),
        joint_map=floats(hand.joint_map),
        joint_offset=floats(hand.joint_offset),
        free_lower=floats(lower),
        free_upper=floats(upper),
        coupling=floats(coupling.reshape(len(minimum), len(lower))),
        coupling_minimum=floats(minimum),
        point_link=integers(points.link),
        point_local=vectors(points.position),
        link_begin=integers(np.searchsorted(points.link, np.arange(len(hand.links) + 1))),
        clusters=cluster_points(points.position, points.link, device),
        shapes=collision.hand_shapes(hand, device),
        may_touch=integers(collision.touch_matrix(hand)),
    )
