"""Grasps made at random for the tests of formats; no synthesis takes part."""

from __future__ import annotations

import numpy as np
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps

OBJECT_SIZE = (0.05, 0.08, 0.11)
OBJECT_CENTER = (0.01, -0.02, 0.03)
"""Not the origin, so that a frame that was forgotten shows."""


def random_grasps(name: str, count: int = 4, *, seed: int = 3) -> Grasps:
    """Every joint anywhere in its range, every pose anywhere; the second grasp is not valid."""
    rng = np.random.default_rng(seed)
    hand = warpgrasp.load_hand(name)
    box = trimesh.creation.box(extents=OBJECT_SIZE, transform=trimesh.transformations.translation_matrix(OBJECT_CENTER))
    mesh = warpgrasp.load_object(box, name="a box")

    def pose() -> Pose:
        quaternion = rng.normal(size=(count, 4))
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        joints = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count)))
        return Pose(rng.uniform(-0.2, 0.2, (count, 3)), quaternion, joints)

    grasp, pregrasp, squeeze = pose(), pose(), pose()
    valid = np.arange(count) != 1
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=pregrasp,
        squeeze=squeeze,
        valid=valid,
        reason=np.where(valid, "", "too deep"),
        metrics={"depth_m": rng.uniform(size=count), "links": np.arange(count)},
        hand_source=name,
        hand_hash=hand.hash,
        object_name=mesh.name,
        object_vertices=mesh.vertices,
        object_faces=mesh.faces,
        info={"seed": seed},
    )
    grasps.hand, grasps.object = hand, mesh
    return grasps


def phases(grasps: Grasps) -> dict[str, Pose]:
    """The three that every format has to keep."""
    return {"pregrasp": grasps.pregrasp, "grasp": grasps.pose, "squeeze": grasps.squeeze}


def link_poses(grasps: Grasps, pose: Pose) -> np.ndarray:
    """Pose of every link in the object frame, shape (N, L, 4, 4)."""
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    return wrist[:, None] @ grasps.hand.link_transforms(pose.joint_position)
