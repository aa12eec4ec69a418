"""Inference: what no file says, against what is known of real hands."""

from __future__ import annotations

import dataclasses
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import warpgrasp.hands
from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand
from warpgrasp.infer import complete
from warpgrasp.infer_neighbours import overlaps

MODELS = Path(__file__).parents[2] / "shared" / "hands"

# Palm normal in the frame of the palm link, that link's name, and the number of fingers.
TILT = np.radians(2.0 * np.degrees(np.arctan2(0.175, 1.0)))
KNOWN = {
    "shadow_urdf/shadow_hand_right.urdf": ((0, -1, 0), "palm", 5),
    "allegro_urdf/allegro_hand_right.urdf": ((1, 0, 0), "base_link", 4),
    "allegro_erd_urdf/example-robot-data/robots/allegro_hand_description/urdf/allegro_right_hand.urdf": (
        (1, 0, 0),
        "palm_link",
        4,
    ),
    "barrett_urdf/bhand_model.urdf": ((0, 0, 1), "base_link", 3),
    "barrett_mimic_urdf/bh280.urdf": ((0, 0, 1), "bh_palm", 3),
    "leap_urdf/leap_hand_right.urdf": ((1, 0, 0), "base", 4),
    "panda_gripper_urdf/panda_gripper.urdf": ((0, 0, 1), "panda_hand", 2),
    "shadow_mjcf/right_hand.xml": ((0, -1, 0), "rh_palm", 5),
    "allegro_mjcf/right_hand.xml": ((1, 0, 0), "palm", 4),
    # The palm is mounted at a tilt of 20 degrees.
    "leap_mjcf/leap_rh_mjx.xml": ((np.sin(TILT), 0, np.cos(TILT)), "leap_mount", 4),
    "shadow_gym_mjcf/hand/reach.xml": ((0, -1, 0), "robot0:palm", 5),
}

each_model = pytest.mark.parametrize("file", KNOWN)
each_hand = pytest.mark.parametrize("name", warpgrasp.hands.names())


@cache
def model(file: str) -> Hand:
    if not (MODELS / file).is_file():
        pytest.skip("the folder with public hand models is not here")
    return load_hand(MODELS / file)


@cache
def without_annotation(name: str) -> Hand:
    """A bundled hand of which only the tree is known."""
    hand = load_hand(name)
    return complete(dataclasses.replace(hand, fingers=(), pads=(), neighbours=frozenset(), inferred=()))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """The angle between two vectors [degree]."""
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1.0, 1.0))))


@each_model
def test_palm_of_public_models(file):
    hand = model(file)
    normal, palm, fingers = KNOWN[file]
    assert hand.links[hand.palm.link].name == palm
    assert angle(hand.palm.normal, normal) < 20.0
    assert abs(hand.palm.normal @ hand.palm.fingers) < 1e-9
    assert len(hand.fingers) == len(hand.pads) == fingers


@each_hand
def test_bundled_hands_are_recognised_without_their_annotation(name):
    known, hand = load_hand(name), without_annotation(name)
    assert hand.palm.link == known.palm.link
    assert angle(hand.palm.normal, known.palm.normal) < 15.0
    assert abs(np.degrees(np.arccos(abs(hand.palm.fingers @ known.palm.fingers)))) < 15.0
    assert np.linalg.norm(hand.palm.position - known.palm.position) < 0.025
    assert {f.links for f in hand.fingers} == {f.links for f in known.fingers}
    assert {f.joints for f in hand.fingers} == {f.joints for f in known.fingers}


@each_hand
def test_pads_lie_where_the_annotation_has_them(name):
    known, hand = load_hand(name), without_annotation(name)
    by_link = {pad.link: pad for pad in known.pads}
    for pad in hand.pads:
        assert angle(pad.normal, by_link[pad.link].normal) < 35.0
        assert np.linalg.norm(pad.position - by_link[pad.link].position) < 0.016


@each_model
def test_open_pose_is_reachable_and_open(file):
    hand = model(file)
    q = hand.open_position
    np.testing.assert_allclose(hand.clamp(q), q, atol=1e-9)
    poses = hand.link_transforms(q)
    palm = poses[hand.palm.link]
    tips = np.array([poses[f.links[-1], :3, :3] @ f.tip_position + poses[f.links[-1], :3, 3] for f in hand.fingers])
    local = (tips - palm[:3, 3]) @ palm[:3, :3]
    # In front of the palm, and apart.
    assert ((local - hand.palm.position) @ hand.palm.normal > 0.005).all()
    distance = np.linalg.norm(tips[:, None] - tips[None], axis=-1)[np.triu_indices(len(tips), 1)]
    assert distance.min() > 0.015
    assert distance.max() > 0.06


@each_model
def test_pads_face_a_common_place_at_the_open_pose(file):
    hand = model(file)
    poses = hand.link_transforms(hand.open_position)
    position = np.array([poses[p.link, :3, :3] @ p.position + poses[p.link, :3, 3] for p in hand.pads])
    normal = np.array([poses[p.link, :3, :3] @ p.normal for p in hand.pads])
    towards = position.mean(axis=0) - position
    facing = np.einsum("pi,pi->p", normal, towards / np.linalg.norm(towards, axis=1, keepdims=True))
    assert facing.mean() > 0.3
    assert facing.min() > -0.2


@each_model
def test_open_pose_is_free_of_self_collision(file):
    hand = model(file)
    assert set(overlaps(hand, hand.open_position[None])) <= hand.neighbours


@pytest.mark.parametrize("file", [file for file, (_, _, fingers) in KNOWN.items() if fingers > 3])
def test_thumb_opposes_the_fingers(file):
    hand = model(file)
    poses = hand.link_transforms(hand.open_position)
    normal = np.array([poses[p.link, :3, :3] @ p.normal for p in hand.pads])
    thumb = int(np.argmin(normal @ normal.sum(axis=0)))
    assert angle(normal[thumb], np.delete(normal, thumb, axis=0).mean(axis=0)) > 120.0


@each_model
def test_everything_inferred_is_told(file):
    notes = " ".join(model(file).inferred)
    for word in ("Fingers are", "The palm is", "Pads are", "The open pose", "overlap by construction"):
        assert word in notes


def test_annotated_hands_infer_nothing():
    assert load_hand("allegro").inferred == ()


def test_shadow_overlaps_are_found():
    hand = without_annotation("shadow")
    names = {(hand.links[a].name, hand.links[b].name) for a, b in hand.neighbours}
    assert {("palm", "ffproximal"), ("palm", "mfproximal"), ("thproximal", "thmiddle")} <= names
    assert ("ffdistal", "mfdistal") not in names and ("ffdistal", "thdistal") not in names


def test_inference_is_repeatable():
    first, second = load_hand("barrett"), load_hand("barrett")
    np.testing.assert_array_equal(complete(first).open_position, complete(second).open_position)


def test_a_single_finger_works(tmp_path):
    box = '<collision><geometry><box size="0.02 0.02 0.06"/></geometry></collision>'
    path = tmp_path / "one.urdf"
    path.write_text(
        f'<robot name="one"><link name="palm">{box}</link><link name="tip">{box}</link><joint name="j" type="revolute">'
        '<origin xyz="0 0 0.05"/><parent link="palm"/><child link="tip"/><axis xyz="0 1 0"/>'
        '<limit lower="0" upper="1"/></joint></robot>'
    )
    hand = load_hand(path)
    assert len(hand.fingers) == 1
    assert np.isfinite(hand.palm.normal).all() and np.isfinite(hand.palm.fingers).all()
    assert np.isfinite(hand.pads[0].position).all()


def test_a_gripper_with_two_fingers_and_a_thumb_faces_where_they_point(tmp_path):
    """The example's gripper: its fingers bend straight towards the thumb, so no side of them is a palm."""
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "02_own_hand.py"))
    (tmp_path / "gripper.urdf").write_text(example["gripper"]())
    hand = load_hand(tmp_path / "gripper.urdf")
    assert angle(hand.palm.normal, np.array([0.0, 0.0, 1.0])) < 1.0
    assert abs(hand.palm.fingers[0]) > 0.99, "it closes along x"
