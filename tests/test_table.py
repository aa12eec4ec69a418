"""The table against float64 NumPy and MuJoCo: height of the hand above it, and the penalty's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import reference_grasp as reference
import trimesh
from random_hand import random_hand, unit
from reference import central_difference

import warpgrasp
from warpgrasp import kinematics, rotation
from warpgrasp.hand import Hand, Shape
from warpgrasp.hands import names
from warpgrasp.model import HandModel, hand_model
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.hand_model import PREFIX, ROOT, add_hand
from warpgrasp.physics.protocols import FC6
from warpgrasp.pose import Pose
from warpgrasp.resting import RestingPose, settle
from warpgrasp.state import allocate
from warpgrasp.surface import SurfacePoints
from warpgrasp.table import MARGIN, WEIGHT, Table

REAL_HANDS = ("allegro_urdf/allegro_hand_right.urdf", "shadow_mjcf/right_hand.xml", "barrett_urdf/bhand_model.urdf")


def random_table(rng: np.random.Generator) -> Table:
    return Table(RestingPose(rng.uniform(-0.05, 0.05, 3), unit(rng, 4), 1.0))


def bare_model(hand: Hand, device: str) -> HandModel:
    """A hand without points on its skin, which the table has no use for."""
    none = np.zeros((0, 3))
    return hand_model(hand, SurfacePoints(np.zeros(0, int), none, none, np.zeros(0)), device)


def random_poses(rng: np.random.Generator, hand: Hand, count: int, spread: float = 0.1) -> Pose:
    free = rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count))
    return Pose(
        rng.uniform(-spread, spread, (count, 3)),
        np.array([unit(rng, 4) for _ in range(count)]),
        hand.clamp(hand.joint_position(free)),
    )


def lowest(shape: Shape, frame: np.ndarray, normal: np.ndarray) -> float:
    """Least n . x over a shape in a link at ``frame``."""
    pose = frame @ reference.transform(shape.position, reference.wxyz(shape.quaternion))
    up = pose[:3, :3].T @ normal
    match shape.kind:
        case "box":
            reach = np.abs(up) @ shape.size
        case "sphere":
            reach = shape.size[0]
        case "capsule":
            reach = shape.size[0] + abs(up[2]) * shape.size[1]
        case "cylinder":
            reach = shape.size[0] * np.hypot(up[0], up[1]) + shape.size[1] * abs(up[2])
        case _:
            assert shape.vertices is not None
            reach = -(shape.vertices @ up).min()
    return float(normal @ pose[:3, 3] - reach)


def heights(hand: Hand, table: Table, links: np.ndarray) -> np.ndarray:
    """Of every shape of one grasp."""
    pairs = [(shape, frame) for part, frame in zip(hand.links, links, strict=True) for shape in part.shapes]
    return np.array([lowest(shape, frame, table.normal) for shape, frame in pairs]) - table.offset


@pytest.fixture(scope="module")
def tree():
    """21 links with a shape each, of every kind."""
    return random_hand(np.random.default_rng(5), 20)


def test_clearance_is_that_of_the_closed_forms(tree, rng, device):
    table, pose = random_table(rng), random_poses(rng, tree, 17)
    links = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)[:, None] @ tree.link_transforms(
        pose.joint_position
    )
    expected = [heights(tree, table, one).min() for one in links]
    np.testing.assert_allclose(table.clearance(bare_model(tree, device), pose), expected, atol=2e-7)


def test_gradient_is_that_of_differences(tree, rng, device):
    """With respect to the wrist and the free joints, at 17 grasps and 21 shapes."""
    count = 17
    table, pose = random_table(rng), random_poses(rng, tree, count)
    model = bare_model(tree, device)
    state = allocate(model, pose, np.zeros((0, 3)))
    kinematics.find_link_transforms(model, state.wrist, state.free_position, state.joint_position, state.link_transform)
    term = table.term(model, pose)
    term.add_gradient(state)
    kinematics.find_pose_gradients(
        model, state.link_transform, state.link_wrench, state.wrist_gradient, state.free_gradient
    )
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    free = tree.free_position(pose.joint_position)
    below = 0
    for grasp in range(count):

        def loss(motion, x, grasp=grasp):
            links = reference.link_transforms(tree, reference.moved(wrist[grasp], motion), x)
            return WEIGHT * float((np.maximum(MARGIN - heights(tree, table, links), 0.0) ** 2).sum())

        expected = loss(np.zeros(6), free[grasp])
        below += expected > 0.0
        assert term.loss.numpy()[grasp] == pytest.approx(expected, rel=1e-4, abs=1e-9 * WEIGHT)
        by_wrist = central_difference(lambda motion, g=grasp: loss(motion, free[g]), np.zeros(6))
        by_joint = central_difference(lambda x: loss(np.zeros(6), x), free[grasp])
        scale = max(1.0, float(np.abs(by_wrist).max()))
        np.testing.assert_allclose(state.wrist_gradient.numpy()[grasp], by_wrist, rtol=2e-4, atol=1e-4 * scale)
        np.testing.assert_allclose(state.free_gradient.numpy()[grasp], by_joint, rtol=2e-4, atol=1e-4 * scale)
    assert 5 < below < count, "some should touch the table, and some should not"


def test_the_term_adds_to_what_is_there_and_equal_inputs_give_equal_bits(tree, rng, device):
    table, pose = random_table(rng), random_poses(rng, tree, 17)
    model = bare_model(tree, device)
    state = allocate(model, pose, np.zeros((0, 3)))
    kinematics.find_link_transforms(model, state.wrist, state.free_position, state.joint_position, state.link_transform)
    term = table.term(model, pose)
    term.add_gradient(state)
    once, loss = state.link_wrench.numpy().copy(), term.loss.numpy().copy()
    assert np.abs(once).max() > 0.0
    term.add_gradient(state)
    np.testing.assert_array_equal(state.link_wrench.numpy(), 2.0 * once)
    np.testing.assert_array_equal(term.loss.numpy(), loss)


def mujoco_clearance(hand: Hand, table: Table, pose: Pose) -> np.ndarray:
    """Least distance that MuJoCo's collision finds between the hand and a plane [m]."""
    spec = mujoco().MjSpec()
    add_hand(spec, hand, FC6)
    for geom in spec.geoms:
        geom.contype, geom.conaffinity, geom.margin = 0, 1, 0.0
    to_object = rotation.inverse(table.resting.matrix)
    spec.worldbody.add_geom(
        type=mujoco().mjtGeom.mjGEOM_PLANE,
        size=[1.0, 1.0, 0.1],
        pos=to_object[:3, 3],
        quat=rotation.quaternion_from_matrix(to_object[:3, :3]),
        contype=1,
        conaffinity=0,
        margin=2.0,
    )
    model = spec.compile()
    data = mujoco().MjData(model)
    root = int(model.jnt_qposadr[model.body(ROOT).jntadr[0]])
    at = [int(model.joint(PREFIX + name).qposadr[0]) for name in hand.joint_names]
    found = []
    for position, quaternion, joints in zip(
        pose.wrist_position, pose.wrist_quaternion, pose.joint_position, strict=True
    ):
        data.qpos[root : root + 3], data.qpos[root + 3 : root + 7], data.qpos[at] = position, quaternion, joints
        mujoco().mj_kinematics(model, data)
        mujoco().mj_collision(model, data)
        found.append(data.contact.dist.min())
    return np.array(found)


@pytest.mark.parametrize("name", [*names(), *REAL_HANDS])
def test_clearance_is_that_of_mujoco(name, rng, request):
    path = name if "/" not in name else request.getfixturevalue("shared") / "hands" / name
    hand = warpgrasp.load_hand(path)
    table, pose = random_table(rng), random_poses(rng, hand, 20)
    ours = table.clearance(bare_model(hand, "cpu"), pose)
    np.testing.assert_allclose(ours, mujoco_clearance(hand, table, pose), atol=1e-6)
    assert np.ptp(ours) > 0.05, "the poses should differ"


def test_the_plane_is_below_the_object_as_it_rests():
    obj = warpgrasp.load_object(trimesh.creation.box((0.04, 0.06, 0.1)))
    for pose in settle(obj, drops=64):
        table = Table(pose)
        assert (obj.vertices @ table.normal).min() == pytest.approx(table.offset, abs=1e-12)
        assert obj.center_of_mass @ table.normal > table.offset


def test_pushes_are_along_the_tables_axes_and_gravity_is_the_largest(rng):
    table = random_table(rng)
    pushes = table.pushes(0.2, gravity=3.0)
    np.testing.assert_allclose(pushes[:, 3:], 0.0)
    world = pushes[:, :3] @ table.resting.matrix[:3, :3].T
    expected = 0.2 * np.concatenate([np.eye(3), -np.eye(3)])
    expected[5] *= 3.0
    np.testing.assert_allclose(world, expected, atol=1e-12)
    np.testing.assert_allclose(pushes[5, :3], -0.6 * table.normal, atol=1e-12)
