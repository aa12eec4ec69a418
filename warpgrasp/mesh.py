"""The object: a triangle mesh in metres, checked, repaired and measured (NumPy only)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from .errors import MeshError, OptionError

if TYPE_CHECKING:
    import trimesh

FORMATS = ("obj", "stl", "ply", "off", "glb")

MAX_FILE_BYTES = 256 * 1024**2

LONGEST = 2.0
"""Longest side of an object [m]."""

SHORTEST = 0.005
"""What the longest side must reach at least [m]."""

MAX_OFFSET = 10.0
"""How far the object may lie from its origin [m]: beyond it, float32 resolves less than a micrometre."""

SHELL_THICKNESS = 0.002
"""Assumed thickness of a surface that encloses nothing, such as an open bowl without a wall [m]."""

SOLID_OPENING = 0.1
"""Holes up to this share of the surface area are damage to a solid; above it, the surface is a shell."""

COLUMN_COUNT = 256
"""Columns along the longest side, where what overlapping bodies share is integrated column by column."""


@dataclass(frozen=True, eq=False)
class ObjectMesh:
    """An object's surface and mass distribution, in the frame of its file. Make one with :func:`load_object`."""

    name: str

    path: Path | None
    """File it was read from."""

    vertices: np.ndarray
    """In the object frame [m], float64, shape (vertex, 3)."""

    faces: np.ndarray
    """Vertex indices, counter-clockwise seen from outside, int32, shape (face, 3)."""

    vertex_normals: np.ndarray
    """Unit outward normals, each face weighted by its angle at the vertex, shape (vertex, 3)."""

    watertight: bool
    """Whether the surface has no boundary: every edge is run through equally often in both directions."""

    body_count: int
    """Pieces that share no edge."""

    sign_method: Literal["normal", "winding"]
    """How inside and outside are told apart: by the normal of the closest feature, only for a single watertight body
    that does not overlap itself, or by a winding number above one half."""

    mass_model: Literal["solid", "shell"]
    """What was integrated: the enclosed volume, or a surface of uniform thickness ``SHELL_THICKNESS``."""

    volume: float
    """Volume of the material [m³]."""

    center_of_mass: np.ndarray
    """Of a uniform density, in the object frame [m], shape (3,)."""

    inertia: np.ndarray
    """Per unit mass, about the centre of mass, in the axes of the object frame [m²], shape (3, 3)."""

    repairs: tuple[str, ...] = ()
    """What was changed in the given mesh, one sentence each."""

    @cached_property
    def bounds(self) -> np.ndarray:
        """Lowest and highest corner of the bounding box [m], shape (2, 3)."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @cached_property
    def extents(self) -> np.ndarray:
        """Sides of the bounding box [m], shape (3,)."""
        return self.bounds[1] - self.bounds[0]

    @cached_property
    def edge_normals(self) -> np.ndarray:
        """Unit outward normals at the edges from corner i to corner i + 1 of each face, shape (face, 3, 3)."""
        edge = edge_counts(self.faces)[0]
        normal = np.repeat(face_normals(self.vertices[self.faces]), 3, axis=0)
        total = np.stack([np.bincount(edge, weights=normal[:, i]) for i in range(3)], axis=1)
        return unit(total)[edge].reshape(-1, 3, 3)

    @cached_property
    def radius_of_gyration(self) -> float:
        """Root mean square, over all axes through the centre of mass, of the gyration radius [m]."""
        return float(np.sqrt(np.trace(self.inertia) / 3.0))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the vertices in float32 and of the faces."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vertices, "<f4").tobytes())
        digest.update(np.ascontiguousarray(self.faces, "<i4").tobytes())
        return digest.hexdigest()

    def trimesh(self) -> trimesh.Trimesh:
        """The same surface as a trimesh object."""
        import trimesh as tm

        return tm.Trimesh(self.vertices, self.faces, process=False)


def load_object(
    mesh: str | Path | trimesh.Trimesh | ObjectMesh, *, scale: float = 1.0, name: str | None = None
) -> ObjectMesh:
    """Read an object's mesh, repair what can be repaired and measure it.

    Coincident vertices are merged, faces without three corners and repeated faces dropped, the winding is made
    consistent and outward. Holes stay open.

    Args:
        mesh: Path of an OBJ, STL, PLY, OFF or GLB file, a ``trimesh.Trimesh``, or an ``ObjectMesh``, which is returned
            as it is unless it is scaled or renamed. The parts of a GLB scene are joined with their transforms.
        scale: Factor that turns the file's unit into metres; 0.001 for millimetres.
        name: Name of the object; the stem of the file when omitted.

    Raises:
        MeshError: the file cannot be read, has no faces, has vertices that are not finite, or its size shows that it
            is not in metres.
        OptionError: ``scale`` is not a positive number.
    """
    if not np.isfinite(scale) or scale <= 0.0:
        raise OptionError(f"scale must be a positive number, got {scale}; pass 0.001 for a mesh in millimetres")
    if isinstance(mesh, ObjectMesh):
        if scale != 1.0:
            return _build(mesh.vertices, mesh.faces, scale, name or mesh.name, mesh.path)
        return mesh if name is None else dataclasses.replace(mesh, name=name)
    if isinstance(mesh, str | Path):
        path = Path(mesh).expanduser()
        vertices, faces = _read(path)
        return _build(vertices, faces, scale, name or path.stem, path)
    if not (hasattr(mesh, "vertices") and hasattr(mesh, "faces")):
        raise MeshError(name or "object", f"expected a path, a trimesh.Trimesh or an ObjectMesh, got {type(mesh)}")
    return _build(np.asarray(mesh.vertices), np.asarray(mesh.faces), scale, name or "object", None)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a mesh file, as they are."""
    import trimesh as tm

    content = _read_bytes(path)
    kind = path.suffix[1:].lower()
    try:
        # from memory and without a resolver, nothing else on disk or on the network can be reached
        scene = tm.load_scene(
            io.BytesIO(content), file_type=kind, resolver=None, process=False, skip_materials=True, allow_remote=False
        )
        surfaces = [g for g in scene.geometry.values() if isinstance(g, tm.Trimesh)]
        joined = scene.to_mesh() if surfaces else tm.Trimesh()
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MeshError(path, f"cannot be read as {kind.upper()}: {reason}") from error
    return np.asarray(joined.vertices, float).reshape(-1, 3), np.asarray(joined.faces).reshape(-1, 3)


def _read_bytes(path: Path) -> bytes:
    """Content of a mesh file, refused with a plain reason where it cannot be one."""
    if path.is_dir():
        raise MeshError(path, "is a folder; pass the path of a mesh file in it")
    if not path.is_file():
        raise MeshError(path, "no such file")
    if path.suffix[1:].lower() not in FORMATS:
        known = ", ".join(f".{kind}" for kind in FORMATS)
        raise MeshError(path, f"unknown mesh format {path.suffix!r}; readable are {known}")
    size = path.stat().st_size
    if size == 0:
        raise MeshError(path, "the file is empty")
    if size > MAX_FILE_BYTES:
        raise MeshError(path, f"is {size / 1e6:.0f} MB, more than {MAX_FILE_BYTES / 1e6:.0f} MB; simplify it first")
    content = path.read_bytes()
    head = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs"):
        raise MeshError(path, "is a Git LFS pointer, not the mesh itself; run `git lfs pull` where it came from")
    if head[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise MeshError(path, "is a web page (HTML), not a mesh; download the file itself")
    return content


def _build(vertices: np.ndarray, faces: np.ndarray, scale: float, name: str, path: Path | None) -> ObjectMesh:
    """Repair and measure a surface."""
    label = path or name
    vertices, faces, repairs = _clean(label, vertices, faces)
    vertices = vertices * scale
    _check_size(label, vertices, scale)
    faces, body, flipped = _orient(vertices, faces)
    if flipped:
        repairs.append(f"flipped {flipped} of {len(faces)} faces")
    count, net = edge_counts(faces)[1:]
    watertight = not net.any()
    body_count = int(body.max()) + 1
    mass = _mass_properties(vertices, faces)
    sound = watertight and body_count == 1 and bool((count == 2).all()) and not mass.overlaps
    return ObjectMesh(
        name=name,
        path=path,
        vertices=vertices,
        faces=faces.astype(np.int32),
        vertex_normals=mean_normals(vertices[faces], faces),
        watertight=watertight,
        body_count=body_count,
        sign_method="normal" if sound and mass.model == "solid" else "winding",
        mass_model=mass.model,
        volume=mass.volume,
        center_of_mass=mass.center,
        inertia=mass.inertia,
        repairs=tuple(repairs),
    )


def _check_size(label: str | Path, vertices: np.ndarray, scale: float) -> None:
    """Refuse an object that cannot be in metres, and say which scale would make it so."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    longest = float((high - low).max())
    if longest > LONGEST:
        unit, factor = ("millimetres", 0.001) if longest / 1000 >= SHORTEST else ("centimetres", 0.01)
        raise MeshError(
            label,
            f"is {longest:.4g} m long, more than {LONGEST:g} m; looks like {unit}: pass scale={scale * factor:g}",
        )
    if longest < SHORTEST:
        raise MeshError(
            label,
            f"is {longest * 1000:.4g} mm long, less than {SHORTEST * 1000:g} mm; it looks like a unit larger than the "
            f"metre: pass a larger scale (scale={scale * 0.1 / longest:.3g} makes it 0.1 m long)",
        )
    offset = float(np.linalg.norm((low + high) / 2))
    if offset > MAX_OFFSET:
        raise MeshError(label, f"lies {offset:.4g} m from its origin, more than {MAX_OFFSET:g} m; centre it first")


def _clean(label: str | Path, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Merge coincident vertices, drop faces without area or twice there, drop vertices without a face."""
    if len(vertices) == 0 or len(faces) == 0:
        raise MeshError(label, f"has {len(vertices)} vertices and {len(faces)} faces; a surface of triangles is needed")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(label, f"has a face with vertex {faces.max()}, but only {len(vertices)} vertices")
    vertices = np.asarray(vertices, float)
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = vertices[used]
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise MeshError(label, f"has {bad} vertices that are not finite numbers; repair the file")

    repairs = []
    extent = float(np.ptp(vertices, axis=0).max())
    key = np.round((vertices - vertices.min(axis=0)) / max(1e-7 * extent, 1e-300)).astype(np.int64)
    first, merged = _first_occurrences(key)
    if len(first) < len(vertices):
        repairs.append(f"merged {len(vertices) - len(first)} coincident vertices")
    vertices, faces = vertices[first], merged[faces]

    distinct = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    faces = faces[distinct]
    lowest_first = np.take_along_axis(faces, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    kept = _first_occurrences(lowest_first)[0] if len(faces) else np.arange(0)
    dropped = len(distinct) - len(kept)
    if dropped:
        repairs.append(f"dropped {dropped} faces that were degenerate or repeated")
    used, faces = np.unique(faces[kept], return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = vertices[used]
    if len(faces) == 0 or _areas(vertices[faces]).sum() <= 1e-12 * extent**2:
        raise MeshError(label, "has no face with an area")
    return vertices, faces, repairs


def _first_occurrences(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first of equal rows, in order, and for each row its position in that list."""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def edge_counts(faces: np.ndarray, group: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of the faces: the edge of each corner (3 face,), faces per edge, and forward minus backward runs per edge.

    Corner 3 f + i is the edge from corner i to corner i + 1 of face f. Edges of different groups are kept apart.
    """
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max()) + 1
    key = np.minimum(start, end).astype(np.int64) * size + np.maximum(start, end)
    if group is not None:
        key = np.repeat(group, 3) + (int(group.max()) + 1) * np.unique(key, return_inverse=True)[1].reshape(-1)
    edge = np.unique(key, return_inverse=True)[1].reshape(-1)
    net = np.bincount(edge, weights=np.where(start < end, 1.0, -1.0))
    return edge, np.bincount(edge), np.rint(net).astype(int)


def _orient(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Faces wound consistently and outward, the body of each face, and how many faces were flipped."""
    flip, body = _consistent_winding(faces)
    faces = np.where(flip[:, None], faces[:, ::-1], faces)
    inward = _inward_bodies(vertices, faces, body)[body]
    faces = np.where(inward[:, None], faces[:, ::-1], faces)
    return faces, body, int((flip != inward).sum())


def _consistent_winding(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faces to flip so that neighbours agree, fewest flips per body, and the body of each face."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    face_count = len(faces)
    edge, count, net = edge_counts(faces)
    corner = np.argsort(edge, kind="stable")
    corner = corner[count[edge[corner]] == 2].reshape(-1, 2)
    f, g = (corner // 3).T
    agree = net[edge[corner[:, 0]]] == 0
    # two nodes per face, as it is and flipped; a link says that the two states go together
    rows = np.concatenate([f, f + face_count])
    columns = np.concatenate([np.where(agree, g, g + face_count), np.where(agree, g + face_count, g)])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(2 * face_count, 2 * face_count))
    label_count, label = connected_components(graph, directed=False)
    as_is, flipped = label[:face_count], label[face_count:]
    votes = np.bincount(as_is, minlength=label_count)
    flip = (votes[flipped] > votes[as_is]) | ((votes[flipped] == votes[as_is]) & (flipped < as_is))
    body = np.unique(np.minimum(as_is, flipped), return_inverse=True)[1].reshape(-1)
    return flip, body


def _inward_bodies(vertices: np.ndarray, faces: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Which bodies to turn inside out, shape (body,). A closed body inside another may stay inward: it is a cavity."""
    triangles = vertices[faces] - vertices.mean(axis=0)
    body_count = int(body.max()) + 1
    caps = _caps(vertices, faces) - vertices.mean(axis=0)
    all_inward = _signed_volumes(triangles).sum() + _signed_volumes(caps).sum() < 0.0
    inward = np.full(body_count, all_inward)

    edge, _, net = edge_counts(faces, body)
    closed = np.ones(body_count, bool)
    closed[np.repeat(body, 3)[net[edge] != 0]] = False
    volume = np.bincount(body, weights=_signed_volumes(triangles)) * (-1.0 if all_inward else 1.0)
    for index in np.flatnonzero(closed & (volume < 0.0)):
        others = body != index
        winding = _winding_number(triangles[~others][0, 0], triangles[others]) * (-1.0 if all_inward else 1.0)
        if winding < 0.5:
            inward[index] = ~inward[index]
    return inward


def _winding_number(point: np.ndarray, triangles: np.ndarray) -> float:
    """Solid angle of triangles seen from a point over 4 pi (Van Oosterom & Strackee 1983)."""
    a, b, c = np.moveaxis(triangles - point, 1, 0)
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    triple = np.einsum("fi,fi->f", a, np.cross(b, c))
    dots = [np.einsum("fi,fi->f", x, y) for x, y in ((a, b), (b, c), (c, a))]
    return float(np.arctan2(triple, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum() / (2.0 * np.pi))


def _caps(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles that close every hole by a fan around the centre of its rim, shape (cap, 3, 3)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edge, _, net = edge_counts(faces)
    unmatched = np.flatnonzero(net)
    if len(unmatched) == 0:
        return np.zeros((0, 3, 3))
    corner = np.full(len(net), -1)
    corner[edge] = np.arange(len(edge))
    ends = np.sort(np.stack([faces.ravel(), np.roll(faces, -1, axis=1).ravel()], axis=1)[corner[unmatched]], axis=1)
    ends = np.where(net[unmatched, None] > 0, ends[:, ::-1], ends)
    ends = np.repeat(ends, np.abs(net[unmatched]), axis=0)
    size = len(vertices)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(size, size))
    rim = connected_components(graph, directed=False)[1][ends[:, 0]]
    rim = np.unique(rim, return_inverse=True)[1].reshape(-1)
    middle = vertices[ends].mean(axis=1)
    length = np.linalg.norm(vertices[ends[:, 1]] - vertices[ends[:, 0]], axis=1)
    center = np.stack([np.bincount(rim, weights=length * middle[:, i]) for i in range(3)], axis=1)
    center /= np.bincount(rim, weights=length)[:, None]
    return np.stack([vertices[ends[:, 0]], vertices[ends[:, 1]], center[rim]], axis=1)


def _areas(triangles: np.ndarray) -> np.ndarray:
    """Areas of triangles [m²]."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def _signed_volumes(triangles: np.ndarray) -> np.ndarray:
    """Volumes of the tetrahedra between triangles and the origin [m³]."""
    return np.einsum("fi,fi->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])) / 6.0


def mean_normals(triangles: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Unit normals of groups of corners, each face weighted by its angle (Thürmer & Wüthrich 1998), shape (group, 3).

    Args:
        triangles: Corners of the faces, shape (face, 3, 3).
        group: Group of each corner, shape (face, 3); the vertices of the faces give vertex normals.
    """
    ahead = np.roll(triangles, -1, axis=1) - triangles
    back = np.roll(triangles, 1, axis=1) - triangles
    angle = np.arctan2(np.linalg.norm(np.cross(ahead, back), axis=-1), (ahead * back).sum(axis=-1))
    weighted = angle[..., None] * face_normals(triangles)[:, None]
    return unit(np.stack([np.bincount(group.ravel(), weights=weighted[..., i].ravel()) for i in range(3)], axis=1))


def face_normals(triangles: np.ndarray) -> np.ndarray:
    """Unit normals of triangles, zero where the area is."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    return unit(np.cross(b - a, c - a), smallest=1e-30)


def unit(vectors: np.ndarray, smallest: float = 1e-9) -> np.ndarray:
    """Vectors of length one; zero where they are shorter than ``smallest``."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > smallest, vectors / np.maximum(length, smallest), 0.0)


Moments = tuple[float, np.ndarray, np.ndarray]
"""Zeroth, first (3,) and second (3, 3) moment of a mass distribution about the origin."""


class _Mass(NamedTuple):
    """How mass is distributed."""

    model: Literal["solid", "shell"]
    volume: float
    center: np.ndarray
    inertia: np.ndarray
    overlaps: bool


def _mass_properties(vertices: np.ndarray, faces: np.ndarray) -> _Mass:
    """Mass distribution of a surface, and whether what it encloses overlaps itself.

    Small holes are closed by fans. A volume is integrated exactly by the divergence theorem; what it counts more than
    once is then taken off again. A surface that is mostly open is a shell.
    """
    origin = vertices.mean(axis=0)
    triangles = vertices[faces] - origin
    caps = _caps(vertices, faces) - origin
    area = _areas(triangles).sum()
    model: Literal["solid", "shell"] = "shell"
    mass, first, second = _shell_moments(triangles)
    repeated = None
    if _areas(caps).sum() <= SOLID_OPENING * area:
        closed = np.concatenate([triangles, caps])
        solid = _solid_moments(closed)
        repeated = _repeated_moments(closed)
        if repeated is not None:
            solid = (solid[0] - repeated[0], solid[1] - repeated[1], solid[2] - repeated[2])
        # a sheet with two sides encloses nothing
        if solid[0] > 1e-6 * area**1.5:
            model = "solid"
            mass, first, second = solid
    center = first / mass
    covariance = second / mass - np.outer(center, center)
    inertia = np.trace(covariance) * np.eye(3) - covariance
    return _Mass(model, float(mass), origin + center, inertia, repeated is not None)


def _shell_moments(triangles: np.ndarray) -> Moments:
    """Moments of a surface of uniform thickness ``SHELL_THICKNESS``."""
    mass = SHELL_THICKNESS * _areas(triangles)
    total = triangles.sum(axis=1)
    second = np.einsum("f,fvi,fvj->ij", mass, triangles, triangles) + np.einsum("f,fi,fj->ij", mass, total, total)
    return float(mass.sum()), mass @ total / 3.0, second / 12.0


def _solid_moments(triangles: np.ndarray) -> Moments:
    """Moments of the volume that a closed surface encloses, as a sum over tetrahedra to the origin."""
    mass = _signed_volumes(triangles)
    total = triangles.sum(axis=1)
    second = np.einsum("f,fvi,fvj->ij", mass, triangles, triangles) + np.einsum("f,fi,fj->ij", mass, total, total)
    return float(mass.sum()), mass @ total / 4.0, second / 20.0


def _repeated_moments(triangles: np.ndarray) -> Moments | None:
    """Moments of what the tetrahedra count too often: winding number minus one inside, the winding number outside.

    On a grid of vertical columns, exact along each column. None where nothing is counted twice.
    """
    low = triangles.min(axis=(0, 1))
    size = float((triangles.max(axis=(0, 1)) - low).max())
    step = size / COLUMN_COUNT
    row_length = COLUMN_COUNT + 2
    # irrational shifts keep columns off edges on round coordinates, and unequal ones off diagonals
    start = low[:2] - np.sqrt([0.3, 0.7]) * step
    column, height, turn = _crossings(triangles, start, step, row_length)
    order = np.lexsort((height, column))
    column, height, turn = column[order], height[order], turn[order]
    # rounding can lose a crossing at an edge: such a column would leak into the next
    sound = (np.bincount(column, weights=turn) == 0.0)[column]
    column, height, turn = column[sound], height[sound], turn[sound]
    winding = np.cumsum(turn)
    excess = np.where(winding > 0.5, winding - 1.0, winding)
    # surfaces that touch do not overlap
    counted = np.flatnonzero(excess)
    counted = counted[height[counted + 1] - height[counted] > 1e-6 * size]
    if len(counted) == 0:
        return None
    bottom, top, excess = height[counted], height[counted + 1], step * step * excess[counted]
    x, y = (start + step * np.stack([column // row_length, column % row_length], axis=1)[counted]).T
    length, z = excess * (top - bottom), excess * (top**2 - bottom**2) / 2.0
    zz = (excess * (top**3 - bottom**3)).sum() / 3.0
    # a column is as wide as a step: its own second moment adds to that of its centre
    xx, yy = (x * x + step**2 / 12.0) @ length, (y * y + step**2 / 12.0) @ length
    xy, xz, yz = (x * y) @ length, x @ z, y @ z
    first = np.array([x @ length, y @ length, z.sum()])
    return float(length.sum()), first, np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _crossings(
    triangles: np.ndarray, start: np.ndarray, step: float, row_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where vertical columns cross triangles: column, height, and +1 for entering or -1 for leaving the volume."""
    a, b, c = np.moveaxis(triangles[..., :2], 1, 0)
    double_area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    first = np.ceil((triangles[..., :2].min(axis=1) - start) / step).astype(int)
    last = np.floor((triangles[..., :2].max(axis=1) - start) / step).astype(int)
    size = np.where((double_area != 0.0)[:, None], np.maximum(last - first + 1, 0), 0)
    ends = np.cumsum(size.prod(axis=1))
    found = []
    # a few million pairs of column and triangle at a time
    chunk = np.searchsorted(ends, np.arange(0, ends[-1] + 1, 4_000_000), side="right")
    for begin, end in zip(chunk, [*chunk[1:], len(triangles)], strict=True):
        count = size[begin:end].prod(axis=1)
        f = np.repeat(np.arange(begin, end), count)
        rank = np.arange(len(f)) - np.repeat(np.cumsum(count) - count, count)
        i, j = first[f, 0] + rank // size[f, 1], first[f, 1] + rank % size[f, 1]
        p = start + step * np.stack([i, j], axis=1)
        v = ((p - a[f])[:, 0] * (c - a)[f, 1] - (p - a[f])[:, 1] * (c - a)[f, 0]) / double_area[f]
        w = ((b - a)[f, 0] * (p - a[f])[:, 1] - (b - a)[f, 1] * (p - a[f])[:, 0]) / double_area[f]
        hit = (v >= 0.0) & (w >= 0.0) & (v + w <= 1.0)
        weight = np.stack([1.0 - v - w, v, w], axis=1)[hit]
        height = (weight * triangles[f[hit], :, 2]).sum(axis=1)
        found.append((i[hit] * row_length + j[hit], height, -np.sign(double_area[f[hit]])))
    column, height, turn = (np.concatenate(part) for part in zip(*found, strict=True))
    return column, height, turn
