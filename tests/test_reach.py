"""The reach of a mounted arm: its term against float64 differences, its filters and its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
import warp as wp

import warpgrasp
from warpgrasp import inverse_kinematics, rotation
from warpgrasp.errors import MountError, OptionError
from warpgrasp.hand import Hand
from warpgrasp.initialize import palm_transforms, starting_poses
from warpgrasp.model import hand_model
from warpgrasp.mount import Mount
from warpgrasp.pose import Pose
from warpgrasp.reach import INSET, LENGTH, RAISED, STRETCH, MountedArm, ReachTerm, mount_arm
from warpgrasp.state import allocate
from warpgrasp.surface import surface_points

COUNT = 22


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


def least_left_over(there: MountedArm, wrist: np.ndarray, theta: np.ndarray, height: float) -> np.ndarray:
    """Squared errors (N,) at the best joints near some, in float64; NaN where they are not shown to be the best.

    Errors are towards targets that are further out by the factor that the term has.
    """
    inset = np.minimum(INSET, 0.1 * (there.arm.upper - there.arm.lower))
    joints = [
        replace(joint, lower=joint.lower + d, upper=joint.upper - d)
        for joint, d in zip(there.arm.tree.joints, inset, strict=True)
    ]
    arm = replace(there.arm, tree=replace(there.arm.tree, joints=tuple(joints)))
    world = there.world_from_object @ wrist
    world[:, 2, 3] += height
    base = rotation.matrix(there.base_position, there.base_quaternion)
    target = np.linalg.inv(base) @ world @ np.linalg.inv(there.mount.matrix)
    target[:, :3, 3] = arm.shoulder + STRETCH * (target[:, :3, 3] - arm.shoulder)
    theta = inverse_kinematics.refine(arm, target, theta, iterations=1000)[0]
    scale = np.repeat([1.0, LENGTH], 3)
    flange, jacobian = arm.flange_and_jacobian(theta)
    error = scale * inverse_kinematics.pose_error(target, flange)
    slope = np.einsum("nij,ni->nj", scale[:, None] * jacobian, error)
    stuck = ((theta <= arm.lower) & (slope < 0.0)) | ((theta >= arm.upper) & (slope > 0.0))
    best = np.abs(np.where(stuck, 0.0, slope)).max(axis=1) < 1e-6
    return np.where(best, (error**2).sum(axis=1), np.nan)


def moved(wrist: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A wrist after a small translation and a rotation about the object frame's origin."""
    motion = np.eye(4)
    angle = np.asarray(np.linalg.norm(step[3:]))
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
    loss = term.loss.numpy()
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    far = np.flatnonzero(loss > 1.0)
    assert len(far) > 16, "most wrists should be out of reach here"
    step = 1e-4
    steps = np.concatenate([np.zeros((1, 6)), step * np.eye(6), -step * np.eye(6)])
    tried = np.stack([[moved(wrist[grasp], way) for way in steps] for grasp in far]).reshape(-1, 4, 4)
    energy = np.zeros((len(far), 13))
    for arms, height in zip(term.arms, (0.0, RAISED), strict=True):
        theta = np.repeat(arms.theta.numpy().astype(float)[far], 13, axis=0)
        energy += 0.5 * there.weight * least_left_over(there, tried, theta, height).reshape(-1, 13)
    known = np.isfinite(energy).all(axis=1)
    assert known.sum() > 16, "the reference should find the best joints of most"
    far, energy = far[known], energy[known]
    np.testing.assert_allclose(loss[far], energy[:, 0], rtol=1e-3)
    slope = (energy[:, 1:7] - energy[:, 7:]) / (2.0 * step)
    np.testing.assert_allclose(wrench[far], slope, rtol=1e-3, atol=2e-3 * np.abs(slope).max())
    assert not state.link_wrench.numpy()[:, 1:].any()


def test_a_graph_of_the_term_can_be_replayed(box, device):
    there = mounted("panda_arm", 0.9)
    pose = starting_poses(there.hand, box, 3, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(3))
    term, state = converged(there, pose, device, iterations=1)
    term.restart()
    with wp.ScopedCapture(device=device) as capture:
        state.link_wrench.zero_()
        term.add_gradient(state)
    assert capture.graph is not None
    for _ in range(20):
        wp.capture_launch(capture.graph)
    again, replayed = term.loss.numpy().copy(), state.link_wrench.numpy().copy()
    fresh, by_hand = converged(there, pose, device, iterations=20)
    np.testing.assert_array_equal(again, fresh.loss.numpy())
    np.testing.assert_array_equal(replayed, by_hand.link_wrench.numpy())


def test_wrists_within_reach_feel_nothing(box, device):
    there = mounted("ur10e", 0.7)
    pose = starting_poses(there.hand, box, COUNT, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(3))
    term, state = converged(there, pose, device, iterations=5)
    assert there.reachable(pose).all()
    assert term.loss.numpy().max() < 1e-8 * there.weight
    assert np.abs(state.link_wrench.numpy()).max() < 1e-4 * there.weight


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


@pytest.mark.parametrize(("arm", "distance", "count"), [("ur10e", 1.45, 200), ("panda_arm", 0.75, 16)])
def test_reachable_agrees_with_inverse_kinematics(arm, distance, count, box):
    there = mounted(arm, distance)
    pose = starting_poses(there.hand, box, count, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(1))
    solved = np.isfinite(inverse_kinematics.solve(there.arm, there.flange_targets(pose))).all(axis=1)
    reachable = there.reachable(pose)
    assert 0.1 < solved.mean() < 0.95
    assert (reachable == solved).mean() > 0.98


def test_sampled_wrists_are_near_face_the_object_and_stand_on_the_table(box):
    there = mounted("ur10e", 0.8, "shadow_wrist")
    pose = there.sample_wrists(50, box, np.random.default_rng(2), distance=0.1)
    assert len(pose) == 50
    assert there.reachable(pose).all()
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    palm = wrist @ palm_transforms(there.hand, pose.joint_position)
    nearest, distance, _ = trimesh.proximity.closest_point(box.trimesh(), palm[:, :3, 3])
    assert distance.max() < 0.11
    assert (((nearest - palm[:, :3, 3]) * palm[:, :3, 2]).sum(axis=1) > -0.01).all()
    assert (palm[:, 2, 3] > -0.06).all()
    again = there.sample_wrists(50, box, np.random.default_rng(2), distance=0.1)
    np.testing.assert_array_equal(pose.wrist_position, again.wrist_position)


def test_a_base_out_of_reach_says_by_how_much(box):
    with pytest.raises(MountError, match=r"4\.0\d m from the shoulder of ur10e.* 1\.36 m .*at least 2\.\d\d m nearer"):
        mounted("ur10e", 4.0).check_reach(box)
    with pytest.raises(MountError, match=r"none of .* wrists around the object can be reached"):
        mounted("ur10e", 1.65, "shadow").check_reach(box)
    mounted("ur10e", 0.7).check_reach(box)


def test_a_hand_that_is_too_heavy_is_refused():
    with pytest.raises(MountError, match=r"shadow_wrist weighs 3\.79 kg, but panda_arm may carry 3 kg"):
        mount_arm("panda_arm", "shadow_wrist")
    with pytest.raises(MountError, match=r"shadow weighs 3\.79 kg with the 3\.10 kg that it is mounted on"):
        mount_arm("panda_arm", "shadow", mount=Mount(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), mass=3.1))


def test_poses_that_are_none_are_refused():
    with pytest.raises(MountError, match="base pose: the quaternion"):
        mount_arm("ur10e", "panda", base_quaternion=(1.0, 1.0, 0.0, 0.0))
    with pytest.raises(MountError, match="mount: the position"):
        Mount(np.array([0.0, np.nan, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(MountError, match="rigid transform"):
        mount_arm("ur10e", "panda", world_from_object=2.0 * np.eye(4))


def test_the_term_wants_the_hand_that_the_arm_carries(box, device):
    there = mounted("ur10e", 0.7)
    allegro = warpgrasp.load_hand("allegro")
    pose = starting_poses(allegro, box, 2, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(0))
    with pytest.raises(OptionError, match="the arm carries panda, but the grasps are of allegro"):
        there.term(model_of(allegro, device), pose)


def test_shadow_is_mounted_behind_its_forearm():
    whole, palm_only = mount_arm("ur10e", "shadow_wrist"), mount_arm("ur10e", "shadow")
    theta = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 6))
    palm = whole.hand.frame_transforms(np.zeros(whole.hand.joint_count))["palm"]
    np.testing.assert_allclose(palm_only.wrists(theta), whole.wrists(theta) @ palm, atol=1e-12)
    mass = sum(link.mass for link in palm_only.hand.links) + palm_only.mount.mass
    assert mass == pytest.approx(sum(link.mass for link in whole.hand.links), abs=1e-9)
