"""What a user may choose, as frozen dataclasses."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from .errors import OptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamics:
    """How the object moves against the static hand: position-based dynamics.

    Source: Turpin et al. 2023, Fast-Grasp'D, sections III-C and IV-A.
    """

    simulations: Literal[7, 13] = 7
    """7: no velocity, and one along each half axis; 13: also one about each half axis."""

    speed: float = 0.1
    """Of the object at the start of a simulation [m/s]; divided by the radius of gyration where it turns."""

    time_step: float = 1.0e-3
    """[s]; speed times time step is what a linearised constraint must be good for: 0.1 mm."""

    steps: int = 1
    """Time steps of a simulation."""

    solver: Literal["jacobi", "gauss-seidel"] = "jacobi"
    """Whether all contacts see the predicted state, or each sees what the one before it has left."""

    averaging: Literal["active", "all", "sum"] = "active"
    """What the sum over the contacts of a Jacobi step is divided by: those that touch, all points, or nothing."""

    friction: float = 0.0
    """Coulomb's coefficient."""

    leak: float = 0.1
    """Share of the gradient that a point without contact gets."""

    leak_attracts_only: bool = True
    """Whether only those points get it that would lower the loss by coming closer; otherwise all do, as printed."""

    squared: bool = False
    """Whether the loss adds squared speeds."""

    angular_length: float | None = None
    """Length that angular speeds are multiplied by [m]; the object's radius of gyration where ``None``."""

    exact: bool = False
    """Search the mesh at the predicted pose of every simulation, instead of linearising one search for all."""

    def __post_init__(self) -> None:
        if self.simulations not in (7, 13):
            raise OptionError(f"simulations must be 7 or 13, got {self.simulations}")
        if self.steps < 1:
            raise OptionError(f"steps must be at least 1, got {self.steps}")
        if not (self.speed > 0.0 and self.time_step > 0.0):
            raise OptionError(f"speed and time_step must be positive, got {self.speed} and {self.time_step}")
        if not 0.0 <= self.leak <= 1.0:
            raise OptionError(f"leak must be in [0, 1], got {self.leak}")
        if self.friction < 0.0:
            raise OptionError(f"friction must not be negative, got {self.friction}")
        if self.exact and self.solver != "jacobi":
            raise OptionError("exact constraints need solver='jacobi'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One descent: how finely surfaces are sampled, the weights of the loss and the optimizer's steps."""

    iterations: int
    """Gradient steps."""

    density: int = 1
    """Points on the hand, as a multiple of those that the user asked for."""

    object_points: int = 1024
    """Points on the object that are kept out of the hand."""

    query_period: int = 5
    """Iterations for which a point keeps its closest face before the mesh is searched again."""

    attraction_weight: float = 200.0
    """Weight of the mean distance of the hand's points [1/m]."""

    margin: float = 0.0
    """Distance to keep from the object; 0 brings the hand to its surface [m]."""

    reach: float = 0.3
    """Distance beyond which a point is not attracted [m]."""

    penetration_weight: float = 1.0e5
    """Weight of the squared depth of hand points in the object and of object points in the hand [1/m²]."""

    penetration_growth: float = 1.0
    """Factor that the penetration weight grows by over the second half."""

    self_weight: float = 1.0e6
    """Weight of the squared depth of hand points in other links [1/m²]."""

    position_step: float = 1.0e-3
    """Adam's step for the wrist position and prismatic joints [m]."""

    rotation_step: float = 1.0e-2
    """Adam's step for the wrist rotation and revolute joints [rad]."""

    final_step: float = 0.05
    """Share of the step that is left at the end; it falls linearly over the second half."""

    first_decay: float = 0.9
    """Adam's decay of the mean of the gradient."""

    second_decay: float = 0.98
    """Adam's decay of the mean of its square."""


APPROACH = Stage(iterations=1000, penetration_growth=10.0)
"""Bring the hand to the object and wrap it: long steps, few points."""

FINISH = Stage(
    iterations=120,
    density=4,
    object_points=4096,
    attraction_weight=400.0,
    penetration_weight=1.0e6,
    self_weight=3.0e6,
    position_step=1.0e-4,
    rotation_step=1.0e-3,
)
"""Take the last millimetre of penetration out: short steps, points dense enough to see edges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How grasps are found: where they start, and the stages of descent that follow."""

    name: str

    start_distance: float = 0.06
    """Distance of the palm from the object's convex hull at the start [m]."""

    joint_noise: float = 0.1
    """Standard deviation of the joints about the open pose at the start, as a share of their range."""

    phong_alpha: float = 0.0
    """Share of Phong smoothing in the signed distance, 0 (exact) to 1."""

    stages: tuple[Stage, ...] = (APPROACH, FINISH)
    """Descents, one after the other."""

    @property
    def iterations(self) -> int:
        """Gradient steps of all stages."""
        return sum(stage.iterations for stage in self.stages)

    def shortened(self, iterations: int) -> Recipe:
        """The same recipe with ``iterations`` in all, at least one per stage, shared as they are now."""
        share = iterations / self.iterations
        stages = [replace(stage, iterations=max(1, round(share * stage.iterations))) for stage in self.stages]
        return replace(self, stages=tuple(stages))


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
