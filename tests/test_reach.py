"""The reach of a mounted arm: its term against float64 differences, its filters and its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import inverse_kinematics, rotation
from warpgrasp.hand import Hand
from warpgrasp.initialize import starting_poses
from warpgrasp.model import hand_model
from warpgrasp.pose import Pose
from warpgrasp.reach import INSET, LENGTH, STRETCH, MountedArm, ReachTerm, mount_arm
from warpgrasp.state import allocate
from warpgrasp.surface import surface_points

COUNT = 20


@pytest.fixture(scope="module")
def box():
    return warpgrasp.load_object(trimesh.creation.box((0.06, 0.08, 0.12)), name="box")


def on_table() -> np.ndarray:
    world = np.eye(4)
    world[2, 3] = 0.06
    return world


def mounted(arm: str, distance: float, hand: str = "panda") -> MountedArm:
    turned = rotation.quaternion_from_rpy(np.array([0.0, 0.0, 0.4]))
    return mount_arm(
        arm, hand, base_position=(-distance, 0.1, 0.0), base_quaternion=turned, world_from_object=on_table(), table=True
    )


def least_left_over(there: MountedArm, wrist: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Squared errors (N,) at the best joints near some, in float64; that they are the best is checked.

    Errors are towards targets that are further out by the factor that the term has.
    """
    inset = np.minimum(INSET, 0.1 * (there.arm.upper - there.arm.lower))
    joints = [
        replace(joint, lower=joint.lower + d, upper=joint.upper - d)
        for joint, d in zip(there.arm.tree.joints, inset, strict=True)
    ]
    arm = replace(there.arm, tree=replace(there.arm.tree, joints=tuple(joints)))
    target = there.base_from_object @ wrist @ np.linalg.inv(there.mount.matrix)
    target[:, :3, 3] = arm.shoulder + STRETCH * (target[:, :3, 3] - arm.shoulder)
    theta = inverse_kinematics.refine(arm, target, theta, iterations=800)[0]
    scale = np.repeat([1.0, LENGTH], 3)
    flange, jacobian = arm.flange_and_jacobian(theta)
    error = scale * inverse_kinematics.pose_error(target, flange)
    slope = np.einsum("nij,ni->nj", scale[:, None] * jacobian, error)
    stuck = ((theta <= arm.lower) & (slope < 0.0)) | ((theta >= arm.upper) & (slope > 0.0))
    assert np.abs(np.where(stuck, 0.0, slope)).max() < 1e-6, "not the best joints: the conditions of optimality fail"
    return (error**2).sum(axis=1)


def moved(wrist: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A wrist after a small translation and a rotation about the object frame's origin."""
    motion = np.eye(4)
    angle = np.linalg.norm(step[3:])
    if angle > 0.0:
        motion[:3, :3] = rotation.matrix_from_axis_angle(step[3:] / angle, angle)
    turned = motion @ wrist
    turned[:3, 3] += step[:3]
    return turned


def model_of(hand: Hand, device: str):
    return hand_model(hand, surface_points(hand, 64), device)


def converged(there: MountedArm, pose: Pose, device: str, iterations: int = 600):
    model = model_of(there.hand, device)
    term = ReachTerm(there, model, pose)
    state = allocate(model, pose, np.zeros((0, 3)))
    for _ in range(iterations):
        state.link_wrench.zero_()
        term.add_gradient(state)
    return term, state


@pytest.mark.parametrize(("arm", "distance"), [("ur10e", 1.75), ("panda_arm", 1.05)])
def test_gradient_is_that_of_the_best_joints(arm, distance, box, device):
    there = mounted(arm, distance)
    pose = starting_poses(there.hand, box, COUNT, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(3))
    term, state = converged(there, pose, device)
    wrench = state.link_wrench.numpy()[:, 0]
    loss, theta = term.loss.numpy(), term.theta.numpy().astype(float)
    assert (loss > 1.0).sum() > 16, "most wrists should be out of reach here"
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    far = np.flatnonzero(loss > 1.0)
    np.testing.assert_allclose(loss[far], there.weight * least_left_over(there, wrist[far], theta[far]), rtol=1e-3)
    step = 1e-4
    steps = np.concatenate([step * np.eye(6), -step * np.eye(6)])
    tried = np.stack([[moved(wrist[grasp], way) for way in steps] for grasp in far])
    energy = there.weight * least_left_over(there, tried.reshape(-1, 4, 4), np.repeat(theta[far], 12, axis=0))
    slope = (energy.reshape(-1, 12)[:, :6] - energy.reshape(-1, 12)[:, 6:]) / (2.0 * step)
    np.testing.assert_allclose(wrench[far], slope, rtol=1e-3, atol=2e-3 * np.abs(slope).max())
    assert not state.link_wrench.numpy()[:, 1:].any()


def test_wrists_within_reach_feel_nothing(box, device):
    there = mounted("ur10e", 0.7)
    pose = starting_poses(there.hand, box, COUNT, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(3))
    term, state = converged(there, pose, device, iterations=5)
    assert there.reachable(pose).all()
    assert term.loss.numpy().max() < 1e-4
    assert np.abs(state.link_wrench.numpy()).max() < 5.0


def test_gradient_adds_to_what_is_there(box, device):
    there = mounted("ur10e", 1.75)
    pose = starting_poses(there.hand, box, 3, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(3))
    term, state = converged(there, pose, device)
    alone = state.link_wrench.numpy().copy()
    before = np.arange(alone.size, dtype=np.float32).reshape(alone.shape)
    state.link_wrench.assign(before)
    term.add_gradient(state)
    np.testing.assert_allclose(state.link_wrench.numpy(), before + alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())


def test_descending_the_term_brings_wrists_into_reach(box, device):
    there = mounted("ur10e", 1.62)
    pose = starting_poses(there.hand, box, 32, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(0))
    before = there.reachable(pose)
    model = model_of(there.hand, device)
    term = ReachTerm(there, model, pose)
    state = allocate(model, pose, np.zeros((0, 3)))
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    for _ in range(150):
        state.link_wrench.zero_()
        state.wrist.assign(np.concatenate([wrist[:, :3, 3], _xyzw(wrist)], axis=1).astype(np.float32))
        term.add_gradient(state)
        step = state.link_wrench.numpy()[:, 0] / there.weight
        wrist = np.stack([moved(w, -np.append(0.2 * s[:3], 2.0 * s[3:])) for w, s in zip(wrist, step, strict=True)])
    after = there.reachable(
        Pose(wrist[:, :3, 3], rotation.quaternion_from_matrix(wrist[:, :3, :3]), pose.joint_position)
    )
    assert before.sum() < 16
    assert after.sum() >= 28


def _xyzw(wrist: np.ndarray) -> np.ndarray:
    return np.roll(rotation.quaternion_from_matrix(wrist[:, :3, :3]), -1, axis=1)
