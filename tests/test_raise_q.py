"""Steps that raise the q-score: the gradient against Clarabel on a box, the sphere's curvature, what a step may do."""

from __future__ import annotations

import numpy as np
import pytest
import reference_metrics as reference
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.distance import DeviceMesh
from warpgrasp.errors import ContactError, OptionError, ShapeError
from warpgrasp.evaluation import torque_length
from warpgrasp.finish import check_model
from warpgrasp.label import Limits, measure
from warpgrasp.pose import Pose
from warpgrasp.raise_q import LIFT, LinkContacts, _Scene, raise_q, rigid_contacts, value_gradient
from warpgrasp.squeeze import STIFFNESS
from warpgrasp.synthesis import synthesize

HALF = np.array([0.03, 0.04, 0.05])


def pinches_on_a_box(rng: np.random.Generator, pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Opposed contacts away from the edges, a little off the surface, their normals and forces that nearly balance."""
    axis = np.arange(pairs) % 3
    point = rng.uniform(-0.8, 0.8, (pairs, 3)) * (HALF - 0.004)
    point[np.arange(pairs), axis] = HALF[axis]
    normal = -np.eye(3)[axis]
    position = np.concatenate([point, point * (1.0 + 2.0 * normal)])
    normal = np.concatenate([normal, -normal])
    position += rng.normal(size=position.shape) * 1e-3 * (normal == 0.0)
    position += normal * (rng.choice([-1.0, 1.0], 2 * pairs) * rng.uniform(5e-4, 2e-3, 2 * pairs))[:, None]
    force = np.tile(rng.uniform(0.5, 1.0, pairs), 2) * np.exp(0.2 * rng.normal(size=2 * pairs))
    return position, normal, force


def test_gradient_is_that_of_clarabel_on_a_box(rng):
    """20 contacts and 22 free joints; wrist and joints move along random directions."""
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    hand, obj = warpgrasp.load_hand("shadow"), warpgrasp.load_object(trimesh.creation.box(2.0 * HALF))
    assert hand.free_count > 16
    joints = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper))
    pose = Pose(
        np.array([[0.0, 0.01, -0.1]]), rotation.quaternion_from_rpy(np.array([0.3, 0.2, 0.1]))[None], joints[None]
    )
    position, normal, force = pinches_on_a_box(rng, 10)
    link = rng.integers(0, len(hand.links), 20)
    contacts = LinkContacts(link[None], position[None], force[None])
    value, gradient = value_gradient(hand, obj, pose, contacts, friction_coefficient=0.5, device="cpu")

    def transforms(at: Pose) -> np.ndarray:
        wrist = rotation.matrix(at.wrist_position, at.wrist_quaternion)
        return (wrist[:, None] @ hand.link_transforms(at.joint_position))[0, link]

    local = np.einsum("cji,cj->ci", transforms(pose)[:, :3, :3], position - transforms(pose)[:, :3, 3])

    def expected(step: np.ndarray) -> float:
        angle = np.linalg.norm(step[3:6])
        turn = rotation.matrix_from_axis_angle(step[3:6] / angle, np.array(angle))
        turned = rotation.quaternion_from_matrix(turn @ rotation.matrix_from_quaternion(pose.wrist_quaternion[0]))
        joint = hand.joint_position(hand.free_position(pose.joint_position) + step[6:])
        now = transforms(Pose(pose.wrist_position + step[:3], turned[None], joint))
        point = np.einsum("cij,cj->ci", now[:, :3, :3], local) + now[:, :3, 3]
        beyond = ((-normal * point).sum(axis=1) - np.abs(normal) @ HALF)[:, None]
        options = {"friction_coefficient": 0.5, "center": np.zeros(3), "torque_length": torque_length(obj)}
        return reference.friction_program(point + beyond * normal, normal, force, **options)[0]

    assert value[0] == pytest.approx(expected(np.full(28, 1e-12)), rel=1e-4)
    assert 0.0 < value[0] < 2.0
    for _ in range(12):
        way = rng.normal(size=28) * np.repeat([0.02, 1.0], [3, 25])
        slope = (expected(1e-5 * way) - expected(-1e-5 * way)) / 2e-5
        assert gradient[0] @ way == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_contacts_roll_on_a_sphere():
    """The derivative for a contact's point with the curvature in closed form, inside and outside the surface."""
    radius = 0.04
    obj = warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=6, radius=radius))
    way = np.array([[1.0, 0.2, 0.1], [-0.9, 0.3, 0.3], [-0.2, -0.9, 0.1]])
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    distance = np.array([1e-3, -1e-3, 0.0])
    hand = warpgrasp.load_hand("panda")
    pose = Pose(np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0, 0.0]]), np.zeros((1, hand.joint_count)))
    contacts = LinkContacts(np.zeros((1, 3), int), (way * (radius + distance)[:, None])[None], np.ones((1, 3)))
    scene = _Scene(hand, obj, pose, contacts, "cpu", 0.8, None, 20.0)
    touch = scene.touch(pose)
    np.testing.assert_allclose(touch.normal[0], -way, atol=5e-3)
    gradient = scene.score(touch).gradient
    for c in range(3):
        across = np.eye(3) - np.outer(way[c], way[c])
        curvature = across / (radius + distance[c])
        expected = (across - distance[c] * curvature) @ gradient.contact_position[0, c]
        expected -= curvature @ gradient.contact_normal[0, c]
        np.testing.assert_allclose(touch.slope[0, c], expected, atol=0.1 * np.abs(expected).max())


@pytest.fixture(scope="module")
def grasps():
    return synthesize("allegro", trimesh.creation.cylinder(radius=0.03, height=0.1), count=4, seed=0, device="cpu")


@pytest.fixture(scope="module")
def contacts(grasps):
    return rigid_contacts(check_model(grasps.hand, "cpu"), DeviceMesh(grasps.object, "cpu"), grasps.pose)


@pytest.fixture(scope="module")
def raised(grasps, contacts):
    return raise_q(grasps.hand, grasps.object, grasps.pose, contacts, friction_coefficient=0.5, device="cpu")


def test_rigid_contacts_balance(grasps, contacts):
    np.testing.assert_allclose(contacts.normal_force.sum(axis=1), 30.0, rtol=0.01)
    present = np.isfinite(contacts.position[..., 0])
    np.testing.assert_array_equal(present, contacts.normal_force > 0.0)
    assert (present.sum(axis=1) >= 2).all()


def test_fingers_that_press_are_counted():
    hand = warpgrasp.load_hand("allegro")
    first, second = hand.fingers[0].links, hand.fingers[1].links
    link = np.array([[0, first[0], first[-1], second[-1]]] * 4)
    force = np.array([[1.0, 1, 1, 1], [1.0, 1, 0, 0], [1.0, 0, 0, 0], [0.0, 0, 0, 1]])
    position = np.zeros((4, 4, 3))
    position[0, 3] = np.nan
    assert LinkContacts(link, position, force).finger_count(hand).tolist() == [1, 1, 0, 1]


def test_q_rises_and_grasps_stay_grasps(grasps, contacts, raised):
    assert np.all(raised.after.q >= raised.before.q)
    assert np.median(raised.after.q - raised.before.q) > 0.03
    hand, obj = grasps.hand, grasps.object
    assert (raised.pose.joint_position >= hand.lower - 1e-9).all()
    assert (raised.pose.joint_position <= hand.upper + 1e-9).all()
    mesh = DeviceMesh(obj, "cpu")
    before, after = (measure(hand, obj, pose, mesh) for pose in (grasps.pose, raised.pose))
    for key, limit in (
        ("penetration_depth_m", Limits().penetration_depth),
        ("self_penetration_depth_m", Limits().self_penetration_depth),
    ):
        assert (after[key] <= np.maximum(before[key], limit) + 2e-6).all()
    scene = _Scene(hand, obj, grasps.pose, contacts, "cpu", 0.5, None, 20.0)
    lift = scene.touch(raised.pose).distance - scene.touch(grasps.pose).distance
    assert np.abs(lift).max() <= LIFT
    np.testing.assert_array_equal(raised.contacts.link, contacts.link)
    np.testing.assert_array_equal(np.isnan(raised.contacts.position), np.isnan(contacts.position))


def test_the_squeeze_presses_with_the_forces_of_the_score(grasps, contacts, raised):
    """Virtual work: spring torques of the targets times a joint motion are contact forces times their motion."""
    hand, after = grasps.hand, raised.after
    scene = _Scene(hand, grasps.object, grasps.pose, contacts, "cpu", 0.5, None, 20.0)
    push = raised.contacts.normal_force[..., None] * np.nan_to_num(raised.contact_normal) + after.friction_force
    free, step = hand.free_position(raised.pose.joint_position), 1e-5
    target = hand.free_position(raised.squeeze.joint_position)
    torque = STIFFNESS * (target - free)
    inside = (target > hand.free_lower + 1e-6) & (target < hand.free_upper - 1e-6)
    assert inside.mean() > 0.5
    for joint in range(hand.free_count):
        ahead, behind = (
            scene.points(
                Pose(
                    raised.pose.wrist_position,
                    raised.pose.wrist_quaternion,
                    hand.joint_position(free + sign * step * np.eye(hand.free_count)[joint]),
                )
            )
            for sign in (1.0, -1.0)
        )
        work = ((ahead - behind) / (2.0 * step) * push).sum(axis=(1, 2))
        np.testing.assert_allclose(torque[inside[:, joint], joint], work[inside[:, joint]], rtol=1e-5, atol=1e-6)
    assert (raised.squeeze.joint_position <= hand.upper + 1e-9).all()


def test_no_steps_change_nothing(grasps, contacts):
    same = raise_q(grasps.hand, grasps.object, grasps.pose, contacts, friction_coefficient=0.5, steps=0, device="cpu")
    np.testing.assert_array_equal(same.pose.joint_position, grasps.pose.joint_position)
    np.testing.assert_array_equal(same.before.q, same.after.q)


@pytest.mark.parametrize(("count", "contact_count"), [(0, 3), (2, 0), (2, 3)])
def test_grasps_without_contacts_stay_where_they_are(grasps, count, contact_count):
    shape = (count, contact_count)
    none = LinkContacts(np.zeros(shape, int), np.full((*shape, 3), np.nan), np.zeros(shape))
    pose = grasps.pose[:count]
    same = raise_q(grasps.hand, grasps.object, pose, none, friction_coefficient=0.5, steps=2, device="cpu")
    np.testing.assert_array_equal(same.pose.joint_position, pose.joint_position)
    np.testing.assert_allclose(same.after.value, 20.0)
    np.testing.assert_array_equal(none.finger_count(grasps.hand), 0)


def test_bad_input_is_refused(grasps, contacts):
    hand, obj, pose = grasps.hand, grasps.object, grasps.pose
    with pytest.raises(OptionError, match="steps must be >= 0 and motion positive"):
        raise_q(hand, obj, pose, contacts, friction_coefficient=0.5, motion=0.0)
    with pytest.raises(ShapeError, match=r"contacts.position has shape .* expected \(3, C, 3\) like the poses"):
        raise_q(hand, obj, pose[:3], contacts, friction_coefficient=0.5)
    short = LinkContacts(contacts.link, contacts.position, contacts.normal_force[:, :1])
    with pytest.raises(ShapeError, match=r"contacts\.normal_force has shape"):
        raise_q(hand, obj, pose, short, friction_coefficient=0.5)
    beyond = LinkContacts(contacts.link + 100, contacts.position, contacts.normal_force)
    with pytest.raises(OptionError, match=r"contacts.link must be from 0 to \d+, the links of allegro, got 1\d\d"):
        raise_q(hand, obj, pose, beyond, friction_coefficient=0.5)
    far = LinkContacts(contacts.link, contacts.position + 1.0, contacts.normal_force)
    with pytest.raises(ContactError, match=r"contact \d+ of grasp 0 is more than 0\.05 m from the object"):
        raise_q(hand, obj, pose, far, friction_coefficient=0.5)
