"""Depth of links in links against a search over all directions, and the penalty on it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from random_hand import random_hand

from warpgrasp import load_hand, rotation
from warpgrasp.collision import fibonacci_sphere
from warpgrasp.errors import ShapeError
from warpgrasp.hand import Hand, Shape
from warpgrasp.self_collision import deepest_links, self_penetration


def support(shape: Shape, link: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Largest n . x over a shape, for unit directions n of shape (direction, 3)."""
    frame = link @ rotation.matrix(shape.position, shape.quaternion)
    n = direction @ frame[:3, :3]
    match shape.kind:
        case "box":
            reach = np.abs(n) @ shape.size
        case "sphere":
            reach = np.full(len(n), shape.size[0])
        case "capsule":
            reach = shape.size[0] + shape.size[1] * np.abs(n[:, 2])
        case "cylinder":
            reach = shape.size[0] * np.hypot(n[:, 0], n[:, 1]) + shape.size[1] * np.abs(n[:, 2])
        case _:
            assert shape.vertices is not None
            reach = (n @ shape.vertices.T).max(axis=1)
    return reach + direction @ frame[:3, 3]


def signed_distance(a: Shape, b: Shape, link_a: np.ndarray, link_b: np.ndarray) -> float:
    """Largest gap between two convex shapes over all directions: distance, or minus the least translation [m]."""

    def gap(direction: np.ndarray) -> np.ndarray:
        return -support(a, link_a, direction) - support(b, link_b, -direction)

    direction = fibonacci_sphere(4000)
    best = direction[np.argsort(gap(direction))[-8:]]
    values = gap(best)
    around = fibonacci_sphere(60)
    for radius in 0.05 * 0.7 ** np.arange(40):
        near = best[:, None] + radius * around
        near = np.concatenate([best[:, None], near / np.linalg.norm(near, axis=2, keepdims=True)], axis=1)
        found = gap(near.reshape(-1, 3)).reshape(near.shape[:2])
        best, values = near[np.arange(len(best)), found.argmax(axis=1)], found.max(axis=1)
    return float(values.max())


def depths_by_search(hand: Hand, joint_position: np.ndarray) -> dict[tuple[int, int], float]:
    """Depth of every pair of links that are no neighbours [m]."""
    links = hand.link_transforms(joint_position)
    return {
        (i, j): max(
            -signed_distance(a, b, links[i], links[j])
            for a, b in itertools.product(hand.links[i].shapes, hand.links[j].shapes)
        )
        for i, j in itertools.combinations(range(len(hand.links)), 2)
        if (i, j) not in hand.neighbours
    }


def test_depth_matches_a_search_over_all_directions(rng):
    hand = random_hand(rng, 9)
    joints = rng.uniform(hand.lower, hand.upper, (20, 9))
    depth, links = deepest_links(hand, joints)
    for q, deepest, pair in zip(joints, depth, links, strict=True):
        expected = depths_by_search(hand, q)
        assert deepest == pytest.approx(max(expected.values()), abs=2e-5)
        assert expected[tuple(pair)] == pytest.approx(deepest, abs=2e-5)
    assert (depth > 1e-3).sum() > 5


@pytest.mark.parametrize("name", ["allegro", "barrett", "leap", "shadow"])
def test_open_hands_are_clear_and_fists_are_not(name, rng):
    hand = load_hand(name)
    joints = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (40, hand.free_count)))
    assert self_penetration(hand, hand.open_position[None]) == 0.0
    depth, links = deepest_links(hand, joints)
    assert ((depth > 0.0) == (links[:, 0] >= 0)).all() and depth.max() > 1e-3
    assert not {tuple(pair) for pair in links} & hand.neighbours


def test_a_flat_mesh_has_a_depth(rng):
    hand = random_hand(rng, 6)
    corners = np.array([[0.0, 0.0, 0.0], [0.02, 0.0, 0.0], [0.0, 0.02, 0.0], [0.02, 0.02, 0.0]])
    sheet = Shape("mesh", np.zeros(0), np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), corners, np.array([[0, 1, 2]]))
    links = tuple(dataclasses.replace(link, shapes=(sheet,)) for link in hand.links)
    depth = self_penetration(dataclasses.replace(hand, links=links), rng.uniform(hand.lower, hand.upper, (20, 6)))
    assert (depth > 1e-5).any() and depth.max() < 0.02


def test_poses_that_are_not_finite_have_no_depth():
    hand = load_hand("barrett")
    joints = np.stack([hand.open_position, np.full(hand.joint_count, np.nan)])
    np.testing.assert_array_equal(self_penetration(hand, joints), [0.0, np.nan])


def test_joint_vectors_must_have_all_joints():
    hand = load_hand("barrett")
    with pytest.raises(ShapeError, match=r"joint_position has shape \(2, 3\), expected \(N, 8\)"):
        self_penetration(hand, np.zeros((2, 3)))
