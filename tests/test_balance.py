"""Balance of contact forces: the solver against Clarabel, the loss and its gradient against float64 NumPy."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import trimesh
import warp as wp
from random_hand import random_hand, unit
from reference import central_difference

from warpgrasp.balance import ContactBalance, pressing_links, six_pushes
from warpgrasp.distance import DeviceMesh
from warpgrasp.errors import OptionError
from warpgrasp.hand import Finger
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.options import Balance
from warpgrasp.pose import Pose
from warpgrasp.proximity import find_proximity
from warpgrasp.state import allocate
from warpgrasp.surface import SurfacePoints

clarabel: Any = importlib.import_module("clarabel")

OPTIONS = Balance(friction=0.3, load=0.4, distance_cost=2.0, softness=0.004)
POINTS_PER_LINK = 3
GRASPS = 3


def with_fingers(hand, *chains):
    """The hand with fingers of these links, from the palm to the tip."""
    fingers = tuple(Finger(f"finger {i}", (), chain, np.zeros(3)) for i, chain in enumerate(chains))
    return dataclasses.replace(hand, fingers=fingers)


class Case:
    """Random hands of 19 links around a lumpy ball, with settled forces; links 2 to 18 are fingertips."""

    def __init__(self, rng, device, steps=3000, options=OPTIONS):
        hand = with_fingers(random_hand(rng, 18), *((1, tip) for tip in range(2, 19)))
        link = np.repeat(np.arange(len(hand.links)), POINTS_PER_LINK)
        position = rng.uniform(-0.01, 0.01, (len(link), 3))
        points = SurfacePoints(link, position, np.zeros((len(link), 3)), np.ones(len(link)))
        obj = load_object(trimesh.creation.icosphere(subdivisions=2, radius=0.05))
        pose = Pose(
            rng.uniform(-0.05, 0.05, (GRASPS, 3)),
            np.array([unit(rng, 4) for _ in range(GRASPS)]),
            hand.clamp(rng.uniform(hand.lower, hand.upper, (GRASPS, len(hand.joints)))),
        )
        model, mesh = hand_model(hand, points, device), DeviceMesh(obj, device)
        self.center, self.length = obj.center_of_mass, OPTIONS.torque_radii * obj.radius_of_gyration
        self.state = allocate(model, pose, np.zeros((0, 3)))
        find_proximity(model, mesh, self.state)
        self.balance = ContactBalance(model, obj, options, GRASPS)
        self.balance.find_contacts(self.state)
        self.balance.find_forces(steps)
        self.point, self.distance, self.slope = (
            array.numpy().astype(float)
            for array in (self.state.point_position, self.state.distance, self.state.distance_gradient)
        )
        self.push = six_pushes(OPTIONS.load)

    def arrays(self, *names):
        """Device arrays in float64."""
        return [getattr(self.balance.arrays, name).numpy().astype(float) for name in names]


def residual(position, force, push, center, length):
    """Force and scaled torque that are left, shape (6,)."""
    return np.append(force.sum(axis=0), np.cross((position - center) / length, force).sum(axis=0)) - push


def least_objective(position, normal, distance, push, center, length):
    """The convex problem of one push, by an interior-point method."""
    count = len(position)
    matrix = np.zeros((6, 3 * count))
    for c, arm in enumerate((position - center) / length):
        matrix[:3, 3 * c : 3 * c + 3] = np.eye(3)
        matrix[3:, 3 * c : 3 * c + 3] = np.cross(arm, np.eye(3)).T
    cost = (OPTIONS.distance_cost * np.maximum(distance, 0.0)[:, None] * normal).ravel()
    rows, cones = [normal.ravel()[None]], [clarabel.ZeroConeT(1)]
    for c, n in enumerate(normal):
        if not n.any():
            rows.append(np.eye(3, 3 * count, 3 * c))  # without a normal there is no force
            cones.append(clarabel.ZeroConeT(3))
            continue
        cone = np.zeros((4, 3 * count))
        cone[0, 3 * c : 3 * c + 3] = -OPTIONS.friction * n
        cone[1:, 3 * c : 3 * c + 3] = np.outer(n, n) - np.eye(3)
        rows.append(cone)
        cones.append(clarabel.SecondOrderConeT(4))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(2.0 * matrix.T @ matrix)),
        cost - 2.0 * matrix.T @ push,
        scipy.sparse.csc_matrix(np.concatenate(rows)),
        np.append(1.0, np.zeros(sum(map(len, rows)) - 1)),
        cones,
        settings,
    ).solve()
    force = np.array(solution.x)
    return ((matrix @ force - push) ** 2).sum() + cost @ force


def test_contacts_are_the_soft_minimum_of_their_points(rng, device):
    case = Case(rng, device, steps=1)
    position, normal, distance = case.arrays("position", "normal", "distance")
    for g in range(GRASPS):
        for c in range(position.shape[1]):
            rows = slice(POINTS_PER_LINK * c, POINTS_PER_LINK * (c + 1))
            weight = np.exp(-(case.distance[g, rows] - case.distance[g, rows].min()) / OPTIONS.softness)
            weight /= weight.sum()
            blend = -(weight[:, None] * case.slope[g, rows]).sum(axis=0)
            np.testing.assert_allclose(position[g, c], weight @ case.point[g, rows], atol=1e-6)
            np.testing.assert_allclose(distance[g, c], weight @ case.distance[g, rows], atol=1e-6)
            size = np.linalg.norm(blend)
            np.testing.assert_allclose(normal[g, c], blend / size if size else blend, atol=1e-4)


def test_forces_are_the_best_there_are(rng, device):
    """Against an interior-point method, for 19 contacts and every push."""
    case = Case(rng, device)
    position, normal, distance, force = case.arrays("position", "normal", "distance", "force")
    along = np.einsum("gkcd,gcd->gkc", force, normal)
    slide = np.linalg.norm(force - along[..., None] * normal[:, None], axis=-1)
    assert (slide - OPTIONS.friction * along).max() < 1e-6, "every force is in its cone"
    np.testing.assert_allclose(along.sum(axis=-1), 1.0, atol=1e-5)
    for g in range(GRASPS):
        cost = OPTIONS.distance_cost * np.maximum(distance[g], 0.0)
        for k, push in enumerate(case.push):
            left = residual(position[g], force[g, k], push, case.center, case.length)
            best = least_objective(position[g], normal[g], distance[g], push, case.center, case.length)
            assert (left**2).sum() + cost @ along[g, k] == pytest.approx(best, abs=2e-5)


def on_cone(force, normal, friction):
    """Projection onto the friction cone about the normal, zero without one, shape (3,)."""
    along = force @ normal
    tangent = force - along * normal
    slide = np.linalg.norm(tangent)
    if not normal.any() or friction * slide <= -along:
        return np.zeros(3)
    if slide <= friction * along:
        return force
    size = (along + friction * slide) / (1.0 + friction**2)
    return size * (normal + friction * tangent / slide)


def on_cones(force, normal, friction):
    """Projection onto cones and onto forces whose normal parts sum to one, by halving, shape (contact, 3)."""

    def shifted(multiplier):
        return np.array([on_cone(f + multiplier * n, n, friction) for f, n in zip(force, normal, strict=True)])

    low, high = -100.0, 100.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (shifted(middle) * normal).sum() < 1.0 else (low, middle)
    return shifted(high)


def steps_in_double(position, normal, distance, push, center, length, friction, steps):
    """FISTA from no force, as written in the paper, shape (contact, 3)."""
    arm = (position - center) / length
    total = np.linalg.norm(arm.sum(axis=0))
    bound = np.linalg.eigvalsh([[len(arm), total], [total, (arm**2).sum()]]).max()
    force = ahead = np.zeros_like(position)
    pace = 1.0
    for _ in range(steps):
        left = residual(position, ahead, push, center, length)
        slope = 2.0 * (left[:3] + np.cross(left[3:], arm))
        slope += OPTIONS.distance_cost * np.maximum(distance, 0.0)[:, None] * normal
        new = on_cones(ahead - 0.5 / bound * slope, normal, friction)
        next_pace = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * pace**2))
        ahead, force, pace = new + (pace - 1.0) / next_pace * (new - force), new, next_pace
    return force


@pytest.mark.parametrize("friction", [0.0, 0.3, 2.0])
def test_steps_match_those_in_double_precision(friction, rng, device):
    """For 19 contacts, of which two have no normal."""
    case = Case(rng, device, steps=0)
    normal = case.arrays("normal")[0]
    normal[:, [3, 17]] = 0.0
    case.balance.arrays.normal.assign(normal.astype(np.float32))
    case.balance.options = dataclasses.replace(OPTIONS, friction=friction)
    case.balance.find_forces(8)
    position, normal, distance, force = case.arrays("position", "normal", "distance", "force")
    assert (force[:, :, [3, 17]] == 0.0).all()
    for g in range(GRASPS):
        for k, push in enumerate(case.push):
            expected = steps_in_double(
                position[g], normal[g], distance[g], push, case.center, case.length, friction, steps=8
            )
            np.testing.assert_allclose(force[g, k], expected, atol=2e-6)


def test_no_contact_exerts_no_force(rng, device):
    case = Case(rng, device, steps=0)
    case.balance.arrays.normal.zero_()
    case.balance.find_forces(8)
    force, left = case.arrays("force", "residual")
    assert (force == 0.0).all()
    np.testing.assert_allclose(left, np.broadcast_to(-case.push, left.shape), rtol=1e-6)


def test_residual_is_what_the_forces_leave(rng, device):
    case = Case(rng, device, steps=5)
    position, force, left = case.arrays("position", "force", "residual")
    for g in range(GRASPS):
        for k, push in enumerate(case.push):
            expected = residual(position[g], force[g, k], push, case.center, case.length)
            np.testing.assert_allclose(left[g, k], expected, atol=1e-6)


@pytest.mark.parametrize(("links", "first"), [("all", 0), ("fingertips", 2)])
def test_gradient_with_forces_and_weights_held_fixed(links, first, rng, device):
    """Points of links that do not press, the first ones, have none."""
    case = Case(rng, device, steps=40, options=dataclasses.replace(OPTIONS, links=links))
    case.balance.options = dataclasses.replace(case.balance.options, steps=0)
    pressing = slice(POINTS_PER_LINK * first, None)
    before = rng.normal(size=case.point.shape).astype(np.float32)
    case.state.point_gradient.assign(wp.array(before, dtype=wp.vec3, device=device))
    case.balance.add_gradient(case.state, 50.0)
    gradient = case.state.point_gradient.numpy() - before
    force, normal, loss = case.arrays("force", "normal", "loss")
    for g in range(GRASPS):
        point, distance, slope = (array[g, pressing] for array in (case.point, case.distance, case.slope))
        by_link = distance.reshape(-1, POINTS_PER_LINK)
        weight = np.exp((by_link.min(axis=1, keepdims=True) - by_link) / OPTIONS.softness)
        weight = (weight / weight.sum(axis=1, keepdims=True)).ravel()
        pressed = np.einsum("kcd,cd->kc", force[g], normal[g]).mean(axis=0)

        def value(moved, g=g, weight=weight, pressed=pressed, point=point, distance=distance, slope=slope):
            position = (weight[:, None] * moved).reshape(-1, POINTS_PER_LINK, 3).sum(axis=1)
            shifted = distance + ((moved - point) * slope).sum(axis=1)
            gap = np.maximum((weight * shifted).reshape(-1, POINTS_PER_LINK).sum(axis=1), 0.0)
            squares = [
                (residual(position, force[g, k], push, case.center, case.length) ** 2).sum()
                for k, push in enumerate(case.push)
            ]
            return 50.0 * (np.mean(squares) + OPTIONS.distance_cost * (gap * pressed).sum())

        assert loss[g].sum() == pytest.approx(value(point), rel=1e-4)
        expected = central_difference(value, point)
        np.testing.assert_allclose(gradient[g, pressing], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        assert not gradient[g, : pressing.start].any()


def test_fingertips_are_the_last_links_with_points(rng, device):
    hand = with_fingers(random_hand(rng, 6), (1, 5, 3), (2, 4), (), (6,))
    link = np.array([0, 1, 2, 3, 5])  # the second finger's last link has none, and the fourth finger has none at all
    points = SurfacePoints(link, np.zeros((5, 3)), np.zeros((5, 3)), np.ones(5))
    model = hand_model(hand, points, device)
    assert pressing_links(model, Balance()).tolist() == link.tolist()
    assert pressing_links(model, Balance(links="fingertips")).tolist() == [2, 3]


def test_one_fingertip_cannot_balance(rng, device):
    hand = with_fingers(random_hand(rng, 3), (1, 2))
    model = hand_model(hand, SurfacePoints(np.arange(4), np.zeros((4, 3)), np.zeros((4, 3)), np.ones(4)), device)
    obj = load_object(trimesh.creation.icosphere(subdivisions=1, radius=0.05))
    with pytest.raises(OptionError, match=r"two fingers or more, and .* has 1; choose the recipe 'default'"):
        ContactBalance(model, obj, Balance(links="fingertips"), 1)


def test_warm_steps_reach_what_many_cold_ones_do(rng, device):
    """Forces follow: steps in small portions end where the same number at once does, or better."""
    case = Case(rng, device, steps=200)
    at_once = (case.arrays("residual")[0] ** 2).sum()
    case.balance.restart()
    assert not case.balance.arrays.force.numpy().any()
    for _ in range(50):
        case.balance.find_forces(8)
    assert (case.arrays("residual")[0] ** 2).sum() < 1.5 * at_once + 1e-3
