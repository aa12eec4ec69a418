"""Starting poses: clear of the object, palm facing it, spread over it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from warpgrasp import rotation
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import (
    START_CLEARANCE,
    START_POINTS,
    approach,
    back_off,
    palm_transforms,
    starting_poses,
)
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.proximity import clearance
from warpgrasp.surface import surface_points

COUNT = 24


@pytest.fixture(scope="module")
def ball():
    return load_object(trimesh.creation.icosphere(subdivisions=3, radius=0.04))


def start(hand, obj, seed=0, noise=0.1):
    return starting_poses(hand, obj, COUNT, distance=0.06, joint_noise=noise, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["allegro", "shadow_wrist", "barrett", "panda"])
def test_palms_face_the_ball_at_the_distance(name, ball):
    hand = load_hand(name)
    pose = start(hand, ball)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    palm = wrist @ palm_transforms(hand, pose.joint_position)
    center = palm[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(center, axis=1), 0.04 + 0.06, atol=2e-3)
    towards = -center / np.linalg.norm(center, axis=1, keepdims=True)
    assert (approach(hand, pose) * towards).sum(axis=1).min() > 0.98


def test_places_and_rolls_are_spread(ball):
    hand = load_hand("allegro")
    pose = start(hand, ball)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    palm = wrist @ palm_transforms(hand, pose.joint_position)
    place = palm[:, :3, 3] / np.linalg.norm(palm[:, :3, 3], axis=1, keepdims=True)
    cosine = place @ place.T - 2.0 * np.eye(COUNT)
    # 24 evenly spread directions are about 43 degrees apart; random ones come as close as a few degrees.
    assert np.degrees(np.arccos(cosine.max())) > 25.0
    assert np.linalg.norm(place.mean(axis=0)) < 0.1


def test_joints_vary_within_ranges_and_couplings(ball):
    hand = load_hand("shadow")
    pose = start(hand, ball, noise=0.5)
    assert (pose.joint_position >= hand.lower - 1e-12).all()
    assert (pose.joint_position <= hand.upper + 1e-12).all()
    matrix, minimum = hand.coupling_matrix()
    assert (hand.free_position(pose.joint_position) @ matrix.T - minimum).min() > -1e-9
    assert pose.joint_position.std(axis=0).max() > 0.1


def test_seeds_repeat_and_differ(ball):
    hand = load_hand("allegro")
    assert (start(hand, ball, seed=1).joint_position == start(hand, ball, seed=1).joint_position).all()
    assert (start(hand, ball, seed=1).joint_position != start(hand, ball, seed=2).joint_position).any()


def test_back_off_clears_every_hand(device):
    hand = load_hand("allegro")
    plate = load_object(trimesh.creation.box(extents=(0.3, 0.3, 0.02)))
    skin = surface_points(hand, START_POINTS[-1], device=device)
    model, mesh = hand_model(hand, skin, device), DeviceMesh(plate, device)
    close = starting_poses(hand, plate, COUNT, distance=0.01, joint_noise=0.3, rng=np.random.default_rng(0))
    assert (clearance(model, mesh, close) < START_CLEARANCE).any(), "the case should need it"
    clear = back_off(hand, mesh, close)
    assert clearance(model, mesh, clear).min() >= START_CLEARANCE


@pytest.mark.parametrize("name", ["shadow", "allegro"])
def test_few_points_tell_well_enough_whether_a_start_is_clear(name, device):
    hand = load_hand(name)
    bar = load_object(trimesh.creation.box(extents=(0.02, 0.02, 0.3)))
    dense, mesh = (
        hand_model(hand, surface_points(hand, 4096, even=False, device=device), device),
        DeviceMesh(bar, device),
    )
    close = starting_poses(hand, bar, COUNT, distance=0.03, joint_noise=0.3, rng=np.random.default_rng(0))
    assert clearance(dense, mesh, close).min() < 0.0, "the case should need it"
    clear = back_off(hand, mesh, close)
    assert clearance(dense, mesh, clear).min() > 0.0


def test_surface_starts_lie_along_the_surface_normals(ball):
    hand = load_hand("allegro")
    rng = np.random.default_rng(2)
    pose = starting_poses(hand, ball, COUNT, distance=0.15, joint_noise=0.0, rng=rng, start="surface")
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    center = (wrist @ palm_transforms(hand, pose.joint_position))[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(center, axis=1), 0.04 + 0.15, atol=2e-3)
    np.testing.assert_allclose(approach(hand, pose), -center / np.linalg.norm(center, axis=1)[:, None], atol=0.1)


def test_surface_starts_are_drawn_by_area_not_by_face():
    """A box whose ends have most of its faces, but little of its area."""
    box = trimesh.creation.box((0.2, 0.02, 0.02))
    ends = np.flatnonzero(np.abs(box.face_normals[:, 0]) > 0.5)
    for _ in range(3):
        box = box.subdivide(face_index=ends)
        ends = np.flatnonzero(np.abs(box.face_normals[:, 0]) > 0.5)
    assert len(ends) > 0.8 * len(box.faces)
    hand, count = load_hand("panda"), 2000
    rng = np.random.default_rng(4)
    pose = starting_poses(hand, load_object(box), count, distance=0.15, joint_noise=0.0, rng=rng, start="surface")
    at_ends = np.abs(approach(hand, pose)[:, 0]) > 0.5
    share = 2 * 0.02**2 / (2 * 0.02**2 + 4 * 0.2 * 0.02)
    assert abs(at_ends.mean() - share) < 4.0 * np.sqrt(share * (1.0 - share) / count)
    sides = [(approach(hand, pose)[:, axis] * sign > 0.5).mean() for axis in (1, 2) for sign in (1.0, -1.0)]
    np.testing.assert_allclose(sides, (1.0 - share) / 4.0, atol=0.04)
