"""Grasps that miss the object: by exactly what was asked for, and what the physics test says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from physics_grasps import panda_grip
from scipy.spatial.transform import Rotation

from warpgrasp import rotation
from warpgrasp.errors import OptionError
from warpgrasp.physics.protocols import DGN6, FC6
from warpgrasp.robustness import perturbed, variants
from warpgrasp.validation import validate


def motions(copies, grasps, phase: str) -> np.ndarray:
    """The rigid motion of each copy from the original, shape (copy, 4, 4)."""
    before, after = (g.phases[phase] for g in (grasps, copies))
    start = rotation.matrix(before.wrist_position, before.wrist_quaternion)[0]
    end = rotation.matrix(after.wrist_position, after.wrist_quaternion)
    return end @ np.linalg.inv(start)


def test_every_phase_moves_alike_and_by_as_much_as_asked():
    grasps = panda_grip(away=0.02)
    copies = perturbed(grasps, position=0.003, angle=np.radians(5.0), copies=40)
    assert len(copies) == 40
    moved = motions(copies, grasps, "grasp")
    for phase in ("pregrasp", "squeeze"):
        np.testing.assert_allclose(motions(copies, grasps, phase), moved, atol=1e-12)
        np.testing.assert_array_equal(
            copies.phases[phase].joint_position, np.repeat(grasps.phases[phase].joint_position, 40, axis=0)
        )
    angles = Rotation.from_matrix(moved[:, :3, :3]).magnitude()
    np.testing.assert_allclose(np.degrees(angles), 5.0, rtol=1e-9)
    center = grasps.object.center_of_mass
    shifts = moved[:, :3, :3] @ center + moved[:, :3, 3] - center
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), 0.003, rtol=1e-9)
    # Uniform directions: the mean of 40 unit vectors is rarely longer than 0.4 (three standard deviations).
    assert np.linalg.norm(shifts.mean(axis=0)) < 0.4 * 0.003 and len(np.unique(shifts.round(9), axis=0)) == 40


def test_no_motion_changes_nothing_and_seeds_repeat():
    grasps = panda_grip()
    still = perturbed(grasps, position=0.0, angle=0.0)
    np.testing.assert_allclose(still.wrist_position, grasps.wrist_position, atol=1e-15)
    np.testing.assert_allclose(still.wrist_quaternion, grasps.wrist_quaternion, atol=1e-15)
    first, again, other = (perturbed(grasps, seed=seed).wrist_position for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_copies_of_a_grasp_lie_together_and_keep_its_labels():
    one = panda_grip()
    two = replace(one[np.array([0, 0])], valid=np.array([True, False]), reason=np.array(["", "penetration"]))
    copies = perturbed(two, copies=3)
    np.testing.assert_array_equal(copies.valid, [True] * 3 + [False] * 3)
    assert list(copies.reason) == [""] * 3 + ["penetration"] * 3


def test_physics_tells_a_small_miss_from_a_large_one():
    grasps = panda_grip()
    as_it_is, small, large = (
        validate(perturbed(grasps, position=position, angle=angle, copies=3), workers=1).metrics["success_fc6"]
        for position, angle in ((0.0, 0.0), (0.0005, 0.005), (0.1, 0.0))
    )
    np.testing.assert_array_equal(as_it_is, validate(grasps, workers=1).metrics["success_fc6"].repeat(3))
    assert as_it_is.all() and small.all() and not large.any()


def test_variants_change_what_they_say_and_slip_more():
    slippery, heavy, both = variants(friction=0.3, mass=3.0).values()
    assert slippery == replace(FC6, name="fc6_slippery", friction=(0.3, *FC6.friction[1:]))
    assert heavy.mass == pytest.approx(0.3) and heavy.friction == FC6.friction
    assert (both.friction, both.mass) == (slippery.friction, heavy.mass)
    nearly_none = variants(friction=0.01)["slippery"]
    assert not validate(panda_grip(), nearly_none, workers=1).metrics["success_fc6_slippery"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": -0.001}, "position must be a finite number of at least 0, got -0.001"),
        ({"angle": np.nan}, "angle must be a finite number of at least 0, got nan"),
        ({"copies": 0}, "copies must be at least 1, got 0"),
    ],
    ids=["position", "angle", "copies"],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        perturbed(panda_grip(), **options)


def test_variants_need_a_mass():
    with pytest.raises(OptionError, match="'dgn6' gives the object's density"):
        variants(DGN6)
    with pytest.raises(OptionError, match=r"friction and mass must be positive, got 0.4 and 0.0"):
        variants(mass=0.0)
