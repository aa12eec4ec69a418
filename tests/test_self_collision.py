"""Depth of links in links against a search over all directions, and the penalty on it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import warp as wp
from random_hand import random_hand, random_shape, unit

from warpgrasp import load_hand, rotation
from warpgrasp.collision import fibonacci_sphere, place_spheres
from warpgrasp.device import transforms_from_matrices
from warpgrasp.errors import OptionError, ShapeError
from warpgrasp.hand import Hand, Shape, ShapeKind
from warpgrasp.model import hand_model
from warpgrasp.physics.engine import mujoco
from warpgrasp.pose import Pose
from warpgrasp.self_collision import SelfCollision, apart, deepest_links, self_penetration
from warpgrasp.state import allocate
from warpgrasp.surface import SurfacePoints


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

    direction = fibonacci_sphere(1000)
    best = direction[np.argsort(gap(direction))[-3:]]
    values = gap(best)
    random = np.random.default_rng(0)
    for radius in 0.05 * 0.75 ** np.arange(40):
        near = best[:, None] + radius * random.normal(size=(40, 3))
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
    joints = rng.uniform(hand.lower, hand.upper, (8, 9))
    depth, links = deepest_links(hand, joints)
    for q, deepest, pair in zip(joints, depth, links, strict=True):
        expected = depths_by_search(hand, q)
        assert deepest == pytest.approx(max(expected.values()), abs=2e-5)
        assert expected[tuple(pair)] == pytest.approx(deepest, abs=2e-5)
    assert (depth > 1e-3).sum() > 2


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


def two_links(rng: np.random.Generator, kinds: tuple[ShapeKind, ShapeKind], count: int) -> tuple[Hand, np.ndarray]:
    """A hand whose links 0 and 2 have a shape each, and places where they are near, (count, 3, 4, 4)."""
    base = random_hand(rng, 2)
    shapes = [(random_shape(rng, kinds[0]),), (), (random_shape(rng, kinds[1]),)]
    links = tuple(dataclasses.replace(link, shapes=shape) for link, shape in zip(base.links, shapes, strict=True))
    hand = dataclasses.replace(base, links=links, neighbours=frozenset({(0, 1), (1, 2)}))
    place = np.tile(np.eye(4), (count, 3, 1, 1))
    for row in place:
        row[0] = rotation.matrix(rng.uniform(-0.3, 0.3, 3), unit(rng, 4))
        row[2] = row[0] @ rotation.matrix(rng.uniform(-0.025, 0.025, 3), unit(rng, 4))
    return hand, place


def penalty(hand: Hand, place: np.ndarray, margin: float, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Loss (grasp,) and its gradient for the links' motions (grasp, link, 6) at places of the links."""
    skin = SurfacePoints(np.zeros(1, int), np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
    model = hand_model(hand, skin, device)
    wrists = np.tile([1.0, 0.0, 0.0, 0.0], (len(place), 1))
    pose = Pose(np.zeros((len(place), 3)), wrists, np.tile(hand.open_position, (len(place), 1)))
    state = allocate(model, pose, np.zeros((0, 3)))
    wp.copy(state.link_transform, transforms_from_matrices(place, device))
    place_spheres(model.shapes, state.link_transform, state.link_sphere)
    term = SelfCollision(model, len(place), weight=1.0, margin=margin)
    term.add_gradient(state)
    return term.loss.numpy().astype(float), state.link_wrench.numpy().astype(float)


PAIRS = list(itertools.combinations_with_replacement(("box", "sphere", "capsule", "cylinder"), 2))


class GeomDistance:
    """Signed distance of two shapes by MuJoCo, in float64, at places of their links."""

    def __init__(self, hand: Hand) -> None:
        spec = mujoco().MjSpec()
        spec.option.ccd_tolerance, spec.option.ccd_iterations = 1e-12, 200
        for shape in (hand.links[0].shapes[0], hand.links[2].shapes[0]):
            size = np.zeros(3)
            size[: len(shape.size)] = shape.size
            kind = getattr(mujoco().mjtGeom, f"mjGEOM_{shape.kind.upper()}")
            body = spec.worldbody.add_body(mocap=True)
            body.add_geom(type=kind, size=size, pos=shape.position, quat=shape.quaternion)
        self.model = spec.compile()
        self.data = mujoco().MjData(self.model)

    def __call__(self, place: np.ndarray) -> float:
        """The distance [m] where links are at ``place`` (3, 4, 4)."""
        self.data.mocap_pos[:] = place[[0, 2], :3, 3]
        self.data.mocap_quat[:] = rotation.quaternion_from_matrix(place[[0, 2], :3, :3])
        mujoco().mj_kinematics(self.model, self.data)
        return mujoco().mj_geomDistance(self.model, self.data, 0, 1, 1.0, None)


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_pair_distance_matches_mujoco(kinds, rng, device):
    hand, place = two_links(rng, kinds, 40)
    expected = np.array([GeomDistance(hand)(at) for at in place])
    found = 0.1 - np.sqrt(penalty(hand, place, 0.1, device)[0])
    assert (expected < 0.0).sum() > 5 and (expected > 0.0).sum() > 5
    if {"sphere", "capsule"} & set(kinds):
        # where the axis of a capsule is inside the other shape, the way out is that of its innermost point
        shallow = expected > -0.006
        np.testing.assert_allclose(found[shallow], expected[shallow], atol=2e-6)
        assert (found < expected + 0.003).all()
    else:
        exact = kinds == ("box", "box")
        assert (found < expected + 2e-6).all(), "the gap along any direction is a lower bound"
        assert (found > expected - (1e-4 if exact else 5e-4))[expected < 0.0].all()


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_pair_gradient_matches_differences(kinds, rng, device):
    hand, place = two_links(rng, kinds, 40)
    distance = GeomDistance(hand)
    margin, step = 0.002, 1e-5
    loss, wrench = penalty(hand, place, margin, device)
    assert (wrench[:, 1] == 0.0).all()
    np.testing.assert_array_equal(wrench[:, 0], -wrench[:, 2])
    compared = 0
    for at, value, gradient in zip(place, loss, wrench, strict=True):
        short = margin - distance(at)
        if short < 2e-4 or abs(np.sqrt(value) - short) > 1e-6:  # where a bound is not the distance
            continue
        twist = unit(rng, 6)
        ends = [distance(np.stack([at[0], at[1], motion(sign * step * twist) @ at[2]])) for sign in (1.0, -1.0)]
        slope = -2.0 * short * (ends[0] - ends[1]) / (2.0 * step)
        # the direction is searched for near a cylinder's rim only
        tolerance = 4e-3 if kinds in (("box", "cylinder"), ("cylinder", "cylinder")) else 5e-5
        assert gradient[2] @ twist == pytest.approx(slope, abs=tolerance * 2.0 * short)
        compared += 1
    assert compared > 9


def motion(twist: np.ndarray) -> np.ndarray:
    """The small rigid motion of a translation and a rotation about the origin, (6,)."""
    angle = float(np.linalg.norm(twist[3:]))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.matrix_from_axis_angle(twist[3:] / angle, np.array(angle))
    matrix[:3, 3] = twist[:3]
    return matrix


def test_penalty_of_a_tree_is_the_sum_over_its_pairs(rng, device):
    hand = random_hand(rng, 20)
    place = hand.link_transforms(rng.uniform(hand.lower, hand.upper, (18, 20)))
    loss, wrench = penalty(hand, place, 0.004, device)
    expected_loss, expected = np.zeros(18), np.zeros((18, 21, 6))
    for i, j in apart(hand):
        alone = tuple(
            dataclasses.replace(link, shapes=link.shapes if number in (i, j) else ())
            for number, link in enumerate(hand.links)
        )
        part = penalty(dataclasses.replace(hand, links=alone), place, 0.004, device)
        expected_loss += part[0]
        expected += part[1]
    assert (expected_loss > 0.0).all()
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(wrench, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_options_must_be_positive():
    with pytest.raises(OptionError, match="margin must be a number of at least 0, got nan"):
        penalty(random_hand(np.random.default_rng(0), 2), np.tile(np.eye(4), (1, 3, 1, 1)), np.nan, "cpu")
