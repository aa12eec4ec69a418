"""The attraction loss and the gradient of the whole chain, against float64 NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import reference_grasp as reference
import trimesh
import warp as wp
from random_hand import random_hand, unit
from reference import central_difference

from warpgrasp import balance, optimize, rotation, self_collision
from warpgrasp.distance import DeviceMesh
from warpgrasp.kernels import attraction as kernels
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import Stage
from warpgrasp.pose import Pose
from warpgrasp.surface import SurfacePoints

STAGE = Stage(iterations=4, attraction_weight=7.0, reach=0.05, penetration_weight=2e4, self_weight=3e4)
WEIGHTS = (7.0, 0.05, 2e4, 3e4)


def one_descent(rng, device, joints=18, grasps=2):
    """Random hands around a lumpy object, some of their points inside it, and their float64 description."""
    hand = random_hand(rng, joints)
    link = np.repeat(np.arange(len(hand.links)), 2)
    points = SurfacePoints(link, rng.uniform(-0.01, 0.01, (len(link), 3)), np.zeros((len(link), 3)), np.ones(len(link)))
    obj = load_object(trimesh.creation.icosphere(subdivisions=1, radius=0.06))
    object_point = rng.uniform(-0.05, 0.05, (40, 3)).astype(np.float32).astype(float)
    pose = Pose(
        rng.uniform(-0.04, 0.04, (grasps, 3)).astype(np.float32).astype(float),
        np.array([unit(rng, 4) for _ in range(grasps)]),
        hand.clamp(rng.uniform(hand.lower, hand.upper, (grasps, len(hand.joints)))),
    )
    descent = Descent(hand_model(hand, points, device), DeviceMesh(obj, device), object_point, pose, STAGE)
    return descent, obj, object_point, pose


def reference_loss(descent, obj, object_point, wrist, x):
    hand, points = descent.model.hand, descent.model.points
    triangles = obj.vertices[obj.faces]
    links = reference.link_transforms(hand, wrist, x)
    position = reference.point_positions(points, links)
    distance = np.array([reference.signed_distance(p, triangles) for p in position])
    own = np.array([reference.link_distance(hand, links, p, o) for p, o in zip(position, points.link, strict=True)])
    other = np.array([reference.link_distance(hand, links, p, len(hand.links)) for p in object_point])
    return reference.attraction_loss(distance, own, other, WEIGHTS)


def test_loss_matches_reference(rng, device):
    descent, obj, object_point, pose = one_descent(rng, device)
    descent.find_gradient(search=True)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    x = descent.model.hand.free_position(pose.joint_position)
    expected = [reference_loss(descent, obj, object_point, wrist[g], x[g]) for g in range(len(pose))]
    np.testing.assert_allclose(descent.loss(), expected, rtol=1e-4)
    assert (descent.state.distance.numpy() < 0.0).any(), "the case should have penetration"
    assert (descent.state.self_depth.link.numpy() >= 0).any(), "the case should have self-penetration"
    assert (descent.state.object_depth.link.numpy() >= 0).any(), "the case should have object points in the hand"


def test_gradient_of_the_whole_chain_matches_differences(rng, device):
    descent, obj, object_point, pose = one_descent(rng, device)
    descent.find_gradient(search=True)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    free = descent.model.hand.free_position(pose.joint_position)
    for g in range(len(pose)):

        def value(motion, x, g=g):
            return reference_loss(descent, obj, object_point, reference.moved(wrist[g], motion), x)

        by_motion = central_difference(lambda motion, v=value, x=free[g]: v(motion, x), np.zeros(6))
        by_joint = central_difference(lambda x, v=value: v(np.zeros(6), x), free[g])
        actual = descent.state.wrist_gradient.numpy()[g], descent.state.free_gradient.numpy()[g]
        scale = max(np.abs(by_motion).max(), np.abs(by_joint).max())
        np.testing.assert_allclose(actual[0], by_motion, rtol=1e-4, atol=1e-4 * scale)
        np.testing.assert_allclose(actual[1], by_joint, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(("iteration", "parts"), [(0, 1), (3, 40), (3, 17)])
def test_point_loss_follows_the_schedule(iteration, parts, rng, device):
    schedule = np.array([[1.0, 5.0, 1e3], [1.0, 4.0, 2e3], [1.0, 3.0, 3e3], [1.0, 2.0, 4e3]], np.float32)
    distance = rng.uniform(-0.01, 0.1, (3, 40)).astype(np.float32)
    own = np.minimum(rng.uniform(-0.01, 0.02, (3, 40)), 0.0).astype(np.float32)
    gradient, own_gradient = (rng.normal(size=(3, 40, 3)).astype(np.float32) for _ in range(2))
    out = [wp.full((3, 40), wp.inf, dtype=float, device=device)] + [
        wp.full((3, 40), wp.vec3(wp.inf), dtype=wp.vec3, device=device) for _ in range(2)
    ]
    wp.launch(
        kernels.attraction,
        dim=(3, parts),
        inputs=[
            wp.array(schedule, dtype=float, device=device),
            wp.array([iteration], dtype=int, device=device),
            wp.array(distance, dtype=float, device=device),
            wp.array(gradient, dtype=wp.vec3, device=device),
            wp.array(own, dtype=float, device=device),
            wp.array(own_gradient, dtype=wp.vec3, device=device),
            0.004,
            0.05,
            3e4,
            parts,
        ],
        outputs=out,
        device=device,
    )
    weights = (float(schedule[iteration, 1]), 0.05, float(schedule[iteration, 2]), 3e4)
    d, s = distance.astype(float) - 0.004, own.astype(float)
    empty = np.zeros(0)
    expected = [reference.attraction_loss(d[g], s[g], empty, weights) for g in range(3)]
    np.testing.assert_allclose(out[0].numpy().sum(axis=1), expected, rtol=1e-5)
    slope = np.array(
        [central_difference(lambda x, g=g: reference.attraction_loss(x, s[g], empty, weights), d[g]) for g in range(3)]
    )
    own_slope = np.array(
        [central_difference(lambda x, g=g: reference.attraction_loss(d[g], x, empty, weights), s[g]) for g in range(3)]
    )
    by_self = own_slope[..., None] * own_gradient
    inside = s < 0.0
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(by_self).max()}
    np.testing.assert_allclose(out[2].numpy()[inside], by_self[inside], **tolerance)
    assert np.isinf(out[2].numpy()[~inside]).all() and 10 < inside.sum() < 110, "written where a point is in a link"
    whole = slope[..., None] * gradient + by_self
    np.testing.assert_allclose(out[1].numpy(), whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("parts", [1, 2])
def test_object_point_loss_matches_reference(parts, rng, device):
    """Points of two clusters; one that nothing touches has no loss, and its gradient is not written."""
    depth = -rng.uniform(0.0, 0.01, (2, 30)).astype(np.float32)
    gradient = rng.normal(size=(2, 30, 3)).astype(np.float32)
    touched = np.array([[1, 1], [1, 0]], np.int32)
    loss = wp.full((2, 2), wp.inf, dtype=float, device=device)
    out = wp.full((2, 30), wp.vec3(wp.inf), dtype=wp.vec3, device=device)
    wp.launch(
        kernels.link_penetration,
        dim=(2, parts),
        inputs=[
            wp.array(np.array([[1.0, 0.0, 1e3]], np.float32), dtype=float, device=device),
            wp.array(np.array([0, 16, 30], np.int32), dtype=int, device=device),
            wp.zeros(1, dtype=int, device=device),
            wp.array(touched, dtype=int, device=device),
            wp.array(depth, dtype=float, device=device),
            wp.array(gradient, dtype=wp.vec3, device=device),
            parts,
        ],
        outputs=[loss, out],
        device=device,
    )
    d = depth.astype(float)
    expected = touched * 1e3 * np.stack([(d[:, :16] ** 2).sum(axis=1), (d[:, 16:] ** 2).sum(axis=1)], axis=1)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5)
    slope = central_difference(lambda x: float(1e3 * (x**2).sum()), d)
    written = np.repeat(touched, [16, 14], axis=1).astype(bool)
    np.testing.assert_allclose(out.numpy()[written], (slope[..., None] * gradient)[written], rtol=1e-4, atol=1e-6)
    assert np.isinf(out.numpy()[~written]).all()


def test_the_gradient_has_equal_bits_for_any_number_of_threads(rng, device, monkeypatch):
    """A CPU thread takes all points, clusters and pairs of a grasp, a GPU's takes one."""
    stage = dataclasses.replace(STAGE, balance_weight=50.0, pair_weight=1e4, pair_margin=0.004)
    few, _, _, pose = one_descent(rng, device)
    found = []
    for shares in (lambda work, _: 1, lambda work, _: work, lambda work, _: 3):
        for module in (optimize, balance, self_collision):
            monkeypatch.setattr(module, "thread_count", shares)
        descent = Descent(few.model, few.mesh, few.state.object_point.numpy()[0], pose, stage)
        descent.find_gradient(search=True)
        found.append((descent.state.point_gradient.numpy(), descent.state.link_wrench.numpy(), descent.loss()))
    assert (descent.terms[0].loss.numpy() > 0.0).all() and (descent.state.object_loss.numpy() > 0.0).any()
    for other in found[1:]:
        for actual, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_a_captured_iteration_equals_a_launched_one(rng, device):
    """The graph that the loop replays does what the plain launches do, bit for bit."""
    captured, _, _, pose = one_descent(rng, device)
    plain = Descent(captured.model, captured.mesh, captured.state.object_point.numpy()[0], pose, STAGE)
    captured.capture()
    captured.run()
    for iteration in range(STAGE.iterations):
        plain.find_gradient(search=iteration % STAGE.query_period == 0)
        plain.step()
    np.testing.assert_array_equal(captured.state.wrist.numpy(), plain.state.wrist.numpy())
    np.testing.assert_array_equal(captured.state.free_position.numpy(), plain.state.free_position.numpy())
    assert captured.state.iteration.numpy()[0] == STAGE.iterations


def test_the_search_period_changes_little_over_a_few_steps(rng, device):
    """Keeping a closest face for three iterations is an approximation; here it stays below the step size."""
    often, _, _, pose = one_descent(rng, device)
    seldom = Descent(
        often.model,
        often.mesh,
        often.state.object_point.numpy()[0],
        pose,
        dataclasses.replace(STAGE, query_period=3),
    )
    often.stage = dataclasses.replace(STAGE, query_period=1)
    for descent in (often, seldom):
        descent.capture()
        descent.run()
    difference = np.abs(often.state.wrist.numpy()[:, :3] - seldom.state.wrist.numpy()[:, :3]).max()
    assert difference < STAGE.iterations * STAGE.position_step
