"""A hand's shapes on a device, to be placed in the frame of an object."""

from __future__ import annotations

import numpy as np
import warp as wp

from . import collision, rotation
from . import device as devices
from .hand import Hand, Shape
from .pose import Pose


class HandSolid:
    """The hand's shapes on a device, with the box around each."""

    def __init__(self, hand: Hand, device: str) -> None:
        self.hand, self.device = hand, device
        self.shapes = collision.hand_shapes(hand, device)
        shapes = [shape for part in hand.links for shape in part.shapes]
        link = [link for link, part in enumerate(hand.links) for _ in part.shapes]
        boxes = np.array([_box(shape) for shape in shapes], np.float32).reshape(-1, 2, 3)
        self.shape_count = len(shapes)
        self.shape_link = wp.array(np.array(link, np.int32), dtype=int, device=device)
        self.center = wp.array(boxes[:, 0].copy(), dtype=wp.vec3, device=device)
        self.half_extents = wp.array(boxes[:, 1].copy(), dtype=wp.vec3, device=device)

    def place(self, pose: Pose) -> wp.array:
        """Links in the object frame, transform, shape [grasp, link]."""
        joints = np.asarray(pose.joint_position, float)
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        links = wrist[:, None] @ self.hand.link_transforms(joints)
        return devices.transforms_from_matrices(links, self.device)


def _box(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half sides of the box around a shape, in its own frame [m]."""
    match shape.kind:
        case "box":
            return np.zeros(3), shape.size
        case "sphere":
            return np.zeros(3), np.full(3, shape.size[0])
        case "capsule":
            return np.zeros(3), np.array([shape.size[0], shape.size[0], shape.size[0] + shape.size[1]])
        case "cylinder":
            return np.zeros(3), np.array([shape.size[0], shape.size[0], shape.size[1]])
    assert shape.vertices is not None
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    return 0.5 * (low + high), 0.5 * (high - low)
