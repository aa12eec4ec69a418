"""The nearest point of each link, found among few points, is the one that looking at all of them finds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import trimesh
from simulated_synthesis import box, hand_named, simulated_grasps

import warpgrasp
from warpgrasp.dataset import touching
from warpgrasp.geometry import Geometry, measure_geometry
from warpgrasp.label import HAND_POINTS, OBJECT_POINTS

REACH = 0.005


def overlapping() -> warpgrasp.ObjectMesh:
    """A ball stuck in a box: watertight, inside by winding number."""
    ball = trimesh.creation.icosphere(radius=0.04).apply_translation([0.02, 0.0, 0.0])
    both: Any = trimesh.util.concatenate([box().trimesh(), ball])
    return warpgrasp.load_object(both, name="overlapping")


def opened() -> warpgrasp.ObjectMesh:
    """A box with a hole in one of its largest sides."""
    mesh = box().trimesh().subdivide().subdivide()
    inside = (np.abs(mesh.triangles_center[:, 1:]) < 0.01).all(axis=1) & (mesh.triangles_center[:, 0] > 0.0)
    assert inside.any()
    mesh.update_faces(~inside)
    return warpgrasp.load_object(mesh, name="opened")


def all_points(grasps: warpgrasp.Grasps, obj: warpgrasp.ObjectMesh) -> Geometry:
    points: dict[str, Any] = {"hand_points": HAND_POINTS, "object_points": OBJECT_POINTS}
    return measure_geometry(grasps.hand, obj, grasps.pose, thresholds=(), device="cpu", **points)


@pytest.mark.parametrize("name", ["barrett", "shadow"])
@pytest.mark.parametrize("make", [box, overlapping])
def test_few_points_give_what_all_points_give(name, make, monkeypatch):
    monkeypatch.setattr(touching, "BATCH", 17)
    obj = make()
    grasps = simulated_grasps(name, obj, count=40, seed=5)
    expected = all_points(grasps, obj)
    distance, position, normal = touching.nearest_points(grasps.hand, obj, grasps.pose, reach=REACH, device="cpu")
    near = expected.contact_distance <= REACH
    assert 10 < near.sum() < near.size and expected.contact_distance[near].min() < -REACH
    np.testing.assert_array_equal(np.isfinite(distance), near)
    np.testing.assert_allclose(distance[near], expected.contact_distance[near], rtol=0, atol=1e-7)
    np.testing.assert_allclose(position[near], expected.contact_position[near], rtol=0, atol=1e-6)
    np.testing.assert_allclose(normal[near], expected.contact_normal[near], rtol=0, atol=1e-4)


def test_no_point_of_an_open_mesh_is_left_out():
    obj = opened()
    assert not obj.watertight
    grasps = simulated_grasps("barrett", obj, count=40, seed=5)
    expected = all_points(grasps, obj).contact_distance
    distance, _, normal = touching.nearest_points(grasps.hand, obj, grasps.pose, reach=REACH, device="cpu")
    near = expected <= REACH
    np.testing.assert_array_equal(np.isfinite(distance), near)
    assert (distance[near] <= expected[near] + 1e-7).all(), "it looks a little further than measure_geometry does"
    np.testing.assert_allclose(np.linalg.norm(normal[near], axis=1), 1.0, atol=1e-5)


def test_hands_far_away_and_no_hands_touch_nothing():
    grasps = simulated_grasps("barrett", count=3, seed=0)
    away = dataclasses.replace(grasps.pose, wrist_position=np.full((3, 3), 5.0))
    for pose in (away, away[:0]):
        distance, position, normal = touching.nearest_points(
            hand_named("barrett"), box(), pose, reach=REACH, device="cpu"
        )
        assert distance.shape == (len(pose), len(grasps.hand.links)) and np.isinf(distance).all()
        assert position.shape == normal.shape == (*distance.shape, 3)
