"""Is it a grasp? Penetration, contact and balance of each pose, and the reason where it is not valid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .distance import DeviceMesh
from .hand import Hand
from .mesh import ObjectMesh
from .model import HandModel
from .pose import Pose
from .proximity import find_proximity
from .state import State, allocate
from .surface import farthest_points

CONTACT_DISTANCE = 0.002
"""Distance within which a link counts as touching [m]."""

CONTACTS_PER_LINK = 4
"""Most contacts on one link when forces are balanced."""

BATCH = 64
"""Grasps that are measured at once; the hand's points are many here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a valid grasp may not exceed."""

    penetration_depth: float = 0.001
    """Hand in object or object in hand [m]."""

    self_penetration_depth: float = 0.001
    """Link in link, neighbours left out [m]."""

    links_in_contact: int = 3
    """At least that many links within 2 mm of the surface, or all fingers where there are fewer."""

    wrench_residual: float = 0.1
    """See :func:`wrench_residual`."""

    pregrasp_clearance: float = 0.005
    """Least distance of the pregrasp to the object [m]."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Distances of N grasps, reduced to what the labels need."""

    penetration_depth: np.ndarray
    """Deepest point, of the hand in the object or of the object in the hand [m], shape (N,)."""

    self_penetration_depth: np.ndarray
    """Deepest point of a link in another [m], shape (N,)."""

    link_distance: np.ndarray
    """Distance of each link's nearest point to the object, inf where it has no points [m], shape (N, L)."""

    contact_position: np.ndarray
    """Points within 2 mm of the surface, up to ``CONTACTS_PER_LINK`` on each link, NaN where there are fewer; in the
    object frame [m], shape (N, L, contact, 3)."""

    contact_normal: np.ndarray
    """Unit normals there, into the object, shape (N, L, contact, 3)."""

    def links_in_contact(self) -> np.ndarray:
        """Number of links within 2 mm of the surface, shape (N,)."""
        return (self.link_distance <= CONTACT_DISTANCE).sum(axis=1)


def measure(model: HandModel, mesh: DeviceMesh, object_point: np.ndarray, pose: Pose) -> Measurement:
    """Measure N poses with the model's points, ``BATCH`` at a time."""
    parts = []
    for begin in range(0, len(pose), BATCH):
        state = allocate(model, pose[begin : begin + BATCH], object_point)
        find_proximity(model, mesh, state)
        parts.append(_reduce(model, state))
    return Measurement(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _reduce(model: HandModel, state: State) -> tuple[np.ndarray, ...]:
    distance = state.distance.numpy().astype(float)
    point_position = state.point_position.numpy().astype(float)
    point_normal = -state.distance_gradient.numpy().astype(float)
    inside = np.concatenate([distance, state.object_distance.numpy()], axis=1).min(axis=1)
    begin = model.link_begin.numpy()
    nearest = np.full((len(distance), len(begin) - 1), np.inf)
    position = np.full((*nearest.shape, CONTACTS_PER_LINK, 3), np.nan)
    normal = np.full_like(position, np.nan)
    for link, (a, b) in enumerate(itertools.pairwise(begin)):
        if a == b:
            continue
        nearest[:, link] = distance[:, a:b].min(axis=1)
        for grasp in np.flatnonzero(nearest[:, link] <= CONTACT_DISTANCE):
            chosen = a + _spread_contacts(distance[grasp, a:b], point_position[grasp, a:b])
            position[grasp, link, : len(chosen)] = point_position[grasp, chosen]
            normal[grasp, link, : len(chosen)] = point_normal[grasp, chosen]
    deepest_self = state.self_distance.numpy().min(axis=1).astype(float)
    return np.maximum(-inside, 0.0).astype(float), np.maximum(-deepest_self, 0.0), nearest, position, normal


def _spread_contacts(distance: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The nearest point and others far from it among those that touch: a face holds against twist, a point does not."""
    touching = np.flatnonzero(distance <= CONTACT_DISTANCE)
    first = int(distance[touching].argmin())
    return touching[farthest_points(position[touching], min(CONTACTS_PER_LINK, len(touching)), first=first)]


def friction_edges(normal: np.ndarray, friction_coefficient: float, edge_count: int) -> np.ndarray:
    """Edges of the friction cones about unit normals (C, 3), with unit normal part, shape (C, edge, 3)."""
    helper = np.where(np.abs(normal[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal, first)
    angle = 2.0 * np.pi * np.arange(edge_count) / edge_count
    tangent = np.cos(angle)[:, None] * first[:, None] + np.sin(angle)[:, None] * second[:, None]
    return normal[:, None] + friction_coefficient * tangent


def wrench_residual(
    position: np.ndarray,
    normal: np.ndarray,
    *,
    center: np.ndarray,
    torque_length: float,
    friction_coefficient: float = 0.2,
    edge_count: int = 8,
    load: float = 0.15,
) -> float:
    """How far contacts of one grasp are from resisting a push in any of six directions.

    max over the loads w = +-load e_i (i = x, y, z) of min over f of |G f - w|, where f >= 0 are forces along the edges
    of the friction cones whose normal parts sum to one, and G stacks their forces and their torques about ``center``
    divided by ``torque_length``. Zero: every push is resisted by a grip of 1 / load times its size.

    Args:
        position: Contact points [m], shape (C, 3).
        normal: Unit normals into the object, shape (C, 3).
        center: Centre of mass [m], shape (3,).
        torque_length: Length that turns torques into forces [m].
        friction_coefficient: Coulomb friction.
        edge_count: Edges of each cone.
        load: Push as a share of the summed normal force.

    Returns:
        The residual as a share of the summed normal force; 1 where there are no contacts.
    """
    from scipy.optimize import nnls

    if len(position) == 0:
        return 1.0
    force = friction_edges(normal, friction_coefficient, edge_count)
    torque = np.cross((position - center)[:, None], force) / torque_length
    columns = np.concatenate([force, torque], axis=-1).reshape(-1, 6).T
    # The sum of normal parts is held at one by a heavy row of the least-squares problem.
    heavy = 1.0e3
    matrix = np.vstack([columns, np.full(columns.shape[1], heavy)])
    worst = 0.0
    for axis in range(3):
        for sign in (-1.0, 1.0):
            target = np.zeros(7)
            target[axis], target[6] = sign * load, heavy
            worst = max(worst, nnls(matrix, target)[1])
    return worst


def residuals(measurement: Measurement, obj: ObjectMesh) -> np.ndarray:
    """``wrench_residual`` of each grasp, shape (N,)."""
    count = len(measurement.contact_position)
    values = np.empty(count)
    for grasp in range(count):
        position = measurement.contact_position[grasp].reshape(-1, 3)
        there = np.isfinite(position[:, 0])
        values[grasp] = wrench_residual(
            position[there],
            measurement.contact_normal[grasp].reshape(-1, 3)[there],
            center=obj.center_of_mass,
            torque_length=1.5 * obj.radius_of_gyration,
        )
    return values


def reasons(hand: Hand, metrics: dict[str, np.ndarray], limits: Limits) -> np.ndarray:
    """Why each grasp is not valid, "" where it is, str of shape (N,)."""
    needed = min(limits.links_in_contact, max(len(hand.fingers), 2))
    failures = {
        "not finite": ~np.isfinite(metrics["loss"]),
        "penetration": metrics["penetration_depth_m"] > limits.penetration_depth,
        "self-penetration": metrics["self_penetration_depth_m"] > limits.self_penetration_depth,
        "too few links in contact": metrics["links_in_contact_2mm"] < needed,
        "not balanced": metrics["wrench_residual_mu02"] > limits.wrench_residual,
        "pregrasp not clear": metrics["pregrasp_clearance_m"] < limits.pregrasp_clearance,
    }
    reason = np.full(len(metrics["loss"]), "", dtype=object)
    for text, failed in failures.items():
        reason[failed & (reason == "")] = text
    return reason.astype(str)
