"""Joints drawn at random: their distributions, their couplings, and starts made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
from scipy import stats
from scipy.spatial.transform import Rotation

from warpgrasp import hands, rotation
from warpgrasp.errors import HandError, OptionError
from warpgrasp.hand import Coupling
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import palm_transforms, starting_poses
from warpgrasp.mesh import load_object
from warpgrasp.sampling import sample_joints, truncated_normal


@pytest.mark.parametrize(
    ("mean", "deviation", "lower", "upper"),
    [(0.3, 0.2, 0.0, 1.5), (0.0, 0.5, 0.0, 1.0), (-3.0, 0.3, 0.0, 1.0), (4.0, 0.4, 0.0, 1.0), (0.2, 50.0, -1.0, 1.0)],
    ids=["inside", "at the end", "far below", "far above", "nearly even"],
)
def test_truncated_normal_has_the_moments_and_shape_of_its_definition(mean, deviation, lower, upper, rng):
    count = 20000
    drawn = truncated_normal(
        np.array([mean]), np.array([deviation]), np.array([lower]), np.array([upper]), count, rng
    ).ravel()
    exact = stats.truncnorm((lower - mean) / deviation, (upper - mean) / deviation, mean, deviation)
    assert drawn.min() >= lower
    assert drawn.max() <= upper
    assert abs(drawn.mean() - exact.mean()) < 5.0 * exact.std() / np.sqrt(count)
    np.testing.assert_allclose(drawn.std(), exact.std(), rtol=0.04)
    assert stats.kstest(drawn, exact.cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", hands.names())
@pytest.mark.parametrize("mean", ["open", "middle"])
def test_draws_keep_ranges_couplings_and_mimics(name, mean, rng):
    hand = load_hand(name)
    q = sample_joints(hand, 500, rng, spread=0.5, mean=mean)
    matrix, minimum = hand.coupling_matrix()
    free = hand.free_position(q)
    assert (free >= hand.free_lower).all()
    assert (free <= hand.free_upper).all()
    assert ((free @ matrix.T) >= minimum).all()
    np.testing.assert_array_equal(hand.joint_position(free), q)
    assert (q.std(axis=0) > 0.1 * (hand.upper - hand.lower)).all(), "every joint varies"


def test_coupled_joints_have_the_conditional_distribution(rng):
    """FFJ1 <= FFJ2, against the density on a fine grid; nothing piles up where they are equal."""
    hand, count = load_hand("shadow"), 40000
    first, second = (hand.joint_names.index(name) for name in ("FFJ1", "FFJ2"))
    q = sample_joints(hand, count, rng, spread=0.3)[:, [first, second]]
    upper = hand.upper[first]
    grid = (np.arange(1000) + 0.5) / 1000 * upper
    peaks = hand.open_position[[first, second]]
    density = np.outer(*(np.exp(-0.5 * ((grid - peak) / (0.3 * upper)) ** 2) for peak in peaks))
    density *= grid[:, None] <= grid
    density /= density.sum()
    for axis in (0, 1):
        marginal = density.sum(axis=1 - axis)
        mean = marginal @ grid
        deviation = np.sqrt(marginal @ (grid - mean) ** 2)
        assert abs(q[:, axis].mean() - mean) < 5.0 * deviation / np.sqrt(count) + 1e-3
        edges, cumulative = np.arange(1001) / 1000 * upper, np.append(0.0, marginal.cumsum())
        assert stats.kstest(q[:, axis], lambda v, e=edges, c=cumulative: np.interp(v, e, c)).pvalue > 1e-4
    assert (q[:, 0] == q[:, 1]).sum() == 0


def test_no_spread_is_the_open_hand(rng):
    hand = load_hand("barrett")
    np.testing.assert_array_equal(sample_joints(hand, 3, rng, spread=0.0), [hand.open_position] * 3)


def test_couplings_that_leave_nothing_and_negative_spreads_are_refused(rng):
    hand = load_hand("allegro")
    narrow = Coupling({"joint_1": 1.0, "joint_5": -1.0}, hand.upper[1] - hand.lower[5] - 1e-9)
    with pytest.raises(HandError, match="couplings of joint_1, joint_5 leave next to nothing"):
        sample_joints(dataclasses.replace(hand, couplings=(narrow,)), 4, rng, spread=0.3)
    with pytest.raises(OptionError, match=r"spread must not be negative, got -0\.1"):
        sample_joints(hand, 4, rng, spread=-0.1)


def test_starts_look_any_way_at_the_object_from_the_distance(rng):
    hand, count = load_hand("shadow"), 2000
    box = load_object(trimesh.creation.box((0.2, 0.04, 0.06)))
    pose = starting_poses(hand, box, count, distance=0.05, joint_noise=0.3, rng=rng, start="joints")
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    palm = wrist @ palm_transforms(hand, pose.joint_position)
    place, towards = palm[:, :3, 3], palm[:, :3, 2]
    # Even on SO(3): every column of the rotation is even on the sphere, with mean 0 and variance 1/3 an axis.
    for column in range(3):
        assert np.abs(palm[:, :3, column].mean(axis=0)).max() < 5.0 / np.sqrt(3.0 * count)
        np.testing.assert_allclose(palm[:, :3, column].var(axis=0), 1.0 / 3.0, atol=0.03)
    angle = Rotation.from_matrix(palm[:, :3, :3]).magnitude()
    # Of even rotations, angles have the density (1 - cos) / pi.
    assert stats.kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-4
    height = (np.asarray(box.trimesh().vertices) @ -towards.T).max(axis=0)
    np.testing.assert_allclose((place * -towards).sum(axis=1) - height, 0.05, atol=1e-9)
    hit = box.trimesh().ray.intersects_any(place, towards)
    assert hit.mean() > 0.98, "the palm looks at the object"
