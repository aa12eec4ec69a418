"""The hand: a tree of rigid links, its joints, their couplings and ranges (NumPy only)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import rotation

if TYPE_CHECKING:
    import trimesh

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
            case "mesh":
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
    """Unit direction, orthogonal to ``normal``, in which the open fingers point, in the frame of ``link``, shape (3,)."""


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
