"""Contacts and the wrenches they can apply: checked, with a frame in each, ready for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import warp as wp

from .errors import ContactError, OptionError, ShapeError
from .kernels.gauge import Mat46, Vec6, WrenchSpace

UNIT_TOLERANCE = 1.0e-3
"""How far the length of a contact normal may be from one."""

EdgeForce = Literal["unit_normal", "unit"]
"""What has size one in an edge of a friction cone: its normal part (GraspIt!, Dex-Net, DexGraspNet), or the whole force
(FRoGGeR)."""


class Edges(TypedDict, total=False):
    """Further conventions of friction cones, accepted by every function that takes ``edge_count``."""

    edge_force: EdgeForce
    """``"unit_normal"`` where not given; ``"unit"`` divides edges by sqrt(1 + mu^2), circular cones too."""

    edge_phase: float
    """Angle of the first edge from the first tangent [rad]; 0 where not given."""

    tangent: Any
    """First tangent of each contact, shape (N, C, 3); its part across the normal is used. :func:`tangents` where not
    given."""

    torsion_length: float
    """Soft fingers: torsion about the normal per normal force [m]. The wrenches of a contact are those of its cone
    and (n, +-torsion_length n), not their products. 0 where not given."""


@dataclass(frozen=True, eq=False)
class Contacts:
    """The contacts of N grasps, those present first."""

    position: np.ndarray
    """Relative to the centre, in lengths [torque_length], 0 where absent, shape (N, C, 3)."""

    normal: np.ndarray
    """Unit, into the object, 0 where absent, shape (N, C, 3)."""

    present: np.ndarray
    """Whether there is a contact, bool, shape (N, C)."""

    order: np.ndarray
    """Index of each contact in the input, shape (N, C)."""

    @property
    def count(self) -> np.ndarray:
        """Contacts of each grasp, shape (N,)."""
        return self.present.sum(axis=1).astype(np.int32)

    def __getitem__(self, grasps: slice) -> Contacts:
        return Contacts(self.position[grasps], self.normal[grasps], self.present[grasps], self.order[grasps])

    def wrench(self, force: np.ndarray) -> np.ndarray:
        """Forces (N, C, ..., 3) at the contacts with their torques over the torque length, shape (N, C, ..., 6)."""
        extra = force.ndim - self.position.ndim
        position = self.position.reshape(*self.position.shape[:2], *(1,) * extra, 3)
        return np.concatenate([force, np.cross(position, force)], axis=-1)


def as_numpy(array: Any) -> np.ndarray:
    """A NumPy, torch or Warp array, or a list, as float64 on the host."""
    if isinstance(array, wp.array):
        array = array.numpy()
    elif hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array, dtype=np.float64)


def read_contacts(contact_position: Any, contact_normal: Any, *, center: Any, torque_length: Any) -> Contacts:
    """Check the contacts of N grasps and put them in order.

    Args:
        contact_position: Contact points [m], any frame; NaN: no contact, shape (N, C, 3).
        contact_normal: Unit normals into the object, same frame; NaN: no contact, shape (N, C, 3).
        center: Point that torques are taken about [m], shape (3,) or (N, 3).
        torque_length: Length that torques are divided by [m], > 0, shape () or (N,).

    Raises:
        ShapeError: An array does not fit.
        ContactError: A contact is infinite or partly NaN, or a normal is not unit.
        OptionError: ``torque_length`` is not positive, or ``center`` is not finite.
    """
    position, normal = as_numpy(contact_position), as_numpy(contact_normal)
    if position.ndim != 3 or position.shape[2] != 3:
        raise ShapeError("contact_position", "(N, C, 3)", position.shape)
    if normal.shape != position.shape:
        raise ShapeError("contact_normal", f"{position.shape} like contact_position", normal.shape)
    origin = per_grasp("center", center, (len(position), 3))
    length = per_grasp("torque_length", torque_length, (len(position),))
    if not np.all(length > 0.0):
        raise OptionError(f"torque_length must be positive [m], got {length.min()}")
    present = ~np.logical_or(np.isnan(position).all(axis=2), np.isnan(normal).all(axis=2))
    _check(position, normal, present)
    order = np.argsort(~present, axis=1, kind="stable")
    arm = np.where(present[..., None], (position - origin[:, None]) / length[:, None, None], 0.0)
    unit = np.where(present[..., None], normal, 0.0)
    unit /= np.where(present, np.linalg.norm(unit, axis=2), 1.0)[..., None]
    return Contacts(_take(arm, order[..., None]), _take(unit, order[..., None]), _take(present, order), order)


def per_grasp(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An option that is one for all grasps or one for each, as float64 of ``shape``, finite."""
    array = as_numpy(value)
    try:
        array = np.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(name, f"{shape} or {shape[1:]}", array.shape) from None
    if not np.isfinite(array).all():
        raise OptionError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def per_contact(name: str, value: Any, contacts: Contacts) -> np.ndarray:
    """An option that is one for all, one for each grasp or one for each contact, in the order of ``contacts``.

    Entries of absent contacts become 0. Negative or infinite ones, or NaN at a contact, are an OptionError.
    """
    array = as_numpy(value)
    if array.ndim == 1 and len(array) == len(contacts.present):
        array = array[:, None]
    try:
        array = np.broadcast_to(array, contacts.present.shape)
    except ValueError:
        raise ShapeError(name, "(), (N,) or (N, C) like the contacts", array.shape) from None
    array = np.where(contacts.present, _take(array, contacts.order), 0.0)
    bad = np.argwhere(~(np.isfinite(array) & (array >= 0.0)))
    if len(bad):
        grasp, contact = bad[0]
        where = f"grasp {grasp}, contact {contacts.order[grasp, contact]}"
        raise OptionError(f"{name} must be >= 0 and finite, got {array[grasp, contact]} at {where}")
    return array


def _take(array: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(array, order, axis=1)


def _check(position: np.ndarray, normal: np.ndarray, present: np.ndarray) -> None:
    """Every contact that is present must be finite and have a unit normal."""
    for grasp, contact in np.argwhere(present & ~np.isfinite(position + normal).all(axis=2))[:1]:
        raise ContactError(
            f"contact {contact} of grasp {grasp} is not finite; "
            "a contact that is absent has NaN in all three entries of its position or normal"
        )
    length = np.linalg.norm(normal, axis=2)
    for grasp, contact in np.argwhere(present & ~(np.abs(length - 1.0) <= UNIT_TOLERANCE))[:1]:
        raise ContactError(
            f"contact {contact} of grasp {grasp} has a normal of length {length[grasp, contact]:.6g} instead of one"
        )


def tangents(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors that complete unit normals (..., 3) to a right-handed frame (t1, t2, n).

    Source: Duff et al. 2017, Building an orthonormal basis, revisited.
    """
    x, y, z = np.moveaxis(normal, -1, 0)
    sign = np.where(z >= 0.0, 1.0, -1.0)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = np.stack([1.0 + sign * x * x * a, sign * b, -sign * x], axis=-1)
    return first, np.stack([b, sign + y * y * a, -y], axis=-1)


def friction_frame(contacts: Contacts, tangent: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The two tangents of each contact, shape (N, C, 3), from the given first ones or from :func:`tangents`."""
    if tangent is None:
        return tangents(contacts.normal)
    given = as_numpy(tangent)
    if given.shape != contacts.normal.shape:
        raise ShapeError("tangent", f"{contacts.normal.shape} like contact_normal", given.shape)
    given = np.take_along_axis(given, contacts.order[..., None], axis=1)
    first = given - (given * contacts.normal).sum(axis=2, keepdims=True) * contacts.normal
    length = np.linalg.norm(first, axis=2)
    bad = np.argwhere(~(length > 1.0e-6) & contacts.present)
    if len(bad):
        grasp, contact = bad[0]
        raise ContactError(f"tangent of contact {contacts.order[grasp, contact]} of grasp {grasp} is along its normal")
    first = np.where(contacts.present[..., None], first / np.where(contacts.present, length, 1.0)[..., None], 0.0)
    return first, np.cross(contacts.normal, first)


def edge_directions(edge_count: int, edge_phase: float = 0.0) -> np.ndarray:
    """Directions of the friction force along the edges, in tangents, shape (edge, 2).

    None for the circular cone (edge_count 0); (0, 0), no friction, for edge_count 1.
    """
    if isinstance(edge_count, bool) or edge_count != int(edge_count) or edge_count < 0:
        raise OptionError(f"edge_count must be 0 (circular cone), 1 (frictionless) or more, got {edge_count}")
    if edge_count == 1:
        return np.zeros((1, 2))
    angle = edge_phase + 2.0 * np.pi * np.arange(edge_count) / max(edge_count, 1)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def cone_wrenches(contacts: Contacts, torque_length: Any, friction_coefficient: Any, edges: Edges) -> np.ndarray:
    """Wrenches of unit normal force, of friction along both tangents, and of torsion, shape (N, C, 4, 6)."""
    unknown = set(edges) - Edges.__optional_keys__
    if unknown:
        raise TypeError(f"unknown options {sorted(unknown)}; known: {sorted(Edges.__optional_keys__)}")
    friction = per_contact("friction_coefficient", friction_coefficient, contacts)[..., None]
    first, second = friction_frame(contacts, edges.get("tangent"))
    wrench = np.zeros((*contacts.present.shape, 4, 6))
    for row, force in enumerate((contacts.normal, friction * first, friction * second)):
        wrench[:, :, row] = contacts.wrench(force)
    edge_force = edges.get("edge_force", "unit_normal")
    if edge_force == "unit":
        wrench /= np.sqrt(1.0 + friction * friction)[..., None]
    elif edge_force != "unit_normal":
        raise OptionError(f"edge_force must be 'unit_normal' or 'unit', got {edge_force!r}")
    torsion = edges.get("torsion_length", 0.0)
    if not (torsion >= 0.0 and np.isfinite(torsion)):
        raise OptionError(f"torsion_length must be >= 0 [m], got {torsion}")
    length = per_grasp("torque_length", torque_length, (len(wrench),))
    wrench[:, :, 3, 3:] = contacts.normal * (torsion / length)[:, None, None]
    return np.where(contacts.present[..., None, None], wrench, 0.0)


def edge_wrenches(wrench: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """The wrenches of all edges (E, 2) of contacts (..., 4, 6), then of both torsions if any has one, (..., E, 6)."""
    normal, friction, torsion = wrench[..., :1, :], wrench[..., 1:3, :], wrench[..., 3:, :]
    force = normal + np.einsum("et,...tw->...ew", edge, friction)
    if not torsion.any():
        return force
    return np.concatenate([force, normal + torsion, normal - torsion], axis=-2)


def wrench_space(
    wrench: np.ndarray,
    count: np.ndarray,
    edge: np.ndarray,
    *,
    shift: np.ndarray | None = None,
    summed: bool = False,
    device: str = "cpu",
) -> Any:
    """The device's ``WrenchSpace``: wrenches (N, C, 4, 6) of the first ``count`` (N,) contacts, with edges (E, 2)."""
    space: Any = WrenchSpace()
    space.wrench = wp.array(wrench, dtype=Mat46, device=device)
    space.contact_count = wp.array(count, dtype=int, device=device)
    space.edge = wp.array(edge, dtype=wp.vec2d, device=device)
    space.shift = wp.array(np.zeros((len(wrench), 6)) if shift is None else shift, dtype=Vec6, device=device)
    space.summed = int(summed)
    return space
