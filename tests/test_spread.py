"""Spread of a set of grasps: closed forms, and an independent principal component analysis."""

from __future__ import annotations

import numpy as np
import pytest
from random_hand import random_hand, unit
from scipy.spatial.transform import Rotation

import warpgrasp
from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand
from warpgrasp.pose import Pose
from warpgrasp.spread import diversity, keypoints, pca_shares, rms_angle, rms_distance


def scattered(rng: np.random.Generator, hand: Hand, count: int) -> Pose:
    joints = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count)))
    return Pose(rng.normal(size=(count, 3)) * 0.05, np.array([unit(rng, 4) for _ in range(count)]), joints)


def test_one_direction_is_one_component(rng):
    line = rng.normal(size=(30, 1)) * rng.normal(size=(1, 9))
    np.testing.assert_allclose(pca_shares(line), 1.0)
    square = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    np.testing.assert_allclose(pca_shares(square), [0.5, 1.0, 1.0, 1.0, 1.0])


def test_shares_match_the_eigenvalues_of_the_covariance(rng):
    hand = random_hand(rng, 20)
    pose = scattered(rng, hand, 40)
    turn = Rotation.from_quat(pose.wrist_quaternion[:, [1, 2, 3, 0]]).as_rotvec()
    variance = np.linalg.eigvalsh(np.cov(np.hstack([pose.wrist_position, turn, pose.joint_position]).T))[::-1]
    found = diversity(pose, hand)
    expected = np.cumsum(variance[:5]) / variance.sum()
    np.testing.assert_allclose([found[f"pca{i}_share"] for i in range(1, 6)], expected, rtol=1e-9)


def test_distances_are_from_the_mean():
    assert rms_distance(np.array([[[0.0, 0, 0]], [[0.2, 0, 0]]])) == pytest.approx(0.1)
    assert rms_distance(np.array([[[0.0], [1.0]], [[0.4], [1.0]]])) == pytest.approx(0.2 / np.sqrt(2.0))


def test_angles_are_from_the_mean_rotation(rng):
    """Turns by +-a about any axis have spread a, wherever they are centred; the quaternions' signs do not matter."""
    center = Rotation.from_quat(unit(rng, 4))
    turns = center * Rotation.from_rotvec(np.array([[0.3, 0, 0], [-0.3, 0, 0], [0, 0.3, 0], [0, -0.3, 0]]))
    quaternion = np.roll(turns.as_quat(), 1, axis=1) * np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert rms_angle(quaternion) == pytest.approx(0.3, abs=1e-9)


def test_uniform_rotations_spread_by_132_degrees(rng):
    """E[a^2] = integral of a^2 (1 - cos a) / pi over [0, pi] = pi^2 / 3 + 2."""
    quaternion = rng.normal(size=(40000, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    assert np.degrees(rms_angle(quaternion)) == pytest.approx(np.degrees(np.sqrt(np.pi**2 / 3.0 + 2.0)), rel=0.01)


def test_keypoints_are_palm_and_tips(rng):
    hand = load_hand("allegro")
    pose = scattered(rng, hand, 3)
    found = keypoints(hand, pose)
    assert found.shape == (3, 1 + len(hand.fingers), 3)
    wrist = Rotation.from_quat(np.roll(pose.wrist_quaternion[1], -1)).as_matrix()
    links = hand.link_transforms(pose.joint_position[1])
    finger = hand.fingers[2]
    tip = links[finger.links[-1]] @ [*finger.tip_position, 1.0]
    np.testing.assert_allclose(found[1, 3], wrist @ tip[:3] + pose.wrist_position[1], atol=1e-12)


def test_moving_the_wrist_alone_moves_every_keypoint_alike():
    hand = load_hand("allegro")
    joints = np.broadcast_to(hand.open_position, (2, hand.joint_count))
    pose = Pose(np.array([[0.0, 0, 0], [0.0, 0.06, 0.08]]), np.array([[1.0, 0, 0, 0]] * 2), joints)
    found = diversity(pose, hand)
    assert found["sigma_translation_m"] == pytest.approx(0.05)
    assert found["sigma_keypoint_m"] == pytest.approx(0.05)
    assert found["sigma_rotation_deg"] == pytest.approx(0.0, abs=1e-6)
    assert found["sigma_joint_rad"] == 0.0
    assert found["pca1_share"] == pytest.approx(1.0)


def test_units_are_kept_apart(rng):
    """A gripper's joints slide: their spread is in metres, and there is none in radians."""
    hand = load_hand("panda")
    found = diversity(scattered(rng, hand, 20), hand)
    assert np.isnan(found["sigma_joint_rad"])
    assert 0.0 < found["sigma_joint_m"] < 0.04


def test_a_turned_object_changes_nothing_but_the_shares(rng):
    """Spreads do not depend on the frame; the PCA share does, because axis-angle vectors do."""
    hand = random_hand(rng, 20)
    pose = scattered(rng, hand, 25)
    turn = Rotation.from_quat(unit(rng, 4))
    turned = turn * Rotation.from_quat(np.roll(pose.wrist_quaternion, -1, axis=1))
    moved = Pose(turn.apply(pose.wrist_position) + 0.1, np.roll(turned.as_quat(), 1, axis=1), pose.joint_position)
    before, after = diversity(pose, hand), diversity(moved, hand)
    for key in before:
        if key.startswith("sigma"):
            assert after[key] == pytest.approx(before[key], rel=1e-9)
    assert after["pca1_share"] != pytest.approx(before["pca1_share"], rel=1e-6)


def test_poses_that_are_not_finite_are_left_out(rng):
    hand = random_hand(rng, 20)
    pose = scattered(rng, hand, 6)
    expected = diversity(pose[:5], hand)
    pose.joint_position[5, 3] = np.nan
    found = diversity(pose, hand)
    assert found == expected
    assert found["grasp_count"] == 5.0


@pytest.mark.parametrize("count", [0, 1])
def test_one_grasp_has_no_spread(count, rng):
    hand = random_hand(rng, 20)
    found = diversity(scattered(rng, hand, 3)[:count], hand)
    assert found.pop("grasp_count") == count
    assert np.isnan(list(found.values())).all()


def test_equal_grasps_have_no_shares(rng):
    hand = random_hand(rng, 20)
    found = diversity(scattered(rng, hand, 1)[np.zeros(4, int)], hand)
    assert np.isnan(found["pca1_share"])
    assert found["sigma_translation_m"] == pytest.approx(0.0, abs=1e-15)


def test_poses_need_their_hand(rng):
    hand = random_hand(rng, 20)
    with pytest.raises(warpgrasp.OptionError, match="diversity of poses needs the hand too"):
        diversity(scattered(rng, hand, 3))
    with pytest.raises(warpgrasp.ShapeError, match=r"joint_position has shape \(3, 20\), expected \(N, 16\)"):
        diversity(scattered(rng, hand, 3), load_hand("allegro"))
