"""The q-score: reference cases, an independent solver, closed forms, and laws that it must obey."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import reference_metrics as reference
import torch
from reference_metrics import random_pinch

from warpgrasp.errors import ContactError, OptionError, ShapeError
from warpgrasp.qscore import QScoreLimits, qscore, qscore_label

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


def test_agrees_with_clarabel_on_500_grasps(rng):
    """Half with any forces, half with forces that nearly balance; 3 to 200 contacts."""
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    sizes = np.geomspace(3, 200, 500).astype(int)
    arrays = [np.full((500, 200, width), np.nan) for width in (3, 3, 1)]
    expected = np.zeros((500, 2))
    for grasp, size in enumerate(sizes):
        noise = rng.uniform(0.02, 0.4)
        parts = random_pinch(rng, size, noise) if grasp % 2 else [part[0] for part in random_grasps(rng, 1, size)]
        for array, part in zip(arrays, parts, strict=True):
            array[grasp, :size] = part.reshape(size, -1)
        expected[grasp] = reference.friction_program(*parts, **CONVENTION)
    position, normal, force = arrays
    score = qscore(position, normal, force[..., 0], **CONVENTION)
    assert np.abs(score.q - np.exp(-expected[:, 0])).max() <= 1e-6
    np.testing.assert_allclose(score.value, expected[:, 0], rtol=2e-6, atol=2e-6)
    assert np.all((score.upper - score.lower) <= 1e-6 * np.maximum(score.upper, 1.0))
    success, _ = qscore_label(score, 3)
    np.testing.assert_array_equal(success, (np.exp(-expected[:, 0]) > 0.5) & (expected[:, 1] <= 0.02))
    assert 100 < success.sum() < 400


@each_weight
@pytest.mark.parametrize("contacts", [3, 8, 17, 40])
def test_agrees_with_clarabel(rng, contacts, weights):
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    position, normal, force = random_grasps(rng, 5, contacts)
    friction, wrench = rng.uniform(0.2, 1.0, (5, contacts)), rng.normal(size=(5, 6)) * [1, 1, 1, 0.05, 0.05, 0.05]
    options = changed({"slack_weight": 50.0, "weights": weights})
    score = qscore(position, normal, force, **options | {"friction_coefficient": friction, "wrench": wrench})
    for grasp in range(5):
        own = {"friction_coefficient": friction[grasp], "wrench": wrench[grasp]}
        value, residual = reference.friction_program(position[grasp], normal[grasp], force[grasp], **options | own)
        assert score.value[grasp] == pytest.approx(value, rel=1e-6)
        assert score.residual[grasp] == pytest.approx(residual, abs=1e-5)


@each_weight
def test_the_friction_found_has_the_value_that_is_said(rng, weights):
    position, normal, force = random_grasps(rng, 30, 17)
    score = qscore(position, normal, force, **CONVENTION, weights=weights)
    along = np.einsum("ncj,ncj->nc", score.friction_force, normal)
    np.testing.assert_allclose(along, 0.0, atol=1e-12)
    used = np.linalg.norm(score.friction_force, axis=2) / (0.5 * force)
    np.testing.assert_allclose(score.utilisation, used, atol=1e-9)
    whole = force[..., None] * normal + score.friction_force
    torque = np.cross(position, whole) / CONVENTION["torque_length"]
    left = np.linalg.norm(np.concatenate([whole, torque], axis=2).sum(axis=1), axis=1) / force.sum(axis=1)
    np.testing.assert_allclose(score.residual, left, atol=1e-12)
    mean = used.mean(axis=1) if weights == "uniform" else (used * force).sum(axis=1) / force.sum(axis=1)
    np.testing.assert_allclose(score.value, mean + 20.0 * left, rtol=1e-12)


@each_weight
@pytest.mark.parametrize("contacts", [2, 5, 17, 40])
def test_gradient_is_that_of_clarabel(rng, contacts, weights):
    """Along random directions of every input; 17 and 40 contacts, and grasps that balance and that do not."""
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    step = 1e-5
    for noise in (0.1, 0.3):
        position, normal, force = random_pinch(rng, contacts, noise)
        given = {
            "contact_position": position,
            "contact_normal": normal,
            "normal_force": force,
            "friction_coefficient": rng.uniform(0.3, 1.0, contacts),
            "wrench": rng.normal(size=6) * [0.1, 0.1, 0.1, 0.005, 0.005, 0.005],
        }
        rest = {"center": np.array([0.001, 0.002, -0.003]), "torque_length": 0.05, "weights": weights}
        gradient = qscore(**{name: array[None] for name, array in given.items()}, **rest).gradient

        def value(name: str, array: np.ndarray, given: dict = given, rest: dict = rest) -> float:
            now = given | {name: array}
            across = now["contact_normal"] / np.linalg.norm(now["contact_normal"], axis=1, keepdims=True)
            arrays = (now["contact_position"], across, now["normal_force"])
            options = {key: now[key] for key in ("friction_coefficient", "wrench")}
            return reference.friction_program(*arrays, **options, **rest)[0]

        for name, array in given.items():
            size = np.abs(array).max()
            for _ in range(3):
                way = rng.normal(size=array.shape)
                ahead, behind = (value(name, array + sign * step * size * way) for sign in (1.0, -1.0))
                slope = (getattr(gradient, name)[0] * way).sum() * size
                np.testing.assert_allclose(slope, (ahead - behind) / (2.0 * step), rtol=1e-3, atol=1e-3, err_msg=name)


@each_weight
@pytest.mark.parametrize("contacts", [1, 2, 5, 17, 60])
@pytest.mark.parametrize("friction", [1e-6, 1e-3, 0.5, 3.0, 1e3])
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


def test_the_gradient_of_an_idle_contact_counts_the_friction_that_it_would_have(rng):
    pytest.importorskip("clarabel", reason="needs clarabel, an independent solver")
    slopes, expected = [], []
    for _ in range(12):
        position, normal, force = random_pinch(rng, 9, 0.2)
        force[8] = 0.0
        slopes.append(qscore(position[None], normal[None], force[None], **CONVENTION).gradient.normal_force[0, 8])
        least = reference.friction_program(position[:8], normal[:8], force[:8], **CONVENTION)[0]
        force[8] = 1e-5 * force.sum()
        expected.append((reference.friction_program(position, normal, force, **CONVENTION)[0] - least) / force[8])
    np.testing.assert_allclose(slopes, expected, rtol=1e-2, atol=1e-3)


@each_weight
def test_gradients_of_what_is_absent_are_zero(rng, weights):
    position, normal, force = random_grasps(rng, 3, 6)
    position[0, 2] = np.nan
    force[1] = 0.0
    gradient = qscore(position, normal, force, **CONVENTION, weights=weights).gradient
    for name, array in vars(gradient).items():
        assert np.isfinite(array).all(), name
        assert not array[1].any(), name
        if name != "wrench":
            assert not array[0, 2].any(), name


@each_weight
def test_whatever_is_scored_has_bounds_and_no_nan(rng, weights):
    """No contact, one, coplanar ones, one point, duplicates, idle and tiny forces, any scale."""
    position, normal, force = random_grasps(rng, 20, 12)
    flat = normal * [1.0, 1.0, 0.0] + [1e-9, 0.0, 0.0]
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    spread = force * 10.0 ** rng.uniform(-14.0, 0.0, force.shape)
    some = force * (rng.uniform(size=force.shape) < 0.3)
    first = [0] * 12
    cases: dict[str, tuple[Any, ...]] = {
        "none": (position[:, :0], normal[:, :0], force[:, :0], {}),
        "one": (position[:, :1], normal[:, :1], force[:, :1], {}),
        "coplanar": (position * [1.0, 1.0, 0.0], flat, force, {}),
        "collinear": (position * [1.0, 0.0, 0.0], normal, force, {}),
        "one point": (0.0 * position, normal, force, {}),
        "duplicates": (position[:, first], normal[:, first], force, {}),
        "zero forces": (position, normal, 0.0 * force, {"wrench": np.ones(6)}),
        "idle forces": (position, normal, some, {}),
        "spread forces": (position, normal, spread, {}),
        "denormal forces": (position, normal, 1e-310 * force, {"wrench": np.ones(6)}),
        "huge forces": (position, normal, 1e307 * force, {}),
        "huge wrench": (position, normal, force, {"wrench": np.full(6, 1e300)}),
        "far": (1e3 * position, normal, force, {}),
        "near": (1e-9 * position, normal, force, {}),
        "cheap slack": (position, normal, force, {"slack_weight": 1e-6}),
    }
    for name, (*arrays, change) in cases.items():
        score = qscore(*arrays, **changed(change), weights=weights)
        for array in (score.q, score.value, score.residual, score.lower, score.friction_force, score.utilisation):
            assert np.isfinite(array).all(), name
        for array in vars(score.gradient).values():
            assert np.isfinite(array).all(), name
        gap = (score.upper - score.lower) / np.maximum(score.upper, 1.0)
        assert 0.0 <= gap.min() and gap.max() <= 1e-5, name


def test_a_grasp_has_the_same_score_in_any_batch(rng, device):
    position, normal, force = random_grasps(rng, 150, 9)
    score = qscore(position, normal, force, **CONVENTION, device=device)
    alone = [qscore(position[[i]], normal[[i]], force[[i]], **CONVENTION, device=device) for i in (0, 63, 64, 149)]
    np.testing.assert_array_equal([one.value[0] for one in alone], score.value[[0, 63, 64, 149]])
    forward = qscore(position, normal, force, **CONVENTION)
    np.testing.assert_allclose(score.value, forward.value, rtol=1e-6, atol=1e-6)


def test_labels_say_which_condition_failed():
    position, normal = np.repeat(PINCH, 4, axis=0), np.repeat(INWARD, 4, axis=0)
    pull = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -0.9], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    wrench = np.concatenate([pull, np.zeros((4, 3))], axis=1)
    force = [[1.0, 1.0], [1.0, 1.0], [1.0, 0.8], [1.0, 1.0]]
    score = qscore(position, normal, force, **CONVENTION, wrench=wrench)
    success, reason = qscore_label(score, [2, 2, 2, 1])
    assert success.tolist() == [True, False, False, False]
    assert reason.tolist() == [
        "",
        "needs too much friction",
        "forces do not balance, needs too much friction",
        "too few fingers",
    ]
    assert qscore_label(score, 2, limits=QScoreLimits(q=0.4))[0].tolist() == [True, True, False, True]
    with pytest.raises(ShapeError, match="finger_count has shape"):
        qscore_label(score, [2, 2])


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
    for friction, said in ((0.0, "0"), ([[0.5, -0.1]], "-0.1"), (np.nan, "nan"), (1e4, "10000")):
        with pytest.raises(OptionError, match=rf"friction_coefficient must be .* got {said} at grasp 0"):
            qscore(PINCH, INWARD, [[1.0, 1.0]], **changed({"friction_coefficient": friction}))
    with pytest.raises(ContactError, match=r"contact 0 of grasp 0 is more than 1e\+06 torque lengths from the centre"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **changed({"torque_length": 1e-9}))
    with pytest.raises(OptionError, match="wrench must be finite, got nan"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, wrench=np.full(6, np.nan))
    with pytest.raises(OptionError, match="weights must be 'force' or 'uniform', got 'equal'"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, weights="equal")  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="slack_weight must be positive"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, slack_weight=0.0)
    with pytest.raises(ShapeError, match="wrench has shape"):
        qscore(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, wrench=[0.0, 0.0, 1.0])
    with pytest.raises(ContactError, match="contact 0 of grasp 0 has a normal of length 2 instead of one"):
        qscore(PINCH, 2.0 * INWARD, [[1.0, 1.0]], **CONVENTION)
