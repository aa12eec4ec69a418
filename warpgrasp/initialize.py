"""Starting poses: around the object, palm facing it, any roll, spread evenly."""

from __future__ import annotations

from typing import Literal

import numpy as np

from . import rotation
from .distance import DeviceMesh
from .hand import Hand
from .mesh import ObjectMesh
from .model import hand_model
from .pose import Pose
from .proximity import clearance
from .sampling import sample_joints
from .surface import farthest_points, sample_triangles, surface_points

HULL_CANDIDATES_PER_GRASP = 20

HULL_GROUP = 256
"""Starts that are spread evenly among themselves: the cost of that grows with their square."""

START_CLEARANCE = 0.005
"""Least distance between the hand's points and the object at the start [m]."""

START_POINTS = (128, 1024)
"""Points of the hand that it is measured with, until they are clear."""

BACK_OFF = 0.01
"""How far a hand that is not clear is moved back at a time [m]."""

BACK_OFF_STEPS = 30


def palm_transforms(hand: Hand, joint_position: np.ndarray) -> np.ndarray:
    """Palm frame in the base frame: origin on the palm's surface, z out of it, x along the open fingers.

    Args:
        hand: The hand.
        joint_position: Joint vectors [rad or m], shape (..., J).

    Returns:
        Homogeneous transforms, shape (..., 4, 4).
    """
    palm = np.eye(4)
    palm[:3, 0], palm[:3, 2] = hand.palm.fingers, hand.palm.normal
    palm[:3, 1] = np.cross(palm[:3, 2], palm[:3, 0])
    palm[:3, 3] = hand.palm.position
    return hand.link_transforms(joint_position)[..., hand.palm.link, :, :] @ palm


def approach(hand: Hand, pose: Pose) -> np.ndarray:
    """Unit direction in which each palm faces, in the object frame, shape (N, 3)."""
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    return (wrist @ palm_transforms(hand, pose.joint_position))[:, :3, 2]


def back_off(hand: Hand, mesh: DeviceMesh, pose: Pose) -> Pose:
    """Move every hand straight back until its points are clear of the object: a few of them first, then more.

    A finger that starts inside the object, or on the far side of a thin wall, is seldom pushed out again.
    """
    back = -BACK_OFF * approach(hand, pose)
    position = pose.wrist_position.copy()
    for points in START_POINTS:
        model = hand_model(hand, surface_points(hand, points, device=mesh.device), mesh.device)
        near = np.arange(len(pose))
        for _ in range(BACK_OFF_STEPS):
            now = Pose(position[near], pose.wrist_quaternion[near], pose.joint_position[near])
            near = near[clearance(model, mesh, now, reach=2.0 * START_CLEARANCE) < START_CLEARANCE]
            if not len(near):
                break
            position[near] += back[near]
    return Pose(position, pose.wrist_quaternion, pose.joint_position)


def starting_poses(
    hand: Hand,
    obj: ObjectMesh,
    count: int,
    *,
    distance: float,
    joint_noise: float,
    rng: np.random.Generator,
    start: Literal["hull", "surface", "joints"] = "hull",
) -> Pose:
    """Hands around the object, the palm at a distance from it and facing it.

    Rolls are stratified over the circle, so that a few grasps already cover the object.

    Args:
        hand: The hand.
        obj: The object.
        count: Number of poses.
        distance: From the object to the palm's surface, along the object's normal [m].
        joint_noise: Standard deviation about the open pose, as a share of each joint's range.
        rng: Random numbers.
        start: ``"hull"``: places spread evenly over the convex hull, which keeps starts out of cups and handles.
            ``"surface"``: places drawn from the surface itself, as the authors' code of Fast-Grasp'D does.
            ``"joints"``: the palm looks any way at all, and the joints have truncated normal distributions within
            ranges and couplings, see :func:`warpgrasp.sampling.sample_joints`.
    """
    places = {"hull": _hull_places, "surface": _surface_places, "joints": _random_places}
    place, outward = places[start](obj, count, rng)

    if start == "joints":
        joint_position = sample_joints(hand, count, rng, spread=joint_noise)
    else:
        spread = joint_noise * (hand.upper - hand.lower)
        noisy = hand.open_position + spread * rng.standard_normal((count, len(hand.joints)))
        joint_position = hand.clamp(noisy)

    roll = 2.0 * np.pi * (rng.permutation(count) + rng.random(count)) / count
    palm = np.zeros((count, 4, 4))
    palm[:, :3, :3] = _facing(-outward, roll)
    palm[:, :3, 3] = place + distance * outward
    palm[:, 3, 3] = 1.0
    wrist = palm @ np.linalg.inv(palm_transforms(hand, joint_position))
    return Pose(wrist[:, :3, 3], rotation.quaternion_from_matrix(wrist[:, :3, :3]), joint_position)


def _hull_places(obj: ObjectMesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points spread over the convex hull by farthest-point selection, group by group, and the normals there."""
    hull = obj.trimesh().convex_hull
    face, candidate = sample_triangles(np.asarray(hull.triangles), HULL_CANDIDATES_PER_GRASP * count)
    groups = -(-count // HULL_GROUP)
    chosen = []
    for group in range(groups):
        places = np.arange(group, len(candidate), groups)
        first = int(rng.integers(len(places)))
        chosen.append(places[farthest_points(candidate[places], len(range(group, count, groups)), first)])
    picked = np.concatenate(chosen)
    return candidate[picked], np.asarray(hull.face_normals)[face[picked]]


def _surface_places(obj: ObjectMesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points drawn evenly from the surface, and the normals there."""
    surface = obj.trimesh()
    area = np.asarray(surface.area_faces)
    face = rng.choice(len(area), size=count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weight = np.stack([1.0 - u, u * (1.0 - v), u * v], axis=1)
    place = np.einsum("nc,ncd->nd", weight, np.asarray(surface.triangles)[face])
    return place, np.asarray(surface.face_normals)[face]


def _random_places(obj: ObjectMesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Directions drawn evenly from the sphere, and points where planes across them touch the hull from outside.

    The points lie in line with points that are drawn evenly from the surface, so that the palm looks at the object.
    """
    outward = rng.standard_normal((count, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    aim = _surface_places(obj, count, rng)[0]
    hull = np.asarray(obj.trimesh().convex_hull.vertices)
    height = (outward @ hull.T).max(axis=1) - (aim * outward).sum(axis=1)
    return aim + height[:, None] * outward, outward


def _facing(z: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotations whose third column is z, turned about it by roll, shape (N, 3, 3)."""
    helper = np.where(np.abs(z[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    a = np.cross(z, helper)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(z, a)
    x = np.cos(roll)[:, None] * a + np.sin(roll)[:, None] * b
    return np.stack([x, np.cross(z, x), z], axis=-1)
