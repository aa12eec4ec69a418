"""The object as MuJoCo sees it: a primitive, its hull, or convex pieces that CoACD cuts, kept in a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import rotation
from ..files import atomic_file
from ..mesh import ObjectMesh
from .engine import mujoco
from .hand_model import add_hull, principal
from .protocols import Protocol

OBJECT = "object"
"""Body and free joint of the object; its frame sits at the centre of mass, its axes are the object frame's."""

CONVEX_SHARE = 0.97
"""Share of its hull's volume from which an object counts as convex."""

THRESHOLD = 0.05
"""Largest concavity that CoACD leaves in a piece, as a share of the object's size."""

MERGE = 0.02
"""Distance by which two pieces made one may leave the mesh, as a share of the object's largest extent."""

LEAST_COVER = 0.95
"""Share of the object's volume that the pieces must have between them, or the cut has failed."""

CUT_SECONDS = 600.0
"""Time that CoACD may take."""

LEAST_VOLUME = 1.0e-9
"""Of a piece, as a share of the cube of the object's largest extent; CoACD leaves slivers that no engine can use."""

SAME_SHAPE = 1.0e-6
"""Difference between two vertices, as a share of the largest extent, up to which two meshes are one in two sizes."""

Kind = Literal["box", "sphere", "cylinder", "pieces"]


@dataclass(frozen=True, eq=False)
class ObjectShape:
    """What the object touches with, in the object frame."""

    kind: Kind

    size: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Box: half extents (3,). Sphere: radius (1,). Cylinder: radius and half length (2,), along z. All [m]."""

    pose: np.ndarray = field(default_factory=lambda: np.eye(4))
    """From the primitive's frame to the object's, shape (4, 4)."""

    pieces: tuple[np.ndarray, ...] = ()
    """Corners of each convex piece [m], shape (corner, 3)."""

    note: str = ""
    """What is not as it should be, in a sentence."""


def object_shape(obj: ObjectMesh) -> ObjectShape:
    """What an object touches with: the primitive that its mesh is, else its hull if convex, else CoACD's pieces.

    Where CoACD is missing or cannot cut the mesh, it is the hull, ``note`` says so, and a warning too.
    """
    primitive = find_primitive(obj)
    if primitive is not None:
        return primitive
    hull = obj.trimesh().convex_hull
    if obj.mass_model == "solid" and obj.volume >= CONVEX_SHARE * hull.volume:
        return ObjectShape("pieces", pieces=(np.asarray(hull.vertices),))
    try:
        return ObjectShape("pieces", pieces=convex_pieces(obj))
    except CutError as error:
        note = f"{obj.name} is tested as its convex hull: {error}"
        warnings.warn(note, stacklevel=3)
        return ObjectShape("pieces", pieces=(np.asarray(hull.vertices),), note=note)


class CutError(Exception):
    """A mesh that could not be cut into convex pieces."""


def find_primitive(obj: ObjectMesh, tolerance: float = 2.0e-3) -> ObjectShape | None:
    """The box, sphere or cylinder that a mesh is, to a share ``tolerance`` of its size; None where it is none."""
    if obj.mass_model != "solid" or obj.body_count != 1:
        return None
    triangles = obj.vertices[obj.faces]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    area = np.linalg.norm(normal, axis=1)
    axes = _largest_axes(normal, area)
    center = obj.center_of_mass
    slack = tolerance * obj.extents.max()
    radius = np.linalg.norm(obj.vertices - center, axis=1)
    if np.ptp(radius) < slack and len(radius) >= 100:
        return ObjectShape("sphere", np.array([radius.mean()]), rotation.matrix(center, np.array([1.0, 0, 0, 0])))
    if axes is None:
        return None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, center
    local = (obj.vertices - center) @ axes
    half = np.abs(local).max(axis=0)
    if np.allclose(np.abs(local), half, atol=slack) and np.isclose(obj.volume, 8.0 * half.prod(), rtol=0.01):
        return ObjectShape("box", half, pose)
    for z in range(3):
        rim = np.hypot(local[:, z - 2], local[:, z - 1])
        round_rim = np.minimum(rim, half[[z - 2, z - 1]].max() - rim).max() < slack
        flat = np.abs(np.abs(local[:, z]) - half[z]).max() < slack
        solid = np.isclose(obj.volume, 2.0 * np.pi * rim.max() ** 2 * half[z], rtol=0.02)
        if round_rim and flat and solid and len(rim) >= 32:
            pose[:3, :3] = axes[:, [z - 2, z - 1, z]]
            return ObjectShape("cylinder", np.array([rim.max(), half[z]]), pose)
    return None


def _largest_axes(normal: np.ndarray, area: np.ndarray) -> np.ndarray | None:
    """A right-handed frame along the largest flat face and the largest one across it, as columns."""
    first = _largest(normal, area)
    across = np.abs(normal @ first) < 1e-3 * np.maximum(area, 1e-30)
    if not across.any():
        return None
    second = _largest(normal[across], area[across])
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _largest(normal: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Direction, up to its sign, that most of the area faces."""
    unit = normal / np.maximum(area, 1e-30)[:, None]
    direction = np.round(unit, 3)
    lead = direction[np.arange(len(direction)), np.argmax(np.abs(direction) > 0.1, axis=1)]
    _, group = np.unique(direction * np.sign(lead)[:, None], axis=0, return_inverse=True)
    largest = group.ravel() == np.bincount(group.ravel(), weights=area).argmax()
    pick = np.flatnonzero(largest)[area[largest].argmax()]
    return unit[pick]


def convex_pieces(obj: ObjectMesh, *, threshold: float = THRESHOLD) -> tuple[np.ndarray, ...]:
    """Corners of CoACD's convex pieces [m], each of shape (corner, 3), from the cache where they are known.

    The cache keeps them as shares of the largest extent, so that a mesh in several sizes is cut once.

    Raises:
        CutError: CoACD is not installed, takes too long, stops, or leaves nothing.
    """
    if importlib.util.find_spec("coacd") is None:
        raise CutError("coacd is not installed; pip install coacd")
    size = obj.extents.max()
    key = f"{_shape_hash(obj)} {threshold} {MERGE} {importlib.metadata.version('coacd')}"
    file = cache_folder() / "pieces" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    pieces = _read(file)
    if pieces is None:
        # Here only: it takes Warp, which the processes that simulate need not load.
        from .merge import merge_pieces

        pieces = tuple(piece / size for piece in merge_pieces(obj, _cut_closed(obj, threshold), MERGE * size))
        _write(file, pieces)
    return tuple(piece * size for piece in pieces)


def _shape_hash(obj: ObjectMesh) -> str:
    """SHA-256 of the mesh in units of its largest extent, the same for every size of it."""
    steps = np.round(obj.vertices / (SAME_SHAPE * obj.extents.max()))
    digest = hashlib.sha256(np.ascontiguousarray(steps, "<i8").tobytes())
    digest.update(np.ascontiguousarray(obj.faces, "<i4").tobytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """``$WARPGRASP_CACHE``, or ``warpgrasp`` in the user's cache folder."""
    own = os.environ.get("WARPGRASP_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "warpgrasp"


def _cut_closed(obj: ObjectMesh, threshold: float) -> tuple[np.ndarray, ...]:
    """Cut a closed mesh as it is: CoACD's remeshing, for open ones, thickens a mug's wall by half."""
    if obj.trimesh().is_watertight:
        try:
            return _cut(obj, threshold, "off")
        except CutError:
            pass
    return _cut(obj, threshold, "auto")


def _cut(obj: ObjectMesh, threshold: float, preprocess: str) -> tuple[np.ndarray, ...]:
    """Run CoACD in a process of its own: a mesh that breaks it must not break the caller."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "mesh.npz", Path(folder) / "pieces.npz"
        np.savez(given, vertices=obj.vertices, faces=obj.faces, threshold=threshold, preprocess=preprocess)
        command = [sys.executable, "-m", "warpgrasp.physics.cut", str(given), str(found)]
        try:
            subprocess.run(command, env=child_environment(), capture_output=True, timeout=CUT_SECONDS, check=True)
        except subprocess.TimeoutExpired as error:
            raise CutError(f"CoACD did not finish within {CUT_SECONDS:g} s") from error
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise CutError(f"CoACD cannot cut it ({' '.join(last) or f'exit code {error.returncode}'})") from error
        pieces = _read(found) or ()
    least = LEAST_VOLUME * obj.extents.max() ** 3
    pieces = tuple(piece for piece in pieces if _volume(piece) > least)
    if not pieces:
        raise CutError("CoACD leaves no piece that has a volume")
    cover = sum(map(_volume, pieces)) / obj.volume
    if obj.mass_model == "solid" and cover < LEAST_COVER:
        raise CutError(f"CoACD's pieces have {100.0 * cover:.0f} % of its volume")
    return pieces


def child_environment() -> dict[str, str]:
    """Environment in which a Python process finds the same packages as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _volume(points: np.ndarray) -> float:
    from scipy.spatial import ConvexHull, QhullError

    try:
        return float(ConvexHull(points).volume)
    except (QhullError, ValueError):
        return 0.0


def _read(file: Path) -> tuple[np.ndarray, ...] | None:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return tuple(np.split(archive["corners"], archive["ends"][:-1]))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, pieces: tuple[np.ndarray, ...]) -> None:
    """Whole or not at all; a cache that cannot be written is none."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            save_pieces(stream, pieces)


def save_pieces(file: Any, pieces: tuple[np.ndarray, ...]) -> None:
    """Write pieces as :func:`convex_pieces` keeps them: all corners, and where each piece ends."""
    np.savez(file, corners=np.concatenate(pieces), ends=np.cumsum([len(piece) for piece in pieces]))


def add_object(spec: Any, obj: ObjectMesh, shape: ObjectShape, protocol: Protocol) -> None:
    """Write a free object into a scene, with the mass that the protocol gives it.

    Args:
        spec: ``mujoco.MjSpec`` of the scene, whose world frame is the object frame.
        obj: Gives centre of mass and inertia.
        shape: What it touches with.
        protocol: Gives mass or density.
    """
    mass = protocol.mass if protocol.mass is not None else protocol.density * obj.volume
    body = spec.worldbody.add_body(name=OBJECT, pos=obj.center_of_mass)
    body.add_freejoint(name=OBJECT)
    moments, axes = principal(mass * obj.inertia)
    body.explicitinertial = True
    body.mass, body.inertia, body.ipos = mass, moments, np.zeros(3)
    body.iquat = rotation.quaternion_from_matrix(axes)
    if shape.kind == "pieces":
        for number, piece in enumerate(shape.pieces):
            name = f"{OBJECT} {number}"
            add_hull(spec, name, piece - obj.center_of_mass)
            body.add_geom(name=name, type=mujoco().mjtGeom.mjGEOM_MESH, meshname=name)
        return
    size = np.zeros(3)
    size[: len(shape.size)] = shape.size
    body.add_geom(
        name=f"{OBJECT} 0",
        type=getattr(mujoco().mjtGeom, f"mjGEOM_{shape.kind.upper()}"),
        size=size,
        pos=shape.pose[:3, 3] - obj.center_of_mass,
        quat=rotation.quaternion_from_matrix(shape.pose[:3, :3]),
    )
