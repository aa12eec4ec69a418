"""The squeeze: where to send the joints so that their springs press with forces that balance on the object."""

from __future__ import annotations

import numpy as np
import warp as wp

from . import kinematics
from .balance import ContactBalance
from .distance import DeviceMesh
from .model import HandModel
from .options import Balance
from .pose import Pose
from .proximity import find_proximity
from .state import State, allocate

FORCE = 30.0
"""Sum of the normal parts of all contact forces [N]."""

STIFFNESS = 5.0
"""Of the joints' position controllers [N m/rad]."""

LEVER = 0.05
"""Length that turns the stiffness of a revolute joint into that of a prismatic one: K / LEVER² [m]."""

OPTIONS = Balance(friction=0.2, load=0.0, distance_cost=30.0, softness=0.002, steps=400)
"""Forces that balance among themselves; force at a distance is dear, because it cannot act."""

REACH = 0.05
"""Distance beyond which no contact is looked for [m]."""


def contact_forces(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> tuple[State, ContactBalance]:
    """Forces at the links' contacts that balance on the object, their normal parts summing to one.

    Args:
        model: The hand, with the points that contacts are made of.
        mesh: The object.
        grasp: N grasps.

    Returns:
        The hands' state, and the contacts with their forces in its arrays.
    """
    state = allocate(model, grasp, np.zeros((0, 3)))
    find_proximity(model, mesh, state, reach=REACH)
    balance = ContactBalance(model, mesh.object, OPTIONS, len(grasp), push=np.zeros((1, 6)))
    balance.find_contacts(state)
    balance.find_forces(OPTIONS.steps)
    return state, balance


def squeeze(
    model: HandModel, mesh: DeviceMesh, grasp: Pose, *, force: float = FORCE, stiffness: float = STIFFNESS
) -> Pose:
    """Targets that press: dq = J' f / K, kept within ranges and couplings; the wrist stays.

    Links push the object with forces f that balance on it, within friction cones narrower than there are. Springs of
    stiffness K between joints and targets push the links with the same forces, up to what the ranges cut off.

    Args:
        model: The hand, with the points that contacts are made of.
        mesh: The object.
        grasp: N grasps.
        force: Sum of the normal parts of f [N].
        stiffness: K of revolute joints [N m/rad].
    """
    state, balance = contact_forces(model, mesh, grasp)
    torque = joint_torques(model, state, balance).astype(float)
    hand = model.hand
    sliding = np.array([hand.joints[joint].kind == "prismatic" for joint in hand.free_joints])
    free = hand.free_position(grasp.joint_position)
    free = free + force * torque / np.where(sliding, stiffness / LEVER**2, stiffness)
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, hand.clamp(hand.joint_position(free)))


def joint_torques(model: HandModel, state: State, balance: ContactBalance) -> np.ndarray:
    """J' f for the free joints: torques [N m] or forces [N] per newton of normal force, shape (N, free)."""
    force = balance.arrays.force.numpy()[:, 0]
    position = balance.arrays.position.numpy()
    wrench = np.zeros((*state.link_wrench.shape, 6), np.float32)
    wrench[:, np.asarray(balance.contact_link.numpy(), int)] = np.concatenate(
        [force, np.cross(position, force)], axis=-1
    )
    state.link_wrench.assign(wp.array(wrench, dtype=wp.spatial_vector, device=model.device))
    kinematics.find_pose_gradients(
        model, state.link_transform, state.link_wrench, state.wrist_gradient, state.free_gradient
    )
    return state.free_gradient.numpy()
