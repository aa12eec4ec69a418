"""The literal q-score by IPOPT: closed forms, balance checked anew, never worse than the convex start."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import reference_metrics as reference

from warpgrasp.errors import ContactError, OptionError, ShapeError
from warpgrasp.qscore import qscore
from warpgrasp.qscore_ipopt import qscore_literal

pytest.importorskip("casadi", reason="needs casadi, which brings IPOPT: pip install 'warpgrasp[ipopt]'")

CONVENTION: dict[str, Any] = {"friction_coefficient": 0.5, "center": np.zeros(3), "torque_length": 0.05}
PINCH = np.array([[[0.05, 0.0, 0.0], [-0.05, 0.0, 0.0]]])
INWARD = np.array([[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
GRAVITY = np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0])


def test_free_forces_balance_an_unequal_pinch():
    fixed = qscore_literal(PINCH, INWARD, [[1.0, 0.8]], **CONVENTION, force_factor=(1.0, 1.0))
    assert not fixed.solved[0] and fixed.q[0] == 0.0 and np.isnan(fixed.normal_force).all()
    free = qscore_literal(PINCH, INWARD, [[1.0, 0.8]], **CONVENTION)
    assert free.solved[0]
    assert free.q[0] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(free.normal_force, 0.9, atol=1e-5)


def test_a_weight_is_shared_by_friction():
    """V = weight / (2 f mu)."""
    score = qscore_literal(PINCH, INWARD, [[2.0, 2.0]], **CONVENTION, wrench=GRAVITY)
    assert score.value[0] == pytest.approx(0.5, abs=1e-5)
    np.testing.assert_allclose(score.friction_force[0, :, 2], 0.5, atol=1e-4)


def test_the_literal_form_likes_idle_contacts():
    """Four contacts bear a weight of 1 N with 4 N. V is 1/2 with equal forces, less with two that press diagonally.

    Each of those has 2 N and the friction 0.5 N up; and 0.4 N sideways, against the torque of their offset.
    """
    up = np.array([0.0, 0.01, 0.0])
    position = np.concatenate([PINCH + up, PINCH - up], axis=1)
    normal = np.concatenate([INWARD, INWARD], axis=1)
    arrays = (position, normal, np.array([[1.2, 1.2, 0.8, 0.8]]))
    equal = qscore_literal(*arrays[:2], np.ones((1, 4)), **CONVENTION, wrench=GRAVITY, force_factor=(1.0, 1.0))
    assert equal.value[0] == pytest.approx(0.5, abs=1e-5)
    free = qscore_literal(*arrays, **CONVENTION, wrench=GRAVITY)
    assert free.value[0] <= 2.0 / 4.0 * np.hypot(0.5, 0.4) / (2.0 * 0.5) + 1e-5


@pytest.mark.parametrize("contacts", [4, 6, 17])
def test_what_is_found_balances_and_is_no_worse_than_the_convex_start(rng, contacts):
    grasps = [reference.random_pinch(rng, contacts, 0.15) for _ in range(4)]
    position, normal, force = (np.array(part) for part in zip(*grasps, strict=True))
    fixed = qscore(position, normal, force, **CONVENTION, weights="uniform", slack_weight=50.0)
    last = np.where(fixed.residual < 1e-7, fixed.value, np.inf)
    total = force.sum(axis=1)
    for factor in ((1.0, 1.0), (0.8, 1.2), (0.0, np.inf)):
        score = qscore_literal(position, normal, force, **CONVENTION, force_factor=factor)
        assert np.all(score.value <= last + 1e-6)
        last = np.minimum(last, score.value)
        found = score.solved
        f, y = score.normal_force, score.friction_force
        np.testing.assert_allclose(score.q, np.where(found, np.exp(-score.value), 0.0))
        assert np.all((f >= factor[0] * force - 1e-6)[found])
        if np.isfinite(factor[1]):
            assert np.all((f <= factor[1] * force + 1e-6)[found])
        np.testing.assert_allclose(f.sum(axis=1)[found], total[found], rtol=1e-5)
        whole = f[..., None] * normal + y
        wrench = np.concatenate([whole, np.cross(position, whole) / 0.05], axis=2).sum(axis=1) / total[:, None]
        assert np.linalg.norm(wrench, axis=1)[found].max() < 2e-6
        np.testing.assert_allclose((y * normal).sum(axis=2)[found], 0.0, atol=1e-9)
        slide = np.linalg.norm(y, axis=2)
        assert np.all((slide <= 0.5 * f + 1e-9)[found])
    assert found.all()


def test_an_absent_contact_and_a_grasp_without_force(rng):
    position, normal, force = (part[None] for part in reference.random_pinch(rng, 6, 0.1))
    padded = [np.concatenate([np.full_like(a[:, :1], np.nan), a], axis=1) for a in (position, normal, force)]
    plain, score = (qscore_literal(*arrays, **CONVENTION) for arrays in ((position, normal, force), padded))
    np.testing.assert_allclose(score.value, plain.value, atol=1e-9)
    assert np.isnan(score.normal_force[0, 0])
    nothing = qscore_literal(position, normal, 0.0 * force, **CONVENTION)
    assert nothing.q[0] == 0.0 and not nothing.solved[0]


def test_bad_input_is_refused(monkeypatch):
    with pytest.raises(OptionError, match="force_factor must be a number from 0 to 1 and one from 1 on"):
        qscore_literal(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION, force_factor=(1.1, 1.2))
    with pytest.raises(OptionError, match="normal_force must be >= 0"):
        qscore_literal(PINCH, INWARD, [[1.0, -1.0]], **CONVENTION)
    with pytest.raises(ShapeError, match="normal_force has shape"):
        qscore_literal(PINCH, INWARD, [1.0], **CONVENTION)
    with pytest.raises(ContactError, match="instead of one"):
        qscore_literal(PINCH, 2.0 * INWARD, [[1.0, 1.0]], **CONVENTION)
    monkeypatch.setitem(sys.modules, "casadi", None)
    with pytest.raises(OptionError, match=r"needs IPOPT: pip install 'warpgrasp\[ipopt\]'"):
        qscore_literal(PINCH, INWARD, [[1.0, 1.0]], **CONVENTION)
