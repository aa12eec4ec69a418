"""Is it a grasp? Penetration, contact and balance of each pose, and the reason where it is not valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .distance import DeviceMesh
from .geometry import Geometry, links_in_contact, measure_geometry
from .hand import Hand
from .mesh import ObjectMesh
from .pose import Pose
from .wrench import cone_wrenches, edge_directions, edge_wrenches, read_contacts

HAND_POINTS = 4096
"""Points on the hand's skin that labels are measured with."""

OBJECT_POINTS = 8192
"""Points on the object by area; as many of its vertices come on top."""

CONTACTS_PER_LINK = 4
"""Most contacts on one link when forces are balanced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a valid grasp may not exceed."""

    penetration_depth: float = 0.001
    """Hand in object or object in hand [m]."""

    self_penetration_depth: float = 0.0005
    """Link in link at the grasp and at the pregrasp, neighbours left out [m]."""

    links_in_contact: int = 3
    """At least that many links within 2 mm of the surface, or all fingers where there are fewer."""

    wrench_residual: float = 0.1
    """See :func:`wrench_residual`."""

    pregrasp_clearance: float = 0.0049
    """Least distance of the pregrasp to the object [m]: what it aims at, a little left for the labels' points."""

    approach_penetration: float = 0.001
    """Hand in object on the straight way from pregrasp to grasp [m]."""

    surroundings_clearance: float = 0.0
    """Least distance of any link to table and obstacles, in all phases and on the way [m]."""


def measure(hand: Hand, obj: ObjectMesh, pose: Pose, mesh: DeviceMesh) -> dict[str, np.ndarray]:
    """What the labels of N poses are decided by, each of shape (N,); ``mesh`` is the object on its device.

    Keys of the result:
        penetration_depth_m: Deepest point, of the hand in the object or of the object in the hand.
        self_penetration_depth_m: Depth of a link in another that is no neighbour.
        links_in_contact_2mm: Links whose nearest point is within 2 mm of the surface or inside.
        wrench_residual_mu02: See :func:`wrench_residual`; up to ``CONTACTS_PER_LINK`` contacts on each link.
    """
    geometry = measure_geometry(
        hand,
        obj,
        pose,
        thresholds=(),
        hand_points=HAND_POINTS,
        object_points=OBJECT_POINTS,
        patch_points=CONTACTS_PER_LINK,
        mesh=mesh,
    )
    return {
        "penetration_depth_m": np.maximum(geometry.hand_in_object_depth, geometry.object_in_hand_depth),
        "self_penetration_depth_m": geometry.self_penetration_depth,
        "links_in_contact_2mm": links_in_contact(geometry.contact_distance),
        "wrench_residual_mu02": wrench_residual(
            *_flat_patches(geometry), center=obj.center_of_mass, torque_length=1.5 * obj.radius_of_gyration
        ),
    }


def _flat_patches(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Contacts and their normals of all links in one row per grasp, (N, C, 3)."""
    count = geometry.patch_position.shape[1] * geometry.patch_position.shape[2]
    shape = (len(geometry.patch_position), count, 3)
    return geometry.patch_position.reshape(shape), geometry.patch_normal.reshape(shape)


def wrench_residual(
    contact_position: Any,
    contact_normal: Any,
    *,
    center: Any,
    torque_length: Any,
    friction_coefficient: Any = 0.2,
    edge_count: int = 8,
    load: float = 0.15,
) -> np.ndarray:
    """How far contacts are from resisting a push in any of six directions.

    max over the loads w = +-load e_i (i = x, y, z) of min over f of |G f - w|, where f >= 0 are forces along the edges
    of the friction cones whose normal parts sum to one, and G stacks their forces and their torques about ``center``
    divided by ``torque_length``. Zero: every push is resisted by a grip of 1 / load times its size.

    Args:
        contact_position: Contact points [m], NaN where there is none, shape (N, C, 3).
        contact_normal: Unit normals into the object, shape (N, C, 3).
        center: Centre of mass [m], shape (3,) or (N, 3).
        torque_length: Length that turns torques into forces [m].
        friction_coefficient: Coulomb friction.
        edge_count: Edges of each cone.
        load: Push as a share of the summed normal force.

    Returns:
        The residual as a share of the summed normal force, shape (N,); 1 where there are no contacts.
    """
    contacts = read_contacts(contact_position, contact_normal, center=center, torque_length=torque_length)
    wrench = cone_wrenches(contacts, torque_length, friction_coefficient, {})
    edge = edge_directions(edge_count)
    residual = np.ones(len(wrench))
    for grasp in np.flatnonzero(contacts.count):
        residual[grasp] = _residual(edge_wrenches(wrench[grasp, : contacts.count[grasp]], edge).reshape(-1, 6), load)
    return residual


def _residual(wrenches: np.ndarray, load: float) -> float:
    """The residual of one grasp whose forces are weighted sums of wrenches (M, 6), the weights summing to one."""
    from scipy.optimize import nnls

    # The sum of normal parts is held at one by a heavy row of the least-squares problem.
    heavy = 1.0e3
    matrix = np.vstack([wrenches.T, np.full(len(wrenches), heavy)])
    worst = 0.0
    for axis in range(3):
        for sign in (-1.0, 1.0):
            target = np.zeros(7)
            target[axis], target[6] = sign * load, heavy
            worst = max(worst, nnls(matrix, target)[1])
    return worst


def pose_failures(hand: Hand, metrics: dict[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
    """What may be wrong with the grasp pose itself, bool of shape (N,) by reason."""
    needed = min(limits.links_in_contact, max(len(hand.fingers), 2))
    return {
        "penetration": metrics["penetration_depth_m"] > limits.penetration_depth,
        "self-penetration": metrics["self_penetration_depth_m"] > limits.self_penetration_depth,
        "too few links in contact": metrics["links_in_contact_2mm"] < needed,
        "not balanced": metrics["wrench_residual_mu02"] > limits.wrench_residual,
    }


def reasons(hand: Hand, metrics: dict[str, np.ndarray], limits: Limits) -> np.ndarray:
    """Why each grasp is not valid, "" where it is, str of shape (N,)."""
    pregrasp = metrics["pregrasp_self_penetration_depth_m"] > limits.self_penetration_depth
    failures = {
        "not finite": ~np.isfinite(metrics["loss"]),
        **pose_failures(hand, metrics, limits),
        "pregrasp not clear": pregrasp | (metrics["pregrasp_clearance_m"] < limits.pregrasp_clearance),
        "way not clear": metrics["approach_penetration_m"] > limits.approach_penetration,
    }
    if "surroundings_clearance_m" in metrics:
        failures["hits table or obstacle"] = ~(metrics["surroundings_clearance_m"] >= limits.surroundings_clearance)
    reason = np.full(len(metrics["loss"]), "", dtype=object)
    for text, failed in failures.items():
        reason[failed & (reason == "")] = text
    return reason.astype(str)
