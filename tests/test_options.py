"""Recipes, their schedules, and the terms that can be switched off."""

from __future__ import annotations

import numpy as np
import pytest

from warpgrasp.errors import OptionError
from warpgrasp.optimize import schedule
from warpgrasp.options import RECIPES, TERMS, Dynamics, Stage, recipe


def test_dilation_falls_linearly_to_zero():
    values = schedule(Stage(iterations=100, dilation=0.06, dilation_end=0.5))[:, 3]
    np.testing.assert_allclose(values[:51], 0.06 * (1.0 - np.arange(51) / 50.0), atol=1e-12)
    assert not values[51:].any()


def test_dilation_falls_in_equal_steps():
    values = schedule(Stage(iterations=100, dilation=0.06, dilation_end=1.0, dilation_steps=3))[:, 3]
    np.testing.assert_allclose(np.unique(values), [0.0, 0.02, 0.04, 0.06])
    assert (np.diff(values) <= 0.0).all()
    assert (values[:33] == 0.06).all()
    assert values[100] == 0.0


def test_every_term_can_be_switched_off():
    chosen = RECIPES["paper"].without(*TERMS)
    stage = chosen.stages[0]
    off = ("attraction", "penetration", "self", "stability", "range", "limit")
    assert [getattr(stage, f"{name}_weight") for name in off] == [0.0] * 6
    assert (stage.dilation, stage.dynamics.leak, stage.dynamics.friction, chosen.phong_alpha) == (0.0, 0.0, 0.0, 0.0)
    assert chosen.name.startswith("paper-without-attraction-without-")


@pytest.mark.parametrize("terms", [(), ("leak",), ("self-penetration", "finish"), tuple(TERMS)], ids=len)
def test_the_name_of_a_recipe_finds_it_again(terms):
    chosen = RECIPES["paper"].without(*terms)
    assert recipe(chosen.name) == chosen
    assert (chosen == RECIPES["paper"]) == (not terms)


def test_only_the_named_term_is_switched_off():
    whole, part = RECIPES["paper"], RECIPES["paper"].without("leak")
    assert part.stages[0].dynamics.leak == 0.0
    assert part.stages[0].dynamics.friction == whole.stages[0].dynamics.friction
    assert part.stages[0].stability_weight == whole.stages[0].stability_weight


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(OptionError, match="Did you mean 'dilation'"):
        RECIPES["paper"].without("dilaton")
    with pytest.raises(OptionError, match="Did you mean 'paper'"):
        recipe("papr")
    with pytest.raises(OptionError, match="Did you mean 'paper'"):
        recipe("papr-without-leak")
    with pytest.raises(OptionError, match=r"no term named 'leek'\. Did you mean 'leak'"):
        recipe("paper-without-range-without-leek")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"simulations": 6}, "7 or 13"),
        ({"steps": 0}, "at least 1"),
        ({"speed": 0.0}, "positive"),
        ({"leak": 1.5}, r"\[0, 1\]"),
        ({"friction": -1.0}, "negative"),
        ({"exact": True, "solver": "gauss-seidel"}, "jacobi"),
    ],
)
def test_dynamics_refuse_what_cannot_be(change, words):
    with pytest.raises(OptionError, match=words):
        Dynamics(**change)
