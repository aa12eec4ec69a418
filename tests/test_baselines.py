"""The baselines end in contact, within limits and couplings, and repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from warpgrasp.baselines import (
    AnnealingOptions,
    annealing,
    closed_joints,
    closing_directions,
    moved_links,
    random_closing,
)
from warpgrasp.errors import OptionError
from warpgrasp.hand_file import load_hand
from warpgrasp.options import RECIPES
from warpgrasp.synthesis import synthesize


@pytest.fixture(scope="module")
def can():
    return trimesh.creation.cylinder(radius=0.03, height=0.1, sections=48)


@pytest.fixture(scope="module", params=["allegro", "barrett", "shadow"])
def closed(request, can):
    return random_closing(request.param, can, count=6, seed=0, device="cpu")


def limits_hold(hand, joint_position) -> bool:
    matrix, minimum = hand.coupling_matrix()
    free = hand.free_position(joint_position)
    return bool(
        (joint_position >= hand.lower).all()
        and (joint_position <= hand.upper).all()
        and (free @ matrix.T - minimum >= -1e-12).all()
        and np.allclose(hand.joint_position(free), joint_position, atol=1e-12)
    )


def test_random_closing_ends_in_contact_and_not_inside(closed):
    assert len(closed) == 6
    assert (closed.metrics["links_in_contact_2mm"] >= 1).sum() >= 4
    assert closed.metrics["links_in_contact_2mm"].max() >= 3
    assert (closed.metrics["penetration_depth_m"] < 1e-3).all()


def test_every_phase_keeps_limits_and_couplings(closed):
    for joints in (closed.joint_position, closed.pregrasp.joint_position, closed.squeeze.joint_position):
        assert limits_hold(closed.hand, joints)


def test_labels_have_the_same_columns_as_those_of_synthesis(closed, can):
    found = synthesize(closed.hand, can, count=1, iterations=2, points=64, device="cpu")
    assert closed.metrics.keys() == found.metrics.keys()
    assert (closed.valid == (closed.reason == "")).all()
    assert (np.diff(closed.valid.astype(int)) <= 0).all(), "valid ones come first"


def test_equal_seeds_give_equal_grasps(can):
    one, two = (random_closing("barrett", can, count=2, seed=5, device="cpu") for _ in range(2))
    np.testing.assert_array_equal(one.joint_position, two.joint_position)
    np.testing.assert_array_equal(one.wrist_position, two.wrist_position)


def test_annealing_lowers_its_energy_and_repeats_itself(can):
    few, many, again = (
        annealing("barrett", can, count=3, seed=2, device="cpu", options=AnnealingOptions(steps=steps))
        for steps in (1, 120, 120)
    )
    assert many.metrics["loss"].mean() < 0.7 * few.metrics["loss"].mean()
    np.testing.assert_array_equal(many.joint_position, again.joint_position)
    assert limits_hold(many.hand, many.joint_position)
    assert (many.metrics["penetration_depth_m"] < 1e-3).all()
    assert many.info["recipe"]["steps"] == 120


@pytest.mark.parametrize("name", ["allegro", "shadow", "barrett", "leap", "panda"])
def test_joints_that_close_bring_the_pads_together(name):
    hand = load_hand(name)
    tips = []
    for closed in (0.0, 0.3):
        joints = closed_joints(hand, np.array([closed]))[0]
        assert limits_hold(hand, joints)
        links = hand.link_transforms(joints)
        tips.append(np.stack([(links[pad.link] @ [*pad.position, 1.0])[:3] for pad in hand.pads]))
    spread = [np.linalg.norm(tip - tip.mean(axis=0), axis=1).mean() for tip in tips]
    assert spread[1] < spread[0]


def test_spreading_joints_do_not_close():
    allegro, barrett = load_hand("allegro"), load_hand("barrett")
    names = [allegro.joint_names[joint] for joint in allegro.free_joints]
    still = {name for name, sign in zip(names, closing_directions(allegro), strict=True) if sign == 0.0}
    assert {"joint_0", "joint_4", "joint_8"} <= still
    assert closing_directions(barrett)[barrett.free_joints.index(0)] == 0.0


def test_a_joint_moves_what_hangs_on_it():
    hand = load_hand("allegro")
    moved = moved_links(hand)
    assert moved.shape == (16, 17)
    np.testing.assert_array_equal(np.flatnonzero(moved[1]), [2, 3, 4])


def test_bad_counts_and_seeds_are_refused(can):
    with pytest.raises(OptionError, match="count must be a whole number of at least 1"):
        random_closing("barrett", can, count=0)
    with pytest.raises(OptionError, match="seed must be a whole number of at least 0"):
        annealing("barrett", can, seed=-1)


def test_no_recipe_has_the_name_of_a_baseline():
    assert not RECIPES.keys() & {"random-closing", "annealing"}
