"""Forward kinematics and its adjoint against float64 NumPy, on random trees of 1 to 64 joints."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import reference_grasp as reference
import warp as wp
from random_hand import random_hand, unit
from reference import central_difference

from warpgrasp import kinematics
from warpgrasp.device import transforms
from warpgrasp.hand import Hand, Joint
from warpgrasp.kernels import kinematics as kernels
from warpgrasp.model import HandModel, hand_model
from warpgrasp.surface import SurfacePoints

# 17 is above Warp's unroll limit of 16, beyond which automatic adjoints fail silently; 64 is the largest hand.
each_size = pytest.mark.parametrize(("joints", "chain"), [(1, False), (17, False), (22, True), (64, False)])
GRASPS = 3


def random_points(rng: np.random.Generator, hand: Hand, per_link: int = 2) -> SurfacePoints:
    link = np.repeat(np.arange(len(hand.links)), per_link)
    position = rng.uniform(-0.02, 0.02, (len(link), 3))
    return SurfacePoints(link, position, np.zeros_like(position), np.ones(len(link)))


class Poses:
    """Random wrists and free coordinates, on the device and in float64."""

    def __init__(self, rng: np.random.Generator, model: HandModel) -> None:
        hand = model.hand
        position = rng.uniform(-0.1, 0.1, (GRASPS, 3)).astype(np.float32).astype(float)
        quaternion = np.array([unit(rng, 4) for _ in range(GRASPS)])
        x = rng.uniform(hand.free_lower, hand.free_upper, (GRASPS, hand.free_count)).astype(np.float32)
        self.x = x.astype(float)
        self.wrist = [reference.transform(p, reference.wxyz(q)) for p, q in zip(position, quaternion, strict=True)]
        self.device_wrist = transforms(position, quaternion, model.device)
        self.device_x = wp.array(x, dtype=float, device=model.device)
        self.joints = wp.zeros((GRASPS, len(hand.joints)), dtype=float, device=model.device)
        self.links = wp.zeros((GRASPS, len(hand.links)), dtype=wp.transform, device=model.device)
        kinematics.find_link_transforms(model, self.device_wrist, self.device_x, self.joints, self.links)


@each_size
def test_points_match_reference(joints, chain, rng, device):
    hand = random_hand(rng, joints, chain=chain)
    points = random_points(rng, hand)
    model = hand_model(hand, points, device)
    poses = Poses(rng, model)
    actual = wp.full((GRASPS, len(points.link)), wp.vec3(wp.inf), dtype=wp.vec3, device=device)
    kinematics.find_point_positions(model, poses.links, actual)

    for grasp in range(GRASPS):
        links = reference.link_transforms(hand, poses.wrist[grasp], poses.x[grasp])
        expected = reference.point_positions(points, links)
        np.testing.assert_allclose(actual.numpy()[grasp], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(poses.joints.numpy(), hand.joint_position(poses.x), rtol=1e-5, atol=1e-6)


def test_points_have_equal_bits_for_any_number_of_threads(rng, device, monkeypatch):
    """A CPU thread takes all points of a grasp, a GPU's takes one."""
    hand = random_hand(rng, 20)
    model = hand_model(hand, random_points(rng, hand), device)
    links = Poses(rng, model).links
    found = []
    for shares in (lambda work, _: 1, lambda work, _: work, lambda work, _: 7):
        monkeypatch.setattr(kinematics, "thread_count", shares)
        position = wp.full((GRASPS, len(model.points.link)), wp.vec3(wp.inf), dtype=wp.vec3, device=device)
        kinematics.find_point_positions(model, links, position)
        found.append(position.numpy())
    assert found[0].shape[1] > 16
    assert np.isfinite(found[0]).all()
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@each_size
def test_pose_gradients_match_differences(joints, chain, rng, device):
    """The adjoint of a sum of c . p over all points, one row of c per point."""
    hand = random_hand(rng, joints, chain=chain)
    points = random_points(rng, hand)
    model = hand_model(hand, points, device)
    poses = Poses(rng, model)
    direction = rng.normal(size=(GRASPS, len(points.link), 3))
    wrist_gradient, free_gradient = pose_gradients(model, poses, direction)

    for grasp in range(GRASPS):

        def value(motion, x, grasp=grasp):
            links = reference.link_transforms(hand, reference.moved(poses.wrist[grasp], motion), x)
            return float((direction[grasp] * reference.point_positions(points, links)).sum())

        x = poses.x[grasp]
        by_motion = central_difference(lambda motion, x=x, value=value: value(motion, x), np.zeros(6))
        by_joint = central_difference(lambda x, value=value: value(np.zeros(6), x), x)
        np.testing.assert_allclose(wrist_gradient[grasp], by_motion, rtol=1e-4, atol=1e-4 * np.abs(by_motion).max())
        np.testing.assert_allclose(free_gradient[grasp], by_joint, rtol=1e-4, atol=1e-4 * np.abs(by_joint).max())


def spatial(shape, device: str) -> wp.array:
    """Wrenches that are infinite, so that one that is not written fails the test."""
    dtype: Any = wp.spatial_vector
    return wp.full(shape, dtype(wp.inf), dtype=dtype, device=device)


def pose_gradients(model: HandModel, poses: Poses, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    device, hand = model.device, model.hand
    position = wp.zeros(direction.shape[:2], dtype=wp.vec3, device=device)
    kinematics.find_point_positions(model, poses.links, position)
    wrench = spatial((GRASPS, len(hand.links)), device)
    no_vector = wp.zeros((GRASPS, 0), dtype=wp.vec3, device=device)
    no_link = wp.zeros((GRASPS, 0), dtype=int, device=device)
    wp.launch(
        kernels.link_wrenches,
        dim=wrench.shape,
        inputs=[
            model.link_begin,
            position,
            wp.array(direction.astype(np.float32), dtype=wp.vec3, device=device),
            no_vector,
            no_link,
            model.clusters.begin,
            no_link,
            no_link,
            no_vector,
            no_vector,
            no_link,
            model.clusters.begin,
            no_link,
            no_link,
        ],
        outputs=[wrench],
        device=device,
    )
    wrist_gradient = spatial(GRASPS, device)
    free_gradient = wp.full((GRASPS, hand.free_count), wp.inf, dtype=float, device=device)
    kinematics.find_pose_gradients(model, poses.links, wrench, wrist_gradient, free_gradient)
    return wrist_gradient.numpy(), free_gradient.numpy()


def test_links_feel_the_opposite_of_what_is_inside_them(rng, device):
    """Points of the hand and the object in touched clusters, 70 of them, count against the link that they are in."""
    hand = random_hand(rng, 40)
    model = hand_model(hand, random_points(rng, hand, 40), device)
    total = np.zeros((GRASPS, len(hand.links), 6))
    sides = []
    own = rng.normal(size=(GRASPS, len(model.points.link), 3)).astype(np.float32)
    for count in (own.shape[1], 1100):
        begin = np.concatenate([[0], np.sort(rng.choice(count - 1, 69, replace=False)) + 1, [count]])
        position, gradient = rng.normal(size=(2, GRASPS, count, 3)).astype(np.float32)
        touched = rng.random((GRASPS, 70)) < 0.2
        touched[:, 32:64] = False
        link = rng.integers(-1, len(hand.links), (GRASPS, count))
        felt = np.repeat(touched, np.diff(begin), axis=1) & (link >= 0)
        groups = np.bitwise_or.reduceat(np.where(felt, 1 << (link % 32), 0), begin[:-1:32], axis=1)
        if not sides:
            add_wrenches(total, np.tile(model.points.link, (GRASPS, 1)), position, own)
        add_wrenches(total, np.where(felt, link, -1), position, -gradient)
        sides.append((position, gradient, link, begin, groups, touched))
    vectors = [wp.array(a, dtype=wp.vec3, device=device) for a in (sides[0][0], own, sides[0][1], *sides[1][:2])]
    integers = [[wp.array(a.astype(np.int32), dtype=int, device=device) for a in side[2:]] for side in sides]
    wrench = spatial((GRASPS, len(hand.links)), device)
    inputs = [model.link_begin, *vectors[:3], *integers[0], *vectors[3:], *integers[1]]
    wp.launch(kernels.link_wrenches, dim=wrench.shape, inputs=inputs, outputs=[wrench], device=device)
    np.testing.assert_allclose(wrench.numpy(), total, rtol=1e-4, atol=1e-4)


def add_wrenches(total: np.ndarray, link: np.ndarray, position: np.ndarray, gradient: np.ndarray) -> None:
    """Add force and moment of each point to its link, of points without one (-1) to none."""
    position, gradient = position.astype(float), gradient.astype(float)
    grasp, point = np.nonzero(link >= 0)
    wrench = np.concatenate([gradient, np.cross(position, gradient)], axis=-1)
    np.add.at(total, (grasp, link[grasp, point]), wrench[grasp, point])


def test_one_hinge_turns_a_point_by_a_quarter(device):
    """Known answer: a point 10 cm along x, turned by 90 degrees about z, lies 10 cm along y."""
    joint = Joint("j0", "revolute", 0, np.zeros(3), np.array([1.0, 0, 0, 0]), np.array([0.0, 0, 1]), -2.0, 2.0)
    hand = dataclasses.replace(random_hand(np.random.default_rng(0), 1), joints=(joint,))
    points = SurfacePoints(np.array([1]), np.array([[0.1, 0.0, 0.0]]), np.zeros((1, 3)), np.ones(1))
    model = hand_model(hand, points, device)
    links = wp.zeros((1, 2), dtype=wp.transform, device=device)
    wrist = transforms(np.zeros((1, 3)), np.array([[1.0, 0, 0, 0]]), device)
    quarter = wp.array([[np.pi / 2]], dtype=float, device=device)
    kinematics.find_link_transforms(model, wrist, quarter, wp.zeros((1, 1), dtype=float, device=device), links)
    position = wp.zeros((1, 1), dtype=wp.vec3, device=device)
    kinematics.find_point_positions(model, links, position)
    assert position.numpy()[0, 0] == pytest.approx([0.0, 0.1, 0.0], abs=1e-7)
