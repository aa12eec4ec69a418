"""The squeeze: forces that balance on the object, and joint targets that exert them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

from warpgrasp import rotation
from warpgrasp.distance import DeviceMesh
from warpgrasp.finish import check_model
from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand
from warpgrasp.pose import Pose
from warpgrasp.squeeze import OPTIONS, STIFFNESS, contact_forces, joint_torques, squeeze, torque_share
from warpgrasp.synthesis import synthesize


@pytest.fixture(scope="module")
def grasps():
    return synthesize("shadow", trimesh.creation.cylinder(radius=0.03, height=0.1), count=6, seed=1, device="cpu")


@pytest.fixture(scope="module")
def case(grasps):
    """Model, mesh and poses of valid grasps."""
    valid = grasps[grasps.valid]
    pose = Pose(valid.wrist_position, valid.wrist_quaternion, valid.joint_position)
    return check_model(grasps.hand, "cpu"), DeviceMesh(grasps.object, "cpu"), pose


def test_forces_balance_and_stay_in_their_cones(case):
    model, mesh, pose = case
    _, balance = contact_forces(model, mesh, pose)
    force, normal, position, distance = (
        getattr(balance.arrays, name).numpy().astype(float) for name in ("force", "normal", "position", "distance")
    )
    force = force[:, 0]
    along = (force * normal).sum(axis=-1)
    slide = np.linalg.norm(force - along[..., None] * normal, axis=-1)
    assert (slide <= OPTIONS.friction * along + 1e-6).all()
    np.testing.assert_allclose(along.sum(axis=1), 1.0, atol=1e-5)
    torque = np.cross((position - mesh.object.center_of_mass) / balance.torque_length, force)
    assert np.linalg.norm(force.sum(axis=1), axis=1).max() < 0.05, "valid grasps can press without a net force"
    assert np.linalg.norm(torque.sum(axis=1), axis=1).max() < 0.1
    assert along[distance > 0.01].max() < 1e-3, "nothing presses from afar"


def test_joint_torques_are_the_transposed_jacobian(case):
    """Virtual work: torque times a small joint motion is force times the motion of the contacts."""
    model, mesh, pose = case
    state, balance = contact_forces(model, mesh, pose)
    torque = joint_torques(model, state, balance)
    links = np.asarray(balance.contact_link.numpy(), int)
    force, position = balance.arrays.force.numpy()[:, 0].astype(float), balance.arrays.position.numpy().astype(float)
    hand = model.hand
    free = hand.free_position(pose.joint_position)
    assert free.shape[1] > 16

    def contacts(x: np.ndarray) -> np.ndarray:
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)[:, None]
        moved = wrist @ hand.link_transforms(hand.joint_position(x))[:, links]
        at_rest = wrist @ hand.link_transforms(pose.joint_position)[:, links]
        local = np.linalg.solve(
            at_rest, np.concatenate([position, np.ones((*position.shape[:2], 1))], axis=-1)[..., None]
        )
        return (moved @ local)[..., :3, 0]

    step = 1e-5
    for joint in range(free.shape[1]):
        motion = step * np.eye(free.shape[1])[joint]
        work = ((contacts(free + motion) - contacts(free - motion)) / (2.0 * step) * force).sum(axis=(1, 2))
        np.testing.assert_allclose(torque[:, joint], work, rtol=1e-3, atol=1e-6)


def test_targets_are_force_over_stiffness_within_the_ranges(case):
    model, mesh, pose = case
    hand = model.hand
    gentle = squeeze(model, mesh, pose, force=0.5)
    state, balance = contact_forces(model, mesh, pose)
    expected = hand.free_position(pose.joint_position) + 0.5 * joint_torques(model, state, balance) / STIFFNESS
    np.testing.assert_allclose(gentle.joint_position, hand.clamp(hand.joint_position(expected)), atol=1e-6)
    hard = squeeze(model, mesh, pose, force=500.0)
    assert (hard.joint_position >= hand.lower).all()
    assert (hard.joint_position <= hand.upper).all()
    np.testing.assert_array_equal(hard.wrist_position, pose.wrist_position)


def test_no_motor_is_asked_for_more_than_it_has(case):
    """Hard pressing: some motor is at its limit in every grasp, none is above, and the pairs share one motor."""
    model, mesh, pose = case
    hand = model.hand
    target = squeeze(model, mesh, pose, force=500.0)
    torque = STIFFNESS * (target.joint_position - pose.joint_position)
    effort = np.array([joint.effort for joint in hand.joints])
    assert (np.abs(torque) <= effort + 1e-12).all()
    index = hand.joint_names.index
    pairs = [[index(f"{finger}J1"), index(f"{finger}J2")] for finger in ("FF", "MF", "RF", "LF")]
    pulled = np.abs([torque[:, pair].sum(axis=1) for pair in pairs])
    assert pulled.max() <= 1.0 + 1e-12
    assert violation_of_couplings(hand, target) <= 1e-9


def violation_of_couplings(hand: Hand, pose: Pose) -> float:
    matrix, minimum = hand.coupling_matrix()
    return float((minimum - hand.free_position(pose.joint_position) @ matrix.T).max())


def test_forces_that_are_too_strong_shrink_alike(case):
    """Below the limits nothing changes; above, the direction of the torques stays, so that the forces balance."""
    model, mesh, pose = case
    hand = model.hand
    state, balance = contact_forces(model, mesh, pose)
    unit = joint_torques(model, state, balance).astype(float)
    np.testing.assert_array_equal(torque_share(hand, 0.1 * unit), 1.0)
    pairs = [[hand.joint_names.index(f"{f}J{n}") for n in (1, 2)] for f in ("FF", "MF", "RF", "LF")]
    effort = np.array([joint.effort for joint in hand.joints])
    for force in (3.0, 30.0, 300.0):
        share = torque_share(hand, force * unit)
        asked = np.abs(force * unit)
        worst = np.maximum(
            (asked / effort).max(axis=1), np.max([abs(force * unit[:, p].sum(1)) for p in pairs], axis=0)
        )
        np.testing.assert_allclose(share, 1.0 / np.maximum(worst, 1.0), rtol=1e-12)
    assert (share < 1.0).all(), "300 N is more than the motors can do"
    unknown = dataclasses.replace(
        hand, joints=tuple(dataclasses.replace(j, effort=0.0) for j in hand.joints), actuators=()
    )
    np.testing.assert_array_equal(torque_share(unknown, 1e6 * unit), 1.0)


def test_a_slide_is_as_stiff_as_a_hinge_at_a_lever():
    hand: Hand = load_hand("panda")
    rod = trimesh.creation.cylinder(0.015, 0.12)
    grasps = synthesize(hand, rod, count=16, seed=1, device="cpu", valid_only=True)
    pose = Pose(grasps.wrist_position, grasps.wrist_quaternion, grasps.joint_position)
    target = squeeze(check_model(hand, "cpu"), DeviceMesh(grasps.object, "cpu"), pose, force=2.0)
    moved = pose.joint_position - target.joint_position
    assert 1e-4 < moved.max() <= 2.0 * 0.05**2 / STIFFNESS + 1e-6, "at most force over stiffness"
