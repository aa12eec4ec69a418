"""Grasps made by hand for the physics tests: no synthesis takes part."""

from __future__ import annotations

import numpy as np
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.hand import Hand
from warpgrasp.initialize import starting_poses
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps

BOX_WIDTH = 0.04
"""Of the box that the Panda grips [m]."""


def labelled(
    hand: Hand, obj: warpgrasp.ObjectMesh | trimesh.Trimesh, pregrasp: Pose, grasp: Pose, squeeze: Pose
) -> Grasps:
    """Grasps without any label."""
    mesh = warpgrasp.load_object(obj)
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=pregrasp,
        squeeze=squeeze,
        valid=np.ones(len(grasp), bool),
        reason=np.full(len(grasp), ""),
        metrics={},
        hand_source=hand.name,
        hand_hash=hand.hash,
        object_name=mesh.name,
        object_vertices=mesh.vertices,
        object_faces=mesh.faces,
    )
    grasps.hand, grasps.object = hand, mesh
    return grasps


def panda_grip(*, away: float = 0.0, opening: float = 0.0) -> Grasps:
    """One grasp of a box between the Panda's pads, on the line through its centre of mass.

    Args:
        away: Distance from the hand to where it would grip [m].
        opening: Distance of either finger's target from the box's faces at the pregrasp [m].
    """
    hand = warpgrasp.load_hand("panda")
    joints = np.full((1, 2), BOX_WIDTH / 2.0)
    links = hand.link_transforms(joints[0])
    pads = np.array([links[pad.link, :3, :3] @ pad.position + links[pad.link, :3, 3] for pad in hand.pads])
    turn = links[hand.palm.link, :3, :3]
    position = -pads.mean(axis=0)[None] - away * (turn @ hand.palm.normal)
    across = np.abs(pads[1] - pads[0]).argmax()
    extents = np.full(3, 0.03)
    extents[across] = BOX_WIDTH
    still = np.array([[1.0, 0.0, 0.0, 0.0]])
    return labelled(
        hand,
        trimesh.creation.box(extents),
        Pose(position, still, joints + opening),
        Pose(position, still, joints),
        Pose(position, still, np.zeros((1, 2))),
    )


def closing(name: str, obj: trimesh.Trimesh, count: int, *, seed: int = 0) -> Grasps:
    """Hands before an object that simply bend their fingers: some hold it, others do not."""
    hand = warpgrasp.load_hand(name)
    mesh = warpgrasp.load_object(obj)
    rng = np.random.default_rng(seed)
    start = starting_poses(hand, mesh, count, distance=0.01, joint_noise=0.0, rng=rng)
    bend = rng.uniform(0.2, 0.5, (count, 1))
    closed = np.stack([closed_position(hand, share) for share in (0.0, 1.0)])
    joints = [hand.clamp(closed[0] + share * (closed[1] - closed[0])) for share in (bend - 0.15, bend, bend + 0.15)]
    return labelled(hand, mesh, *(Pose(start.wrist_position, start.wrist_quaternion, q) for q in joints))


def from_above(name: str, obj: trimesh.Trimesh, share: float, *, clearance: float = 0.005) -> Grasps:
    """One hand with its palm down over the middle of an object, whose fingers simply bend.

    Args:
        name: Bundled hand.
        obj: The object.
        share: How far the fingers are bent at the grasp, of the way to a fist.
        clearance: Between palm and object [m].
    """
    hand = warpgrasp.load_hand(name)
    mesh = warpgrasp.load_object(obj)
    palm = hand.link_transforms(hand.open_position)[hand.palm.link]
    normal, middle = palm[:3, :3] @ hand.palm.normal, palm[:3, :3] @ hand.palm.position + palm[:3, 3]
    side = palm[:3, :3] @ hand.palm.fingers
    turn = np.stack([side, np.cross(side, normal), -normal])
    position = np.array([0.0, 0.0, mesh.bounds[1, 2] + clearance]) - turn @ middle
    wrist = (position[None], rotation.quaternion_from_matrix(turn)[None])
    bends = (share - 0.15, share, share + 0.15)
    return labelled(hand, mesh, *(Pose(*wrist, hand.clamp(closed_position(hand, bend))[None]) for bend in bends))


def closed_position(hand: Hand, share: float) -> np.ndarray:
    """From open to a fist: every joint that bends, moved to its end."""
    fist = hand.open_position.copy()
    for finger in hand.fingers:
        for joint in finger.joints:
            if hand.upper[joint] > 1.3:
                fist[joint] = hand.upper[joint]
    return hand.open_position + share * (fist - hand.open_position)


def mirrored(grasps: Grasps, name: str) -> Grasps:
    """The same grasps in a mirror (x changes sign), by the hand called ``name``, which has the same joint values."""
    hand = warpgrasp.load_hand(name)
    flip = np.array([-1.0, 1.0, 1.0])
    mesh = trimesh.Trimesh(grasps.object.vertices * flip, grasps.object.faces[:, ::-1], process=False)

    def pose(one: Pose) -> Pose:
        turn = np.diag(flip) @ rotation.matrix_from_quaternion(one.wrist_quaternion) @ np.diag(flip)
        return Pose(one.wrist_position * flip, rotation.quaternion_from_matrix(turn), one.joint_position)

    return labelled(hand, mesh, pose(grasps.pregrasp), pose(grasps.pose), pose(grasps.squeeze))
