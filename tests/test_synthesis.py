"""The whole chain: it finds grasps, repeats itself, keeps the limits, and refuses what cannot work."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
import warp as wp

import warpgrasp
from warpgrasp import rotation
from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand
from warpgrasp.options import RECIPES
from warpgrasp.synthesis import synthesize


@pytest.fixture(scope="module")
def can():
    return trimesh.creation.cylinder(radius=0.03, height=0.1, sections=48)


@pytest.fixture(scope="module")
def grasps(can):
    return synthesize("allegro", can, count=8, seed=3, device="cpu")


def limits_hold(hand: Hand, joint_position: np.ndarray) -> bool:
    matrix, minimum = hand.coupling_matrix()
    free = hand.free_position(joint_position)
    return bool(
        (joint_position >= hand.lower).all()
        and (joint_position <= hand.upper).all()
        and (free @ matrix.T - minimum >= -1e-12).all()
        and np.allclose(hand.joint_position(free), joint_position, atol=1e-12)
    )


def test_most_hands_end_on_the_can(grasps):
    assert len(grasps) == 8
    assert grasps.valid.sum() >= 4
    assert (np.diff(grasps.valid.astype(int)) <= 0).all(), "valid ones come first"
    assert np.median(grasps.metrics["links_in_contact_2mm"]) >= 4
    assert np.median(grasps.metrics["penetration_depth_m"]) < 0.002


def test_metrics_agree_with_trimesh(grasps):
    """Penetration measured anew: the object's vertices in the hand's links, by trimesh."""
    hand, obj = grasps.hand, grasps.object
    dense = trimesh.sample.sample_surface_even(obj.trimesh(), 1500, seed=0)[0]
    frames = hand.link_transforms(grasps.joint_position)
    for grasp in range(2):
        wrist = rotation.matrix(grasps.wrist_position[grasp], grasps.wrist_quaternion[grasp])
        deepest = 0.0
        for link, part in enumerate(hand.links):
            for shape in part.shapes:
                surface = shape.trimesh().apply_transform(wrist @ frames[grasp, link])
                deepest = max(deepest, trimesh.proximity.signed_distance(surface, dense).max())
        assert deepest <= grasps.metrics["penetration_depth_m"][grasp] + 3e-4


@pytest.mark.parametrize("phase", ["pose", "pregrasp", "squeeze"])
@pytest.mark.parametrize("name", ["allegro", "shadow", "barrett"])
def test_limits_and_couplings_hold_in_every_phase(name, phase, can):
    found = synthesize(name, can, count=2, iterations=30, device="cpu")
    assert limits_hold(found.hand, getattr(found, phase).joint_position)


def test_phases_are_ordered(grasps):
    assert (grasps.metrics["pregrasp_clearance_m"] >= 0.0049).all()
    np.testing.assert_array_equal(grasps.squeeze.wrist_position, grasps.wrist_position)


def test_equal_seeds_give_equal_grasps(can, grasps):
    again = synthesize("allegro", can, count=8, seed=3, device="cpu")
    for name in ("wrist_position", "wrist_quaternion", "joint_position"):
        np.testing.assert_array_equal(getattr(again, name), getattr(grasps, name))
    other = synthesize("allegro", can, count=8, seed=4, iterations=5, device="cpu")
    assert not np.allclose(other.wrist_position, grasps.wrist_position)


def test_valid_only_returns_what_is_valid(can, grasps):
    chosen = synthesize("allegro", can, count=8, seed=3, device="cpu", valid_only=True)
    assert chosen.valid.all()
    assert len(chosen) == grasps.valid.sum()


def test_progress_counts_to_the_end(can):
    seen = []
    synthesize("panda", can, count=2, iterations=10, device="cpu", on_progress=lambda *pair: seen.append(pair))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}), "it only rises"
    assert seen[-1][0] == seen[-1][1]


def test_scale_makes_the_object_larger(can):
    small = synthesize("panda", can, count=1, iterations=2, device="cpu", scale=0.5)
    assert np.ptp(small.object_vertices, axis=0).max() == pytest.approx(0.05)


def test_default_balances_what_attraction_does_not():
    """On a box that fits no hand well, from the same seed, the terms of ``default`` earn their place."""
    box = trimesh.creation.box((0.03, 0.07, 0.16))
    share = {
        name: synthesize("shadow", box, count=12, seed=0, device="cpu", recipe=name).metrics["wrench_residual_mu02"]
        for name in ("attraction", "default")
    }
    assert (share["default"] < 0.1).mean() > (share["attraction"] < 0.1).mean()
    assert (share["default"] < 0.1).mean() >= 0.9


def test_info_says_how_they_were_made(grasps):
    assert grasps.info["seed"] == 3
    assert grasps.info["device"] == "cpu"
    assert grasps.info["warp"] == wp.__version__
    assert [stage["iterations"] for stage in grasps.info["recipe"]["stages"]] == [
        stage.iterations for stage in RECIPES["default"].stages
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, "OptionError", "count must be a whole number of at least 1, got 0"),
        ({"count": 2.5}, "OptionError", r"count must be a whole number of at least 1, got 2\.5"),
        ({"points": -1}, "OptionError", "points must be a whole number of at least 1, got -1"),
        ({"iterations": 0}, "OptionError", "iterations must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "OptionError", "seed must be a whole number of at least 0, got -1"),
        ({"device": "cuda:99"}, "DeviceError", "no device named 'cuda:99'. Devices on this machine: cpu"),
        ({"device": "gpu"}, "DeviceError", "no device named 'gpu'"),
        ({"recipe": "atraction"}, "OptionError", "no recipe named 'atraction'. Did you mean 'attraction'?"),
        ({"scale": 0.0}, "OptionError", "scale must be a positive number, got 0.0"),
        ({"scale": 100.0}, "MeshError", "10 m"),
    ],
)
def test_bad_options_say_what_would_work(options, error, message, can):
    with pytest.raises(getattr(warpgrasp, error), match=message):
        synthesize("panda", can, **options)


def test_hand_with_a_near_miss():
    with pytest.raises(warpgrasp.HandNotFoundError, match=r"no hand named 'alegro'\. Did you mean 'allegro'\?"):
        synthesize("alegro", "mug.obj")


def test_hand_object_is_taken_as_it_is(can):
    hand = load_hand("panda")
    assert synthesize(hand, can, count=1, iterations=2, device="cpu").hand is hand
