"""Inferring which links are fingers, where they end, and which link is the palm."""

from __future__ import annotations

import numpy as np

from . import rotation
from .errors import HandError
from .hand import Finger, Hand


def infer_fingers(hand: Hand) -> tuple[int, tuple[Finger, ...]]:
    """Palm link and fingers of a hand.

    Every chain that ends in a link with a shape is a finger; the palm is where the chains part.

    Raises:
        HandError: No link that moves has a shape.
    """
    leaves = _leaves(hand)
    if not leaves:
        raise HandError(hand.path, "no link that its joints move has a shape, so there is nothing to grasp with")
    palm = _palm_link(hand, leaves)
    fingers = []
    for leaf in _one_per_finger(hand, palm, leaves):
        links = tuple(link for link in chain(hand, leaf) if link not in chain(hand, palm))
        joints = tuple(link - 1 for link in links)
        fingers.append(Finger(hand.links[leaf].name, joints, links, tip_position(hand, leaf)))
    return palm, tuple(fingers)


def chain(hand: Hand, link: int) -> list[int]:
    """Links from the base to ``link``, both included."""
    links = [link]
    while links[-1] > 0:
        links.append(hand.joints[links[-1] - 1].parent)
    return links[::-1]


def tip_position(hand: Hand, link: int) -> np.ndarray:
    """Centre of the outer end of a finger's last link, in its frame [m], shape (3,).

    A fingertip is about as long as it is thick, so the centre lies half a thickness below the end.
    """
    along, side, across = tip_axes(hand, link)
    points = surface_points(hand, link)
    height = points @ along
    outer = points[height > height.max() - 0.35 * np.ptp(height)]
    extents = [np.ptp(outer @ axis) for axis in (side, across)]
    centre = sum((0.5 * ((outer @ a).min() + (outer @ a).max()) * a for a in (side, across)), np.zeros(3))
    return centre + along * (height.max() - 0.5 * min(*extents, 0.7 * np.ptp(height)))


def tip_axes(hand: Hand, link: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit axes of a finger's last link in its frame: along the finger, sideways, and across (palmar or dorsal).

    The finger bends about the sideways axis or slides along the axis across. The sign of the last two is open.
    """
    joint = hand.joints[link - 1]
    centre = surface_points(hand, link).mean(axis=0)
    along = centre - joint.axis * (joint.axis @ centre)
    if np.linalg.norm(along) < 0.3 * np.linalg.norm(centre):
        # The link turns about its own length: the next joint below says how the finger bends.
        along, axis = centre, _axis_before(hand, link)
        axis = axis - along * (along @ axis) / (along @ along)
        axis = axis / np.linalg.norm(axis) if np.linalg.norm(axis) > 1e-6 else _any_orthogonal(along)
    else:
        axis = joint.axis
    along = along / np.linalg.norm(along)
    if joint.kind == "prismatic":
        return along, np.cross(axis, along), axis
    return along, axis, np.cross(axis, along)


def surface_points(hand: Hand, link: int, count: int = 1500) -> np.ndarray:
    """Points spread over the surface of a link, in its frame [m], the same in every run, shape (count, 3).

    A link without a shape counts as the point at its origin, shape (1, 3).
    """
    import trimesh

    if not hand.links[link].shapes:
        return np.zeros((1, 3))
    return np.asarray(trimesh.sample.sample_surface(hand.link_surface(link), count, seed=0)[0])


def _axis_before(hand: Hand, link: int) -> np.ndarray:
    """Axis of the nearest revolute joint below the link's own, in the link's frame at mid-range."""
    middle = hand.link_transforms(hand.clamp(0.5 * (hand.lower + hand.upper)))
    for other in chain(hand, link)[-2:0:-1]:
        joint = hand.joints[other - 1]
        if joint.kind == "revolute":
            return middle[link, :3, :3].T @ middle[other, :3, :3] @ joint.axis
    return hand.joints[link - 1].axis


def _any_orthogonal(direction: np.ndarray) -> np.ndarray:
    axis = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    return axis / np.linalg.norm(axis)


def _leaves(hand: Hand) -> list[int]:
    """Links with a shape that have no link with a shape below them."""
    inner = {0}
    for link in range(len(hand.links) - 1, 0, -1):
        if hand.links[link].shapes or link in inner:
            inner.update(chain(hand, link)[:-1])
    shaped = [link for link in range(1, len(hand.links)) if hand.links[link].shapes]
    return [link for link in shaped if link not in inner]


def _common(chains: list[list[int]]) -> int:
    """Last link that all chains share."""
    shared = 0
    for links in zip(*chains, strict=False):
        if len(set(links)) > 1:
            break
        shared = links[0]
    return shared


def _palm_link(hand: Hand, leaves: list[int]) -> int:
    palm = _common([chain(hand, leaf) for leaf in leaves]) if len(leaves) > 1 else 0
    with_shape = [link for link in chain(hand, palm) if hand.links[link].shapes]
    return with_shape[-1] if with_shape else palm


def _one_per_finger(hand: Hand, palm: int, leaves: list[int]) -> list[int]:
    """Leaves that are fingertips: bars of the same finger's linkage are not."""
    depth = len(chain(hand, palm))
    reach = {leaf: reach_of(hand, leaf, depth) for leaf in leaves}
    tips: list[int] = []
    for leaf in sorted(leaves, key=lambda leaf: -reach[leaf]):
        # Two ends that part only after two joints from the palm belong to one finger; the longer one is its tip.
        shared = [len(chain(hand, _common([chain(hand, leaf), chain(hand, tip)]))) for tip in tips]
        if not shared or max(shared) < depth + 2:
            tips.append(leaf)
    followers = {m.joint for m in hand.mimics}
    longest = max(reach.values())
    bars = {
        tip
        for tip in tips
        if reach[tip] < 0.7 * longest
        and all(hand.joints[link - 1].name in followers for link in chain(hand, tip)[depth:])
    }
    return sorted(set(tips) - bars) if len(tips) - len(bars) >= 2 else sorted(tips)


def reach_of(hand: Hand, leaf: int, depth: int) -> float:
    """Length of the chain below the palm, up to the farthest point of its last link [m]."""
    links = chain(hand, leaf)[depth + 1 :]
    length = sum(float(np.linalg.norm(hand.joints[link - 1].position)) for link in links)
    return length + float(np.linalg.norm(surface_points(hand, leaf), axis=1).max())


def tip_in(transforms: np.ndarray, finger: Finger) -> np.ndarray:
    """Fingertip centres [m], shape (..., 3), for link poses of shape (..., L, 4, 4)."""
    last = transforms[..., finger.links[-1], :, :]
    return last[..., :3, :3] @ finger.tip_position + last[..., :3, 3]


def in_frame_of(transforms: np.ndarray, link: int) -> np.ndarray:
    """Link poses relative to a link instead of the base, shape (..., L, 4, 4)."""
    return rotation.inverse(transforms[..., link, :, :])[..., None, :, :] @ transforms


def rest_position(hand: Hand) -> np.ndarray:
    """Joint vector zero, or the nearest one that the hand can take [rad or m], shape (J,)."""
    return hand.clamp(np.zeros(hand.joint_count))
