"""Grippers with sliding fingers and domes for pads, around balls: scenes whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.hand import Hand
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps
from warpgrasp.tactile.pads import FingerPad, PadMesh, dome_pad

BALL = 0.025
"""Radius of the ball [m]."""

DOME = (0.018, 0.022, 0.009)
"""Size of the pads [m]."""


def ball(radius: float = BALL) -> warpgrasp.ObjectMesh:
    """A ball of 5120 faces."""
    return warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=4, radius=radius))


def gripper(folder: Path, count: int = 2, *, distance: float = BALL + DOME[2]) -> Hand:
    """Sliding fingers evenly around the z axis; each link's z axis points at the axis, its y axis up.

    Args:
        folder: For the URDF.
        count: Fingers.
        distance: Of the links' origins from the axis, with joints at zero [m].
    """
    text = ['<robot name="slides"><link name="base"><collision><origin xyz="0 0 0.2"/><geometry>'
            '<box size="0.1 0.1 0.02"/></geometry></collision></link>']  # fmt: skip
    for i in range(count):
        angle = 2.0 * np.pi * i / count
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        axes = np.stack([np.cross([0.0, 0.0, 1.0], -out), [0.0, 0.0, 1.0], -out], axis=1)
        roll, pitch, yaw = trimesh.transformations.euler_from_matrix(axes, "sxyz")
        place = " ".join(f"{v:.12g}" for v in distance * out)
        text.append(
            f'<link name="finger{i}"><collision><origin xyz="0 0 -0.006"/><geometry><box size="0.018 0.022 0.012"/>'
            f"</geometry></collision></link>"
            f'<joint name="slide{i}" type="prismatic"><parent link="base"/><child link="finger{i}"/>'
            f'<origin xyz="{place}" rpy="{roll:.12g} {pitch:.12g} {yaw:.12g}"/><axis xyz="0 0 1"/>'
            f'<limit lower="-0.05" upper="0.05" effort="50" velocity="1"/></joint>'
        )
    path = folder / f"slides{count}.urdf"
    path.write_text("\n".join([*text, "</robot>"]))
    return warpgrasp.load_hand(path)


def domes(hand: Hand, mesh: PadMesh | None = None) -> list[FingerPad]:
    """The same pad on every finger, its back on the link's origin."""
    mesh = mesh or dome_pad(DOME)
    return [FingerPad(finger.name, finger.links[-1], np.eye(4), mesh) for finger in hand.fingers]


def held(hand: Hand, obj: warpgrasp.ObjectMesh, *, count: int = 1, press: float = 0.01) -> Grasps:
    """Grasps at the origin with all joints at zero, whose squeeze closes every finger by ``press`` [m].

    A joint that moves closer to the axis does so with springs of 2 N/mm.
    """
    zero = np.zeros((count, hand.joint_count))
    place = (np.zeros((count, 3)), np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)))
    pose, squeeze = Pose(*place, zero), Pose(*place, zero + press)
    return labelled(hand, obj, pose, squeeze)


def labelled(hand: Hand, obj: warpgrasp.ObjectMesh, pose: Pose, squeeze: Pose) -> Grasps:
    """Grasps without any label."""
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=pose.wrist_position,
        wrist_quaternion=pose.wrist_quaternion,
        joint_position=pose.joint_position,
        pregrasp=pose,
        squeeze=squeeze,
        valid=np.ones(len(pose), bool),
        reason=np.full(len(pose), ""),
        metrics={},
        hand_source=str(hand.path),
        hand_hash=hand.hash,
        object_name=obj.name,
        object_vertices=obj.vertices,
        object_faces=obj.faces,
    )
    grasps.hand, grasps.object = hand, obj
    return grasps


def turned(grasps: Grasps, quaternion: np.ndarray) -> Grasps:
    """The same grasps with the hand turned about the object's origin, by quaternions w x y z of shape (N, 4)."""
    turn = rotation.matrix_from_quaternion(quaternion)
    poses = [
        Pose(
            np.einsum("nxy,ny->nx", turn, pose.wrist_position),
            rotation.multiply(quaternion, pose.wrist_quaternion),
            pose.joint_position,
        )
        for pose in (grasps.pose, grasps.squeeze)
    ]
    return labelled(grasps.hand, grasps.object, *poses)
