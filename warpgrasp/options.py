"""What a user may choose, as frozen dataclasses."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from .errors import OptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How grasps are found: the terms of the loss, their weights and the optimizer's schedule."""

    name: str

    iterations: int = 300
    """Gradient steps."""

    query_period: int = 3
    """Iterations for which a point keeps its closest face before the mesh is searched again."""

    phong_alpha: float = 0.0
    """Share of Phong smoothing in the signed distance, 0 (exact) to 1."""

    start_distance: float = 0.06
    """Distance of the palm from the object's convex hull at the start [m]."""

    joint_noise: float = 0.1
    """Standard deviation of the joints about the open pose at the start, as a share of their range."""

    attraction_weight: float = 10.0
    """Weight of the mean distance of the hand's points [1/m]."""

    reach: float = 0.08
    """Distance beyond which a point is not attracted [m]."""

    penetration_weight: float = 1.0e5
    """Weight of the squared depth of hand points in the object and of object points in the hand [1/m²]."""

    penetration_growth: float = 1.0
    """Factor that the penetration weight grows by over the second half of the run."""

    self_weight: float = 1.0e5
    """Weight of the squared depth of hand points in other links [1/m²]."""

    position_step: float = 1.0e-3
    """Adam's step for the wrist position and prismatic joints [m]."""

    rotation_step: float = 1.0e-2
    """Adam's step for the wrist rotation and revolute joints [rad]."""

    final_step: float = 0.05
    """Share of the step that is left at the end; it falls linearly over the second half of the run."""

    first_decay: float = 0.9
    """Adam's decay of the mean of the gradient."""

    second_decay: float = 0.98
    """Adam's decay of the mean of its square."""


RECIPES = {name: Recipe(name=name) for name in ("attraction", "default")}
"""Recipes by name. ``default`` is whatever holds best; today that is ``attraction``."""


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        OptionError: There is none; the message lists those that exist.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"no recipe named {name!r}.{hint} Recipes: {', '.join(RECIPES)}")
