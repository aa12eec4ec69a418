"""The q-score: reference cases, an independent solver, closed forms, and laws that it must obey."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import reference_metrics as reference
import torch

from warpgrasp.errors import ContactError, OptionError, ShapeError
from warpgrasp.qscore import qscore

CASE_COUNT = 23

CONVENTION: dict[str, Any] = {"friction_coefficient": 0.5, "center": np.zeros(3), "torque_length": 0.05}


def changed(change: dict[str, Any]) -> dict[str, Any]:
    """The convention of these tests with changes."""
    return CONVENTION | change


PINCH = np.array([[[0.05, 0.0, 0.0], [-0.05, 0.0, 0.0]]])
INWARD = np.array([[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])

each_weight = pytest.mark.parametrize("weights", ["force", "uniform"])


def random_grasps(rng: np.random.Generator, count: int, contacts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = [reference.random_contacts(rng, contacts) for _ in range(count)]
    force = rng.uniform(0.2, 1.0, (count, contacts))
    return np.array([p for p, _ in both]), np.array([n for _, n in both]), force


def test_reference_cases(shared):
    everything = json.loads((shared / "facts" / "metric_cases.json").read_text())["cases"]
    cases = [case for case in everything if case["metric"] == "qscore_fixed_normals_elastic"]
    assert len(cases) == CASE_COUNT
    wrong = {}
    for case in cases:
        inputs, expected = case["inputs"], case["expected"]
        score = qscore(
            *(np.array([inputs[key]], dtype=float) for key in ("points", "normals", "normal_force")),
            friction_coefficient=inputs["mu"],
            center=inputs["com"],
            torque_length=inputs["torque_length"],
            weights=inputs["weights"],
            slack_weight=inputs["rho"],
            wrench=inputs["external_wrench"],
        )
        given = {"V": score.value[0], "q": score.q[0], "residual": score.residual[0]}
        error = max(abs(given[key] - expected[key]) for key in given)
        if not (error <= case["tol"] and score.lower[0] <= expected["V"] + case["tol"]):
            wrong[case["id"]] = error
    assert not wrong


@each_weight
@pytest.mark.parametrize("contacts", [3, 8, 17, 40])
def test_agrees_with_clarabel(rng, contacts, weights):
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    position, normal, force = random_grasps(rng, 5, contacts)
    score = qscore(position, normal, force, **CONVENTION, weights=weights)
    for grasp in range(5):
        expected = reference.friction_program(
            position[grasp], normal[grasp], force[grasp], **CONVENTION, weights=weights, slack_weight=20.0
        )
        assert score.value[grasp] == pytest.approx(expected, abs=1e-6)


@each_weight
@pytest.mark.parametrize("contacts", [1, 2, 5, 17, 60])
@pytest.mark.parametrize("friction", [0.0, 1e-3, 0.5, 3.0])
def test_the_bounds_meet(rng, contacts, weights, friction):
    position, normal, force = random_grasps(rng, 40, contacts)
    force[:20] *= rng.uniform(size=force[:20].shape) < 0.5
    score = qscore(position, normal, force, **changed({"friction_coefficient": friction}), weights=weights)
    assert np.all(score.lower <= score.upper)
    assert np.all(score.upper - score.lower <= 1e-5 * np.maximum(score.upper, 1.0))
    assert np.all((score.utilisation >= 0.0) & (score.utilisation <= 1.0))
    np.testing.assert_allclose(score.q, np.exp(-score.value))


def test_opposed_equal_forces_need_no_friction():
    score = qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION)
    assert score.q[0] == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(score.utilisation, 0.0, atol=1e-9)


def test_a_weight_is_shared_by_friction():
    """V = weight / (2 f mu), and both contacts use that share."""
    score = qscore(PINCH, INWARD, [[2.0, 2.0]], **CONVENTION, wrench=[0.0, 0.0, -1.0, 0.0, 0.0, 0.0])
    assert score.value[0] == pytest.approx(0.5, abs=1e-7)
    np.testing.assert_allclose(score.utilisation, 0.5, atol=1e-4)


def test_the_price_of_what_friction_cannot_balance():
    score = qscore(PINCH, INWARD, [[1.0, 0.8]], **CONVENTION, slack_weight=30.0)
    assert score.residual[0] == pytest.approx(0.2 / 1.8, abs=1e-8)
    assert score.value[0] == pytest.approx(30.0 * 0.2 / 1.8, abs=1e-7)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_size_of_all_forces_does_not_matter(rng, factor):
    position, normal, force = random_grasps(rng, 4, 7)
    value = qscore(position, normal, force, **CONVENTION).value
    np.testing.assert_allclose(qscore(position, normal, factor * force, **CONVENTION).value, value, atol=1e-7)


def test_force_weights_do_not_change_when_a_contact_is_split(rng):
    position, normal, force = random_grasps(rng, 4, 6)
    index = [0, 1, 2, 3, 4, 5, 5, 5]
    split = force[:, index] / [1, 1, 1, 1, 1, 3, 3, 3]
    value = qscore(position, normal, force, **CONVENTION).value
    np.testing.assert_allclose(
        qscore(position[:, index], normal[:, index], split, **CONVENTION).value, value, atol=1e-7
    )


@each_weight
def test_a_rotated_mirrored_and_permuted_grasp_has_the_same_value(rng, weights):
    position, normal, force = random_grasps(rng, 4, 9)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([1.0, 1.0, -1.0])
    shift, order = rng.normal(size=3), rng.permutation(9)
    value = qscore(position, normal, force, **CONVENTION, weights=weights)
    moved = qscore(
        (position @ turn.T + shift)[:, order],
        (normal @ turn.T)[:, order],
        force[:, order],
        **changed({"center": shift}),
        weights=weights,
    )
    np.testing.assert_allclose(moved.value, value.value, atol=1e-7)


def test_more_friction_never_costs_more(rng):
    grasps = random_grasps(rng, 8, 9)
    low, high = (qscore(*grasps, **changed({"friction_coefficient": mu})).value for mu in (0.4, 0.6))
    assert np.all(high <= low + 1e-7)


@each_weight
def test_absent_contacts_do_not_matter(rng, weights):
    position, normal, force = random_grasps(rng, 4, 6)
    padded = [np.concatenate([np.full_like(a[:, :2], np.nan), a], axis=1) for a in (position, normal, force)]
    plain, score = (qscore(*arrays, **CONVENTION, weights=weights) for arrays in ((position, normal, force), padded))
    np.testing.assert_allclose(score.value, plain.value, atol=1e-7)
    assert np.isnan(score.utilisation[:, :2]).all()
    assert not np.isnan(score.utilisation[:, 2:]).any()


@each_weight
def test_nothing_holds_a_grasp_without_contacts_or_forces(weights):
    absent = np.full((1, 2, 3), np.nan)
    for arrays in ((absent, absent, np.full((1, 2), np.nan)), (PINCH, INWARD, [[0.0, 0.0]])):
        score = qscore(*arrays, **CONVENTION, weights=weights)
        assert score.value[0] == pytest.approx(20.0)
        assert score.residual[0] == pytest.approx(1.0)
    assert qscore(absent[:0], absent[:0], np.zeros((0, 2)), **CONVENTION).q.shape == (0,)


def test_torch_arrays_are_taken():
    score = qscore(torch.tensor(PINCH), torch.tensor(INWARD), torch.ones(1, 2, requires_grad=True), **CONVENTION)
    assert score.q[0] == pytest.approx(1.0)


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match="normal_force has shape"):
        qscore(PINCH, INWARD, [1.0, 1.0], **CONVENTION)
    with pytest.raises(OptionError, match=r"normal_force must be >= 0 and finite, got -1.0 at grasp 0, contact 1"):
        qscore(PINCH, INWARD, [[1.0, -1.0]], **CONVENTION)
    with pytest.raises(OptionError, match="normal_force must be >= 0 and finite, got nan"):
        qscore(PINCH, INWARD, [[1.0, np.nan]], **CONVENTION)
    with pytest.raises(OptionError, match="weights must be 'force' or 'uniform', got 'equal'"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, weights="equal")  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="slack_weight must be positive"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, slack_weight=0.0)
    with pytest.raises(ShapeError, match="wrench has shape"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, wrench=[0.0, 0.0, 1.0])
    with pytest.raises(ContactError, match="contact 0 of grasp 0 has a normal of length 2 instead of one"):
        qscore(PINCH, 2.0 * INWARD, [[1.0, 1.0]], **CONVENTION)
