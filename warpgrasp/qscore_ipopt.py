"""The q-score as the slides print it, with normal forces that may change: a non-convex program, solved by IPOPT.

    min (1 / C) sum_i |x_i| / mu_i   such that   sum_i f_i (n_i + x_i) and its torque balance,
                                                 |x_i| <= mu_i,  sum_i f_i = 1,  lower_i <= f_i <= upper_i

The products f_i x_i make it non-convex, so the minimum found is a local one; several starts are tried. There is no
slack: where nothing balances, q is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .errors import OptionError
from .qscore import qscore
from .wrench import Contacts, per_contact, per_grasp, read_contacts, tangents

SMOOTHING = (1.0e-2, 1.0e-3, 1.0e-4)
"""|x| is sqrt(|x|² + d²) - d with these d, one after the other: IPOPT does not get through a sharp kink."""

BALANCED = 1.0e-6
"""Largest net wrench of a solution, as a share of the total normal force."""

ITERATIONS = 300
"""Most steps of IPOPT in one run."""


@dataclass(frozen=True, eq=False)
class LiteralQScore:
    """The literal q-scores of N grasps with C contacts."""

    q: np.ndarray
    """exp(-value); 0 where no forces were found that balance, shape (N,)."""

    value: np.ndarray
    """Mean share of the friction that is used, inf where no forces were found that balance, shape (N,)."""

    solved: np.ndarray
    """Whether forces were found that balance, bool, shape (N,)."""

    normal_force: np.ndarray
    """The normal forces found [N], summing to what was given, NaN where there is no contact or solution, shape
    (N, C)."""

    friction_force: np.ndarray
    """The friction found [N], NaN where there is no contact or solution, shape (N, C, 3)."""


def qscore_literal(
    contact_position: Any,
    contact_normal: Any,
    normal_force: Any,
    *,
    friction_coefficient: Any,
    center: Any,
    torque_length: Any,
    force_factor: tuple[float, float] = (0.0, np.inf),
    wrench: Any = None,
) -> LiteralQScore:
    """Score N grasps by the mean friction that balances them, choosing the normal forces too.

    IPOPT starts from the given forces with the friction of :func:`warpgrasp.qscore.qscore`, and from the forces that
    minimize the same mean weighted by the forces, which is a convex problem. The best of all that balances counts, the
    first start included, so the result is never worse than the score of the given forces with ``weights="uniform"``.

    Args:
        contact_position: Contact points [m]; NaN: no contact, shape (N, C, 3).
        contact_normal: Unit normals into the object, same frame; NaN: no contact, shape (N, C, 3).
        normal_force: Sizes of the normal forces [N], >= 0, shape (N, C); their sum stays.
        friction_coefficient: mu, > 0, () or (N,) or (N, C).
        center: Centre of mass [m], shape (3,) or (N, 3).
        torque_length: Length that torques are divided by [m], () or (N,).
        force_factor: How much smaller and larger than given a normal force may become; (0.8, 1.2) stays near the forces
            of a tactile stage, (0, inf) lets them go freely, to zero too, where a contact counts as one without
            friction.
        wrench: External force [N] and torque about the centre [N m], shape (6,) or (N, 6); none when omitted.

    Raises:
        OptionError: casadi is not installed, an option is out of range, or a force or coefficient is not possible.
        ShapeError: An array does not fit.
        ContactError: A contact is infinite or partly NaN, or a normal is not unit.

    Source:
        Wächter & Biegler 2006 (IPOPT).
    """
    lower, upper = force_factor
    if not (0.0 <= lower <= 1.0 <= upper):
        raise OptionError(f"force_factor must be a number from 0 to 1 and one from 1 on, got {force_factor}")
    _require_casadi()
    score = qscore(
        contact_position,
        contact_normal,
        normal_force,
        friction_coefficient=friction_coefficient,
        center=center,
        torque_length=torque_length,
        weights="uniform",
        slack_weight=50.0,
        wrench=wrench,
    )
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    force = per_contact("normal_force", normal_force, contacts)
    friction = per_contact("friction_coefficient", friction_coefficient, contacts)
    tangential = np.take_along_axis(score.friction_force, contacts.order[..., None], axis=1)
    external = np.zeros((len(force), 6))
    if wrench is not None:
        external += per_grasp("wrench", wrench, external.shape)
        external[:, 3:] /= per_grasp("torque_length", torque_length, (len(force),))[:, None]
    value = np.full(len(force), np.inf)
    found = np.full((*force.shape, 4), np.nan)
    for grasp, count in enumerate(contacts.count):
        total = force[grasp].sum()
        if total > 0.0:
            case = _Case.of(contacts, grasp, friction[grasp], external[grasp] / total)
            share = force[grasp, :count] / total
            most = np.minimum(upper * share, 1.0) if np.isfinite(upper) else np.ones(count)
            start = tangential[grasp, :count] / np.maximum(force[grasp, :count], 1.0e-12)[:, None]
            value[grasp], forces = case.best(share, start, lower * share, most)
            found[grasp, :count] = total * forces
    out = np.empty_like(found)
    np.put_along_axis(out, contacts.order[..., None], found, axis=1)
    return LiteralQScore(np.exp(-value), value, np.isfinite(value), out[..., 0], out[..., 1:])


@dataclass(frozen=True, eq=False)
class _Case:
    """One grasp; forces are shares of the sum of the normal forces."""

    normal: np.ndarray
    """Wrenches of unit normal forces, shape (6, C)."""

    tangent: np.ndarray
    """Wrenches of unit forces along both tangents, shape (2, 6, C)."""

    frame: np.ndarray
    """The tangents, shape (2, C, 3)."""

    friction: np.ndarray
    """mu, shape (C,)."""

    external: np.ndarray
    """Shape (6,)."""

    @classmethod
    def of(cls, contacts: Contacts, grasp: int, friction: np.ndarray, external: np.ndarray) -> _Case:
        count, one = int(contacts.count[grasp]), contacts[grasp : grasp + 1]
        frame = np.stack([tangent[0, :count] for tangent in tangents(one.normal)])
        wrench = [one.wrench(force)[0, :count].T for force in (one.normal, *tangents(one.normal))]
        return cls(wrench[0], np.stack(wrench[1:]), frame, friction[:count], external)

    def best(self, share: np.ndarray, start: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Any:
        """The least value, and normal force and friction of each contact (C, 4); inf and NaN without a solution."""
        given = np.concatenate([np.einsum("tcj,cj->tc", self.frame, start).ravel(), share])
        weighted = self.run(given, lower, upper, SMOOTHING[:1], weighted=True)
        points = [given]
        for first in (given, *weighted):
            points += self.run(first, lower, upper, SMOOTHING, weighted=False)
        return min((self.measure(point, lower, upper) for point in points), key=lambda found: found[0])

    def measure(self, point: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and forces (C, 4) of a point (x along both tangents, f); inf and NaN where it does not balance."""
        x, f = point[: -len(lower)].reshape(2, -1), np.clip(point[-len(lower) :], lower, upper)
        size = np.linalg.norm(x, axis=0)
        x = x * np.minimum(1.0, self.friction / np.maximum(size, 1.0e-300))
        left = self.normal @ f + np.einsum("twc,tc->w", self.tangent, f * x) + self.external
        if not (np.linalg.norm(left) <= BALANCED and abs(f.sum() - 1.0) <= BALANCED):
            return np.inf, np.full((len(f), 4), np.nan)
        across = np.einsum("tc,tcj->cj", f * x, self.frame)
        return float(np.mean(np.minimum(size / self.friction, 1.0))), np.concatenate([f[:, None], across], axis=1)

    def run(
        self, first: np.ndarray, lower: np.ndarray, upper: np.ndarray, smoothing: tuple[float, ...], *, weighted: bool
    ) -> list[np.ndarray]:
        """IPOPT's points from a first one (x along both tangents, f), with less and less smoothing."""
        count = len(lower)
        bounds = {
            "lbx": np.concatenate([np.full(2 * count, -np.inf), lower]),
            "ubx": np.concatenate([np.full(2 * count, np.inf), upper]),
            # As equations they would outnumber the unknowns of two contacts, which IPOPT does not accept.
            "lbg": np.append(np.full(7, -0.2 * BALANCED), np.full(count, -np.inf)),
            "ubg": np.append(np.full(7, 0.2 * BALANCED), np.zeros(count)),
        }
        matrices = [part.ravel("F") for part in (self.normal, *self.tangent)]
        grasp = np.concatenate([*matrices, self.friction, self.external])
        point, points = {"x0": first}, []
        for number, width in enumerate(smoothing):
            solution = _solver(count, warm=number > 0)(p=np.append(grasp, [width, float(weighted)]), **bounds, **point)
            point = {"x0": solution["x"], "lam_x0": solution["lam_x"], "lam_g0": solution["lam_g"]}
            points.append(np.array(solution["x"]).ravel())
        return points


@lru_cache(maxsize=64)
def _solver(count: int, *, warm: bool) -> Any:
    """IPOPT for grasps with that many contacts; the grasp and the smoothing are parameters."""
    import casadi

    x1, x2, f = (casadi.SX.sym(name, count) for name in ("x1", "x2", "f"))
    normal, first, second = (casadi.SX.sym(name, 6, count) for name in ("normal", "first", "second"))
    friction, external = casadi.SX.sym("friction", count), casadi.SX.sym("external", 6)
    width, weighted = casadi.SX.sym("width"), casadi.SX.sym("weighted")
    size = casadi.sqrt(x1 * x1 + x2 * x2 + width * width) - width
    weight = weighted * f + (1.0 - weighted) / count
    left = normal @ f + first @ (f * x1) + second @ (f * x2) + external
    program = {
        "x": casadi.vertcat(x1, x2, f),
        "p": casadi.vertcat(
            *(casadi.vec(part) for part in (normal, first, second, friction, external, width, weighted))
        ),
        "f": casadi.dot(weight, size / friction),
        "g": casadi.vertcat(left, casadi.sum1(f) - 1.0, x1 * x1 + x2 * x2 - friction * friction),
    }
    options: dict[str, Any] = {"print_level": 0, "sb": "yes", "tol": 1e-8, "max_iter": ITERATIONS}
    if warm:
        options |= {"warm_start_init_point": "yes", "mu_init": 1e-4}
        options |= {f"warm_start_{name}_push": 1e-8 for name in ("bound", "mult_bound", "slack_bound")}
    return casadi.nlpsol("solver", "ipopt", program, {"ipopt": options, "print_time": False})


def _require_casadi() -> None:
    try:
        import casadi  # noqa: F401
    except ImportError:
        raise OptionError("the literal q-score needs IPOPT: pip install 'warpgrasp[ipopt]'") from None
