"""Labels: what is measured, and which reason is given."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.optimize import linprog

from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.label import Limits, friction_edges, measure, reasons, wrench_residual
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.pose import Pose
from warpgrasp.surface import surface_points

GOOD = {
    "loss": 1.0,
    "penetration_depth_m": 0.0,
    "self_penetration_depth_m": 0.0,
    "links_in_contact_2mm": 6,
    "wrench_residual_mu02": 0.0,
    "pregrasp_clearance_m": 0.01,
}


def residual(position, normal, **options):
    return wrench_residual(
        np.array(position, float), np.array(normal, float), center=np.zeros(3), torque_length=0.05, **options
    )


def test_a_pinch_resists_along_its_axis_only():
    """Two opposed contacts without friction hold against pushes along their line; across it the push is left over."""
    assert residual([[-0.02, 0, 0], [0.02, 0, 0]], [[1, 0, 0], [-1, 0, 0]], friction_coefficient=0.0) == pytest.approx(
        0.15, abs=1e-6
    )


def test_three_axes_of_pinches_resist_everything():
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    assert residual(0.02 * axes, -axes, friction_coefficient=0.1) == pytest.approx(0.0, abs=1e-5)


def test_faces_resist_a_twist_that_points_do_not():
    """Two opposed faces, four contacts each, hold a load beside the line between them; two points cannot."""
    corners = np.array([[0.0, y, z] for y in (-0.01, 0.01) for z in (-0.01, 0.01)])
    left, right = corners + np.array([-0.02, 0, 0.005]), corners + np.array([0.02, 0, 0.005])
    normal = np.array([[1.0, 0, 0]] * 4 + [[-1.0, 0, 0]] * 4)
    assert residual(np.concatenate([left, right]), normal, friction_coefficient=0.5) == pytest.approx(0.0, abs=1e-5)
    points = [[-0.02, 0, 0.005], [0.02, 0, 0.005]]
    assert residual(points, normal[[0, 4]], friction_coefficient=0.5) > 0.01


def test_one_contact_leaves_its_own_force():
    """A single contact pushes with one unit; against a push of 0.15 the other way 1.15 is left."""
    assert residual([[0.02, 0, 0]], [[-1, 0, 0]], friction_coefficient=0.0) == pytest.approx(1.15, abs=1e-6)
    assert residual(np.zeros((0, 3)), np.zeros((0, 3))) == 1.0


def test_zero_residual_means_that_a_linear_program_is_feasible(rng):
    """Independent check: residual 0 if and only if linprog finds forces that resist all six pushes."""
    seen = set()
    for _ in range(40):
        normal = rng.normal(size=(5, 3))
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        position = -0.03 * normal + rng.normal(size=(5, 3)) * 0.003
        value = residual(position, normal, friction_coefficient=0.5)
        force = friction_edges(normal, 0.5, 8)
        torque = np.cross(position[:, None], force) / 0.05
        columns = np.concatenate([force, torque], axis=-1).reshape(-1, 6).T
        equations = np.vstack([columns, np.ones(columns.shape[1])])
        feasible = all(
            linprog(np.zeros(columns.shape[1]), A_eq=equations, b_eq=[*push, 0, 0, 0, 1]).status == 0
            for push in 0.15 * np.concatenate([np.eye(3), -np.eye(3)])
        )
        if not 1e-7 < value < 1e-4:
            assert (value < 1e-5) == feasible
            seen.add(feasible)
    assert seen == {True, False}


def test_friction_edges_lie_on_the_cone(rng):
    normal = rng.normal(size=(7, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    edge = friction_edges(normal, 0.3, 8)
    np.testing.assert_allclose((edge * normal[:, None]).sum(-1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(edge - normal[:, None], axis=-1), 0.3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"loss": np.nan}, "not finite"),
        ({"penetration_depth_m": 0.003}, "penetration"),
        ({"self_penetration_depth_m": 0.003}, "self-penetration"),
        ({"links_in_contact_2mm": 2}, "too few links in contact"),
        ({"wrench_residual_mu02": 0.2}, "not balanced"),
        ({"pregrasp_clearance_m": 0.001}, "pregrasp not clear"),
        ({"penetration_depth_m": 0.003, "wrench_residual_mu02": 0.2}, "penetration"),
    ],
)
def test_the_first_failed_check_is_the_reason(change, reason):
    metrics = {key: np.array([value]) for key, value in (GOOD | change).items()}
    assert reasons(load_hand("allegro"), metrics, Limits()).tolist() == [reason]


def test_a_gripper_needs_only_its_two_fingers():
    metrics = {key: np.array([value]) for key, value in (GOOD | {"links_in_contact_2mm": 2}).items()}
    assert reasons(load_hand("panda"), metrics, Limits()).tolist() == [""]


def test_measured_depths_are_those_of_a_known_overlap(device):
    """A ball pushed 3 mm into the palm of the Allegro hand, from the front."""
    hand = load_hand("allegro")
    palm = hand.palm.position
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.02).apply_translation(palm + 0.017 * hand.palm.normal)
    obj = load_object(ball)
    flat = hand.clamp(np.zeros(len(hand.joints)))
    pose = Pose(np.zeros((1, 3)), np.array([[1.0, 0, 0, 0]]), flat[None])
    model = hand_model(hand, surface_points(hand, 4096, even=False, device=device), device)
    measurement = measure(model, DeviceMesh(obj, device), obj.vertices, pose)
    assert measurement.penetration_depth[0] == pytest.approx(0.003, abs=2e-4)
    # The hand's points are 5 mm apart, so the deepest one can miss the ball's lowest point a little.
    assert measurement.link_distance[0, 0] == pytest.approx(-0.003, abs=5e-4)
    assert measurement.contact_normal[0, 0, 0] == pytest.approx(hand.palm.normal, abs=0.2)
    assert measurement.self_penetration_depth[0] < 1e-6
    assert measurement.links_in_contact()[0] == 1
