"""Table, obstacles and arm together: the chain from start to file keeps to all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

import warpgrasp
from warpgrasp import OptionError, synthesis
from warpgrasp.distance import DeviceMesh
from warpgrasp.finish import check_model
from warpgrasp.obstacles import Obstacles
from warpgrasp.optimize import Descent
from warpgrasp.options import recipe
from warpgrasp.phases import LIFT_HEIGHT, between, clear_squeeze
from warpgrasp.pose import Pose
from warpgrasp.resting import settle
from warpgrasp.surface import object_points
from warpgrasp.surroundings import NOTHING, Surroundings
from warpgrasp.table import Table

WALL = trimesh.creation.box(extents=(0.2, 0.01, 0.2)).apply_translation([0.0, 0.08, 0.0])


@pytest.fixture(scope="module")
def box():
    return warpgrasp.load_object(trimesh.creation.box(extents=(0.05, 0.06, 0.12)), name="box")


@pytest.fixture(scope="module")
def on_side(box):
    """The most probable resting pose: on a large face."""
    return settle(box)[0]


@pytest.fixture(scope="module")
def grasps(box, on_side):
    """Grasps by a hand on an arm that stands beside the box on a table, with a wall on one side."""
    hand = warpgrasp.load_hand("barrett")
    arm = warpgrasp.mount_arm("ur10e", hand, base_position=(-0.7, 0.0, 0.0))
    return warpgrasp.synthesize(
        hand, box, count=12, seed=1, iterations=150, table=on_side, obstacles=[WALL], arm=arm, device="cpu"
    )


@pytest.mark.slow
def test_valid_grasps_are_clear_in_every_phase_and_on_the_way(grasps, on_side):
    good = grasps[grasps.valid]
    assert len(good), dict(zip(*np.unique(grasps.reason, return_counts=True), strict=True))
    check = check_model(grasps.hand, "cpu")
    ways = [between(grasps.hand, good.pose, good.pregrasp, share) for share in (0.1, 0.5)]
    for pose in (*good.phases.values(), *ways):
        assert (Table(on_side).clearance(check, pose) >= 0.0).all()
        assert (Obstacles(meshes=[WALL]).clearance(check, pose) > 0.0).all()


@pytest.mark.slow
def test_labels_say_what_the_arm_cannot_do(grasps):
    assert (grasps.arm.reason[grasps.valid] == "").all()
    assert np.isfinite(grasps.arm.joint_position[grasps.valid]).all()
    assert (grasps.metrics["arm_position_error_m"][grasps.valid] < 1e-4).all()


@pytest.mark.slow
def test_the_lift_is_the_squeeze_raised_off_the_table(grasps, on_side):
    raised = grasps.lift.wrist_position - grasps.squeeze.wrist_position
    np.testing.assert_allclose(raised, np.broadcast_to(LIFT_HEIGHT * on_side.normal, raised.shape), atol=1e-12)
    np.testing.assert_array_equal(grasps.lift.joint_position, grasps.squeeze.joint_position)


@pytest.mark.slow
def test_the_file_keeps_table_arm_and_lift(grasps, tmp_path):
    grasps.save(tmp_path / "robot.npz")
    again = warpgrasp.load_grasps(tmp_path / "robot.npz")
    for name in ("position", "quaternion", "probability"):
        np.testing.assert_array_equal(getattr(again.table, name), getattr(grasps.table, name))
    for name, value in vars(grasps.lift).items():
        np.testing.assert_array_equal(getattr(again.lift, name), value)
    for name, value in vars(grasps.arm).items():
        if name == "metrics":
            assert again.arm.metrics.keys() == value.keys()
        else:
            np.testing.assert_array_equal(getattr(again.arm, name), value)
    np.testing.assert_array_equal(again[2:4].arm.joint_position, grasps.arm.joint_position[2:4])
    assert again.actuator_position.shape == (12, 4)


def test_without_anything_nothing_is_added(box):
    hand = warpgrasp.load_hand("panda")
    check = check_model(hand, "cpu")
    far = Pose(np.array([[0.0, 0.0, 5.0]]), np.array([[1.0, 0, 0, 0]]), hand.open_position[None])
    assert NOTHING.terms(check, far) == [] and not NOTHING.solid
    assert NOTHING.clearance(check, far).tolist() == [np.inf]
    assert NOTHING.up.tolist() == [0.0, 0.0, 1.0]
    assert NOTHING.pushes(0.1) is None


def test_loss_of_a_descent_counts_the_surroundings(box, on_side):
    """The loss of a pose in the table is that of the same pose without table, and the table's."""
    hand = warpgrasp.load_hand("panda")
    check = check_model(hand, "cpu")
    below = Pose(-0.2 * on_side.normal[None], np.array([[1.0, 0, 0, 0]]), hand.open_position[None])
    table = Surroundings(table=Table(on_side))
    stage = recipe("attraction").stages[0]
    losses = []
    for around in (NOTHING, table):
        descent = Descent(check, DeviceMesh(box, "cpu"), object_points(box, 64), below, stage, surroundings=around)
        descent.find_gradient(search=True)
        losses.append(descent.loss()[0])
    assert losses[1] - losses[0] == pytest.approx(table.loss(check, below)[0], rel=1e-5)
    assert table.loss(check, below)[0] > 1.0


def test_a_squeeze_into_the_table_is_cut_back_evenly(on_side):
    """Fingers that would close into the table close as far as they can; the others close as they should."""
    hand = warpgrasp.load_hand("barrett")
    check = check_model(hand, "cpu")
    around = Surroundings(table=Table(on_side))
    up = on_side.normal
    joints = np.repeat(hand.clamp(np.zeros(hand.joint_count))[None], 2, axis=0)
    wrist = Pose(np.zeros((2, 3)), np.repeat([[1.0, 0, 0, 0]], 2, axis=0), joints)
    closed = np.repeat(hand.clamp(0.6 * hand.upper)[None], 2, axis=0)
    # Both palms face the table: fingers that close reach further down than open ones.
    facing = hand.palm.normal
    turn = Rotation.align_vectors([-up], [facing])[0].as_quat()
    wrist = Pose(wrist.wrist_position, np.repeat([np.roll(turn, 1)], 2, axis=0), joints)
    # Both hands just above the table when open; the second is lifted out of harm's way.
    gap = around.clearance(check, wrist).min() - 1e-3
    place = np.array([-gap * up, 0.5 * up])
    grasp = Pose(place, wrist.wrist_quaternion, joints)
    target = Pose(place, wrist.wrist_quaternion, closed)
    assert (around.clearance(check, target) > 0.0).tolist() == [False, True]
    pressed, share = clear_squeeze(check, grasp, target, around)
    assert (around.clearance(check, pressed) >= 0.0).all()
    assert share[1] == 1.0
    assert 0.0 <= share[0] < 1.0
    further = between(hand, grasp, target, np.minimum(share + 1.0 / 16.0, 1.0))
    assert around.clearance(check, further)[0] < 0.0, "it should go as far as it can"


def test_an_obstacle_in_the_object_is_refused(box):
    inside = trimesh.creation.icosphere(radius=0.01)
    with pytest.raises(OptionError, match="mm into the object"):
        warpgrasp.synthesize("panda", box, count=1, iterations=1, obstacles=[inside], device="cpu")


def test_an_arm_with_another_hand_is_refused(box):
    arm = warpgrasp.mount_arm("ur10e", "panda", base_position=(-0.5, 0.0, 0.0))
    with pytest.raises(OptionError, match="the arm carries 'panda', and grasps of 'allegro'"):
        warpgrasp.synthesize("allegro", box, count=1, iterations=1, arm=arm, device="cpu")


@pytest.mark.slow
def test_hands_can_start_where_random_arm_joints_put_them(box, on_side):
    """The wrists that a recipe with joints drawn at random starts from are within the arm's reach."""
    hand = warpgrasp.load_hand("barrett")
    arm = warpgrasp.mount_arm("ur10e", hand, base_position=(-0.7, 0.0, 0.0))
    arm = dataclasses.replace(arm, world_from_object=on_side.matrix, table=True)
    around = Surroundings(table=Table(on_side), arm=arm)
    by_joints = dataclasses.replace(recipe("default"), start="joints", joint_noise=0.3)
    check = check_model(hand, "cpu")
    start = synthesis._starts(check, box, by_joints, around, 8, np.random.default_rng(0))
    assert len(start) == 8 and arm.reachable(start).all()
    assert np.ptp(start.joint_position, axis=0).max() > 0.2
    np.testing.assert_allclose(hand.clamp(start.joint_position), start.joint_position, atol=1e-12)
