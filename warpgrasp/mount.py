"""Bolting a hand to an arm."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from . import rotation
from .arm import Arm
from .errors import MountError
from .hand import Finger, Frame, Hand, Joint, Link, Shape

UNIT = 1.0e-3
"""How far the length of a quaternion may be from 1."""


@dataclass(frozen=True, eq=False)
class Mount:
    """How a hand is bolted to a flange, and what lies between the two."""

    position: np.ndarray
    """Origin of the hand's base frame in the flange frame [m], shape (3,)."""

    quaternion: np.ndarray
    """Hand base to flange, w x y z, shape (4,)."""

    mass: float = 0.0
    """Of what is between flange and hand [kg]."""

    shapes: tuple[Shape, ...] = ()
    """Of what is between flange and hand, in the flange frame."""

    def __post_init__(self) -> None:
        check_pose("mount", self.position, self.quaternion)

    @property
    def matrix(self) -> np.ndarray:
        """Hand base in the flange frame, shape (4, 4)."""
        return rotation.matrix(self.position, self.quaternion)


def check_pose(name: str, position: np.ndarray, quaternion: np.ndarray) -> None:
    """Make sure that these are a position and a unit quaternion.

    Raises:
        MountError: They are not.
    """
    if np.shape(position) != (3,) or not np.isfinite(position).all():
        raise MountError(f"{name}: the position should be three finite numbers [m], got {position!r}")
    if np.shape(quaternion) != (4,) or not abs(np.linalg.norm(quaternion) - 1.0) < UNIT:
        raise MountError(f"{name}: the quaternion should be four numbers w, x, y, z of length 1, got {quaternion!r}")


def default_mount(arm: Arm, hand: Hand) -> Mount:
    """How a bundled hand is bolted to an arm; any other hand has its base frame in the flange frame.

    A hand that is mounted through another one (a Shadow hand from the palm on, behind its forearm) carries that one's
    links between flange and palm along, their joints at zero.
    """
    entry = arm.mounts.get(hand.name, {}) if _is_bundled(hand) else {}
    if "through" not in entry:
        rpy = np.array(entry.get("rpy", [0.0, 0.0, 0.0]), float)
        return Mount(np.array(entry.get("position", [0.0, 0.0, 0.0]), float), rotation.quaternion_from_rpy(rpy))
    return _mount_through(arm, str(entry["through"]), str(entry["frame"]))


def _is_bundled(hand: Hand) -> bool:
    from .hands import folder

    return hand.path == folder() / hand.name / "hand.urdf"


def _mount_through(arm: Arm, name: str, frame: str) -> Mount:
    from .hand_file import load_hand

    whole = load_hand(name)
    first = default_mount(arm, whole).matrix
    last = whole.link_index(frame)
    links = first @ whole.link_transforms(np.zeros(whole.joint_count))
    way = []
    link = last
    while link > 0:
        link = whole.joints[link - 1].parent
        way.append(link)
    at = first @ whole.frame_transforms(np.zeros(whole.joint_count))[frame]
    return Mount(
        at[:3, 3],
        rotation.quaternion_from_matrix(at[:3, :3]),
        mass=sum(whole.links[i].mass for i in way),
        shapes=tuple(moved(shape, links[i]) for i in way for shape in whole.links[i].shapes),
    )


def moved(shape: Shape, pose: np.ndarray) -> Shape:
    """A shape of some frame, in the frame that a pose (4, 4) of it is given in."""
    at = pose @ rotation.matrix(shape.position, shape.quaternion)
    return dataclasses.replace(shape, position=at[:3, 3], quaternion=rotation.quaternion_from_matrix(at[:3, :3]))


def check_payload(arm: Arm, hand: Hand, mount: Mount) -> None:
    """Make sure that an arm may carry a hand.

    Raises:
        MountError: The hand, with what it is bolted on by, is too heavy.
    """
    mass = sum(link.mass for link in hand.links) + mount.mass
    if arm.payload is not None and mass > arm.payload:
        between = f" with the {mount.mass:.2f} kg that it is mounted on" if mount.mass else ""
        raise MountError(
            f"{hand.name} weighs {mass:.2f} kg{between}, but {arm.name} may carry {arm.payload:g} kg; "
            "take a stronger arm or a lighter hand"
        )


def robot(arm: Arm, hand: Hand, mount: Mount) -> Hand:
    """Arm, mount and hand as one tree, whose base is that of the arm.

    Its joints are those of the arm and then those of the hand, its last arm link holds the mount and the hand's base.
    Pairs of links of which both belong to the hand or its carrier count as neighbours: this tree is for what the arm
    does to itself and to the hand. Names of the arm's links and joints start with that of the arm.
    """
    count = arm.joint_count
    flange = rotation.matrix(arm.flange_frame.position, arm.flange_frame.quaternion)
    base = flange @ mount.matrix
    links = [dataclasses.replace(link, name=f"{arm.name}/{link.name}") for link in arm.tree.links]
    between = tuple(moved(shape, flange) for shape in mount.shapes)
    palm = hand.links[0]
    links[-1] = dataclasses.replace(
        links[-1],
        shapes=links[-1].shapes + between + tuple(moved(shape, base) for shape in palm.shapes),
        visuals=(links[-1].visuals or links[-1].shapes)
        + between
        + tuple(moved(shape, base) for shape in palm.visuals or palm.shapes),
        **_combined_inertia(links[-1], palm, base),
    )
    joints = [dataclasses.replace(joint, name=f"{arm.name}/{joint.name}") for joint in arm.tree.joints]
    carried = range(count, count + len(hand.links))
    return dataclasses.replace(
        hand,
        name=f"{hand.name} on {arm.name}",
        path=arm.path,
        links=(*links, *hand.links[1:]),
        joints=(*joints, *(_shifted(joint, count, base) for joint in hand.joints)),
        frames={f"{arm.name}/{name}": frame for name, frame in arm.tree.frames.items()}
        | {name: _shifted_frame(frame, count, base) for name, frame in hand.frames.items()},
        fingers=tuple(_shifted_finger(finger, count) for finger in hand.fingers),
        pads=(),
        actuators=(),
        palm=dataclasses.replace(
            hand.palm,
            link=hand.palm.link + count,
            **(
                {}
                if hand.palm.link
                else {
                    "position": base[:3, :3] @ hand.palm.position + base[:3, 3],
                    "normal": base[:3, :3] @ hand.palm.normal,
                    "fingers": base[:3, :3] @ hand.palm.fingers,
                }
            ),
        ),
        open_position=np.concatenate([arm.home, hand.open_position]),
        neighbours=arm.tree.neighbours | frozenset((a, b) for a in carried for b in carried if a < b),
    )


def _shifted(joint: Joint, count: int, base: np.ndarray) -> Joint:
    """A joint of the hand in the robot; those on the hand's base now sit on the arm's last link."""
    position, quaternion = joint.position, joint.quaternion
    if joint.parent == 0:
        at = base @ rotation.matrix(position, quaternion)
        position, quaternion = at[:3, 3], rotation.quaternion_from_matrix(at[:3, :3])
    return dataclasses.replace(joint, parent=joint.parent + count, position=position, quaternion=quaternion)


def _shifted_finger(finger: Finger, count: int) -> Finger:
    joints, links = ([i + count for i in indices] for indices in (finger.joints, finger.links))
    return dataclasses.replace(finger, joints=tuple(joints), links=tuple(links))


def _shifted_frame(frame: Frame, count: int, base: np.ndarray) -> Frame:
    if frame.link:
        return dataclasses.replace(frame, link=frame.link + count)
    at = base @ rotation.matrix(frame.position, frame.quaternion)
    return Frame(count, at[:3, 3], rotation.quaternion_from_matrix(at[:3, :3]))


def _combined_inertia(link: Link, palm: Link, base: np.ndarray) -> dict:
    """Mass, centre and inertia of the arm's last link with the hand's base on it."""
    turn = base[:3, :3]
    parts = [
        (link.mass, link.center_of_mass, link.inertia),
        (palm.mass, turn @ palm.center_of_mass + base[:3, 3], turn @ palm.inertia @ turn.T),
    ]
    mass = sum(part[0] for part in parts)
    center = sum((m * c for m, c, _ in parts), np.zeros(3)) / mass if mass > 0.0 else np.zeros(3)
    inertia = np.zeros((3, 3))
    for m, c, own in parts:
        arm = c - center
        inertia += own + m * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return {"mass": mass, "center_of_mass": center, "inertia": inertia}
