"""Depth of points in links against float64 NumPy, for every kind of shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference_grasp as reference
import trimesh
import warp as wp
from random_hand import random_hand, random_shape, unit
from reference import central_difference

from warpgrasp import collision, load_hand
from warpgrasp.clusters import CLUSTER_SIZE, PointClusters, cluster_points, compact_order
from warpgrasp.device import transforms_from_matrices
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand import Shape, ShapeKind
from warpgrasp.kernels.collision import GROUP_SIZE
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.pose import Pose
from warpgrasp.proximity import find_proximity
from warpgrasp.state import allocate
from warpgrasp.surface import surface_points

KINDS: tuple[ShapeKind, ...] = ("box", "sphere", "capsule", "cylinder", "mesh")


def deepest(shapes, may_touch, links, points, owner, device):
    """Deepest link, distance and gradient of points (point, 3) for one grasp, and again where nothing has changed."""
    owner = owner.astype(int)
    transform = transforms_from_matrices(links[None], device)
    sphere = wp.full(transform.shape, wp.vec4(wp.inf), dtype=wp.vec4, device=device)
    collision.place_spheres(shapes, transform, sphere)
    order = np.lexsort((points[:, 0], owner))
    frames = np.concatenate([np.linalg.inv(links), np.eye(4)[None]])[np.minimum(owner, len(links))][order]
    local = np.einsum("nij,nj->ni", frames[:, :3, :3], points[order]) + frames[:, :3, 3]
    clusters = cluster_points(local, owner[order], device)
    depth = collision.no_depth(1, len(points), clusters)
    there = wp.array(points[order][None].astype(np.float32), dtype=wp.vec3, device=device)
    touch = wp.array(may_touch.astype(np.int32), dtype=int, device=device)
    results = []
    for _ in range(2):
        collision.find_deepest_link(shapes, touch, transform, sphere, there, clusters, depth)
        results.append([array.numpy()[0].copy() for array in (depth.link, depth.distance, depth.gradient)])
        begin, touched = clusters.begin.numpy(), depth.touched.numpy()[0].astype(bool)
        assert touched.tolist() == [(results[-1][1][a:b] < 0.0).any() for a, b in itertools.pairwise(begin)]
    back = np.argsort(order)
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
    return tuple(array[back] for array in results[0])


def test_points_that_have_come_out_are_forgotten(device):
    """A cluster that was inside a link and is not any more has no depth left."""
    shapes = collision.pack([(Shape("sphere", np.array([0.01]), np.zeros(3), np.array([1.0, 0, 0, 0])),)], device)
    transform = transforms_from_matrices(np.eye(4)[None, None], device)
    sphere = wp.zeros(transform.shape, dtype=wp.vec4, device=device)
    collision.place_spheres(shapes, transform, sphere)
    clusters = cluster_points(np.array([[0.0, 0.0, 0.005], [0.0, 0.0, 0.02]]), np.ones(2, int), device)
    depth = collision.no_depth(1, 2, clusters)
    touch = wp.array(np.array([[0], [1]], np.int32), dtype=int, device=device)
    for height, expected in ((0.0, [-0.005, 0.0]), (0.004, [-0.001, 0.0]), (0.008, [0.0, 0.0])):
        points = np.array([[[0.0, 0.0, 0.005 + height], [0.0, 0.0, 0.02 + height]]], np.float32)
        there = wp.array(points, dtype=wp.vec3, device=device)
        collision.find_deepest_link(shapes, touch, transform, sphere, there, clusters, depth)
        if height < 0.005:
            assert depth.distance.numpy()[0] == pytest.approx(expected, abs=1e-7)
    assert depth.touched.numpy().tolist() == [[0]]
    assert depth.link.numpy().tolist() == [[-1, -1]]
    assert not depth.distance.numpy().any() and not depth.gradient.numpy().any()


@pytest.mark.parametrize("count", [0, 1, 16, 17, 100, 1000])
def test_clusters_hold_all_points_and_are_compact(count, rng, device):
    points = rng.uniform(size=(count, 3))
    order = compact_order(points)
    assert sorted(order) == list(range(count))
    clusters = cluster_points(points[order], np.zeros(count, int), device)
    begin, sphere = clusters.begin.numpy(), clusters.sphere.numpy()
    assert len(clusters) == -(-count // CLUSTER_SIZE)
    assert begin[-1] == count and (np.diff(begin) <= CLUSTER_SIZE).all()
    for (a, b), ball in zip(itertools.pairwise(begin), sphere, strict=True):
        assert (np.linalg.norm(points[order[a:b]] - ball[:3], axis=1) <= ball[3]).all()
    if count == 1000:
        assert sphere[:, 3].mean() < 0.25, "a cluster of 16 of 1000 evenly spread points has a side of about 0.25"


@pytest.mark.parametrize("kind", KINDS)
def test_shape_depth_and_gradient_match_reference(kind, rng, device):
    shape = random_shape(rng, kind)
    points = shape.position + rng.uniform(-0.013, 0.013, (400, 3))
    expected = np.array([min(reference.shape_distance(shape, p), 0.0) for p in points])
    inside = expected < 0.0
    assert inside.sum() > 20, "the points should test the inside"
    owner = np.ones(len(points), int)
    _, distance, gradient = deepest(
        collision.pack([(shape,)], device), np.array([[0], [1]]), np.eye(4)[None], points, owner, device
    )
    np.testing.assert_allclose(distance, expected, rtol=1e-5, atol=2e-8)
    for point, slope in zip(points[inside], gradient[inside], strict=True):
        by_difference = central_difference(lambda p: reference.shape_distance(shape, p), point)
        if np.linalg.norm(by_difference) > 0.999:  # at a ridge the difference mixes two sides
            np.testing.assert_allclose(slope, by_difference, atol=1e-4)


def test_deepest_link_matches_reference_on_a_tree(rng, device):
    hand = random_hand(rng, 20)
    links = reference.link_transforms(hand, np.eye(4), 0.5 * (hand.free_lower + hand.free_upper))
    points = links[rng.integers(len(links), size=300), :3, 3] + rng.uniform(-0.01, 0.01, (300, 3))
    owner = rng.integers(len(links) + 1, size=300)
    link, distance, _ = deepest(
        collision.pack([part.shapes for part in hand.links], device),
        collision.touch_matrix(hand),
        links,
        points,
        owner,
        device,
    )
    expected = np.array([reference.link_distance(hand, links, p, o) for p, o in zip(points, owner, strict=True)])
    np.testing.assert_allclose(distance, expected, rtol=1e-5, atol=5e-7)
    clear = (np.abs(expected) > 1e-6) | (expected == 0.0)
    assert ((link >= 0) == (expected < 0.0))[clear].all()


def links_of_groups(link: np.ndarray, clusters: PointClusters) -> np.ndarray:
    """Bit ``link % 32`` of each group of clusters is 1 where a point is inside that link, int32."""
    first = clusters.begin.numpy()[:-1:GROUP_SIZE].astype(int)
    bits = np.where(link >= 0, np.uint32(1) << (link % 32).astype(np.uint32), np.uint32(0))
    return np.bitwise_or.reduceat(bits, first, axis=1).astype(np.int32)


FIELDS = ("touched", "group_links", "link", "distance", "gradient")


@pytest.mark.parametrize("name", ["random", "shadow"])
def test_searches_of_a_moving_hand_are_as_from_scratch(name, rng, device):
    """Many small steps and a few jumps, to poses that are not finite too: what is skipped must be what is clear."""
    hand = random_hand(rng, 20) if name == "random" else load_hand(name)
    model = hand_model(hand, surface_points(hand, 600, even=False, device=device), device)
    mesh = DeviceMesh(load_object(trimesh.creation.box((0.02, 0.02, 0.02))), device)
    count, reach = 3, 0.05 if name == "random" else 0.15
    cloud = rng.uniform(-reach, reach, (2500, 3))

    def draw() -> tuple[np.ndarray, ...]:
        return (
            rng.uniform(-reach, reach, (count, 3)),
            np.array([unit(rng, 4) for _ in range(count)]),
            hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count))),
        )

    position, quaternion, joints = draw()
    kept = allocate(model, Pose(position, quaternion, joints), cloud)
    skipped, seen = [], 0
    for step in range(60):
        if step % 20 == 13:
            position, quaternion, joints = draw()
        scale = 0.0 if step % 20 == 7 else 1.0e-4
        position = position + rng.normal(scale=scale, size=position.shape)
        quaternion = quaternion + rng.normal(scale=5.0 * scale, size=quaternion.shape)
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        joints = joints + rng.normal(scale=5.0 * scale, size=joints.shape)
        there = position * np.nan if step in (17, 18) else position
        fresh = allocate(model, Pose(there, quaternion, joints), cloud)
        wp.copy(kept.wrist, fresh.wrist)
        wp.copy(kept.free_position, fresh.free_position)
        before = [depth.slack.numpy().copy() for depth in (kept.self_depth, kept.object_depth)]
        for state in (kept, fresh):
            find_proximity(model, mesh, state)
        for own, other, clusters, slack in zip(
            (kept.self_depth, kept.object_depth),
            (fresh.self_depth, fresh.object_depth),
            (model.clusters, kept.object_clusters),
            before,
            strict=True,
        ):
            for field in FIELDS:
                np.testing.assert_array_equal(getattr(own, field).numpy(), getattr(other, field).numpy(), field)
            np.testing.assert_array_equal(own.group_links.numpy(), links_of_groups(own.link.numpy(), clusters))
            skipped.append((own.slack.numpy() < slack) & (own.slack.numpy() > 0.0))
            seen += own.touched.numpy().sum()
    share = np.mean([part.mean() for part in skipped])
    assert share > 0.2, "the test should skip"
    assert seen > 1000, "the test should touch"


@pytest.mark.parametrize("owner", [0, 2])
def test_a_point_is_found_as_soon_as_a_link_comes_to_it(owner, device):
    """A ball of 1 cm goes straight to a point from 6 mm, the point stays (2) or goes to it on another ball (0)."""
    ball = Shape("sphere", np.array([0.01]), np.zeros(3), np.array([1.0, 0, 0, 0]))
    shapes = collision.pack([(ball,), (ball,)], device)
    clusters = cluster_points(np.array([[0.01, 0.0, 0.0]]), np.array([owner]), device)
    touch = wp.array(np.array([[0, 1], [1, 0], [0, 1]], np.int32), dtype=int, device=device)
    depth, steps = collision.no_depth(1, 1, clusters), collision.no_steps(1, 2, device)
    for moved in np.arange(0.0, 0.0075, 0.0003):
        links = np.tile(np.eye(4), (1, 2, 1, 1))
        links[0, :, 0, 3] = moved if owner == 0 else 0.0, 0.026 - moved
        transform = transforms_from_matrices(links, device)
        sphere = wp.zeros(transform.shape, dtype=wp.vec4, device=device)
        collision.place_spheres(shapes, transform, sphere)
        collision.find_longest_steps(shapes, transform, sphere, steps)
        point = links[0, 0, 0, 3] + 0.01
        there = wp.array([[[point, 0.0, 0.0]]], dtype=wp.vec3, device=device)
        collision.find_deepest_link(shapes, touch, transform, sphere, there, clusters, depth, steps.step)
        assert depth.distance.numpy()[0, 0] == pytest.approx(min(0.0, 0.016 - moved - point), abs=1e-7)


def test_steps_bound_how_far_points_of_links_move(rng, device):
    """Against the distances that the corners of boxes around the shapes move, for steps of all sizes."""
    hand = random_hand(rng, 20)
    shapes = collision.pack([part.shapes for part in hand.links], device)
    steps = collision.no_steps(1, len(hand.links), device)
    points = [np.concatenate([np.asarray(s.trimesh().vertices) for s in part.shapes]) for part in hand.links]
    last, x = None, 0.5 * (hand.free_lower + hand.free_upper)
    for size in (0.0, 1e-4, 1e-2, 0.3, 3.0):
        x = x + size * rng.normal(size=x.shape)
        links = reference.link_transforms(hand, np.eye(4), x)
        transform = transforms_from_matrices(links[None], device)
        sphere = wp.zeros(transform.shape, dtype=wp.vec4, device=device)
        collision.place_spheres(shapes, transform, sphere)
        collision.find_longest_steps(shapes, transform, sphere, steps)
        there = [p @ m[:3, :3].T + m[:3, 3] for p, m in zip(points, links, strict=True)]
        if last is not None:
            moved = max(np.linalg.norm(a - b, axis=1).max() for a, b in zip(there, last, strict=True))
            assert moved <= steps.step.numpy()[0] + 1e-6
            if size < 0.1:
                assert steps.step.numpy()[0] < 4.0 * moved, "a bound should be of use"
        last = there


def test_a_point_is_not_inside_its_own_link_nor_a_neighbour(device):
    hand = random_hand(np.random.default_rng(3), 1)
    links = np.array([np.eye(4), np.eye(4)])
    points = np.array([hand.links[0].shapes[0].position] * 3)
    shapes = collision.pack([part.shapes for part in hand.links], device)
    link, distance, _ = deepest(shapes, collision.touch_matrix(hand), links, points, np.array([0, 1, 2]), device)
    assert link[:2].tolist() == [-1, -1]
    assert distance[:2].tolist() == [0.0, 0.0]
    assert link[2] >= 0, "a point of the object must stay out of every link"


def test_polytope_of_a_box_is_the_box():
    corners = np.array(np.meshgrid([-1.0, 1.0], [-2.0, 2.0], [-3.0, 3.0])).reshape(3, -1).T
    planes = collision.bounding_planes(corners)
    assert len(planes) == 6
    assert sorted(np.round(planes[:, 3], 6)) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_polytope_of_a_round_mesh_holds_it_and_is_tight(rng):
    points = np.array([unit(rng, 3) for _ in range(2000)])
    planes = collision.bounding_planes(points)
    assert (points @ planes[:, :3].T <= planes[:, 3] + 1e-9).all()
    directions = np.array([unit(rng, 3) for _ in range(500)])
    reach = (planes[:, 3] / np.maximum(directions @ planes[:, :3].T, 1e-9)).min(axis=1)
    assert reach.max() < 1.15


def test_flat_mesh_still_has_a_polytope():
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert collision.bounding_planes(flat)[:, 3].min() == pytest.approx(0.0)


def test_capsule_depth_is_known(device):
    capsule = Shape("capsule", np.array([0.01, 0.02]), np.zeros(3), np.array([1.0, 0, 0, 0]))
    points = np.array([[0.004, 0.0, 0.01], [0.0, 0.0, 0.028], [0.02, 0.0, 0.0]])
    _, distance, gradient = deepest(
        collision.pack([(capsule,)], device), np.array([[0], [1]]), np.eye(4)[None], points, np.ones(3), device
    )
    assert distance == pytest.approx([-0.006, -0.002, 0.0], abs=1e-8)
    assert gradient[:2] == pytest.approx(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), abs=1e-6)


def test_spheres_are_placed_and_hold_every_shape(rng, device):
    hand = random_hand(rng, 20)
    links = reference.link_transforms(hand, np.eye(4), 0.5 * (hand.free_lower + hand.free_upper))
    shapes = collision.pack([part.shapes for part in hand.links], device)
    sphere = wp.full((1, len(links)), wp.vec4(wp.inf), dtype=wp.vec4, device=device)
    collision.place_spheres(shapes, transforms_from_matrices(links[None], device), sphere)
    for link, (part, placed) in enumerate(zip(hand.links, sphere.numpy()[0], strict=True)):
        center, square = shapes.link_sphere.numpy()[link][:3], shapes.link_sphere.numpy()[link][3] ** 2
        np.testing.assert_allclose(placed, [*(links[link] @ [*center, 1.0])[:3], square], rtol=1e-5, atol=1e-7)
        for shape in part.shapes:
            surface = shape.trimesh().apply_transform(links[link])
            reach = ((np.asarray(surface.sample(500, seed=0)) - placed[:3]) ** 2).sum(axis=1)
            assert reach.max() < placed[3]
