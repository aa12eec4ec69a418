"""Raise the q-score of grasps by a few small motions of wrist and joints.

The q-score's gradient says how contacts should move and normals turn. A contact is taken to be fixed to its link and to
touch the object where that is nearest; the hand's Jacobian and the object's curvature carry the gradient on to the
wrist and the joints. Normal forces stay what they are, so after the motion they have to be found anew.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import warp as wp
from scipy.spatial.transform import Rotation

from . import device as devices
from . import rotation
from .distance import DeviceMesh, evaluate_signed_distance, find_closest_faces
from .errors import ContactError, OptionError, ShapeError
from .evaluation import CONTACT_REACH, torque_length
from .geometry import measure_geometry
from .hand import Hand
from .label import HAND_POINTS, OBJECT_POINTS, Limits
from .mesh import ObjectMesh
from .model import HandModel
from .pose import Pose
from .qscore import QScore, qscore
from .squeeze import FORCE, LEVER, STIFFNESS, contact_forces
from .wrench import as_numpy

SPAN = 0.003
"""Normals are means over a pad of this half width, and curvatures their differences across it [m]."""

REACH = 0.05
"""Farthest that a contact may be from the object's surface [m]."""

NORMAL_PRICE = 1.0e3
"""Price of a motion along the normals relative to one across them: contacts may slide and roll, not press or lift."""

LIFT = 3.0e-4
"""Most that a contact may come nearer to the surface or go away from it, over all steps [m]."""

REGULARIZATION = 1.0e-6
"""Price of motions that no contact feels, relative to the mean of all."""

FAINT = 1.0e-3
"""Share of the total force below which a link counts as not pressing."""


@dataclass(frozen=True, eq=False)
class LinkContacts:
    """Where the links of N hands press on an object, C contacts each."""

    link: np.ndarray
    """Link that each contact belongs to; any where there is no contact, int, shape (N, C)."""

    position: np.ndarray
    """In the object frame [m]; NaN: no contact, shape (N, C, 3)."""

    normal_force: np.ndarray
    """Sizes of the normal forces [N], shape (N, C)."""

    def finger_count(self, hand: Hand) -> np.ndarray:
        """Fingers with a link that presses, what ``qscore_label`` asks for, shape (N,); the palm is none."""
        pressing = (self.normal_force > 0.0) & np.isfinite(self.position).all(axis=2)
        touching = [(np.isin(self.link, finger.links) & pressing).any(axis=1) for finger in hand.fingers]
        return np.sum(touching, axis=0, initial=0) * np.ones(len(self.position), int)


@dataclass(frozen=True, eq=False)
class Raised:
    """What became of N grasps."""

    pose: Pose
    """Wrist and joints; where no step helped, those that were given."""

    before: QScore
    """Score of the given poses, with the object's normals at the contacts."""

    after: QScore
    """Score of the new poses with the same normal forces."""

    contacts: LinkContacts
    """The contacts after the motion, on the object's surface, with the same normal forces."""

    contact_normal: np.ndarray
    """Unit normals into the object there, NaN where there is no contact, shape (N, C, 3)."""

    squeeze: Pose
    """Where to send the joints so that their springs press with these forces and their friction; the wrist stays."""


def rigid_contacts(model: HandModel, mesh: DeviceMesh, pose: Pose, *, force: float = FORCE) -> LinkContacts:
    """One contact for each link that presses when forces of total normal part ``force`` [N] balance on the object.

    They are those that the squeeze aims at, without what it wants of links that are more than 5 mm away; for use where
    no tactile stage has found better ones.
    """
    _, balance = contact_forces(model, mesh, pose)
    arrays = balance.arrays
    normal, whole = arrays.normal.numpy().astype(float), arrays.force.numpy()[:, 0].astype(float)
    along = (normal * whole).sum(axis=2)
    pressing = np.asarray((along > FAINT) & (arrays.distance.numpy() <= CONTACT_REACH))
    link = np.broadcast_to(np.asarray(balance.contact_link.numpy(), int), along.shape)
    position = np.where(pressing[..., None], arrays.position.numpy().astype(float), np.nan)
    return LinkContacts(link, position, force * np.where(pressing, along, 0.0))


def raise_q(
    hand: Hand,
    obj: ObjectMesh,
    pose: Pose,
    contacts: LinkContacts,
    *,
    friction_coefficient: Any,
    wrench: Any = None,
    slack_weight: float = 20.0,
    steps: int = 12,
    motion: float = 1.0e-3,
    limits: Limits | None = None,
    device: str | None = None,
) -> Raised:
    """Move wrists and joints a little, so that grasps need less friction with the same normal forces.

    Each step goes down the gradient of V in the metric of the contacts' motions, contacts sliding on the surface; it
    counts only if V falls, contacts neither lift nor press by more than 0.3 mm, and neither the hand in the object nor
    a link in another is deeper than it was or than the limits allow. Otherwise the grasp tries half the length.

    Args:
        hand: The hand.
        obj: The object.
        pose: N grasps.
        contacts: Where they press and how hard; :func:`rigid_contacts`, or a tactile stage, gives them.
        friction_coefficient: mu, () or (N,) or (N, C).
        wrench: External force [N] and torque about the centre of mass [N m], shape (6,) or (N, 6); none when omitted.
        slack_weight: rho of the q-score.
        steps: Steps to try.
        motion: Root mean square motion of the contacts in the first step [m].
        limits: Depths that are allowed; those of valid grasps when omitted.
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Raises:
        ShapeError: An array does not fit.
        OptionError: An option is out of range, or a link does not exist.
        ContactError: A contact is not finite, or not near the object.
    """
    if not (steps >= 0 and motion > 0.0):
        raise OptionError(f"steps must be >= 0 and motion positive [m], got {steps} and {motion}")
    limits = limits or Limits()
    scene = _Scene(hand, obj, pose, contacts, devices.choose(device), friction_coefficient, wrench, slack_weight)
    allowed = np.maximum(scene.depths(pose), [limits.penetration_depth, limits.self_penetration_depth])
    first = touch = scene.touch(pose)
    reach = np.full(len(pose), motion)
    for _ in range(steps):
        trial = scene.moved(pose, scene.step(pose, touch, first.distance, reach))
        there = scene.touch(trial)
        lift = np.abs(there.distance - first.distance).max(axis=1, initial=0.0)
        good = (
            np.asarray(there.value < touch.value)
            & (lift <= LIFT)
            & (scene.depths(trial) <= allowed + 1.0e-6).all(axis=1)
        )
        pose, touch = _choose(good, trial, pose), _choose(good, there, touch)
        reach = np.where(good, 1.5, 0.5) * reach
    position, normal = (np.where(scene.present[..., None], a, np.nan) for a in (touch.position, touch.normal))
    moved = LinkContacts(contacts.link, position, scene.force)
    after = scene.score(touch)
    squeeze = scene.squeeze(pose, scene.force[..., None] * touch.normal + after.friction_force)
    return Raised(pose, scene.score(first), after, moved, normal, squeeze)


def value_gradient(
    hand: Hand,
    obj: ObjectMesh,
    pose: Pose,
    contacts: LinkContacts,
    *,
    friction_coefficient: Any,
    wrench: Any = None,
    slack_weight: float = 20.0,
    device: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """V of the q-score with contacts where their links touch the object, and its gradient; arguments as above.

    Returns:
        V, shape (N,), and its derivative for a translation of the wrist [1/m], a rotation about its origin [1/rad],
        both in the axes of the object frame, and the free joints [1/rad or 1/m], shape (N, 6 + K). Those of q are -q
        times it.
    """
    scene = _Scene(hand, obj, pose, contacts, devices.choose(device), friction_coefficient, wrench, slack_weight)
    touch = scene.touch(pose)
    return touch.value, np.einsum("nci,ncik->nk", touch.slope, scene.jacobian(pose))


@dataclass(frozen=True, eq=False)
class _Touch:
    """Where N hands touch; 0 where there is no contact."""

    value: np.ndarray
    """V, shape (N,)."""

    position: np.ndarray
    """Nearest points of the object [m], shape (N, C, 3)."""

    normal: np.ndarray
    """Mean normal into the object around them, unit, shape (N, C, 3)."""

    distance: np.ndarray
    """Signed distance of the links' points [m], shape (N, C)."""

    slope: np.ndarray
    """Derivative of V with respect to the links' points [1/m], shape (N, C, 3)."""


class _Scene:
    """What does not change while the hands move."""

    def __init__(
        self,
        hand: Hand,
        obj: ObjectMesh,
        pose: Pose,
        contacts: LinkContacts,
        device: str,
        friction_coefficient: Any,
        wrench: Any,
        slack_weight: float,
    ) -> None:
        self.hand, self.object, self.mesh = hand, obj, DeviceMesh(obj, device)
        self.options = {
            "friction_coefficient": friction_coefficient,
            "wrench": wrench,
            "slack_weight": slack_weight,
            "center": obj.center_of_mass,
            "torque_length": torque_length(obj),
        }
        self.link, position, self.force = _read(hand, pose, contacts)
        self.present = np.asarray(np.isfinite(position).all(axis=2))
        at = self.transforms(pose)
        self.local = np.einsum("ncji,ncj->nci", at[..., :3, :3], np.nan_to_num(position) - at[..., :3, 3])
        distance, _ = self.signed_distance(np.nan_to_num(position))
        for grasp, contact in np.argwhere(self.present & (distance > REACH))[:1]:
            raise ContactError(f"contact {contact} of grasp {grasp} is more than {REACH} m from the object")
        self.moves = _moved_links(hand)[:, self.link].transpose(1, 2, 0)
        self.slides = np.array([joint.kind == "prismatic" for joint in hand.joints])

    def links(self, pose: Pose) -> np.ndarray:
        """Poses of all links in the object frame, shape (N, L, 4, 4)."""
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        return wrist[:, None] @ self.hand.link_transforms(pose.joint_position)

    def transforms(self, pose: Pose) -> np.ndarray:
        """Poses of the contacts' links, shape (N, C, 4, 4)."""
        return np.take_along_axis(self.links(pose), self.link[..., None, None], axis=1)

    def points(self, pose: Pose) -> np.ndarray:
        """The links' points [m], shape (N, C, 3)."""
        at = self.transforms(pose)
        return np.einsum("ncij,ncj->nci", at[..., :3, :3], self.local) + at[..., :3, 3]

    def touch(self, pose: Pose) -> _Touch:
        """Where hands in these poses touch, and how V changes with that.

        The nearest point p - d g of a point p moves by (1 - g g' - d H) dp, H the derivative of the gradient g of the
        distance d; the normal -g turns by -H dp.
        """
        point = self.points(pose)
        probe = point[:, :, None] + SPAN * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
        distance, gradient = self.signed_distance(probe.reshape(len(point), -1 if probe.size else 0, 3))
        distance = np.where(self.present, distance.reshape(probe.shape[:3])[..., 0], 0.0)
        gradient = gradient.reshape(probe.shape)
        mean = gradient.mean(axis=2)
        # What is out of reach has no gradient; it is rejected for its distance.
        size = np.linalg.norm(mean, axis=2, keepdims=True)
        outward = np.where(size > 1.0e-3, mean, [1.0, 0.0, 0.0]) / np.where(size > 1.0e-3, size, 1.0)
        position = point - distance[..., None] * outward
        score = self.score_at(position, -outward)
        across = np.eye(3) - outward[..., :, None] * outward[..., None, :]
        difference = (gradient[:, :, 1:4] - gradient[:, :, 4:]) / (2.0 * SPAN)
        curvature = across @ (0.5 * (difference + np.swapaxes(difference, 2, 3))) @ across
        slope = np.einsum(
            "ncij,ncj->nci", across - distance[..., None, None] * curvature, score.gradient.contact_position
        )
        slope -= np.einsum("ncij,ncj->nci", curvature, score.gradient.contact_normal)
        return _Touch(score.value, position, -outward, distance, slope)

    def score(self, touch: _Touch) -> QScore:
        """The whole score of what touches."""
        return self.score_at(touch.position, touch.normal)

    def score_at(self, position: np.ndarray, normal: np.ndarray) -> QScore:
        """Of contacts at these points, shape (N, C, 3)."""
        here = np.where(self.present[..., None], position, np.nan)
        return qscore(here, np.where(self.present[..., None], normal, np.nan), self.force, **self.options)

    def signed_distance(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance [m] and its gradient at points (N, P, 3)."""
        device = self.mesh.device
        at = wp.array(point.astype(np.float32), dtype=wp.vec3, device=device)
        face, distance = (wp.empty(at.shape, dtype=dtype, device=device) for dtype in (int, float))
        outward, gradient = wp.empty_like(at), wp.empty_like(at)
        find_closest_faces(self.mesh, at, REACH, face, outward)
        evaluate_signed_distance(self.mesh, at, face, outward, distance_out=distance, gradient_out=gradient)
        return distance.numpy().astype(float), gradient.numpy().astype(float)

    def jacobian(self, pose: Pose) -> np.ndarray:
        """Motion of the links' points with wrist translation, wrist rotation and free joints, (N, C, 3, 6 + K)."""
        point, links = self.points(pose), self.links(pose)
        turn = np.cross(np.eye(3), (point - pose.wrist_position[:, None])[..., None, :])
        axis = np.einsum("njik,jk->nji", links[:, 1:, :3, :3], np.array([joint.axis for joint in self.hand.joints]))
        arm = point[:, :, None] - links[:, None, 1:, :3, 3]
        swing = np.where(self.slides[:, None], axis[:, None], np.cross(axis[:, None], arm))
        swing = np.where(self.moves[..., None], swing, 0.0)
        joints = np.einsum("ncji,jk->ncik", swing, self.hand.joint_map)
        shift = np.broadcast_to(np.eye(3), (*point.shape, 3))
        return np.concatenate([shift, np.swapaxes(turn, 2, 3), joints], axis=3)

    def step(self, pose: Pose, touch: _Touch, distance: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Down V by a mean contact motion of ``reach`` [m], and back to the contacts' distances, (N, 6 + K).

        In the metric of the loaded contacts' squared motions, in which motions along the normals are dear.
        """
        jacobian = self.jacobian(pose)
        share = self.force / np.maximum(self.force.sum(axis=1, keepdims=True), 1.0e-12)
        motion = np.einsum("nc,ncik,ncil->nkl", share, jacobian, jacobian)
        size = np.trace(motion, axis1=1, axis2=2)[:, None, None] / motion.shape[1]
        # What no contact feels stays where it is; a contact without force is held as well as one with.
        motion += (REGULARIZATION * size + 1.0e-12) * np.eye(motion.shape[1])
        normal = np.einsum("nci,ncik->nck", touch.normal, jacobian) * self.present[..., None]
        held = np.einsum("nck,ncl->nkl", normal, normal) / np.maximum(self.present.sum(axis=1), 1)[:, None, None]
        metric = motion + NORMAL_PRICE * held
        right = -np.einsum("nci,ncik->nk", touch.slope, jacobian)
        down = np.linalg.solve(metric, right[..., None])[..., 0]
        length = np.sqrt(np.einsum("nk,nkl,nl->n", down, metric, down))
        down *= (reach / np.maximum(length, 1.0e-12))[:, None]
        drift = np.einsum("nck,nc->nk", normal, touch.distance - distance)
        drift /= np.maximum(self.present.sum(axis=1), 1)[:, None]
        return down + np.linalg.solve(metric, NORMAL_PRICE * drift[..., None])[..., 0]

    def moved(self, pose: Pose, step: np.ndarray) -> Pose:
        """Poses after a step, within ranges and couplings."""
        turn = np.roll(Rotation.from_rotvec(step[:, 3:6]).as_quat(), 1, axis=1)
        free = self.hand.free_position(pose.joint_position) + step[:, 6:]
        return Pose(
            pose.wrist_position + step[:, :3],
            rotation.multiply(turn, pose.wrist_quaternion),
            self.hand.clamp(self.hand.joint_position(free)),
        )

    def squeeze(self, pose: Pose, force: np.ndarray) -> Pose:
        """Targets of joints whose springs push the contacts with these forces [N], shape (N, C, 3)."""
        torque = np.einsum("nci,ncik->nk", force, self.jacobian(pose)[..., 6:])
        stiffness = np.where(self.slides[list(self.hand.free_joints)], STIFFNESS / LEVER**2, STIFFNESS)
        joints = self.hand.joint_position(self.hand.free_position(pose.joint_position) + torque / stiffness)
        return Pose(pose.wrist_position, pose.wrist_quaternion, self.hand.clamp(joints))

    def depths(self, pose: Pose) -> np.ndarray:
        """Hand in object or object in hand, and link in link, as labels measure them [m], shape (N, 2)."""
        found = measure_geometry(
            self.hand,
            self.object,
            pose,
            thresholds=(),
            hand_points=HAND_POINTS,
            object_points=OBJECT_POINTS,
            mesh=self.mesh,
        )
        both = np.maximum(found.hand_in_object_depth, found.object_in_hand_depth)
        return np.stack([both, found.self_penetration_depth], axis=1)


def _read(hand: Hand, pose: Pose, contacts: LinkContacts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links, positions and forces, checked; the forces of absent contacts are 0."""
    position, force = as_numpy(contacts.position), as_numpy(contacts.normal_force)
    if position.ndim != 3 or position.shape[2] != 3 or len(position) != len(pose):
        raise ShapeError("contacts.position", f"({len(pose)}, C, 3) like the poses", position.shape)
    link = np.asarray(contacts.link)
    for name, array in (("link", link), ("normal_force", force)):
        if array.shape != position.shape[:2]:
            raise ShapeError(f"contacts.{name}", f"{position.shape[:2]} like contacts.position", array.shape)
    present = ~np.isnan(position).all(axis=2)
    for grasp, contact in np.argwhere(present & ~np.isfinite(position).all(axis=2))[:1]:
        raise ContactError(f"contact {contact} of grasp {grasp} is not finite; NaN in all three entries is no contact")
    link = np.where(present, link, 0)
    bad = link[(link < 0) | (link >= len(hand.links))]
    if len(bad):
        raise OptionError(
            f"contacts.link must be from 0 to {len(hand.links) - 1}, the links of {hand.name}, got {bad[0]}"
        )
    return link, position, np.where(present, force, 0.0)


def _moved_links(hand: Hand) -> np.ndarray:
    """Whether a joint moves a link, bool, shape (J, L)."""
    moves = np.zeros((hand.joint_count, len(hand.links)), dtype=bool)
    for number, joint in enumerate(hand.joints):
        moves[:, number + 1] = moves[:, joint.parent]
        moves[number, number + 1] = True
    return moves


def _choose(good: np.ndarray, new: Any, old: Any) -> Any:
    """The new arrays of the grasps that are good, the old ones of the others."""
    arrays = ((getattr(new, entry.name), getattr(old, entry.name)) for entry in fields(new))
    return type(new)(*(np.where(good.reshape(-1, *(1,) * (n.ndim - 1)), n, o) for n, o in arrays))
