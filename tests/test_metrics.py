"""The analytic metrics: reference cases, qhull and linear programs as oracles, and laws that they must obey."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_metrics as reference
import torch
import warp as wp

from warpgrasp import metrics
from warpgrasp.errors import ContactError, OptionError, ShapeError
from warpgrasp.kernels import gauge as gauge_kernels
from warpgrasp.wrench import edge_directions, tangents, wrench_space

COVERED_HERE = (
    "epsilon_L1",
    "epsilon_Linf",
    "gws_volume_L1",
    "min_weight",
    "q1_dexgraspnet",
    "E_fc",
    "graspqp_residual",
)
"""Metrics whose reference cases are run here; ``test_metric_cases.py`` counts all."""

CONVENTION: dict[str, Any] = {
    "friction_coefficient": 0.5,
    "edge_count": 8,
    "torque_length": 0.05,
    "center": np.array([0.002, -0.001, 0.003]),
}


def changed(change: dict[str, Any]) -> dict[str, Any]:
    """The convention of these tests with changes."""
    return CONVENTION | change


UNCERTIFIED = "eps_antipodal_soft_mu0.5_g0.1_circular"
"""The one reference case whose bounds do not meet: a ring of directions is exactly as weak as the weakest."""

# 17 is above Warp's default unroll limit of 16.
each_size = pytest.mark.parametrize("contacts", [5, 17, 40])
each_metric = pytest.mark.parametrize(
    "metric",
    [
        metrics.epsilon_l1,
        metrics.epsilon_linf,
        metrics.wrench_volume,
        metrics.q1,
        metrics.min_weight,
        metrics.force_closure_residual,
        metrics.graspqp_residual,
    ],
    ids=lambda metric: metric.__name__,
)


def cases(shared: Path, metric: str) -> list[dict]:
    everything = json.loads((shared / "facts" / "metric_cases.json").read_text())["cases"]
    return [case for case in everything if case["metric"] == metric]


def contacts_of(inputs: dict) -> tuple[np.ndarray, np.ndarray]:
    return np.array([inputs["points"]], dtype=float), np.array([inputs["normals"]], dtype=float)


def convention_of(inputs: dict) -> dict[str, Any]:
    options: dict[str, Any] = {
        "friction_coefficient": inputs["mu"],
        "edge_count": inputs["edges"],
        "torque_length": inputs["torque_length"],
        "center": inputs["com"],
        "edge_force": "unit" if inputs.get("edge_force") == "unit_norm" else "unit_normal",
        "edge_phase": inputs.get("phase", 0.0),
    }
    if "tangent1" in inputs:
        options["tangent"] = np.array([inputs["tangent1"]])
    if "soft_torsion_length" in inputs:
        options["torsion_length"] = inputs["soft_torsion_length"]
    return options


def value_of(case: dict) -> float:
    """The metric of one reference case."""
    inputs, kind = case["inputs"], case["metric"]
    contacts = contacts_of(inputs)
    if kind == "q1_dexgraspnet":
        return metrics.q1(
            *contacts,
            friction_coefficient=inputs["mu"],
            edge_count=inputs["edges"],
            torque_length=1.0 / inputs["lambda_torque"],
            penetration_depth=inputs["max_pen"],
        )[0]
    if kind == "E_fc":
        return metrics.force_closure_residual(*contacts, torque_length=1.0 / inputs["torque_weight"], center=[0, 0, 0])[
            0
        ]
    if kind == "graspqp_residual":
        return metrics.graspqp_residual(
            *contacts,
            friction_coefficient=inputs["mu"],
            edge_count=inputs["edges"],
            torque_length=1.0 / inputs["torque_weight"],
            lower=inputs["lower"],
            upper=inputs["upper"],
        )[0]
    function = {
        "epsilon_L1": metrics.epsilon_l1,
        "epsilon_Linf": metrics.epsilon_linf,
        "gws_volume_L1": metrics.wrench_volume,
        "min_weight": metrics.min_weight,
    }[kind]
    return function(*contacts, **convention_of(inputs))[0]


def tolerance_of(case: dict) -> float:
    return case["tol"] * (abs(case["expected"]) if case["tol_kind"] == "rel" else 1.0)


def random_grasps(rng: np.random.Generator, count: int, contacts: int) -> tuple[np.ndarray, np.ndarray]:
    both = [reference.random_contacts(rng, contacts) for _ in range(count)]
    return np.array([p for p, _ in both]), np.array([n for _, n in both])


def edges_of(position: np.ndarray, normal: np.ndarray, **changes: Any) -> np.ndarray:
    """Edge wrenches of one grasp by the reference, with the library's tangents."""
    return reference.wrenches(position, normal, tangent=tangents(normal)[0], **changed(changes))


@pytest.mark.parametrize("metric", COVERED_HERE)
def test_reference_cases(shared, metric):
    wrong = {}
    for case in cases(shared, metric):
        error = abs(value_of(case) - case["expected"])
        if not error <= tolerance_of(case):
            wrong[case["id"]] = error
    assert not wrong


def test_bounds_of_the_reference_cases_hold_the_expected_value(shared):
    for case in cases(shared, "epsilon_L1"):
        options = convention_of(case["inputs"])
        limit = 5_000 if case["id"] == UNCERTIFIED else metrics.CONE_LIMIT
        lower, upper = metrics.epsilon_l1_bounds(*contacts_of(case["inputs"]), **options, cone_limit=limit)
        assert lower[0] <= case["expected"] + tolerance_of(case), case["id"]
        assert upper[0] >= case["expected"] - tolerance_of(case), case["id"]
        if case["id"] == UNCERTIFIED:
            assert lower[0] > 0.5 * upper[0]
        else:
            assert upper[0] - lower[0] <= 1.001e-4 * upper[0], case["id"]


def test_epsilon_agrees_with_qhull():
    """200 grasps of 5 to 60 contacts. Few of them are large, for qhull's sake."""
    rng = np.random.default_rng(11)
    sizes = np.concatenate([rng.integers(5, 20, 185), rng.integers(20, 40, 12), [45, 52, 60]])
    position, normal = np.full((2, len(sizes), 60, 3), np.nan)
    expected = np.zeros(len(sizes))
    for grasp, size in enumerate(sizes):
        position[grasp, :size], normal[grasp, :size] = reference.random_contacts(rng, size)
        edge_count = 8 if size < 20 else 4
        points = edges_of(position[grasp, :size], normal[grasp, :size], edge_count=edge_count)
        expected[grasp] = reference.hull_radius(points)
    upper, lower = np.zeros((2, len(sizes)))
    for edge_count, chosen in ((8, sizes < 20), (4, sizes >= 20)):
        options = changed({"edge_count": edge_count})
        lower[chosen], upper[chosen] = metrics.epsilon_l1_bounds(position[chosen], normal[chosen], **options)
    inside = expected > 0.0
    assert inside.sum() > 100
    np.testing.assert_allclose(upper[inside], expected[inside], rtol=1e-4)
    np.testing.assert_allclose(upper[~inside], 0.0, atol=1e-6)
    assert np.all(lower <= expected * (1.0 + 1e-9))
    assert np.all(upper - lower <= 1.001e-4 * upper)


@each_size
def test_circular_cones_are_the_limit_of_many_edges(rng, contacts):
    grasps = random_grasps(rng, 4, contacts)
    circular = metrics.epsilon_l1(*grasps, **changed({"edge_count": 0}))
    inscribed = metrics.epsilon_l1(*grasps, **changed({"edge_count": 64}))
    outside = changed({"edge_count": 64, "friction_coefficient": 0.5 / np.cos(np.pi / 64)})
    assert np.all(inscribed <= circular * (1.0 + 1e-4))
    assert np.all(circular <= metrics.epsilon_l1(*grasps, **outside) * (1.0 + 1e-4))


@each_size
@pytest.mark.parametrize("edge_count", [1, 5])
def test_bounds_against_the_support_function(rng, contacts, edge_count):
    """No direction is weaker than the lower bound, and the upper bound is no more than the best of many."""
    position, normal = random_grasps(rng, 3, contacts)
    direction = rng.normal(size=(20_000, 6))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    options = changed({"edge_count": edge_count})
    l1 = metrics.epsilon_l1_bounds(position, normal, **options)
    linf = metrics.epsilon_linf_bounds(position, normal, **options, tolerance=1e-2)
    for grasp in range(3):
        points = edges_of(position[grasp], normal[grasp], edge_count=edge_count)
        weakest = max(reference.support_l1(points, direction).min(), 0.0)
        assert l1[0][grasp] <= l1[1][grasp] <= weakest + 1e-9
        weakest = reference.support_linf(points, direction, edge_count).min()
        assert linf[0][grasp] <= linf[1][grasp] <= weakest + 1e-9


@each_size
def test_gauge_kernel_matches_a_linear_program(rng, device, contacts):
    position, normal = reference.random_contacts(rng, contacts)
    points = edges_of(position, normal, edge_count=4)
    mean = points.mean(axis=0)
    target = rng.normal(size=6)
    wrench = np.zeros((1, len(points), 4, 6))
    wrench[0, :, 0] = points
    space = wrench_space(wrench, np.array([len(points)]), edge_directions(1), shift=mean[None], device=device)
    out = wp.full(1, np.nan, dtype=wp.float64, device=device)
    inputs = [space, wp.array(target[None], dtype=gauge_kernels.Vec6, device=device)]
    wp.launch(gauge_kernels.gauge, dim=1, inputs=inputs, outputs=[out], device=device)
    assert out.numpy()[0] == pytest.approx(reference.gauge(points - mean, target), rel=1e-8)


@each_size
def test_min_weight_matches_a_linear_program(rng, contacts):
    position, normal = random_grasps(rng, 6, contacts)
    value = metrics.min_weight(position, normal, **changed({"edge_count": 4}))
    for grasp in range(6):
        points = edges_of(position[grasp], normal[grasp], edge_count=4)
        assert value[grasp] == pytest.approx(reference.least_weight(points), abs=1e-9)


def test_normalized_min_weight_of_circular_cones_is_the_limit_of_many_edges(rng):
    grasps = random_grasps(rng, 4, 8)
    circular = metrics.min_weight(*grasps, **changed({"edge_count": 0}), normalized=True)
    many = metrics.min_weight(*grasps, **changed({"edge_count": 96}), normalized=True)
    np.testing.assert_allclose(circular, many, atol=2e-3 * np.abs(many).max())


NO_EDGES = {key: value for key, value in CONVENTION.items() if key != "edge_count"}


def test_volume_of_circular_cones_is_between_its_bounds(rng):
    """Against more edges than the bounds took, inside and outside."""
    grasps = random_grasps(rng, 2, 4)
    lower, upper = metrics.wrench_volume_bounds(*grasps, **NO_EDGES, tolerance=0.1)
    assert np.all(upper - lower <= 0.1 * upper)
    inside = metrics.wrench_volume(*grasps, **changed({"edge_count": 40}))
    wider = {"edge_count": 40, "friction_coefficient": 0.5 / np.cos(np.pi / 40)}
    assert np.all(lower <= inside)
    assert np.all(metrics.wrench_volume(*grasps, **changed(wider)) <= upper)


def test_volume_of_circular_cones_without_friction_is_that_of_the_normals(rng):
    grasps = random_grasps(rng, 2, 9)
    frictionless = metrics.wrench_volume(*grasps, **changed({"edge_count": 1}))
    circular = metrics.wrench_volume(*grasps, **changed({"edge_count": 0, "friction_coefficient": 0.0}))
    np.testing.assert_allclose(circular, frictionless, rtol=1e-9)


def test_q1_of_dexgraspbench_is_the_hull_about_the_mean_contact(rng):
    """Against qhull, written out; frame, unit and object do not matter."""
    position, normal = random_grasps(rng, 12, 5)
    position[3, 4] = np.nan
    value = metrics.q1_dexgraspbench(position, normal)
    expected = np.zeros(12)
    for grasp in range(12):
        there = np.isfinite(position[grasp, :, 0])
        p, n = position[grasp][there], normal[grasp][there]
        radius = np.linalg.norm(p - p.mean(axis=0), axis=1).mean() + 1e-6
        points = edges_of(p, n, friction_coefficient=0.3, torque_length=radius, center=p.mean(axis=0))
        expected[grasp] = reference.hull_radius(points)
    assert (expected > 0.0).sum() >= 2
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics.q1_dexgraspbench(position + 0.3, normal), value, rtol=1e-6, atol=1e-9)
    assert metrics.q1_dexgraspbench(*np.full((2, 2, 4, 3), np.nan)).tolist() == [0.0, 0.0]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


@each_metric
def test_a_rotated_and_shifted_grasp_has_the_same_value(rng, metric):
    position, normal = random_grasps(rng, 3, 7)
    tangent = tangents(normal)[0]
    rotation, shift = random_rotation(rng), rng.normal(size=3)
    before = changed({"tangent": tangent})
    after = changed({"tangent": tangent @ rotation.T, "center": rotation @ CONVENTION["center"] + shift})
    if metric in {metrics.force_closure_residual, metrics.graspqp_residual}:
        for options in (before, after):
            options.pop("tangent")
    if metric is metrics.graspqp_residual:  # it takes no tangents, and its edges turn with the frame
        before["friction_coefficient"] = after["friction_coefficient"] = 0.0
    value = metric(position, normal, **before)
    turned = metric(position @ rotation.T + shift, normal @ rotation.T, **after)
    np.testing.assert_allclose(turned, value, rtol=1e-6, atol=1e-12)


@each_metric
def test_size_and_torque_length_scale_together(rng, metric):
    position, normal = random_grasps(rng, 3, 7)
    value = metric(position, normal, **CONVENTION)
    large = changed({"torque_length": 7.0 * 0.05, "center": 7.0 * CONVENTION["center"]})
    np.testing.assert_allclose(metric(7.0 * position, normal, **large), value, rtol=1e-6, atol=1e-12)


@each_metric
def test_absent_contacts_and_the_order_do_not_matter(rng, metric):
    position, normal = random_grasps(rng, 3, 7)
    value = metric(position, normal, **CONVENTION)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    padded = np.full((2, 3, 10, 3), np.nan)
    padded[0][:, [9, 0, 3, 4, 5, 7, 8]] = position[:, order]
    padded[1][:, [9, 0, 3, 4, 5, 7, 8]] = normal[:, order]
    np.testing.assert_allclose(metric(*padded, **CONVENTION), value, rtol=1e-6, atol=1e-12)


@each_metric
def test_a_mirrored_grasp_has_the_same_value(rng, metric):
    position, normal = random_grasps(rng, 3, 7)
    mirror = np.diag([1.0, -1.0, 1.0])
    before, after = changed({}), changed({"center": mirror @ CONVENTION["center"]})
    if metric is metrics.graspqp_residual:
        before["friction_coefficient"] = after["friction_coefficient"] = 0.0
    elif metric is not metrics.force_closure_residual:
        before["tangent"] = tangents(normal)[0]
        after["tangent"] = before["tangent"] @ mirror
    value = metric(position, normal, **before)
    np.testing.assert_allclose(metric(position @ mirror, normal @ mirror, **after), value, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("metric", [metrics.epsilon_l1, metrics.epsilon_linf])
@pytest.mark.parametrize("edge_count", [0, 8])
def test_more_contacts_and_more_friction_never_lower_epsilon(rng, metric, edge_count):
    position, normal = random_grasps(rng, 6, 9)
    options = changed({"edge_count": edge_count, "tolerance": 1e-2})
    fewer = metric(position[:, :8], normal[:, :8], **options)
    more = metric(position, normal, **options)
    rougher = metric(position, normal, **(options | {"friction_coefficient": 0.7}))
    assert np.all(more >= fewer * (1.0 - 1e-2))
    assert np.all(rougher >= more * (1.0 - 1e-2))


@each_metric
def test_no_contacts_have_a_value(metric):
    value = metric(*np.full((2, 2, 4, 3), np.nan), **CONVENTION)
    assert not np.isnan(value).any()
    expected = {metrics.min_weight: -np.inf, metrics.force_closure_residual: np.inf, metrics.graspqp_residual: np.inf}
    np.testing.assert_array_equal(value, expected.get(metric, 0.0))
    assert metric(*np.zeros((2, 0, 4, 3)), **CONVENTION).shape == (0,)


@each_metric
def test_one_contact_has_a_value(metric):
    position, normal = np.array([[[0.05, 0.0, 0.0]]]), np.array([[[-1.0, 0.0, 0.0]]])
    assert not np.isnan(metric(position, normal, **CONVENTION)).any()


def test_torch_and_warp_arrays_are_taken(rng):
    position, normal = random_grasps(rng, 2, 6)
    value = metrics.epsilon_l1(position, normal, **CONVENTION)
    from_torch = metrics.epsilon_l1(torch.tensor(position), torch.tensor(normal, requires_grad=True), **CONVENTION)
    in_warp = [wp.array(a, dtype=wp.vec3d, device="cpu") for a in (position, normal)]
    np.testing.assert_array_equal(from_torch, value)
    np.testing.assert_array_equal(metrics.epsilon_l1(*in_warp, **CONVENTION), value)


def test_friction_of_each_grasp_and_contact(rng):
    position, normal = random_grasps(rng, 2, 6)
    low, high = (metrics.epsilon_l1(position, normal, **changed({"friction_coefficient": mu})) for mu in (0.3, 0.6))
    mixed = metrics.epsilon_l1(position, normal, **changed({"friction_coefficient": [0.3, 0.6]}))
    np.testing.assert_allclose(mixed, [low[0], high[1]], rtol=1e-9)
    each = metrics.epsilon_l1(position, normal, **changed({"friction_coefficient": np.full((2, 6), 0.3)}))
    np.testing.assert_allclose(each, low, rtol=1e-9)


def test_a_stopped_proof_keeps_its_bounds_in_order(rng):
    position, normal = random_grasps(rng, 3, 12)
    full = metrics.epsilon_l1_bounds(position, normal, **CONVENTION)
    stopped = metrics.epsilon_l1_bounds(position, normal, **CONVENTION, cone_limit=100)
    assert np.all(stopped[0] <= full[1])
    assert np.all(stopped[1] >= full[0])


def good() -> tuple[np.ndarray, np.ndarray]:
    position, normal = random_grasps(np.random.default_rng(3), 2, 4)
    return position, normal


@each_metric
def test_a_normal_that_is_not_unit_is_refused(metric):
    position, normal = good()
    normal[1, 2] *= 1.5
    with pytest.raises(ContactError, match=r"contact 2 of grasp 1 has a normal of length 1\.5 instead of one"):
        metric(position, normal, **CONVENTION)
    normal[1, 2] = 0.0
    with pytest.raises(ContactError, match="contact 2 of grasp 1 has a normal of length 0 instead of one"):
        metric(position, normal, **CONVENTION)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_contact_that_is_partly_nan_or_infinite_is_refused(value):
    position, normal = good()
    position[0, 3, 1] = value
    with pytest.raises(ContactError, match=r"contact 3 of grasp 0 is not finite; .* NaN in all three entries"):
        metrics.epsilon_l1(position, normal, **CONVENTION)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge_count": -1}, "edge_count must be 0"),
        ({"edge_count": 2.5}, "edge_count must be 0"),
        ({"torque_length": 0.0}, "torque_length must be positive"),
        ({"torque_length": np.nan}, "torque_length must be finite"),
        ({"center": [0.0, np.inf, 0.0]}, "center must be finite"),
        (
            {"friction_coefficient": -0.1},
            r"friction_coefficient must be >= 0 and finite, got -0.1 at grasp 0, contact 0",
        ),
        ({"tolerance": 0.0}, "tolerance must be in"),
        ({"edge_force": "unity"}, "edge_force must be 'unit_normal' or 'unit', got 'unity'"),
        ({"torsion_length": -1.0}, "torsion_length must be >= 0"),
    ],
)
def test_options_that_cannot_work_are_refused(change, message):
    with pytest.raises(OptionError, match=message):
        metrics.epsilon_l1(*good(), **changed(change))


def test_shapes_that_do_not_fit_are_refused():
    position, normal = good()
    with pytest.raises(ShapeError, match=r"contact_position has shape \(4, 3\), expected \(N, C, 3\)"):
        metrics.epsilon_l1(position[0], normal[0], **CONVENTION)
    with pytest.raises(ShapeError, match="contact_normal has shape"):
        metrics.epsilon_l1(position, normal[:, :3], **CONVENTION)
    with pytest.raises(ShapeError, match="center has shape"):
        metrics.epsilon_l1(position, normal, **changed({"center": [0.0, 0.0]}))
    with pytest.raises(ShapeError, match="friction_coefficient has shape"):
        metrics.epsilon_l1(position, normal, **changed({"friction_coefficient": np.ones((2, 3))}))
    with pytest.raises(ShapeError, match="tangent has shape"):
        metrics.epsilon_l1(position, normal, **CONVENTION, tangent=np.ones((2, 3, 3)))
    with pytest.raises(ContactError, match="tangent of contact 0 of grasp 0 is along its normal"):
        metrics.epsilon_l1(position, normal, **CONVENTION, tangent=normal)
    with pytest.raises(TypeError, match="unknown options"):
        metrics.epsilon_l1(position, normal, **changed({"edge_fase": 0.1}))


def test_what_circular_cones_cannot_have_is_refused():
    circular = changed({"edge_count": 0})
    with pytest.raises(OptionError, match=r"grasp 0 is only known to be in \[.*\] with 8 edges; pass a larger"):
        metrics.wrench_volume_bounds(*good(), **NO_EDGES, edge_limit=8)
    with pytest.raises(OptionError, match="pass normalized=True"):
        metrics.min_weight(*good(), **circular)
    with pytest.raises(OptionError, match="no torsion_length"):
        metrics.min_weight(*good(), **CONVENTION, torsion_length=0.01)
    with pytest.raises(OptionError, match="graspqp_residual needs edge_count >= 1"):
        metrics.graspqp_residual(*good(), **circular)
