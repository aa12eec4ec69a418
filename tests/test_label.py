"""Labels: what is measured, and which reason is given."""

from __future__ import annotations

import numpy as np
import pytest
import reference_metrics as reference
import trimesh
from scipy.optimize import linprog

from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.label import Limits, measure, reasons, wrench_residual
from warpgrasp.mesh import load_object
from warpgrasp.pose import Pose
from warpgrasp.wrench import tangents

GOOD = {
    "loss": 1.0,
    "penetration_depth_m": 0.0,
    "self_penetration_depth_m": 0.0,
    "links_in_contact_2mm": 6,
    "wrench_residual_mu02": 0.0,
    "pregrasp_clearance_m": 0.01,
    "approach_penetration_m": 0.001,
    "pregrasp_self_penetration_depth_m": 0.0,
}


def residual(position, normal, **options):
    """Of one grasp, behind another with fewer contacts."""
    contacts = np.full((2, 2, len(position) + 1, 3), np.nan)
    contacts[0, 1, 1:], contacts[1, 1, 1:] = position, normal
    both = wrench_residual(*contacts, center=np.zeros(3), torque_length=0.05, **options)
    assert both[0] == 1.0
    return both[1]


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
        columns = reference.wrenches(
            position,
            normal,
            friction_coefficient=0.5,
            edge_count=8,
            torque_length=0.05,
            center=np.zeros(3),
            tangent=tangents(normal)[0],
        ).T
        equations = np.vstack([columns, np.ones(columns.shape[1])])
        feasible = all(
            linprog(np.zeros(columns.shape[1]), A_eq=equations, b_eq=[*push, 0, 0, 0, 1]).status == 0
            for push in 0.15 * np.concatenate([np.eye(3), -np.eye(3)])
        )
        if not 1e-7 < value < 1e-4:
            assert (value < 1e-5) == feasible
            seen.add(feasible)
    assert seen == {True, False}


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
        ({"approach_penetration_m": 0.003}, "way not clear"),
        ({"pregrasp_self_penetration_depth_m": 0.001}, "pregrasp not clear"),
        ({"surroundings_clearance_m": 1.0e-4}, ""),
        ({"surroundings_clearance_m": -1.0e-5}, "hits table or obstacle"),
        ({"surroundings_clearance_m": np.nan}, "hits table or obstacle"),
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
    measured = measure(hand, obj, pose, DeviceMesh(obj, device))
    assert measured["penetration_depth_m"][0] == pytest.approx(0.003, abs=2e-4)
    assert measured["self_penetration_depth_m"][0] < 1e-6
    assert measured["links_in_contact_2mm"][0] == 1
    # Four points on one link press the same way: nothing resists a push along the palm's normal.
    assert measured["wrench_residual_mu02"][0] > 0.5
