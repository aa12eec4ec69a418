"""Slow and obvious float64 versions of what the hand's kernels compute."""

from __future__ import annotations

import numpy as np
from reference import triangle_distance, winding_number
from scipy.spatial.transform import Rotation

from warpgrasp.hand import Hand, Shape
from warpgrasp.surface import SurfacePoints


def transform(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


def wxyz(quaternion: np.ndarray) -> np.ndarray:
    return Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()


def link_transforms(hand: Hand, wrist: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Links of one hand in the object frame, shape (link, 4, 4), from a wrist matrix and free coordinates."""
    q = hand.joint_map @ x + hand.joint_offset
    links = [wrist]
    for joint, value in zip(hand.joints, q, strict=True):
        turn = Rotation.from_rotvec(joint.axis * value).as_matrix() if joint.kind == "revolute" else np.eye(3)
        slide = joint.axis * value if joint.kind == "prismatic" else np.zeros(3)
        origin = transform(joint.position, wxyz(joint.quaternion))
        links.append(links[joint.parent] @ origin @ transform(slide, turn))
    return np.array(links)


def moved(wrist: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The wrist shifted by motion[:3] and turned by motion[3:] about its own origin, in the object frame's axes."""
    result = wrist.copy()
    result[:3, :3] = Rotation.from_rotvec(motion[3:]).as_matrix() @ wrist[:3, :3]
    result[:3, 3] += motion[:3]
    return result


def point_positions(points: SurfacePoints, links: np.ndarray) -> np.ndarray:
    frames = links[points.link]
    return np.einsum("nij,nj->ni", frames[:, :3, :3], points.position) + frames[:, :3, 3]


def shape_distance(shape: Shape, point: np.ndarray) -> float:
    """Signed distance to a shape for points inside it; outside, anything positive."""
    p = wxyz(shape.quaternion).T @ (point - shape.position)
    match shape.kind:
        case "box":
            return float((np.abs(p) - shape.size).max())
        case "sphere":
            return float(np.linalg.norm(p) - shape.size[0])
        case "capsule":
            nearest = np.array([0.0, 0.0, np.clip(p[2], -shape.size[1], shape.size[1])])
            return float(np.linalg.norm(p - nearest) - shape.size[0])
        case "cylinder":
            return float(max(np.hypot(p[0], p[1]) - shape.size[0], abs(p[2]) - shape.size[1]))
    assert shape.vertices is not None and shape.faces is not None
    a, b, c = shape.vertices[shape.faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return float((((p - a) * normal).sum(1) / np.linalg.norm(normal, axis=1)).max())


def link_distance(hand: Hand, links: np.ndarray, point: np.ndarray, owner: int) -> float:
    """Minus the depth of a point in the deepest of the links that its owner must stay out of; owner L: no link."""
    deepest = 0.0
    for link, part in enumerate(hand.links):
        pair = (min(link, owner), max(link, owner))
        if link == owner or pair in hand.neighbours:
            continue
        local = links[link][:3, :3].T @ (point - links[link][:3, 3])
        deepest = min([deepest, *(shape_distance(shape, local) for shape in part.shapes)])
    return deepest


def signed_distance(point: np.ndarray, triangles: np.ndarray) -> float:
    inside = winding_number(point[None], triangles)[0] > 0.5
    distance = min(triangle_distance(point, triangle) for triangle in triangles)
    return -distance if inside else distance


def attraction_loss(
    distance: np.ndarray,
    self_distance: np.ndarray,
    object_distance: np.ndarray,
    weights: tuple[float, float, float, float],
) -> float:
    """Loss of one grasp; weights are attraction, reach, penetration and self-penetration."""
    attraction, reach, penetration, self_penetration = weights
    outside = np.clip(distance, 0.0, reach).mean()
    inside = (np.minimum(distance, 0.0) ** 2).sum() + (object_distance**2).sum()
    return float(attraction * outside + penetration * inside + self_penetration * (self_distance**2).sum())


def adam_step(
    moments: np.ndarray, gradient: np.ndarray, decays: tuple[float, float], time: int
) -> tuple[np.ndarray, np.ndarray]:
    """Updated moments (2, n) and the step of unit size (n,)."""
    first = decays[0] * moments[0] + (1.0 - decays[0]) * gradient
    second = decays[1] * moments[1] + (1.0 - decays[1]) * gradient**2
    mean, square = first / (1.0 - decays[0] ** time), second / (1.0 - decays[1] ** time)
    return np.stack([first, second]), -mean / (np.sqrt(square) + 1e-8)
