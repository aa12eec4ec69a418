"""How fingers close: one motion each, from the grasp towards the squeeze, and the force behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..hand import Hand
from ..pose import Pose
from ..squeeze import LEVER, STIFFNESS
from .pads import FingerPad

LEAST_SHIFT = 1.0e-4
"""A squeeze that moves no joint of a finger by this [rad or m/LEVER] does not say how it should close."""

LEAST_FORCE = 0.05
"""A closure pressed by less stays where it is [N]."""

FALLBACK_FORCE = 3.0
"""Of each finger where the squeeze says nothing [N]."""


@dataclass(frozen=True, eq=False)
class Closures:
    """One closing motion per finger, or for several fingers that one joint moves."""

    names: tuple[str, ...]
    """Of the fingers."""

    of_link: np.ndarray
    """Closure that moves each link, -1 for none, shape (link,)."""

    start: np.ndarray
    """Free joint coordinates at the grasp [rad or m], shape (N, free)."""

    direction: np.ndarray
    """Change of the free coordinates per metre that the closure's pads move, shape (N, closure, free)."""

    force: np.ndarray
    """Behind each closure, in newtons of the pads' motion; 0 where it is held [N], shape (N, closure)."""

    link_twist: np.ndarray
    """Motion of each link per metre of its closure, angular [rad/m] and linear at the object's origin, object frame,
    shape (N, link, 6)."""


def free_groups(hand: Hand) -> list[tuple[list[int], list[int]]]:
    """Fingers and the free coordinates that close them, together where they share their only one.

    A coordinate that several fingers share, such as a spread, is held unless a finger has no other.
    """
    used = [{int(k) for j in finger.joints for k in np.flatnonzero(hand.joint_map[j])} for finger in hand.fingers]
    own = [mine - set().union(*used[:i], *used[i + 1 :]) for i, mine in enumerate(used)]
    groups: list[tuple[list[int], set[int]]] = []
    for finger, mine in enumerate(used):
        coordinates = own[finger] or mine
        if not coordinates:
            continue
        shared = [group for group in groups if group[1] & coordinates]
        groups = [group for group in groups if group not in shared]
        groups.append(
            (sorted([finger, *(f for g in shared for f in g[0])]), coordinates.union(*(g[1] for g in shared)))
        )
    return [(fingers, sorted(coordinates)) for fingers, coordinates in sorted(groups)]


def find_closures(
    hand: Hand, pads: list[FingerPad], grasp: Pose, squeeze: Pose, *, force: float, toward: np.ndarray
) -> Closures:
    """Closing motions of N grasps.

    A finger moves along the straight line in joint space from grasp to squeeze. The force behind it is that of springs
    of ``squeeze.STIFFNESS`` between the joints and the squeeze, projected on that line; all forces of a grasp are
    scaled down together until none is larger than ``force``.

    Args:
        hand: The hand.
        pads: Its pads.
        grasp: N grasps.
        squeeze: Where their joints are sent in order to press.
        force: Largest force behind a finger [N].
        toward: Unit directions from each pad to the object, for fingers whose squeeze says nothing, shape (N, pad, 3).
    """
    groups = free_groups(hand)
    start = hand.free_position(grasp.joint_position)
    change = hand.free_position(squeeze.joint_position) - start
    sliding = np.array([hand.joints[j].kind == "prismatic" for j in hand.free_joints])
    stiffness = np.where(sliding, STIFFNESS / LEVER**2, STIFFNESS)
    jacobian = _link_jacobian(hand, grasp, start)
    place = _base(grasp)[:, None] @ hand.link_transforms(grasp.joint_position)
    of_link = np.full(len(hand.links), -1)
    direction = np.zeros((len(start), len(groups), start.shape[1]))
    pressed = np.zeros((len(start), len(groups)))
    for number, (fingers, coordinates) in enumerate(groups):
        links = {link for finger in fingers for link in hand.fingers[finger].links}
        links = [link for link in links if np.abs(jacobian[:, link][..., coordinates]).max(initial=0.0) > 0.0]
        of_link[links] = number
        mine = [pad for pad, spec in enumerate(pads) if spec.link in links]
        if not mine:
            continue
        speed = np.stack(
            [_speed(jacobian[:, pads[p].link][..., coordinates], place, pads[p]) for p in mine], axis=1
        )  # (N, pad, 3, coordinate)
        line = change[:, coordinates]
        vague = np.abs(line * np.where(sliding[coordinates], 1.0 / LEVER, 1.0)).max(axis=1) < LEAST_SHIFT
        line = np.where(vague[:, None], np.einsum("npxk,npx->nk", speed, toward[:, mine]), line)
        fastest = np.linalg.norm(np.einsum("npxk,nk->npx", speed, line), axis=2).max(axis=1)
        line = line / np.maximum(fastest, 1.0e-9)[:, None]
        direction[:, number, coordinates] = line
        spring = (stiffness[coordinates] * change[:, coordinates] * line).sum(axis=1)
        spring = np.where(vague, FALLBACK_FORCE, spring)
        pressed[:, number] = np.where(fastest > 1.0e-6, spring, 0.0)
    pressed = pressed * np.minimum(1.0, force / np.maximum(pressed.max(axis=1, keepdims=True, initial=0.0), 1.0e-9))
    pressed[pressed < LEAST_FORCE] = 0.0
    moved = direction[:, np.maximum(of_link, 0)] * (of_link >= 0)[:, None]
    return Closures(
        tuple("+".join(hand.fingers[f].name for f in fingers) for fingers, _ in groups),
        of_link,
        start,
        direction,
        pressed,
        np.einsum("nlwk,nlk->nlw", jacobian, moved),
    )


def _base(grasp: Pose) -> np.ndarray:
    from .. import rotation

    return rotation.matrix(grasp.wrist_position, grasp.wrist_quaternion)


def _link_jacobian(hand: Hand, grasp: Pose, start: np.ndarray) -> np.ndarray:
    """Twist of each link per free coordinate: angular, then linear at the object's origin, shape (N, link, 6, free)."""
    place = _base(grasp)[:, None] @ hand.link_transforms(hand.joint_position(start))
    axis = np.stack([joint.axis for joint in hand.joints])
    turn = np.array([joint.kind == "revolute" for joint in hand.joints])
    world = np.einsum("njxy,jy->njx", place[:, 1:, :3, :3], axis)
    own = np.zeros((len(start), hand.joint_count, 6))
    own[..., :3] = np.where(turn[:, None], world, 0.0)
    own[..., 3:] = np.where(turn[:, None], np.cross(place[:, 1:, :3, 3], world), world)
    by_joint = np.zeros((len(start), len(hand.links), 6, hand.joint_count))
    for j, joint in enumerate(hand.joints):
        by_joint[:, j + 1] = by_joint[:, joint.parent]
        by_joint[:, j + 1, :, j] = own[:, j]
    return by_joint @ hand.joint_map


def _speed(jacobian: np.ndarray, place: np.ndarray, pad: FingerPad) -> np.ndarray:
    """Velocity of a pad's point per free coordinate, shape (N, 3, coordinate)."""
    point = place[:, pad.link, :3, :3] @ pad.pose[:3, 3] + place[:, pad.link, :3, 3]
    return jacobian[:, 3:] + np.cross(jacobian[:, :3], point[:, :, None], axis=1)
