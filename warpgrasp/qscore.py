"""The q-score: how much of the available friction a grasp needs to hold with given normal forces.

The convex problem, per grasp, in forces divided by their sum F and torques about the centre divided by a length:

    V = min over x, s of  sum_i omega_i |x_i| / mu_i + rho |s|
        such that  b + sum_i A_i x_i + s = 0  and  |x_i| <= mu_i;        q = exp(-V)

x_i is the friction of contact i as a share of its normal force, in two tangents; A_i holds their wrenches, b the net
wrench of the normal forces and of ``wrench``; s is the part of it that friction cannot balance.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import warp as wp

from .errors import ContactError, OptionError, ShapeError
from .kernels import qscore as kernels
from .kernels.gauge import Vec6
from .wrench import Contacts, as_numpy, per_contact, per_grasp, read_contacts

CPU_BATCH = 64
"""Grasps of one launch on a CPU core."""

GPU_BYTES = 2**28
"""Scratch memory of one launch on a GPU."""

CONTACT_BYTES = 400
"""Scratch memory of one contact."""

ITERATIONS = 60
"""Most steps of the interior-point method; 11 to 25 are usual."""

TOLERANCE = 3.0e-8
"""Difference of the bounds, relative to the larger of V and one, to stop at."""

NEGLIGIBLE = 1.0e-12
"""Share of the total normal force below which a contact counts as idle."""

FARTHEST = 1.0e6
"""Largest distance of a contact from the centre, in torque lengths: more is a mistake in the units."""

WEAKEST, STRONGEST = 1.0e-6, 1.0e3
"""Least and largest friction coefficient."""

SMALLEST = 1.0e-200
"""Sum of normal forces [N] that smaller ones are divided by."""

OVERWHELMING = 1.0e30
"""Ratio of an external wrench to the normal forces beyond which it is cut off, lest squares overflow."""


@dataclass(frozen=True, eq=False)
class QScoreGradient:
    """Derivatives of V; those of q are -q times them. 0 where there is no contact, or no normal force at all.

    V is convex in the wrenches and has kinks, where these are derivatives to one side of many.
    """

    contact_position: np.ndarray
    """With respect to the contact points [1/m], the centre staying, shape (N, C, 3)."""

    contact_normal: np.ndarray
    """With respect to the unit normals, across them; the friction turns with its normal, shape (N, C, 3)."""

    normal_force: np.ndarray
    """With respect to the normal forces [1/N], shape (N, C)."""

    friction_coefficient: np.ndarray
    """With respect to each contact's mu, shape (N, C)."""

    wrench: np.ndarray
    """With respect to the external force [1/N] and torque [1/(N m)], shape (N, 6)."""


@dataclass(frozen=True, eq=False)
class QScore:
    """The q-scores of N grasps with C contacts."""

    q: np.ndarray
    """exp(-value), in (0, 1]; 1: no friction is needed, shape (N,)."""

    value: np.ndarray
    """V: weighted mean share of the friction that is used, plus slack_weight times the residual, shape (N,)."""

    residual: np.ndarray
    """|s|: net wrench that friction cannot balance, as a share of the total normal force, shape (N,)."""

    utilisation: np.ndarray
    """|x_i| / mu_i of each contact, in [0, 1]; 0 without normal force, NaN where there is no contact, shape (N, C)."""

    friction_force: np.ndarray
    """The friction [N] at each contact that balances best, across its normal; 0 where there is no contact, shape
    (N, C, 3)."""

    gradient: QScoreGradient
    """Derivatives of V."""

    lower: np.ndarray
    """Proved lower bound of V, from the dual problem, shape (N,)."""

    upper: np.ndarray
    """Upper bound of V, attained by the friction found; equal to ``value``, shape (N,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QScoreLimits:
    """What the q-score must show for a grasp to count as a success."""

    q: float = 0.5
    """q must be above it."""

    finger_count: int = 2
    """At least that many fingers must press."""

    residual: float = 0.02
    """Largest net wrench that friction cannot balance, as a share of the total normal force."""


def qscore(
    contact_position: Any,
    contact_normal: Any,
    normal_force: Any,
    *,
    friction_coefficient: Any,
    center: Any,
    torque_length: Any,
    weights: Literal["force", "uniform"] = "force",
    slack_weight: float = 20.0,
    wrench: Any = None,
    device: str = "cpu",
) -> QScore:
    """Score N grasps by the least friction that balances their normal forces.

    Args:
        contact_position: Contact points [m]; NaN: no contact, shape (N, C, 3).
        contact_normal: Unit normals into the object, same frame; NaN: no contact, shape (N, C, 3).
        normal_force: Sizes of the normal forces [N], >= 0, shape (N, C); entries of absent contacts are ignored.
        friction_coefficient: mu, > 0, () or (N,) or (N, C).
        center: Centre of mass [m], shape (3,) or (N, 3).
        torque_length: Length that torques are divided by [m], () or (N,); the largest distance of a contact from the
            centre of mass is usual.
        weights: ``"force"``: omega_i is the contact's share of the normal force, which does not change when a contact
            is split in several, or when idle ones are added; ``"uniform"``: 1 / (number of contacts), as the slides
            have it.
        slack_weight: rho, the price of an unbalanced wrench. From 20 (force) or 50 (uniform) on, V is that of the
            problem without slack wherever that has a solution, for all but odd grasps.
        wrench: External force [N] and torque about the centre [N m], shape (6,) or (N, 6); none when omitted.
        device: Warp device such as "cpu" or "cuda:0".

    Returns:
        The scores with bounds. A grasp without contacts or without any normal force has V = slack_weight and residual
        1: nothing holds it.

    Raises:
        ShapeError: An array does not fit.
        ContactError: A contact is infinite or partly NaN, or a normal is not unit.
        OptionError: An option is out of range, or a normal force or friction coefficient is not possible.

    Source:
        The objective is the q-score of a soft-body grasp analysis, exp(-min sum |mu_i| / sum mu), here with friction as
        a vector within the circular cone, a bound on it at each contact, and slack, so that every grasp has a score.
    """
    if weights not in {"force", "uniform"}:
        raise OptionError(f"weights must be 'force' or 'uniform', got {weights!r}")
    if not (slack_weight > 0.0 and np.isfinite(slack_weight)):
        raise OptionError(f"slack_weight must be positive, got {slack_weight}")
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    _check_units(contacts)
    force = as_numpy(normal_force)
    if force.shape != contacts.present.shape:
        raise ShapeError("normal_force", f"{contacts.present.shape} like the contacts", force.shape)
    force = per_contact("normal_force", force, contacts)
    friction = _read_friction(friction_coefficient, contacts)
    per_length = np.ones((len(force), 6))
    per_length[:, 3:] /= per_grasp("torque_length", torque_length, (len(force),))[:, None]
    problem = _problem(contacts, force, friction, weights == "force", wrench, per_length)
    return _result(problem, _solve_all(problem, float(slack_weight), weights == "force", device), per_length)


def qscore_label(
    score: QScore, finger_count: Any, *, limits: QScoreLimits | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each grasp is a success by its q-score, and what failed.

    Args:
        score: The q-scores of N grasps.
        finger_count: Fingers that press on the object, shape (N,) or ().
        limits: What a success may not fall short of; q > 0.5, two fingers and a residual of 0.02 where omitted.

    Returns:
        Success, bool, shape (N,); and the reasons, "" for a success, all that apply with commas between them else:
        "too few fingers", "forces do not balance", "needs too much friction", str of shape (N,).

    Raises:
        ShapeError: ``finger_count`` does not fit.
    """
    limits = limits or QScoreLimits()
    fingers = per_grasp("finger_count", finger_count, score.q.shape)
    failures = {
        "too few fingers": fingers < limits.finger_count,
        "forces do not balance": ~(score.residual <= limits.residual),
        "needs too much friction": ~(score.q > limits.q),
    }
    rows = zip(*failures.values(), strict=True)
    reason = [", ".join(text for text, failed in zip(failures, row, strict=True) if failed) for row in rows]
    return ~np.any(list(failures.values()), axis=0), np.array(reason, dtype=str)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The problem of the module's docstring for N grasps."""

    contacts: Contacts

    force: np.ndarray
    """Normal forces [N], shape (N, C)."""

    total: np.ndarray
    """Their sums [N], infinite where there is none, shape (N,)."""

    share: np.ndarray
    """Of each contact in the sum, 0 where it is negligible, shape (N, C)."""

    friction: np.ndarray
    """mu_i, 1 where there is no contact, shape (N, C)."""

    price: np.ndarray
    """omega_i / mu_i, 1 for idle contacts, shape (N, C)."""

    external: np.ndarray
    """External wrench over the sum of the forces, its torque over the torque length too, shape (N, 6)."""

    def on_device(self, batch: slice, device: str) -> Any:
        """The kernels' ``Contacts`` of some of the grasps."""
        contacts: Any = kernels.Contacts()
        contacts.arm = _per_contact(self.contacts.position[batch], wp.vec3d, device)
        contacts.normal = _per_contact(self.contacts.normal[batch], wp.vec3d, device)
        for name in ("share", "friction", "price"):
            setattr(contacts, name, _per_contact(getattr(self, name)[batch], wp.float64, device))
        contacts.count = wp.array(self.contacts.count[batch], dtype=int, device=device)
        contacts.external = wp.array(self.external[batch], dtype=Vec6, device=device)
        return contacts


def _problem(
    contacts: Contacts,
    force: np.ndarray,
    friction: np.ndarray,
    force_weighted: bool,
    wrench: Any,
    per_length: np.ndarray,
) -> _Problem:
    largest = np.maximum(force.max(axis=1, initial=0.0), SMALLEST)
    relative = force / largest[:, None]
    relative_sum = relative.sum(axis=1)
    idle = relative_sum == 0.0
    share = relative / np.where(idle, 1.0, relative_sum)[:, None]
    share[share <= NEGLIGIBLE] = 0.0
    weight = share if force_weighted else 1.0 / np.maximum(contacts.count, 1)[:, None]
    external = np.zeros(per_length.shape)
    with np.errstate(over="ignore"):
        total = np.where(idle, np.inf, np.maximum(largest * relative_sum, SMALLEST))
        if wrench is not None:
            external += per_grasp("wrench", wrench, external.shape) * per_length / total[:, None]
            np.clip(external, -OVERWHELMING, OVERWHELMING, out=external)
    external[idle] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    price = np.where(share > 0.0, weight / friction, 1.0)
    return _Problem(contacts, force, total, share, friction, price, external)


def _check_units(contacts: Contacts) -> None:
    far = np.argwhere(np.abs(contacts.position).max(axis=2, initial=0.0) > FARTHEST)
    if len(far):
        grasp, contact = far[0]
        raise ContactError(
            f"contact {contacts.order[grasp, contact]} of grasp {grasp} is more than {FARTHEST:g} torque lengths from "
            "the centre; positions, center and torque_length are all in metres"
        )


def _read_friction(friction_coefficient: Any, contacts: Contacts) -> np.ndarray:
    """Coefficient mu of each contact, 1 where there is none, shape (N, C)."""
    friction = per_contact("friction_coefficient", friction_coefficient, contacts)
    bad = np.argwhere(contacts.present & ~((friction >= WEAKEST) & (friction <= STRONGEST)))
    if len(bad):
        grasp, contact = bad[0]
        raise OptionError(
            f"friction_coefficient must be positive, from {WEAKEST:g} to {STRONGEST:g}, got "
            f"{friction[grasp, contact]:g} at grasp {grasp}, contact {contacts.order[grasp, contact]}; "
            "the q-score is a share of the friction that there is"
        )
    return np.where(contacts.present, friction, 1.0)


def _per_contact(values: np.ndarray, dtype: Any, device: str) -> wp.array:
    """An array [grasp, contact]; on a GPU a contact's values of neighbouring grasps lie side by side, as it reads."""
    if device == "cpu":
        return wp.array(values, dtype=dtype, device=device)
    return wp.array(np.ascontiguousarray(values.swapaxes(0, 1)), dtype=dtype, device=device).transpose()


def _zeros(shape: tuple[int, ...], dtype: Any, device: str) -> wp.array:
    """Zeros of the same layout, shape [grasp, contact] or [grasp]."""
    if device == "cpu" or len(shape) == 1:
        return wp.zeros(shape, dtype=dtype, device=device)
    return wp.zeros(shape[::-1], dtype=dtype, device=device).transpose()


@dataclass(frozen=True, eq=False)
class _Solution:
    """What the kernels find, see there; contacts in the order of the problem."""

    friction: np.ndarray
    multiplier: np.ndarray
    residual: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    arm_gradient: np.ndarray
    normal_gradient: np.ndarray
    force_gradient: np.ndarray
    friction_gradient: np.ndarray


def _solve_all(problem: _Problem, slack_weight: float, force_weighted: bool, device: str) -> _Solution:
    """A batch at a time, on all cores of a CPU."""
    grasps, contacts = problem.share.shape
    size = CPU_BATCH if device == "cpu" else max(GPU_BYTES // (CONTACT_BYTES * max(contacts, 1)), 1)
    batches = [slice(begin, begin + size) for begin in range(0, max(grasps, 1), size)]
    wp.load_module(kernels, device=device)

    def solve(batch: slice) -> tuple[np.ndarray, ...]:
        return _solve(problem.on_device(batch, device), slack_weight, force_weighted, device)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if device == "cpu" else 1) as pool:
        return _Solution(*(np.concatenate(column) for column in zip(*pool.map(solve, batches), strict=True)))


def _solve(contacts: Any, slack_weight: float, force_weighted: bool, device: str) -> tuple[np.ndarray, ...]:
    """One launch of each kernel."""
    shape = contacts.arm.shape
    scratch: Any = kernels.Iterate()
    scratch.matrix = _zeros(shape, kernels.Mat62, device)
    scratch.elimination = _zeros(shape, kernels.Elimination, device)
    for name in ("spent", "spent_dual", "capped_dual", "spent_step", "spent_dual_step", "capped_dual_step"):
        setattr(scratch, name, _zeros(shape, wp.vec3d, device))
    friction, multiplier = _zeros(shape, wp.vec3d, device), _zeros(shape[:1], Vec6, device)
    bounds = [_zeros(shape[:1], wp.float64, device) for _ in range(3)]
    wp.launch(
        kernels.least_friction,
        dim=shape[0],
        inputs=[contacts, wp.float64(slack_weight), wp.float64(TOLERANCE), ITERATIONS],
        outputs=[scratch, friction, multiplier, *bounds],
        device=device,
    )
    gradients = [_zeros(shape, dtype, device) for dtype in (wp.vec3d, wp.vec3d, wp.float64, wp.float64)]
    wp.launch(
        kernels.value_gradient,
        dim=shape[0],
        inputs=[contacts, friction, multiplier, int(force_weighted)],
        outputs=gradients,
        device=device,
    )
    return tuple(array.numpy() for array in (friction, multiplier, *bounds, *gradients))


def _result(problem: _Problem, solution: _Solution, per_length: np.ndarray) -> QScore:
    contacts = problem.contacts

    def given_order(array: np.ndarray) -> np.ndarray:
        out = np.empty_like(array)
        index = contacts.order.reshape(*contacts.order.shape, *(1,) * (array.ndim - 2))
        np.put_along_axis(out, index, array, axis=1)
        return out

    used = np.linalg.norm(solution.friction, axis=2) / problem.friction
    return QScore(
        q=np.exp(-solution.upper),
        value=solution.upper,
        residual=solution.residual,
        utilisation=given_order(np.where(contacts.present, np.minimum(used, 1.0), np.nan)),
        friction_force=given_order(problem.force[..., None] * solution.friction),
        gradient=QScoreGradient(
            contact_position=given_order(solution.arm_gradient * per_length[:, None, 3:]),
            contact_normal=given_order(solution.normal_gradient),
            normal_force=given_order(solution.force_gradient / problem.total[:, None]),
            friction_coefficient=given_order(solution.friction_gradient),
            wrench=solution.multiplier * per_length / problem.total[:, None],
        ),
        lower=np.minimum(solution.lower, solution.upper),
        upper=solution.upper,
    )
