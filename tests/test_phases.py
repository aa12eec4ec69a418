"""Pregrasp and squeeze."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from warpgrasp import phases, rotation
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.phases import PREGRASP_CLEARANCE, STEP_BACK, between, extrapolate, pregrasp, retreat
from warpgrasp.pose import Pose, concatenate
from warpgrasp.proximity import clearance
from warpgrasp.surface import surface_points


@pytest.fixture(scope="module")
def hand():
    return load_hand("allegro")


def touching(hand):
    """Hands that hold nothing, with a ball of 5 cm in front of the palm."""
    closed = hand.clamp(hand.open_position + 0.3)
    return Pose(np.zeros((2, 3)), np.array([[1.0, 0, 0, 0]] * 2), np.array([closed, hand.open_position]))


def ball_before(palm_distance: float):
    return trimesh.creation.icosphere(subdivisions=3, radius=0.025).apply_translation([palm_distance, 0.0, 0.04])


def test_pregrasp_is_clear_and_near(hand, device):
    model = hand_model(hand, surface_points(hand, 2048, device=device), device)
    mesh = DeviceMesh(load_object(ball_before(0.045)), device)
    grasp = touching(hand)
    assert clearance(model, mesh, grasp).max() < 0.005, "the case should need room"
    approach = pregrasp(model, mesh, grasp)
    before, distance = approach.pose, approach.clearance
    np.testing.assert_allclose(distance, np.minimum(clearance(model, mesh, before), 0.02), atol=1e-6)
    assert distance.min() >= PREGRASP_CLEARANCE
    assert np.linalg.norm(before.wrist_position - grasp.wrist_position, axis=1).max() < 0.03
    assert np.abs(before.joint_position - grasp.joint_position).mean() < 0.3


def test_the_way_from_the_pregrasp_is_clear(hand, device):
    model = hand_model(hand, surface_points(hand, 2048, device=device), device)
    mesh = DeviceMesh(load_object(ball_before(0.045)), device)
    grasp = touching(hand)
    approach = pregrasp(model, mesh, grasp)
    own = np.minimum(clearance(model, mesh, grasp), 0.0)
    assert (approach.way_clearance > own - 1e-3).all()


def test_pregrasps_do_not_depend_on_the_grasps_beside(hand, device):
    """Grasps that are clear at once are left out of later rounds; that must not change or mix up the others."""
    model = hand_model(hand, surface_points(hand, 512, device=device), device)
    mesh = DeviceMesh(load_object(ball_before(0.045)), device)
    wanted, hopeless = touching(hand), Pose(np.array([[0.045, 0.0, 0.0]]), np.array([[1.0, 0, 0, 0]]), hand.lower[None])
    mixed = concatenate([hopeless, wanted, hopeless])
    together = pregrasp(model, mesh, mixed)
    for row in range(len(mixed)):
        alone = pregrasp(model, mesh, mixed[row : row + 1])
        np.testing.assert_allclose(together.pose.joint_position[row], alone.pose.joint_position[0], atol=1e-6)
        np.testing.assert_allclose(together.pose.wrist_position[row], alone.pose.wrist_position[0], atol=1e-6)
        assert together.clearance[row] == pytest.approx(alone.clearance[0], abs=1e-6)
        assert together.way_clearance[row] == pytest.approx(alone.way_clearance[0], abs=1e-6)


def test_pregrasp_goes_straight_back_where_nothing_else_clears(hand, device, monkeypatch):
    for name in ("_peeled", "_lifted"):
        monkeypatch.setattr(phases, name, lambda _model, _mesh, grasp, _around: [grasp])
    model = hand_model(hand, surface_points(hand, 512, device=device), device)
    mesh = DeviceMesh(load_object(ball_before(0.045)), device)
    grasp = touching(hand)
    approach = pregrasp(model, mesh, grasp)
    before, distance = approach.pose, approach.clearance
    assert distance.min() >= PREGRASP_CLEARANCE
    step = round(float(-(before.wrist_position[0] @ hand.palm.normal)) / STEP_BACK)
    assert step >= 1
    np.testing.assert_allclose(before.joint_position[0], retreat(hand, grasp, step).joint_position[0])


def test_between_goes_straight_on_and_keeps_the_ranges(hand):
    first = touching(hand)
    last = retreat(hand, first, 2)
    half = between(hand, first, last, 0.5)
    np.testing.assert_allclose(half.wrist_position, 0.5 * (first.wrist_position + last.wrist_position))
    beyond = between(hand, first, last, 30.0)
    assert (beyond.joint_position >= hand.lower).all()
    assert (beyond.joint_position <= hand.upper).all()


def test_slerp_matches_scipy(rng):
    first, last = (Rotation.from_quat(rng.normal(size=(20, 4))) for _ in range(2))
    share = rng.uniform(0.0, 1.0, 20)
    way = (last * first.inv()).as_rotvec()
    expected = Rotation.from_rotvec(share[:, None] * way) * first
    a, b = (np.roll(r.as_quat(), 1, axis=1) for r in (first, last))
    actual = Rotation.from_quat(np.roll(rotation.slerp(a, b, share), -1, axis=1))
    assert (actual * expected.inv()).magnitude().max() < 1e-6


def test_retreat_moves_against_the_palm_and_opens(hand):
    grasp = touching(hand)
    back = retreat(hand, grasp, 2)
    normal = hand.palm.normal
    np.testing.assert_allclose(back.wrist_position, -0.04 * normal[None].repeat(2, 0), atol=1e-9)
    np.testing.assert_allclose(back.joint_position[0], 0.5 * (grasp.joint_position[0] + hand.open_position))
    assert (retreat(hand, grasp, 16).joint_position == hand.open_position).all()


def test_squeeze_extrapolates_within_the_limits(hand):
    grasp = touching(hand)
    before = retreat(hand, grasp, 2)
    after = extrapolate(hand, grasp, before)
    target = 2.0 * grasp.joint_position - before.joint_position
    np.testing.assert_allclose(after.joint_position, np.clip(target, hand.lower, hand.upper), atol=1e-9)
    assert (after.wrist_position == grasp.wrist_position).all()
