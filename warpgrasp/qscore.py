"""The q-score: how much of the available friction a grasp needs to hold with given normal forces.

The convex problem, per grasp, in forces divided by their sum F and torques about the centre divided by a length:

    V = min over x, s of  sum_i omega_i |x_i| / mu_i + rho |s|
        such that  b + sum_i A_i x_i + s = 0  and  |x_i| <= mu_i;        q = exp(-V)

x_i is the friction of contact i as a share of its normal force, in two tangents; A_i holds their wrenches, b the net
wrench of the normal forces and of ``wrench``; s is the part of it that friction cannot balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .errors import OptionError, ShapeError
from .second_order_cone import Scaling, largest_step, reciprocal
from .wrench import Contacts, as_numpy, per_contact, per_grasp, read_contacts, tangents

BATCH = 512
"""Grasps that are solved at once."""

ITERATIONS = 60
"""Most steps of the interior-point method; 10 to 25 are usual."""

TOLERANCE = 1.0e-9
"""Difference of the bounds, relative to the larger of V and one, to stop at."""

REGULARIZATION = 1.0e-14
"""Added to the equations of each step, relative to their size: directions without friction make them singular."""

ABSURD = 1.0e30
"""A step as large as this comes from rounding; the grasp is then as exact as it gets."""

NEGLIGIBLE = 1.0e-12
"""Share of the total normal force below which a contact has no friction."""


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
    """|x_i| / mu_i of each contact, in [0, 1]; 0 without friction, NaN where there is no contact, shape (N, C)."""

    lower: np.ndarray
    """Proved lower bound of V, from the dual problem, shape (N,)."""

    upper: np.ndarray
    """Upper bound of V, attained by the friction found; equal to ``value``, shape (N,)."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """The problem of the module's docstring for N grasps."""

    matrix: np.ndarray
    """A_i, 0 where there is no friction, shape (N, C, 6, 2)."""

    net: np.ndarray
    """b, shape (N, 6)."""

    friction: np.ndarray
    """mu_i, 1 where there is no friction, shape (N, C)."""

    weight: np.ndarray
    """omega_i, 1 where there is no friction, shape (N, C)."""

    slack_weight: float
    """rho."""

    def __getitem__(self, grasps: Any) -> _Problem:
        return _Problem(
            self.matrix[grasps], self.net[grasps], self.friction[grasps], self.weight[grasps], self.slack_weight
        )

    def slack(self, x: np.ndarray) -> np.ndarray:
        """The slack s for friction x (N, C, 2), shape (N, 6)."""
        return -self.net - np.einsum("ncwk,nck->nw", self.matrix, x)

    def primal(self, x: np.ndarray) -> np.ndarray:
        """The value of friction x (N, C, 2), shape (N,)."""
        used = (self.weight * np.linalg.norm(x, axis=2) / self.friction).sum(axis=1)
        return used + self.slack_weight * np.linalg.norm(self.slack(x), axis=1)

    def dual(self, multiplier: np.ndarray) -> np.ndarray:
        """Lower bound of V from any multipliers of the balance (N, 6), which are shortened to rho, shape (N,)."""
        length = np.linalg.norm(multiplier, axis=1, keepdims=True)
        multiplier = multiplier * np.minimum(1.0, self.slack_weight / np.maximum(length, 1.0e-300))
        pull = np.linalg.norm(np.einsum("ncwk,nw->nck", self.matrix, multiplier), axis=2)
        paid = np.maximum(self.friction * pull - self.weight, 0.0).sum(axis=1)
        return (multiplier * self.net).sum(axis=1) - paid


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
) -> QScore:
    """Score N grasps by the least friction that balances their normal forces.

    Args:
        contact_position: Contact points [m]; NaN: no contact, shape (N, C, 3).
        contact_normal: Unit normals into the object, same frame; NaN: no contact, shape (N, C, 3).
        normal_force: Sizes of the normal forces [N], >= 0, shape (N, C); entries of absent contacts are ignored.
        friction_coefficient: mu, () or (N,) or (N, C).
        center: Centre of mass [m], shape (3,) or (N, 3).
        torque_length: Length that torques are divided by [m], () or (N,); the largest distance of a contact from the
            centre of mass is usual.
        weights: ``"force"``: omega_i is the contact's share of the normal force, which does not change when a contact
            is split in several, or when idle ones are added; ``"uniform"``: 1 / (number of contacts), as the slides
            have it.
        slack_weight: rho, the price of an unbalanced wrench. From 20 (force) or 50 (uniform) on, V is that of the
            problem without slack wherever that has a solution, for all but odd grasps.
        wrench: External force [N] and torque about the centre [N m], shape (6,) or (N, 6); none when omitted.

    Returns:
        The scores with bounds. A grasp without contacts or without any normal force has V = slack_weight and residual
        1: nothing holds it.

    Raises:
        ShapeError: An array does not fit.
        ContactError: A contact is infinite or partly NaN, or a normal is not unit.
        OptionError: An option is out of range, or a normal force is negative or NaN at a contact.

    Source:
        The objective is the q-score of a soft-body grasp analysis, exp(-min sum |mu_i| / sum mu), here with friction as
        a vector within the circular cone, a bound on it at each contact, and slack, so that every grasp has a score.
        The interior point method follows Nesterov & Todd 1998.
    """
    if weights not in {"force", "uniform"}:
        raise OptionError(f"weights must be 'force' or 'uniform', got {weights!r}")
    if not (slack_weight > 0.0 and np.isfinite(slack_weight)):
        raise OptionError(f"slack_weight must be positive, got {slack_weight}")
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    force = as_numpy(normal_force)
    if force.shape != contacts.present.shape:
        raise ShapeError("normal_force", f"{contacts.present.shape} like the contacts", force.shape)
    force = per_contact("normal_force", force, contacts)
    friction = per_contact("friction_coefficient", friction_coefficient, contacts)
    problem = _problem(contacts, force, friction, weights, float(slack_weight))
    total = force.sum(axis=1)
    if wrench is not None:
        external = per_grasp("wrench", wrench, (len(force), 6)).copy()
        external[:, 3:] /= per_grasp("torque_length", torque_length, (len(force),))[:, None]
        problem.net[:] += external / np.where(total > 0.0, total, 1.0)[:, None]
    problem.net[total == 0.0] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    x, lower = _solve_all(problem)
    return _result(problem, contacts, x, lower)


def _problem(
    contacts: Contacts, force: np.ndarray, friction: np.ndarray, weights: str, slack_weight: float
) -> _Problem:
    total = force.sum(axis=1, keepdims=True)
    share = force / np.where(total > 0.0, total, 1.0)
    weight = share if weights == "force" else contacts.present / np.maximum(contacts.count, 1)[:, None]
    rough = (share > NEGLIGIBLE) & (friction > 0.0)
    both = np.stack([contacts.wrench(tangent) for tangent in tangents(contacts.normal)], axis=-1)
    return _Problem(
        matrix=np.where(rough[..., None, None], share[..., None, None] * both, 0.0),
        net=np.einsum("nc,ncw->nw", share, contacts.wrench(contacts.normal)),
        friction=np.where(rough, friction, 1.0),
        weight=np.where(rough, weight, 1.0),
        slack_weight=slack_weight,
    )


def _result(problem: _Problem, contacts: Contacts, x: np.ndarray, lower: np.ndarray) -> QScore:
    value = problem.primal(x)
    used = np.where(contacts.present, np.linalg.norm(x, axis=2) / problem.friction, np.nan)
    utilisation = np.empty_like(used)
    np.put_along_axis(utilisation, contacts.order, used, axis=1)
    return QScore(
        q=np.exp(-value),
        value=value,
        residual=np.linalg.norm(problem.slack(x), axis=1),
        utilisation=utilisation,
        lower=np.minimum(lower, value),
        upper=value,
    )


def _solve_all(problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """Friction x (N, C, 2) and the lower bound of V (N,), a batch at a time."""
    x, lower = np.zeros((*problem.friction.shape, 2)), np.zeros(len(problem.net))
    for begin in range(0, len(lower), BATCH):
        batch = slice(begin, begin + BATCH)
        x[batch], lower[batch] = _solve(problem[batch])
    return x, lower


def _solve(problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """Interior point method; a grasp leaves once its bounds meet, or when it does not come further.

    The best friction and the best lower bound of all iterates count.
    """
    iterate = _Iterate.start(problem)
    x, multiplier = iterate.short[..., 1:].copy(), iterate.slack_dual[:, 1:].copy()
    upper, lower = problem.primal(x), problem.dual(multiplier)
    active = np.arange(len(upper))
    for _ in range(ITERATIONS):
        running = upper[active] - lower[active] > TOLERANCE * np.maximum(upper[active], 1.0)
        active, iterate = active[running], iterate.take(running)
        if len(active) == 0:
            break
        with np.errstate(all="ignore"):
            step = iterate.advance()
        part = problem[active]
        new_upper, new_lower = part.primal(iterate.short[..., 1:]), part.dual(iterate.slack_dual[:, 1:])
        better = new_upper < upper[active]
        x[active[better]], upper[active[better]] = iterate.short[better, :, 1:], new_upper[better]
        lower[active] = np.maximum(lower[active], new_lower)
        active, iterate = active[step > 1.0e-4], iterate.take(step > 1.0e-4)
    return x, lower


@dataclass(eq=False)
class _Iterate:
    """A strictly feasible point of both problems.

    The primal cones are short = (t, x), bounded = (mu, x), slack = (tau, s) with sum A x + s = -b; the dual ones are
    short_dual = (omega / mu, .), bounded_dual, slack_dual = (rho, lambda), where A' lambda is the sum of the parts of
    the first two that belong to x.
    """

    problem: _Problem
    short: np.ndarray
    short_dual: np.ndarray
    bounded: np.ndarray
    bounded_dual: np.ndarray
    slack: np.ndarray
    slack_dual: np.ndarray
    centering: np.ndarray

    @classmethod
    def start(cls, problem: _Problem) -> _Iterate:
        """No friction, all of the net wrench as slack, no multipliers: on the central path for each contact."""
        price = problem.weight / problem.friction
        length = np.linalg.norm(problem.net, axis=1)
        rho = problem.slack_weight
        level = np.maximum(rho * np.maximum(length, 0.05), 1.0) / (2 * price.shape[1] + 1)
        zero = np.zeros((*price.shape, 2))

        def cone(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
            return np.concatenate([head[..., None], tail], axis=-1)

        reach = np.hypot(level / rho, length) + level / rho
        return cls(
            problem,
            short=cone(level[:, None] / price, zero),
            short_dual=cone(price, zero),
            bounded=cone(problem.friction, zero),
            bounded_dual=cone(level[:, None] / problem.friction, zero),
            slack=cone(reach, -problem.net),
            slack_dual=cone(np.full(len(length), rho), np.zeros_like(problem.net)),
            centering=np.full(len(length), 0.2),
        )

    def take(self, grasps: np.ndarray) -> _Iterate:
        """Some of the grasps."""
        if grasps.all():
            return self
        return _Iterate(self.problem[grasps], *(array[grasps] for array in (*self._cones(), self.centering)))

    def _cones(self) -> tuple[np.ndarray, ...]:
        return (self.short, self.short_dual, self.bounded, self.bounded_dual, self.slack, self.slack_dual)

    def advance(self) -> np.ndarray:
        """One step towards the central path and down along it; its length in (0, 1], shape (N,)."""
        directions = self._directions()
        longest = [
            largest_step(point, direction).reshape(len(self.slack), -1).min(axis=1)
            for point, direction in zip(self._cones(), directions, strict=True)
        ]
        largest = np.max([np.abs(d).reshape(len(self.slack), -1).max(axis=1) for d in directions], axis=0)
        step = np.where(largest < ABSURD, np.minimum(1.0, 0.95 * np.min(longest, axis=0)), 0.0)
        for point, direction in zip(self._cones(), directions, strict=True):
            scale = step.reshape(-1, *(1,) * (direction.ndim - 1))
            np.add(point, np.where(scale > 0.0, scale * direction, 0.0), out=point)
        self.centering = np.where(step > 0.85, 0.1, np.where(step > 0.5, 0.2, 0.5))
        return step

    def _target(self) -> np.ndarray:
        """Product of each primal with its dual cone to aim at, shape (N,)."""
        gap = (self.slack * self.slack_dual).sum(axis=1)
        gap += (self.short * self.short_dual).sum(axis=(1, 2)) + (self.bounded * self.bounded_dual).sum(axis=(1, 2))
        return self.centering * gap / (2 * self.short.shape[1] + 1)

    def _directions(self) -> tuple[np.ndarray, ...]:
        """Newton's direction in the scaling of Nesterov and Todd, for the six cones.

        Every cone has dz = q - W^-2 ds. The part of each contact is eliminated first, then that of the slack, which
        leaves six equations for the multipliers.
        """
        matrix, target = self.problem.matrix, self._target()
        short, bounded = Scaling(self.short, self.short_dual), Scaling(self.bounded, self.bounded_dual)
        slack = Scaling(self.slack, self.slack_dual)
        aim = target[:, None, None]
        short_q = aim * reciprocal(self.short) - self.short_dual
        bounded_q = aim * reciprocal(self.bounded) - self.bounded_dual
        slack_q = target[:, None] * reciprocal(self.slack) - self.slack_dual

        short_metric, bounded_metric, slack_metric = short.inverse_square(), bounded.inverse_square(), slack.square()
        hessian = short_metric.copy()
        hessian[..., 1:, 1:] += bounded_metric[..., 1:, 1:]
        right = short_q.copy()
        right[..., 1:] += bounded_q[..., 1:]
        inverse = _inverse(hessian)
        gained = np.einsum("ncwi,nci->nw", matrix, np.einsum("ncij,ncj->nci", inverse[..., 1:, :], right))
        schur = np.einsum("ncwi,ncij,ncvj->nwv", matrix, inverse[..., 1:, 1:], matrix, optimize=True)
        schur += slack_metric[:, 1:, 1:]
        gained += np.einsum("nij,nj->ni", slack_metric[:, 1:], slack_q)
        multiplier = _solve_regularized(schur, gained)

        right[..., 1:] -= np.einsum("ncwi,nw->nci", matrix, multiplier)
        d_short = np.einsum("ncij,ncj->nci", inverse, right)
        d_bounded = d_short * [0.0, 1.0, 1.0]
        slack_q[:, 1:] -= multiplier
        d_slack = np.einsum("nij,nj->ni", slack_metric, slack_q)
        d_slack_dual = np.concatenate([np.zeros((len(target), 1)), multiplier], axis=1)
        d_short_dual = short_q - np.einsum("ncij,ncj->nci", short_metric, d_short)
        d_bounded_dual = bounded_q - np.einsum("ncij,ncj->nci", bounded_metric, d_bounded)
        return d_short, d_short_dual, d_bounded, d_bounded_dual, d_slack, d_slack_dual


def _solve_regularized(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions of symmetric positive definite systems (N, 6, 6), NaN where one is not finite."""
    size = np.trace(matrix, axis1=1, axis2=2)
    good = np.isfinite(size) & (size > 0.0)
    matrix = np.where(good[:, None, None], matrix, np.eye(6))
    matrix += (REGULARIZATION * np.where(good, size, 1.0))[:, None, None] * np.eye(6)
    return np.linalg.solve(matrix, np.where(good[:, None], right, np.nan)[..., None])[..., 0]


def _inverse(hessian: np.ndarray) -> np.ndarray:
    """Inverse of symmetric positive definite 3 x 3 matrices (..., 3, 3), by their first entry and its complement."""
    head = 1.0 / hessian[..., 0, 0]
    row = hessian[..., 0, 1:] * head[..., None]
    block = hessian[..., 1:, 1:] - row[..., :, None] * hessian[..., None, 0, 1:]
    a, b, d = block[..., 0, 0], block[..., 0, 1], block[..., 1, 1]
    adjugate = np.stack([np.stack([d, -b], axis=-1), np.stack([-b, a], axis=-1)], axis=-2)
    lower = adjugate / np.maximum(a * d - b * b, 1.0e-300)[..., None, None]
    side = -np.einsum("...ij,...j->...i", lower, row)
    out = np.empty_like(hessian)
    out[..., 0, 0] = head - (side * row).sum(axis=-1)
    out[..., 0, 1:] = out[..., 1:, 0] = side
    out[..., 1:, 1:] = lower
    return out
