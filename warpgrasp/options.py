"""What a user may choose, as frozen dataclasses."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from .distance import PhongMode
from .errors import OptionError

T = TypeVar("T")


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
class Balance:
    """How the forces are found that the links could exert together."""

    links: Literal["all", "fingertips"] = "all"
    """Which of them press: every link that has points, or the last one of each finger."""

    friction: float = 0.2
    """Coulomb's coefficient; less than there is, so that grasps keep a reserve."""

    load: float = 0.4
    """Push that must be resisted, as a share of the sum of all normal forces."""

    distance_cost: float = 1.0
    """Cost of force that acts at a distance from the surface, relative to the squared residual [1/m]."""

    softness: float = 0.003
    """Difference in distance at which a point's share in its link's contact falls to 1/e [m]."""

    torque_radii: float = 1.5
    """Radii of gyration in the length that makes torques comparable to forces."""

    steps: int = 8
    """Steps that the forces follow the contacts by in every iteration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One descent: how finely surfaces are sampled, the weights of the loss and the optimizer's steps."""

    iterations: int
    """Gradient steps."""

    keep: int = 1
    """Most starts of a grasp that go on after it: those with the least loss."""

    density: float = 1.0
    """Points on the hand, as a multiple of those that the user asked for."""

    object_points: int = 1024
    """Points on the object that are kept out of the hand, half of them by area and up to half of them vertices."""

    query_period: int = 1
    """Iterations for which every point keeps its closest face before the mesh is searched again."""

    query_slack: float | None = 5.0e-4
    """Then, a point keeps it still until it has moved by this much and 15 % of its distance from the surface [m];
    ``None``: all are searched."""

    attraction_weight: float = 200.0
    """Weight of the mean distance of the hand's points [1/m]."""

    margin: float = 0.0
    """Distance to keep from the object; 0 brings the hand to its surface [m]."""

    reach: float = 0.3
    """Distance beyond which a point's closest face is not looked for, so that nothing acts on it [m]."""

    penetration_weight: float = 1.0e5
    """Weight of the squared depth of hand points in the object and of object points in the hand [1/m²]."""

    penetration_growth: float = 1.0
    """Factor that the penetration weight grows by over the second half."""

    self_weight: float = 1.0e6
    """Weight of the squared depth of hand points in other links [1/m²]."""

    pair_weight: float = 0.0
    """Weight of the squared lack of distance between links, of any two of their shapes [1/m²]: unlike points it also
    sees an edge across an edge, but not meshes. 0: left to the points."""

    pair_margin: float = 5.0e-4
    """Distance between links that it asks for [m]."""

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

    balance_weight: float = 0.0
    """Weight of what pushes the links' forces cannot resist; 0: no forces are found."""

    balance: Balance = Balance()
    """How they are found."""

    stability_weight: float = 0.0
    """Weight of the speed that the object keeps in the simulations of ``dynamics`` [s/m]; 0: none are run."""

    dynamics: Dynamics = Dynamics()
    """How these simulations go."""

    dilation: float = 0.0
    """Distance from the object at which contact begins in them, at the first iteration [m]."""

    dilation_end: float = 0.5
    """Share of the iterations after which it is 0."""

    dilation_steps: int = 0
    """Number of equal steps that it falls in; 0: linearly."""

    range_weight: float = 0.0
    """Weight of the free joints' distance from the middle of their ranges [1/rad]."""

    limit_weight: float = 0.0
    """Weight of their excess over their ranges [1/rad]; only of use without ``keeps_ranges``."""

    keeps_ranges: bool = True
    """Whether joints are put back into their ranges and couplings after every step."""

    optimizer: Literal["adam", "gradient-descent"] = "adam"
    """``gradient-descent``: the steps above are learning rates, with the unit of the step squared per unit of loss."""


PAPER = Stage(
    iterations=1000,
    reach=1.0,
    attraction_weight=0.0,
    penetration_weight=0.0,
    self_weight=0.0,
    position_step=1.0e-3,
    rotation_step=1.0e-3,
    final_step=1.0,
    query_slack=None,
    stability_weight=1.0,
    dynamics=Dynamics(
        speed=0.1,
        time_step=1.0e-3,
        solver="gauss-seidel",
        friction=0.5,
        leak=0.1,
        leak_attracts_only=False,
        angular_length=1.0,
    ),
    dilation=0.06,
    dilation_end=1.0,
    range_weight=1.0,
    limit_weight=1.0,
    keeps_ranges=False,
    optimizer="gradient-descent",
)
"""Fast-Grasp'D as printed. Not printed, so chosen here: speed, friction, first radius of the dilation, weights of the
losses of range and limit, and iterations."""

APPROACH = Stage(iterations=1000, penetration_growth=10.0)
"""Bring the hand to the object and wrap it: long steps, few points."""

FINISH = Stage(
    iterations=120,
    density=4.0,
    query_slack=1.0e-4,
    object_points=16000,
    attraction_weight=400.0,
    penetration_weight=1.0e6,
    self_weight=3.0e6,
    position_step=1.0e-4,
    rotation_step=1.0e-3,
)
"""Take the last millimetre of penetration out: short steps, points dense enough to see edges, and not the points that
labels look at, so that nothing hides between them."""


FORCES = Balance(distance_cost=3.0)
"""Force at a distance is dear enough that contacts which bear force are brought onto the surface."""

BALANCED = replace(APPROACH, balance_weight=1000.0, balance=FORCES, pair_weight=1.0e6)
"""What the stages before the last have in common."""

GLANCE = replace(
    BALANCED,
    iterations=1,
    keep=3,
    density=0.125,
    object_points=256,
    reach=0.1,
    balance=replace(FORCES, steps=24),
)
"""Look at many starts once: which of them face what the hand could hold already shows."""

EXPLORE = replace(
    BALANCED,
    iterations=40,
    keep=2,
    density=0.25,
    object_points=512,
    query_slack=2.0e-3,
    penetration_growth=1.0,
    final_step=0.3,
)
"""From the best of them: go to the object and find out where forces could balance."""

GATHER = replace(BALANCED, iterations=60, density=0.5, penetration_growth=30.0)
"""Close the hand; a finger that stays inside the object is dear in the end, so that the other start goes on."""

WRAP = replace(BALANCED, iterations=120, penetration_growth=30.0)
"""Bring as much of the hand as possible to the object without losing the balance."""

SETTLE = replace(
    FINISH,
    iterations=70,
    reach=0.02,
    attraction_weight=300.0,
    penetration_growth=10.0,
    position_step=1.5e-4,
    rotation_step=1.5e-3,
    first_decay=0.8,
    balance_weight=1000.0,
    balance=FORCES,
    pair_weight=1.0e7,
    pair_margin=1.0e-4,
)
"""Take the last millimetre of penetration out, and keep the balance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How grasps are found: where they start, and the stages of descent that follow."""

    name: str

    start: Literal["hull", "surface", "joints"] = "hull"
    """Where hands start from: along the normals of the object's convex hull, spread evenly; or, as in Grasp'D, along
    the normals of points drawn from its surface; or from any side, with joints drawn from truncated normal
    distributions."""

    start_distance: float = 0.06
    """Distance of the palm from there [m]."""

    joint_noise: float = 0.1
    """Standard deviation of the joints about the open pose at the start, as a share of their range; of ``joints``,
    before the distributions are cut to the ranges."""

    restarts: int = 1
    """Starts per grasp; how many go on after a stage is said there."""

    phong_alpha: float = 0.0
    """Share of Phong smoothing in the signed distance, 0 (exact) to 1."""

    phong_mode: PhongMode = "distance"
    """What the signed distance to the smoothed surface is."""

    stages: tuple[Stage, ...] = (APPROACH, FINISH)
    """Descents, one after the other."""

    squeeze: Literal["forces", "extrapolation"] = "extrapolation"
    """Targets that press with balanced contact forces, or as far beyond the grasp as the pregrasp is before it."""

    @property
    def iterations(self) -> int:
        """Gradient steps of all stages."""
        return sum(stage.iterations for stage in self.stages)

    def shortened(self, iterations: int) -> Recipe:
        """The same recipe with ``iterations`` in all, at least one per stage, shared as they are now."""
        share = iterations / self.iterations
        stages = [replace(stage, iterations=max(1, round(share * stage.iterations))) for stage in self.stages]
        return replace(self, stages=tuple(stages))

    def without(self, *terms: str) -> Recipe:
        """The same recipe with some of its terms switched off, to see what each is worth.

        Args:
            terms: Names from ``TERMS``.

        Raises:
            OptionError: There is no such term.
        """
        changed = self
        for term in terms:
            changed = _find("term", TERMS, term)(changed)
        return replace(changed, name=WITHOUT.join([self.name, *terms]))


def _in_stages(**changes: float) -> Callable[[Recipe], Recipe]:
    def switch_off(recipe: Recipe) -> Recipe:
        return replace(recipe, stages=tuple(replace(stage, **changes) for stage in recipe.stages))

    return switch_off


def _in_dynamics(**changes: float) -> Callable[[Recipe], Recipe]:
    def switch_off(recipe: Recipe) -> Recipe:
        stages = [replace(stage, dynamics=replace(stage.dynamics, **changes)) for stage in recipe.stages]
        return replace(recipe, stages=tuple(stages))

    return switch_off


TERMS: dict[str, Callable[[Recipe], Recipe]] = {
    "attraction": _in_stages(attraction_weight=0.0),
    "penetration": _in_stages(penetration_weight=0.0),
    "self-penetration": _in_stages(self_weight=0.0, pair_weight=0.0),
    "balance": _in_stages(balance_weight=0.0),
    "stability": _in_stages(stability_weight=0.0),
    "dilation": _in_stages(dilation=0.0),
    "friction": _in_dynamics(friction=0.0),
    "leak": _in_dynamics(leak=0.0),
    "range": _in_stages(range_weight=0.0),
    "limit": _in_stages(limit_weight=0.0),
    "restarts": lambda recipe: replace(recipe, restarts=1),
    "force-squeeze": lambda recipe: replace(recipe, squeeze="extrapolation"),
    "phong": lambda recipe: replace(recipe, phong_alpha=0.0),
    "finish": lambda recipe: replace(recipe, stages=recipe.stages[:-1] or recipe.stages),
}
"""What :meth:`Recipe.without` can switch off, by name."""

DEFAULT = Recipe(
    name="default",
    start_distance=0.035,  # a gripper's fingers are hardly longer: from 6 cm it never gets around an object
    joint_noise=0.3,
    restarts=32,
    stages=(GLANCE, EXPLORE, GATHER, WRAP, SETTLE),
    squeeze="forces",
)
"""Power grasps: contact on many links, and forces that balance."""


def _by_fingertips(stage: Stage) -> Stage:
    return replace(stage, balance=replace(stage.balance, links="fingertips"))


RECIPES = {
    "paper": Recipe(
        name="paper",
        start="surface",
        start_distance=0.15,
        joint_noise=0.0,
        phong_alpha=0.75,
        phong_mode="printed",
        stages=(PAPER,),
    ),
    "attraction": Recipe(name="attraction"),
    "default": DEFAULT,
    "fingertips": replace(DEFAULT, name="fingertips", stages=tuple(map(_by_fingertips, DEFAULT.stages))),
}
"""Recipes by name. ``paper`` is Fast-Grasp'D as printed, for reference; ``attraction`` draws every point to the
surface, the baseline to beat; ``default`` holds best: it balances contact forces as well, of all links; ``fingertips``
holds with the fingers' last links, the others need not touch."""


WITHOUT = "-without-"
"""Between the names of a recipe and of terms that are switched off in it: ``default-without-balance``."""


def recipe(name: str) -> Recipe:
    """The recipe of that name: one of ``RECIPES``, or such as ``paper-without-range-without-leak``.

    Raises:
        OptionError: There is no such recipe or term; the message lists those that exist.
    """
    known, *terms = name.split(WITHOUT)
    return _find("recipe", RECIPES, known).without(*terms)


def _find(kind: str, known: dict[str, T], name: str) -> T:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"no {kind} named {name!r}.{hint} {kind.capitalize()}s: {', '.join(known)}")
