"""The squeeze: where to send the joints so that their springs press with forces that balance on the object."""

from __future__ import annotations

import numpy as np
import warp as wp

from . import kinematics
from .actuation import motor_matrix
from .balance import ContactBalance
from .device import batches
from .distance import DeviceMesh
from .hand import Hand
from .model import HandModel
from .options import Balance
from .pose import Pose
from .proximity import find_distances
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
    find_distances(model, mesh, state, reach=REACH)
    balance = ContactBalance(model, mesh.object, OPTIONS, len(grasp), push=np.zeros((1, 6)))
    balance.find_contacts(state)
    balance.find_forces(OPTIONS.steps)
    return state, balance


def squeeze(
    model: HandModel, mesh: DeviceMesh, grasp: Pose, *, force: float = FORCE, stiffness: float = STIFFNESS
) -> Pose:
    """Targets that press: dq = J' f / K, kept within ranges, couplings and motor torques; the wrist stays.

    Links push the object with forces f that balance on it, within friction cones narrower than there are. Springs of
    stiffness K between joints and targets push the links with the same forces, up to what the ranges cut off. Where
    they would ask more of a motor than it has, all forces of the grasp shrink alike, so that they still balance.

    Args:
        model: The hand, with the points that contacts are made of.
        mesh: The object.
        grasp: N grasps.
        force: Sum of the normal parts of f [N], where the motors are strong enough.
        stiffness: K of revolute joints [N m/rad].
    """
    per_newton = [
        joint_torques(model, *contact_forces(model, mesh, grasp[rows])) for rows in batches(len(grasp), model.device)
    ]
    torque = force * np.concatenate(per_newton).astype(float)
    hand = model.hand
    sliding = np.array([hand.joints[joint].kind == "prismatic" for joint in hand.free_joints])
    springs = np.where(sliding, stiffness / LEVER**2, stiffness)
    torque = torque * torque_share(hand, torque)[:, None]
    begin = hand.free_position(grasp.joint_position)
    # Putting the targets into couplings can move a joint further than its force does. Nothing between the grasp and
    # the targets leaves ranges or couplings, because these are convex.
    move = hand.free_position(hand.clamp(hand.joint_position(begin + torque / springs))) - begin
    target = begin + move * torque_share(hand, springs * move)[:, None]
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, hand.joint_position(target))


def torque_share(hand: Hand, torque: np.ndarray) -> np.ndarray:
    """The largest share of joint torques that all motors can exert together, at most 1.

    A free joint may ask for its effort. A motor that moves several joints is asked for the sum of what they ask for,
    by its coefficients: with the joints' stiffness it would pull that hard. Efforts of 0 are unknown and do not limit.

    Args:
        hand: The hand.
        torque: Of the free joints [N m or N], shape (N, K).

    Returns:
        Shares, shape (N,).
    """
    rows = motor_matrix(hand)[0]
    asked = np.abs(np.concatenate([torque, torque @ rows.T], axis=1))
    efforts = [hand.joints[joint].effort for joint in hand.free_joints] + [motor.effort for motor in hand.motors]
    limit = np.where(np.array(efforts) > 0.0, efforts, np.inf)
    return 1.0 / np.maximum((asked / limit).max(axis=1, initial=0.0), 1.0)


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
