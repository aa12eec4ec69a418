"""Plans of an arm: by independent kinematics they put the hand where it should be, and nothing is hit on the way."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from reference_arm import flange_by_mujoco, flange_by_torch

import warpgrasp
from warpgrasp import arm_plan, rotation
from warpgrasp.arm_plan import ArmPlan, arm_clearance
from warpgrasp.arm_preview import preview_arm
from warpgrasp.errors import OptionError, ShapeError
from warpgrasp.initialize import palm_transforms
from warpgrasp.pose import Pose
from warpgrasp.reach import MountedArm, mount_arm


def phases(there: MountedArm, obj: warpgrasp.ObjectMesh, count: int) -> tuple[Pose, Pose, Pose]:
    grasp = there.sample_wrists(count, obj, np.random.default_rng(0))
    wrist = rotation.matrix(grasp.wrist_position, grasp.wrist_quaternion)
    back = (wrist @ palm_transforms(there.hand, grasp.joint_position))[:, :3, 2]
    before = Pose(grasp.wrist_position - 0.05 * back, grasp.wrist_quaternion, grasp.joint_position)
    lift = Pose(grasp.wrist_position + np.array([0.0, 0.0, 0.1]), grasp.wrist_quaternion, grasp.joint_position)
    return before, grasp, lift


@pytest.fixture(scope="module", params=[("ur10e", "shadow_wrist", 0.8, 60), ("panda_arm", "panda", 0.5, 12)])
def planned(request: pytest.FixtureRequest) -> tuple[MountedArm, tuple[Pose, Pose, Pose], ArmPlan]:
    arm, hand, distance, count = request.param
    world = np.eye(4)
    world[:3, 3] = [0.05, -0.02, 0.06]
    there = mount_arm(
        arm,
        hand,
        base_position=(-distance, 0.1, 0.0),
        base_quaternion=rotation.quaternion_from_rpy(np.array([0.0, 0.0, 0.3])),
        world_from_object=world,
        table=True,
    )
    poses = phases(there, warpgrasp.load_object(trimesh.creation.box((0.06, 0.08, 0.12)), name="box"), count)
    return there, poses, there.plan(*poses)


def test_most_are_planned_and_the_others_say_why(planned):
    _, _, plan = planned
    assert 0.3 < plan.valid.mean() < 1.0
    assert set(plan.reason[~plan.valid]) <= set(arm_plan.REASONS)
    assert np.isnan(plan.joint_position[~plan.valid]).all()
    assert np.isfinite(plan.joint_position[plan.valid]).all()


def test_the_hand_is_at_its_wrist_pose_by_pytorch_kinematics_and_mujoco(planned):
    """World, base, flange, mount and hand composed here, by matrices of SciPy."""
    from scipy.spatial.transform import Rotation

    there, poses, plan = planned

    def pose_matrix(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()
        matrix[:3, 3] = position
        return matrix

    base = pose_matrix(plan.base_position, plan.base_quaternion)
    mount = pose_matrix(plan.mount_position, plan.mount_quaternion)
    rows = np.flatnonzero(plan.valid)
    for phase, pose in enumerate(poses):
        wrist = [pose_matrix(pose.wrist_position[row], pose.wrist_quaternion[row]) for row in rows]
        wanted = plan.world_from_object @ np.stack(wrist)
        for kinematics in (flange_by_mujoco, flange_by_torch):
            hand = base @ kinematics(there.arm, plan.joint_position[rows, phase]) @ mount
            turn = Rotation.from_matrix(np.swapaxes(hand[:, :3, :3], 1, 2) @ wanted[:, :3, :3]).magnitude()
            assert np.linalg.norm(hand[:, :3, 3] - wanted[:, :3, 3], axis=1).max() < 1e-4
            assert turn.max() < 1e-4
    assert np.nanmax(plan.metrics["arm_position_error_m"]) < 1e-5
    assert np.nanmax(plan.metrics["arm_rotation_error_rad"]) < 1e-5


def test_joints_keep_their_ranges_and_stay_on_one_branch(planned):
    there, _, plan = planned
    theta = plan.joint_position[plan.valid]
    margin = np.minimum(theta - there.arm.lower, there.arm.upper - theta).min(axis=(1, 2))
    assert margin.min() >= 0.0
    np.testing.assert_allclose(plan.metrics["arm_limit_margin"][plan.valid], margin, atol=1e-12)
    assert np.abs(np.diff(theta, axis=1)).max() < arm_plan.WAY_STEPS * arm_plan.JUMP
    assert (plan.metrics["arm_largest_step"][plan.valid] <= arm_plan.JUMP).all()


def test_between_two_phases_joints_on_a_line_stay_near_the_straight_way(planned):
    """A jump to another branch would throw the flange far off the line on the way."""
    there, _, plan = planned
    theta = plan.joint_position[plan.valid]
    ends = there.arm.flange_transforms(theta)[..., :3, 3]
    for first, last in ((0, 1), (1, 2)):
        middle = there.arm.flange_transforms(0.5 * (theta[:, first] + theta[:, last]))[:, :3, 3]
        off = np.linalg.norm(middle - 0.5 * (ends[:, first] + ends[:, last]), axis=1)
        assert np.median(off) < 5e-3
        assert off.max() < 0.03


def test_the_singularity_margin_is_the_least_singular_value_of_a_difference_jacobian(planned):
    there, _, plan = planned
    grasp = int(np.flatnonzero(plan.valid)[0])
    values = []
    for theta in plan.joint_position[grasp]:
        columns = []
        for step in 1e-6 * np.eye(there.arm.joint_count):
            ahead, behind = there.arm.flange_transforms(theta + step), there.arm.flange_transforms(theta - step)
            spin = (ahead - behind)[:3, :3] @ there.arm.flange_transforms(theta)[:3, :3].T
            turn = 0.2 * np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
            columns.append(np.concatenate([(ahead - behind)[:3, 3], turn]) / 2e-6)
        values.append(np.linalg.svd(np.stack(columns, axis=1), compute_uv=False).min())
    assert plan.metrics["arm_singularity_margin"][grasp] == pytest.approx(min(values), rel=1e-4)


def test_the_arms_clearance_is_that_of_its_surfaces(planned):
    there, _, plan = planned
    theta = plan.joint_position[plan.valid][:5, 1]
    clearance = arm_clearance(there, theta)
    base = rotation.matrix(there.base_position, there.base_quaternion)
    for row, given in zip(theta, clearance, strict=True):
        links = base @ there.robot.link_transforms(np.concatenate([row, there.hand.open_position]))
        lowest = min(
            shape.trimesh().apply_transform(links[link]).vertices[:, 2].min()
            for link in range(1, there.arm.joint_count + 1)
            for shape in there.robot.links[link].shapes
        )
        assert given == pytest.approx(lowest, abs=1e-3)
    assert (plan.metrics["arm_table_clearance_m"][plan.valid] >= 0.0).all()


def test_the_robot_is_arm_and_hand_in_one(planned):
    there, poses, plan = planned
    grasp = int(np.flatnonzero(plan.valid)[0])
    fingers = poses[1].joint_position[grasp]
    joints = np.concatenate([plan.joint_position[grasp, 1], fingers])
    base = np.linalg.inv(there.world_from_object) @ rotation.matrix(there.base_position, there.base_quaternion)
    links = base @ there.robot.link_transforms(joints)
    wrist = rotation.matrix(poses[1].wrist_position[grasp], poses[1].wrist_quaternion[grasp])
    np.testing.assert_allclose(
        links[there.arm.joint_count + 1 :], (wrist @ there.hand.link_transforms(fingers))[1:], atol=1e-8
    )
    mass = sum(link.mass for link in there.robot.links)
    parts = [*there.arm.tree.links, *there.hand.links]
    assert mass == pytest.approx(sum(link.mass for link in parts), abs=1e-9)


def test_rows_can_be_picked(planned):
    _, _, plan = planned
    valid = plan[plan.valid]
    assert len(valid) == plan.valid.sum() and valid.valid.all()
    np.testing.assert_array_equal(plan[2:5].joint_position, plan.joint_position[2:5])
    assert all(len(column) == 3 for column in plan[[0, 1, 2]].metrics.values())


def test_what_cannot_be_reached_says_so(planned):
    there, poses, _ = planned
    far = Pose(poses[1].wrist_position + np.array([5.0, 0.0, 0.0]), poses[1].wrist_quaternion, poses[1].joint_position)
    assert set(there.plan(far[:2], far[:2], far[:2]).reason) == {arm_plan.REASONS[0]}
    both = poses[0][:2], poses[1][:2], far[:2]
    assert set(there.plan(*both).reason) <= {arm_plan.REASONS[1], arm_plan.REASONS[2], arm_plan.REASONS[0]}
    with pytest.raises(ShapeError, match=r"lift\.wrist_position"):
        there.plan(poses[0], poses[1], poses[2][:1])


def test_a_picture_of_the_phases(planned, tmp_path):
    from PIL import Image

    there, poses, plan = planned
    box = warpgrasp.load_object(trimesh.creation.box((0.06, 0.08, 0.12)), name="box")
    grasp = int(np.flatnonzero(plan.valid)[0])
    row = slice(grasp, grasp + 1)
    phases = {
        name: (theta, pose[row])
        for name, theta, pose in zip(arm_plan.PHASES, plan.joint_position[grasp], poses, strict=True)
    }
    preview_arm(there, box, phases, tmp_path / "arm.png", size=96)
    picture = np.asarray(Image.open(tmp_path / "arm.png").convert("RGB")).astype(int)
    assert picture.shape[1] == 3 * 96
    orange = (picture[..., 0] - picture[..., 2] > 60).any(axis=0)
    assert orange.reshape(3, 96).any(axis=1).all(), "the object is seen in every phase"
    with pytest.raises(OptionError, match="no plan"):
        preview_arm(there, box, {"grasp": (np.full(there.arm.joint_count, np.nan), poses[1][row])}, "arm.png")
