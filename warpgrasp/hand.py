"""The hand: a tree of rigid links, its joints, their couplings and ranges (NumPy only)."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import rotation
from .errors import HandError, ShapeError
from .projection import project

if TYPE_CHECKING:
    import trimesh

MOST_FREE = 64
"""Free joints that a hand may have, see ``kernels.ranges``."""

MOST_COUPLINGS = 32
"""Couplings, likewise."""

ShapeKind = Literal["box", "sphere", "capsule", "cylinder", "mesh"]


@dataclass(frozen=True, eq=False)
class Shape:
    """One piece of a link's surface."""

    kind: ShapeKind

    size: np.ndarray
    """Box: half extents (3,). Sphere: radius (1,). Capsule and cylinder: radius and half length (2,), along z; a
    capsule's half length leaves out its caps. Mesh: empty. All [m]."""

    position: np.ndarray
    """Centre in the link frame [m], shape (3,)."""

    quaternion: np.ndarray
    """Rotation from the shape frame to the link frame, w x y z, shape (4,)."""

    vertices: np.ndarray | None = None
    """Only for meshes: vertices in the shape frame, scaled [m], shape (vertex, 3)."""

    faces: np.ndarray | None = None
    """Only for meshes: vertex indices, shape (face, 3)."""

    def trimesh(self) -> trimesh.Trimesh:
        """The surface as triangles in the link frame."""
        import trimesh as tm

        match self.kind:
            case "box":
                surface = tm.creation.box(extents=2.0 * self.size)
            case "sphere":
                surface = tm.creation.icosphere(subdivisions=3, radius=self.size[0])
            case "capsule":
                surface = tm.creation.capsule(height=2.0 * self.size[1], radius=self.size[0], count=[24, 24])
                surface.apply_translation(-surface.bounds.mean(axis=0))
            case "cylinder":
                surface = tm.creation.cylinder(radius=self.size[0], height=2.0 * self.size[1], sections=48)
            case _:
                surface = tm.Trimesh(self.vertices, self.faces, process=False)
        surface.apply_transform(rotation.matrix(self.position, self.quaternion))
        return surface


@dataclass(frozen=True, eq=False)
class Link:
    """One rigid part of the hand. Parts that fixed joints hold together are one link."""

    name: str

    mass: float
    """[kg]; 0 where the file gives none."""

    center_of_mass: np.ndarray
    """In the link frame [m], shape (3,)."""

    inertia: np.ndarray
    """About the centre of mass, in the axes of the link frame [kg m²], shape (3, 3)."""

    shapes: tuple[Shape, ...]
    """Geometry that touches: the collision geometry, or the visual one where the file has no other."""

    visuals: tuple[Shape, ...] = ()
    """Geometry for pictures; empty where it is the same as ``shapes``."""


@dataclass(frozen=True, eq=False)
class Joint:
    """A movable joint. Joint j moves link j + 1 relative to link ``parent``; parents come first."""

    name: str

    kind: Literal["revolute", "prismatic"]

    parent: int
    """Index of the parent link; ``parent <= j``."""

    position: np.ndarray
    """Origin of the child frame in the parent frame at zero [m], shape (3,)."""

    quaternion: np.ndarray
    """Rotation of the child frame in the parent frame at zero, w x y z, shape (4,)."""

    axis: np.ndarray
    """Unit axis in the child frame, shape (3,)."""

    lower: float
    """[rad or m]"""

    upper: float
    """[rad or m]"""

    effort: float = 0.0
    """Largest torque or force [N m or N]; 0 where the file gives none."""

    velocity: float = 0.0
    """Largest speed [rad/s or m/s]; 0 where the file gives none."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A named frame of the hand's file, fixed to a link."""

    link: int

    position: np.ndarray
    """In the link frame [m], shape (3,)."""

    quaternion: np.ndarray
    """w x y z, shape (4,)."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """A linear inequality between joints: ``sum(coefficient * q) >= minimum``."""

    coefficients: dict[str, float]
    """Joint name to coefficient."""

    minimum: float

    source: str = ""


@dataclass(frozen=True, eq=False)
class Mimic:
    """``q[joint] = multiplier * q[of] + offset``, ``of`` being a free joint (chains are flattened)."""

    joint: str
    of: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, eq=False)
class Actuator:
    """A motor and the joints that it pulls together."""

    name: str

    joints: dict[str, float]
    """Joint name to coefficient: the motor's position is ``sum(coefficient * q)``."""

    lower: float | None = None
    """Smallest position of the motor [rad or m]; ``None`` where the joints' own ranges say it."""

    upper: float | None = None
    """See ``lower``."""

    effort: float = 0.0
    """Largest torque or force [N m or N]; 0 where unknown."""


@dataclass(frozen=True, eq=False)
class Finger:
    """A chain of joints that ends in a tip."""

    name: str

    joints: tuple[int, ...]
    """Joint indices from the palm to the tip."""

    links: tuple[int, ...]
    """Link indices from the palm to the tip."""

    tip_position: np.ndarray
    """Centre of the fingertip in the frame of the last link [m], shape (3,)."""


@dataclass(frozen=True, eq=False)
class Pad:
    """A fingertip pad: where the finger is meant to touch."""

    link: int

    position: np.ndarray
    """In the link frame [m], shape (3,)."""

    normal: np.ndarray
    """Unit normal out of the finger, in the link frame, shape (3,)."""


@dataclass(frozen=True, eq=False)
class Palm:
    """Where the hand holds an object."""

    link: int

    position: np.ndarray
    """Centre of the palm's surface in the frame of ``link`` [m], shape (3,)."""

    normal: np.ndarray
    """Unit normal out of the palm, towards the object, in the frame of ``link``, shape (3,)."""

    fingers: np.ndarray
    """Unit direction in which the open fingers point, orthogonal to ``normal``, in the same frame, shape (3,)."""


@dataclass(frozen=True, eq=False)
class Hand:
    """Everything synthesis needs to know of a hand. Make one with :func:`load_hand`.

    Joint vectors q hold all J movable joints, mimic joints included. The K free joints x give them as
    ``q = joint_map @ x + joint_offset``.
    """

    name: str

    path: Path
    """File the hand was read from."""

    links: tuple[Link, ...]
    """L = J + 1 links; link 0 is the base, link j + 1 is moved by joint j."""

    joints: tuple[Joint, ...]

    frames: dict[str, Frame]
    """Every link (URDF) or body (MJCF) of the file, by name, merged ones and tips included."""

    mimics: tuple[Mimic, ...]

    couplings: tuple[Coupling, ...]

    fingers: tuple[Finger, ...]

    pads: tuple[Pad, ...]

    palm: Palm

    open_position: np.ndarray
    """Joint vector of the open hand, within limits and couplings [rad or m], shape (J,)."""

    neighbours: frozenset[tuple[int, int]]
    """Pairs of links (low, high) that may overlap: a link and its parent, and pairs that overlap by construction."""

    actuators: tuple[Actuator, ...] = ()
    """Motors, where the description names them."""

    description: str = ""
    """What the hand is, in a line; empty where the file does not say it."""

    inferred: tuple[str, ...] = ()
    """What had to be inferred or assumed because the file does not say it, one sentence each."""

    joint_map: np.ndarray = field(init=False)
    """A in q = A x + b, shape (J, K)."""

    joint_offset: np.ndarray = field(init=False)
    """b in q = A x + b, shape (J,)."""

    free_joints: tuple[int, ...] = field(init=False)
    """Joint index of each free coordinate, K of them."""

    free_lower: np.ndarray = field(init=False)
    """Range of the free coordinates that keeps every joint in its own [rad or m], shape (K,)."""

    free_upper: np.ndarray = field(init=False)
    """See ``free_lower``."""

    def __post_init__(self) -> None:
        _check_couplings(self)
        joint_map, joint_offset, free_joints = _joint_map(self)
        lower, upper = _free_range(self, joint_map, joint_offset, free_joints)
        object.__setattr__(self, "joint_map", joint_map)
        object.__setattr__(self, "joint_offset", joint_offset)
        object.__setattr__(self, "free_joints", free_joints)
        object.__setattr__(self, "free_lower", lower)
        object.__setattr__(self, "free_upper", upper)
        _check_sizes(self)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of all J movable joints, mimic joints included, in the order of joint vectors."""
        return tuple(joint.name for joint in self.joints)

    @property
    def link_names(self) -> tuple[str, ...]:
        """Names of the L = J + 1 links, base first."""
        return tuple(link.name for link in self.links)

    @property
    def joint_count(self) -> int:
        """J, mimic joints included."""
        return len(self.joints)

    @property
    def free_count(self) -> int:
        """K, the number of joints that can be chosen freely."""
        return len(self.free_joints)

    @property
    def lower(self) -> np.ndarray:
        """Lower limits of all joints [rad or m], shape (J,)."""
        return np.array([joint.lower for joint in self.joints])

    @property
    def upper(self) -> np.ndarray:
        """Upper limits of all joints [rad or m], shape (J,)."""
        return np.array([joint.upper for joint in self.joints])

    def joint_position(self, free_position: np.ndarray) -> np.ndarray:
        """Joint vectors q = A x + b [rad or m], shape (..., J), of free coordinates x of shape (..., K)."""
        free_position = _last_axis("free_position", free_position, self.free_count)
        return free_position @ self.joint_map.T + self.joint_offset

    def free_position(self, joint_position: np.ndarray) -> np.ndarray:
        """Free coordinates x [rad or m], shape (..., K), of joint vectors q of shape (..., J): their free entries."""
        joint_position = _last_axis("joint_position", joint_position, self.joint_count)
        return joint_position[..., list(self.free_joints)]

    @property
    def actuator_names(self) -> tuple[str, ...]:
        """Names of the M motors, in the order of the first joint that each moves.

        Joints that no listed actuator moves have a motor of their own, of their name; mimic joints have none.
        """
        return tuple(motor.name for motor in self.motors)

    @cached_property
    def motors(self) -> tuple[Actuator, ...]:
        """All M motors: those listed in ``actuators``, and one for every other free joint."""
        from .actuation import motors

        return motors(self)

    def actuator_position(self, joint_position: np.ndarray) -> np.ndarray:
        """What to send to the robot: positions of the motors [rad or m], shape (..., M).

        Args:
            joint_position: Joint vectors q [rad or m], shape (..., J).

        Raises:
            ShapeError: The last axis does not have J entries.
        """
        from .actuation import motor_matrix

        rows, offset = motor_matrix(self)
        return self.free_position(joint_position) @ rows.T + offset

    def joint_position_from_actuators(self, actuator_position: np.ndarray) -> np.ndarray:
        """Joint vectors that the hand takes when it meets nothing, shape (..., J).

        A motor that moves several joints does not determine them. Free of load, the one nearest to the palm moves
        first, as far as ranges and couplings let it, then the next: Shadow's J2 up to its end and J1 after it, and
        Barrett's two links of a finger together, three to one. Where an object stops a link, joints differ.

        Args:
            actuator_position: Motor positions [rad or m], shape (..., M); those out of range are put into it.

        Raises:
            ShapeError: The last axis does not have M entries.
        """
        from .actuation import free_closing

        positions = _last_axis("actuator_position", actuator_position, len(self.motors))
        joints = free_closing(self, positions.reshape(-1, len(self.motors)))
        return joints.reshape(*positions.shape[:-1], self.joint_count)

    def coupling_matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """The couplings in free coordinates: G of shape (C, K) and g of shape (C,) with ``G @ x >= g``.

        Ends of a motor's range that its joints' own ranges do not imply come after the couplings.
        """
        return self._coupling_matrix

    @cached_property
    def _coupling_matrix(self) -> tuple[np.ndarray, np.ndarray]:
        bounds = [(coupling.coefficients, coupling.minimum) for coupling in self.couplings]
        for actuator in self.actuators:
            mirrored = {name: -coefficient for name, coefficient in actuator.joints.items()}
            if actuator.lower is not None:
                bounds.append((actuator.joints, actuator.lower))
            if actuator.upper is not None:
                bounds.append((mirrored, -actuator.upper))
        index = {name: j for j, name in enumerate(self.joint_names)}
        rows, minimum = np.zeros((len(bounds), self.joint_count)), np.zeros(len(bounds))
        for number, (coefficients, least) in enumerate(bounds):
            minimum[number] = least
            for name, coefficient in coefficients.items():
                rows[number, index[name]] += coefficient
        matrix, minimum = rows @ self.joint_map, minimum - rows @ self.joint_offset
        implied = np.minimum(matrix * self.free_lower, matrix * self.free_upper).sum(axis=1) >= minimum
        implied[: len(self.couplings)] = False
        return matrix[~implied], minimum[~implied]

    def clamp(self, joint_position: np.ndarray) -> np.ndarray:
        """The nearest joint vectors that the hand can take: mimics, ranges and couplings are all respected.

        Nearest means least Euclidean distance over all J joints; the projection is exact.

        Args:
            joint_position: Joint vectors q [rad or m], shape (..., J).

        Returns:
            Joint vectors of the same shape.

        Raises:
            ShapeError: The last axis does not have J entries.
            HandError: The couplings leave no joint vector at all.
        """
        q = _last_axis("joint_position", joint_position, self.joint_count)
        # Every joint follows one free joint only, so the normal equations of A x + b = q are diagonal.
        weight = (self.joint_map**2).sum(axis=0)
        nearest = (q - self.joint_offset) @ self.joint_map / weight
        matrix, minimum = self.coupling_matrix()
        try:
            x = project(
                nearest, weight=weight, lower=self.free_lower, upper=self.free_upper, matrix=matrix, minimum=minimum
            )
        except ValueError as error:
            raise HandError(self.path, "its couplings and joint ranges exclude each other") from error
        return self.joint_position(x)

    def link_transforms(self, joint_position: np.ndarray) -> np.ndarray:
        """Forward kinematics in float64.

        Args:
            joint_position: Joint vectors q [rad or m], shape (..., J). Limits are not enforced.

        Returns:
            Pose of every link frame in the frame of link 0 (the base), shape (..., L, 4, 4).

        Raises:
            ShapeError: The last axis does not have J entries.
        """
        q = _last_axis("joint_position", joint_position, self.joint_count)
        transforms = np.zeros((*q.shape[:-1], len(self.links), 4, 4))
        transforms[..., 0, :, :] = np.eye(4)
        for j, joint in enumerate(self.joints):
            transforms[..., j + 1, :, :] = (
                transforms[..., joint.parent, :, :] @ self._at_zero[j] @ _motion(joint, q[..., j])
            )
        return transforms

    @cached_property
    def _at_zero(self) -> np.ndarray:
        """Pose of each joint's child frame in its parent at zero, shape (J, 4, 4)."""
        return np.stack([rotation.matrix(joint.position, joint.quaternion) for joint in self.joints])

    def frame_transforms(self, joint_position: np.ndarray) -> dict[str, np.ndarray]:
        """Pose of every named frame of the file in the frame of link 0, each of shape (..., 4, 4).

        Args:
            joint_position: Joint vectors q [rad or m], shape (..., J).
        """
        links = self.link_transforms(joint_position)
        return {
            name: links[..., frame.link, :, :] @ rotation.matrix(frame.position, frame.quaternion)
            for name, frame in self.frames.items()
        }

    def link_index(self, name: str) -> int:
        """Index of the link that holds the frame ``name``; merged links are found too.

        Raises:
            HandError: The hand has no such frame.
        """
        return self.frame(name).link

    def frame(self, name: str) -> Frame:
        """The frame called ``name``.

        Raises:
            HandError: The hand has no such frame; the message names the nearest one.
        """
        if name not in self.frames:
            raise HandError(self.path, unknown_name("link", name, self.frames))
        return self.frames[name]

    def link_surface(self, link: int) -> trimesh.Trimesh:
        """Triangles of all shapes of a link in its frame [m]; empty where the link has no shape.

        Shapes may overlap, so this is a union of closed surfaces rather than one.
        """
        import trimesh as tm

        surface = tm.Trimesh()
        for shape in self.links[link].shapes:
            surface += shape.trimesh()
        return surface

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that synthesis depends on: links, shapes, joints, couplings, fingers, pads, palm.

        Where the file lies, its pictures and the notes in ``inferred`` do not change it.
        """
        digest = hashlib.sha256()
        for item in dataclasses.fields(self):
            if item.name not in {"path", "inferred", "description"}:
                _update(digest, getattr(self, item.name))
        return digest.hexdigest()


def unknown_name(kind: str, name: str, available: Mapping[str, object] | tuple[str, ...]) -> str:
    """A message for a name that does not exist, with the nearest one that does."""
    close = difflib.get_close_matches(name, list(available), n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(list(available)[:12])}."
    return f"there is no {kind} {name!r}. {hint}"


def _last_axis(name: str, array: np.ndarray, size: int) -> np.ndarray:
    array = np.asarray(array, float)
    if array.ndim == 0 or array.shape[-1] != size:
        raise ShapeError(name, f"(..., {size})", array.shape)
    return array


def _motion(joint: Joint, q: np.ndarray) -> np.ndarray:
    """What a joint adds to its pose at zero, shape (..., 4, 4)."""
    motion = np.zeros((*q.shape, 4, 4))
    motion[...] = np.eye(4)
    if joint.kind == "revolute":
        motion[..., :3, :3] = rotation.matrix_from_axis_angle(joint.axis, q)
    else:
        motion[..., :3, 3] = q[..., None] * joint.axis
    return motion


def _check_sizes(hand: Hand) -> None:
    counts = {"joints that move freely": (hand.free_count, MOST_FREE)}
    counts["couplings"] = (len(hand.coupling_matrix()[1]), MOST_COUPLINGS)
    for what, (count, most) in counts.items():
        if count > most:
            raise HandError(hand.path, f"it has {count} {what}; at most {most} work")


def _check_couplings(hand: Hand) -> None:
    for coupling in hand.couplings:
        for name in coupling.coefficients:
            if name not in hand.joint_names:
                raise HandError(hand.path, "in a coupling, " + unknown_name("joint", name, hand.joint_names))


def _joint_map(hand: Hand) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """A and b of q = A x + b, and the joint of each free coordinate."""
    index = {name: j for j, name in enumerate(hand.joint_names)}
    mimic = {index[m.joint]: m for m in hand.mimics}
    free = tuple(j for j in range(hand.joint_count) if j not in mimic)
    column = {j: k for k, j in enumerate(free)}
    joint_map = np.zeros((hand.joint_count, len(free)))
    joint_offset = np.zeros(hand.joint_count)
    for j in range(hand.joint_count):
        source = index[mimic[j].of] if j in mimic else j
        joint_map[j, column[source]] = mimic[j].multiplier if j in mimic else 1.0
        joint_offset[j] = mimic[j].offset if j in mimic else 0.0
    return joint_map, joint_offset, free


def _free_range(
    hand: Hand, joint_map: np.ndarray, joint_offset: np.ndarray, free_joints: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of the free coordinates that keep every mimic joint in its own range."""
    lower, upper = np.full(len(free_joints), -np.inf), np.full(len(free_joints), np.inf)
    for j, joint in enumerate(hand.joints):
        k = int(np.argmax(np.abs(joint_map[j])))
        multiplier = joint_map[j, k]
        inside = joint.lower - 1e-6 <= joint_offset[j] <= joint.upper + 1e-6
        if multiplier == 0.0:
            if not inside:
                raise HandError(hand.path, f"joint {joint.name!r} is held at {joint_offset[j]:g}, out of its range")
            continue
        ends = sorted(((joint.lower - joint_offset[j]) / multiplier, (joint.upper - joint_offset[j]) / multiplier))
        lower[k], upper[k] = max(lower[k], ends[0]), min(upper[k], ends[1])
    for k, j in enumerate(free_joints):
        if lower[k] > upper[k] + 1e-9:
            followers = [m.joint for m in hand.mimics if m.of == hand.joints[j].name]
            raise HandError(
                hand.path,
                f"no value of joint {hand.joints[j].name!r} keeps it and the joints that mimic it "
                f"({', '.join(followers)}) within their ranges; check multiplier, offset and limits",
            )
    return lower, np.maximum(lower, upper)


def _update(digest: hashlib._Hash, value: object) -> None:
    """Add a value to a digest, equal values giving equal digests on every platform."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            if item.name not in {"visuals", "source"}:
                _update(digest, getattr(value, item.name))
    elif isinstance(value, Mapping):
        for key in sorted(value):
            _update(digest, key)
            _update(digest, value[key])
    elif isinstance(value, frozenset):
        _update(digest, tuple(sorted(value)))
    elif isinstance(value, tuple | list):
        digest.update(f"({len(value)}".encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, float | np.ndarray):
        # Adding zero turns -0.0 into 0.0.
        array = np.asarray(value, "<f8") + 0.0
        digest.update(f"a{array.shape}".encode() + array.astype("<f8").tobytes())
    else:
        digest.update(repr(value).encode())
