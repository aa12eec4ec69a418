"""Analytic grasp metrics of the literature, on arrays of contacts.

Every function takes contact points [m] and unit normals into the object, both (N, C, 3) and in one frame, as NumPy,
torch or Warp arrays; NaN rows are contacts that are absent. The keyword-only arguments are the conventions, which
change the numbers by tens of per cent and therefore belong to every value:

- ``friction_coefficient``: one for all, one for each grasp (N,), or one for each contact (N, C).
- ``edge_count``: edges n + mu (cos t1 + sin t2) of a friction cone, inscribed in the circular one; 0: the circular one
  itself; 1: no friction.
- ``torque_length`` [m]: torques are divided by it, () or (N,). ``center`` [m]: they are taken about it, (3,) or (N, 3).
- ``**edges``: see :class:`warpgrasp.wrench.Edges` (phase and tangents of the edges, size of the edge forces, torsion).

All raise ``ShapeError``, ``OptionError`` and ``ContactError`` (contacts that are infinite or partly NaN, normals that
are not unit; the message names grasp and contact). A grasp without contacts has a documented value, never NaN.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import warp as wp

from . import device as devices
from .epsilon import epsilon_bounds
from .errors import OptionError
from .kernels import gauge as gauge_kernels
from .kernels.gauge import Vec6
from .wrench import (
    Contacts,
    Edges,
    as_numpy,
    cone_wrenches,
    edge_directions,
    edge_wrenches,
    per_grasp,
    read_contacts,
    wrench_space,
)

TOLERANCE = 1.0e-4
"""Relative difference of the bounds of epsilon."""

CONE_LIMIT = 300_000
"""Most cones in the proof of one grasp's bounds, about a second of one core."""

VOLUME_TOLERANCE = 3.0e-2
"""Relative difference of the bounds of the volume of circular cones."""

EDGE_LIMIT = 256
"""Most edges that stand for a circular cone in those bounds."""


def epsilon_l1(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> np.ndarray:
    """Largest wrench that can be resisted in every direction by normal forces of total one.

    The radius of the largest ball about the origin in the convex hull of the contacts' wrenches; 0 where the origin is
    not inside, below 1e-6, and without contacts. It is the upper one of :func:`epsilon_l1_bounds`: attained in some
    direction, at most ``tolerance`` above the smallest value. In practice it is exact to rounding where the friction
    cones have edges.

    Returns:
        Dimensionless (force per normal force), shape (N,).

    Source:
        Ferrari & Canny 1992, the quality Q for the sum of the magnitudes.
    """
    options: dict[str, Any] = {
        "edge_count": edge_count,
        "torque_length": torque_length,
        "center": center,
        "device": device,
        **edges,
    }
    return epsilon_l1_bounds(
        contact_position,
        contact_normal,
        friction_coefficient=friction_coefficient,
        tolerance=tolerance,
        **options,
    )[1]


def epsilon_linf(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> np.ndarray:
    """Largest wrench that can be resisted in every direction by a normal force of up to one at each contact.

    Like :func:`epsilon_l1`, with the Minkowski sum of the contacts' wrenches in place of their convex hull.

    Returns:
        Dimensionless (force per normal force), shape (N,).

    Source:
        Ferrari & Canny 1992, the quality Q for the largest of the magnitudes.
    """
    options: dict[str, Any] = {
        "edge_count": edge_count,
        "torque_length": torque_length,
        "center": center,
        "device": device,
        **edges,
    }
    return epsilon_linf_bounds(
        contact_position,
        contact_normal,
        friction_coefficient=friction_coefficient,
        tolerance=tolerance,
        **options,
    )[1]


def epsilon_l1_bounds(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    tolerance: float = TOLERANCE,
    cone_limit: int = CONE_LIMIT,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of :func:`epsilon_l1`.

    The lower bound is a proof by branch and bound over directions (up to rounding, about 1e-9), the upper one is
    attained. They differ by at most ``tolerance``, relatively, where ``cone_limit`` cones were enough for the proof;
    elsewhere the lower bound is what was proved by then, which may be far below. That happens where many directions are
    nearly as weak as the weakest, as in two opposed soft fingers with circular cones.

    Returns:
        Two arrays of shape (N,).
    """
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    return _bounds(contacts, wrench, edge_count, edges, tolerance, cone_limit, device, summed=False)


def epsilon_linf_bounds(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    tolerance: float = TOLERANCE,
    cone_limit: int = CONE_LIMIT,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of :func:`epsilon_linf`, as :func:`epsilon_l1_bounds`."""
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    return _bounds(contacts, wrench, edge_count, edges, tolerance, cone_limit, device, summed=True)


def _bounds(
    contacts: Contacts,
    wrench: np.ndarray,
    edge_count: int,
    edges: Edges,
    tolerance: float,
    cone_limit: int,
    device: str,
    *,
    summed: bool,
) -> tuple[np.ndarray, np.ndarray]:
    if not 1.0e-8 <= tolerance < 1.0:
        raise OptionError(f"tolerance must be in [1e-8, 1), got {tolerance}")
    lower, upper, _ = epsilon_bounds(
        wrench,
        contacts.count,
        edge_directions(edge_count, edges.get("edge_phase", 0.0)),
        summed=summed,
        tolerance=tolerance,
        cone_limit=cone_limit,
        device=devices.choose(device),
    )
    return lower, upper


def wrench_volume(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    **edges: Unpack[Edges],
) -> np.ndarray:
    """Volume of the convex hull of the contacts' wrenches, by qhull, one grasp after the other.

    The origin counts only where it is inside anyway. 0 where the wrenches do not span all six dimensions. 30 contacts
    with 8 edges take 0.2 s and 100 take 2 s, so keep one contact per link. Circular cones (``edge_count=0``) take many
    times as long: the value is the middle of :func:`wrench_volume_bounds`, off by at most 1.5 %.

    Returns:
        Dimensionless, shape (N,); proportional to torque_length^-3.

    Raises:
        OptionError: Circular cones of some grasp do not come to within the tolerance.

    Source:
        Miller & Allen 1999, the volume of the grasp wrench space.
    """
    if edge_count == 0:
        bounds = wrench_volume_bounds(
            contact_position,
            contact_normal,
            friction_coefficient=friction_coefficient,
            torque_length=torque_length,
            center=center,
            **edges,
        )
        return np.mean(bounds, axis=0)
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    edge = edge_directions(edge_count, edges.get("edge_phase", 0.0))
    return np.array([_hull_volume(wrench[grasp, :count], edge) for grasp, count in enumerate(contacts.count)])


def wrench_volume_bounds(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    torque_length: Any,
    center: Any,
    tolerance: float = VOLUME_TOLERANCE,
    edge_limit: int = EDGE_LIMIT,
    **edges: Unpack[Edges],
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the volume of the hull of circular cones, see :func:`wrench_volume`.

    Cones with edges inside and outside of the circular ones, twice as many until the bounds are close. The difference
    falls with the square of the edges, and qhull's time rises steeply: to 3 %, 5 contacts take 1 s and 10 take 2 s; to
    1 %, 13 s and 29 s.

    Returns:
        Two arrays of shape (N,).

    Raises:
        OptionError: ``tolerance`` is not in [1e-4, 1), or ``edge_limit`` edges do not come to within it.
    """
    if not 1.0e-4 <= tolerance < 1.0:
        raise OptionError(f"tolerance must be in [1e-4, 1), got {tolerance}")
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    bounds = np.zeros((2, len(wrench)))
    for grasp, count in enumerate(contacts.count):
        edge_count = 8
        while True:
            edge = edge_directions(edge_count, edges.get("edge_phase", 0.0))
            for side, scale in enumerate((1.0, 1.0 / np.cos(np.pi / edge_count))):
                bounds[side, grasp] = _hull_volume(wrench[grasp, :count], scale * edge)
            lower, upper = bounds[:, grasp]
            if upper - lower <= tolerance * upper:
                break
            edge_count *= 2
            if edge_count > edge_limit:
                raise OptionError(
                    f"the volume of grasp {grasp} is only known to be in [{lower:.4g}, {upper:.4g}] with "
                    f"{edge_limit} edges; pass a larger edge_limit or tolerance, or an edge_count of 16"
                )
    return bounds[0], bounds[1]


def _hull_volume(wrench: np.ndarray, edge: np.ndarray) -> float:
    """Volume of the hull of the edges' wrenches of one grasp's contacts (C, 4, 6); 0 where it is flat."""
    from scipy.spatial import ConvexHull, QhullError

    points = edge_wrenches(wrench, edge).reshape(-1, 6)
    if len(points) <= 6 or np.linalg.matrix_rank(points - points.mean(axis=0), tol=1.0e-9) < 6:
        return 0.0
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return 0.0


def q1(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any = 1.0,
    edge_count: int = 8,
    torque_length: Any = 0.1,
    center: Any = (0.0, 0.0, 0.0),
    penetration_depth: Any = 0.0,
    penetration_limit: float = 0.005,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> np.ndarray:
    """Q1 as DexGraspNet and UniDexGrasp report it: epsilon with their conventions, at most one.

    Defaults are theirs: mu = 1, 8 edges, torques times 10 / m about the origin of the object frame (not its centre of
    mass), 0 where the hand is 5 mm or more inside the object, tangents (-n_y, n_x, 0). They add the origin to the
    wrenches, which makes the value 0 where it was outside. Their contacts are the nearest surface point of each link
    within 1 cm.

    Args:
        contact_position: Contact points in the object frame [m], shape (N, C, 3).
        contact_normal: Unit normals into the object, shape (N, C, 3).
        friction_coefficient: See the module.
        edge_count: See the module.
        torque_length: See the module; the inverse of UniDexGrasp's ``lambda_torque``.
        center: See the module.
        penetration_depth: Largest penetration of each grasp [m], shape () or (N,).
        penetration_limit: Penetration from which the value is 0 [m].
        tolerance: See :func:`epsilon_l1`.
        device: Warp device.
        **edges: See the module.

    Returns:
        In [0, 1], shape (N,).

    Source:
        Xu et al. 2023 (UniDexGrasp) and Wang et al. 2023 (DexGraspNet), read from their published code.
    """
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    if "tangent" not in edges:
        edges["tangent"] = _level_tangents(contacts)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    epsilon = _bounds(contacts, wrench, edge_count, edges, tolerance, CONE_LIMIT, device, summed=False)[1]
    depth = per_grasp("penetration_depth", penetration_depth, (len(wrench),))
    return np.where(depth >= penetration_limit, 0.0, np.minimum(epsilon, 1.0))


def q1_dexgraspbench(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any = 0.3,
    edge_count: int = 8,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> np.ndarray:
    """Q1 as DexGraspBench has it: epsilon about the mean of the contacts, at most two.

    Torques are about the mean of the contact points and divided by their mean distance from it (plus 1 um), so object
    and frame play no part. Its friction is half of what it simulates with, and what it stores is 2 minus this value.
    Its contacts are those of the fingertips within 5 mm, averaged over each.

    Returns:
        In [0, 2], shape (N,); 0 without force closure and without contacts.

    Source:
        Chen et al. 2025, DexGraspBench, read from its published code.
    """
    position = as_numpy(contact_position)
    contacts = read_contacts(position, contact_normal, center=np.zeros(3), torque_length=1.0)
    share = contacts.present / np.maximum(contacts.count, 1)[:, None]
    center = np.einsum("nc,nci->ni", share, contacts.position)
    radius = (share * np.linalg.norm(contacts.position - center[:, None], axis=2)).sum(axis=1)
    epsilon = epsilon_l1(
        position,
        contact_normal,
        friction_coefficient=friction_coefficient,
        edge_count=edge_count,
        torque_length=radius + 1.0e-6,
        center=center,
        tolerance=tolerance,
        device=device,
        **edges,
    )
    return np.minimum(epsilon, 2.0)


def _level_tangents(contacts: Contacts) -> np.ndarray:
    """Unit (-n_y, n_x, 0), or x where that vanishes, in the order of the input, shape (N, C, 3)."""
    x, y = contacts.normal[..., 0], contacts.normal[..., 1]
    tangent = np.stack([-y, x, np.zeros_like(x)], axis=-1)
    length = np.linalg.norm(tangent, axis=-1, keepdims=True)
    tangent = np.where(length <= 1.0e-8, [1.0, 0.0, 0.0], tangent / np.maximum(length, 1.0e-8))
    out = np.empty_like(tangent)
    np.put_along_axis(out, contacts.order[..., None], tangent, axis=1)
    return out


def min_weight(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any,
    edge_count: int,
    torque_length: Any,
    center: Any,
    normalized: bool = False,
    device: str = "cpu",
    **edges: Unpack[Edges],
) -> np.ndarray:
    """The metric l* of FRoGGeR: the largest least weight among edge forces that balance.

    l* = max over a of min_j a_j, where the a_j sum to one and the edges' wrenches, weighted with a, cancel. Positive:
    force closure, if the wrenches also span all six dimensions, which is not checked here (two opposed hard contacts
    have l* > 0 and epsilon 0). It is solved exactly as l* = (1 - gauge) / M, where M is the number of edges and gauge
    the least s for which the origin is in s times the wrenches, both taken relative to the mean wrench.

    Args:
        contact_position: Contact points [m], shape (N, C, 3).
        contact_normal: Unit normals into the object, shape (N, C, 3).
        friction_coefficient: See the module.
        edge_count: See the module; circular cones (0) have a value only when ``normalized``.
        torque_length: See the module; no effect on the value but by rounding.
        center: See the module; no effect on the value but by rounding.
        normalized: Return M l*, in (-inf, 1].
        device: Warp device.
        **edges: See the module; no torsion. FRoGGeR has ``edge_force="unit"``, which matters only where contacts
            differ in friction, and 4 edges.

    Returns:
        Dimensionless, shape (N,); -inf where no weights cancel, and without contacts.

    Source:
        Li et al. 2023 (FRoGGeR); the identity with the gauge is our own.
    """
    if edges.get("torsion_length", 0.0) != 0.0:
        raise OptionError("min_weight has no torsion_length: its weights belong to the edges of friction cones")
    if edge_count == 0 and not normalized:
        raise OptionError("min_weight of circular cones (edge_count=0) is 0; pass normalized=True for its limit")
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, edges)
    edge = edge_directions(edge_count, edges.get("edge_phase", 0.0))
    value = 1.0 - _gauge_of_origin(wrench, contacts.count, edge, devices.choose(device))
    return value if normalized else value / np.maximum(contacts.count * len(edge), 1)


def _gauge_of_origin(wrench: np.ndarray, count: np.ndarray, edge: np.ndarray, device: str) -> np.ndarray:
    """Gauge of the origin in the wrenches, both relative to their mean; inf where it cannot be reached, shape (N,).

    The frame of wrenches is turned to their principal axes, and axes without extent are left out.
    """
    share = (np.arange(wrench.shape[1]) < count[:, None]) / np.maximum(count, 1)[:, None]
    mean = np.einsum("nc,ncw->nw", share, wrench[:, :, 0])
    sample = edge_wrenches(wrench, edge if len(edge) else edge_directions(8))
    spread = (sample - mean[:, None, None]) * (share > 0.0)[..., None, None]
    spread = spread.reshape(len(wrench), spread.shape[1] * spread.shape[2], 6)
    padded = np.concatenate([spread, np.zeros((len(wrench), 6, 6))], axis=1)
    _, extent, axes = np.linalg.svd(padded, full_matrices=False)
    axes = axes.transpose(0, 2, 1)
    kept = extent > 1.0e-9 * np.maximum(extent[:, :1], 1.0)
    turned = np.einsum("ncrw,nwk->ncrk", wrench, axes) * kept[:, None, None]
    middle = np.einsum("nw,nwk->nk", mean, axes)
    outside = np.linalg.norm(middle * ~kept, axis=1) > 1.0e-9
    space = wrench_space(turned, count, edge, shift=middle * kept, device=device)
    out = wp.array(np.zeros(len(wrench)), dtype=wp.float64, device=device)
    target = wp.array(-middle * kept, dtype=Vec6, device=device)
    wp.launch(gauge_kernels.gauge, dim=len(wrench), inputs=[space, target], outputs=[out], device=device)
    return np.where(outside | (count == 0), np.inf, out.numpy())


def force_closure_residual(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any = 0.0,
    edge_count: int = 1,
    torque_length: Any,
    center: Any,
) -> np.ndarray:
    """The energy E_fc: squared net wrench of unit normal forces, |sum n|^2 + |sum r x n|^2 / torque_length^2.

    Friction plays no part in it; ``friction_coefficient`` and ``edge_count`` are accepted so that all metrics can be
    called alike, and ignored. 0 is balance by normal forces alone, which is neither necessary nor enough for a firm
    grasp.

    Returns:
        Squared force for unit forces, shape (N,); inf without contacts.

    Source:
        Liu et al. 2021, and Wang et al. 2023 (DexGraspNet), where ``torque_length`` is 1 m.
    """
    del friction_coefficient, edge_count
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    net = contacts.wrench(contacts.normal).sum(axis=1)
    return np.where(contacts.count > 0, (net * net).sum(axis=1), np.inf)


def graspqp_residual(
    contact_position: Any,
    contact_normal: Any,
    *,
    friction_coefficient: Any = 0.2,
    edge_count: int = 4,
    torque_length: Any = 0.2,
    center: Any = (0.0, 0.0, 0.0),
    lower: float = 1.0,
    upper: float = 51.0,
    edge_phase: float = 0.0,
) -> np.ndarray:
    """GraspQP's residual: min over lower <= x <= upper of |F x|^2 / 2, one grasp after the other.

    The columns of F are the wrenches of the edges (sqrt(1 - mu^2) n + mu t) / edge_count, so that mu is the sine of
    the cone's half angle and not its tangent. Defaults are GraspQP's; torques times 5 / m. Here tangents are unit.

    Returns:
        Squared force, shape (N,); inf without contacts.

    Raises:
        OptionError: ``edge_count`` is 0, or a friction coefficient exceeds one.

    Source:
        GraspQP, read from its published code; without the factor for the singular values of F.
    """
    from scipy.optimize import lsq_linear

    edge = edge_directions(edge_count, edge_phase)
    sine = np.asarray(friction_coefficient, dtype=float)
    if len(edge) == 0 or not np.all((sine >= 0.0) & (sine < 1.0)):
        raise OptionError(f"graspqp_residual needs edge_count >= 1 and 0 <= mu < 1, got {edge_count} and {sine.max()}")
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    # With the tangent of the half angle and forces of unit size, the edges are those of the sine.
    wrench = cone_wrenches(contacts, torque_length, sine / np.sqrt(1.0 - sine * sine), {"edge_force": "unit"})
    residual = np.full(len(wrench), np.inf)
    for grasp, count in enumerate(contacts.count):
        if count:
            columns = edge_wrenches(wrench[grasp, :count], edge).reshape(-1, 6).T / edge_count
            residual[grasp] = lsq_linear(columns, np.zeros(6), bounds=(lower, upper), tol=1.0e-14).cost
    return residual
