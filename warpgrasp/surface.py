"""Points spread evenly over a surface: the hand's skin and the object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
import warp as wp

from . import collision
from .clusters import cluster_points, compact_order
from .device import transforms_from_matrices
from .errors import HandError
from .hand import Hand
from .mesh import ObjectMesh

CANDIDATES_PER_POINT = 16
"""Candidates that are drawn for each point that is kept."""

CULL_DEPTH = 2.0e-4
"""Depth inside another shape at which a candidate is dropped [m]; less is rounding."""

REMEMBERED = 64
"""Samples of hands' skins that are kept, about ten per hand; one of 16384 points takes 1 MB."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on the hand's skin that no other part of the hand covers, sorted by link."""

    link: np.ndarray
    """Link index, shape (point,)."""

    position: np.ndarray
    """In the link's frame [m], shape (point, 3)."""

    normal: np.ndarray
    """Unit normal out of the link, in its frame, shape (point, 3)."""

    area: np.ndarray
    """Area that each point stands for [m²], shape (point,)."""


def triangle_areas(triangles: np.ndarray) -> np.ndarray:
    """Areas [m²], shape (triangle,), of triangles of shape (triangle, 3, 3)."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return 0.5 * np.linalg.norm(normal, axis=1)


def sample_triangles(triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread by area over triangles of shape (triangle, 3, 3): faces (count,) and positions (count, 3).

    Systematic sampling along the cumulative area picks the faces, the R2 sequence the place in each: no two draws
    cluster, and there is no seed.
    """
    cumulative = np.cumsum(triangle_areas(triangles))
    place = (np.arange(count) + 0.5) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, place), len(triangles) - 1)
    # R2: the two-dimensional relative of the golden ratio (plastic number).
    u, v = np.modf(np.arange(1, count + 1)[:, None] * [0.7548776662466927, 0.5698402909980532])[0].T
    flip = u + v > 1.0
    u, v = np.where(flip, 1.0 - u, u), np.where(flip, 1.0 - v, v)
    a, b, c = triangles[face].transpose(1, 0, 2)
    return face, a + u[:, None] * (b - a) + v[:, None] * (c - a)


def object_points(obj: ObjectMesh, count: int) -> np.ndarray:
    """Points of the object's surface [m], shape (count, 3).

    Up to half are vertices, because sharp corners are what penetrates; the others are spread by area.
    """
    kept = min(count // 2, len(obj.vertices))
    vertex = np.linspace(0, len(obj.vertices) - 1, kept).round().astype(int)
    return np.concatenate([sample_triangles(obj.vertices[obj.faces], count - kept)[1], obj.vertices[vertex]])


def farthest_points(position: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Indices of ``count`` positions, each the one farthest from those before it, shape (count,)."""
    chosen = np.empty(count, int)
    distance = np.full(len(position), np.inf)
    columns = np.ascontiguousarray(position.T)
    # in place and column by column: four times as fast as the same in one expression
    squared, term = np.empty((2, len(position)))
    chosen[0] = first
    for i in range(count):
        if i > 0:
            chosen[i] = distance.argmax()
        squared[:] = 0.0
        for column in columns:
            np.subtract(column, column[chosen[i]], out=term)
            np.multiply(term, term, out=term)
            np.add(squared, term, out=squared)
        np.minimum(distance, squared, out=distance)
    return chosen


def grasping_links(hand: Hand) -> list[int]:
    """The palm and every link beyond it; a forearm or a mount is before it and holds nothing."""
    links = {hand.palm.link}
    for child, joint in enumerate(hand.joints, start=1):
        if joint.parent in links:
            links.add(child)
    return sorted(links)


def surface_points(
    hand: Hand, count: int, *, links: Sequence[int] | None = None, even: bool = True, device: str = "cpu"
) -> SurfacePoints:
    """Points on the hand's skin, by area, none inside another part of the hand at its open pose.

    The last few results are remembered by the hand's hash; their arrays are read-only.

    Args:
        hand: The hand.
        count: Number of points.
        links: Links to put points on; all where omitted.
        even: Spread them by farthest-point selection; otherwise they only follow the area, which is faster.
        device: Warp device that looks for covered points.

    Raises:
        HandError: The hand has no geometry, or its parts cover each other.
    """
    return _remembered(_Request(hand, hand.hash, count, None if links is None else tuple(links), even, device))


@dataclass(frozen=True)
class _Request:
    """What points depend on; hands compare by their hash."""

    hand: Hand = field(compare=False)
    hand_hash: str
    count: int
    links: tuple[int, ...] | None
    even: bool
    device: str


@lru_cache(maxsize=REMEMBERED)
def _remembered(request: _Request) -> SurfacePoints:
    points = _sample(request.hand, request.count, request.links, request.even, request.device)
    for item in fields(points):
        getattr(points, item.name).flags.writeable = False
    return points


def _sample(hand: Hand, count: int, links: Sequence[int] | None, even: bool, device: str) -> SurfacePoints:
    link_of_shape = np.array([link for link, part in enumerate(hand.links) for _ in part.shapes], int)
    if not len(link_of_shape):
        raise HandError(hand.path, "no link has collision or visual geometry, so there is no surface to grasp with")
    meshes = [shape.trimesh() for part in hand.links for shape in part.shapes]
    triangles = np.concatenate([np.asarray(mesh.triangles) for mesh in meshes])
    shape_of_face = np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes])

    wanted = np.isin(link_of_shape[shape_of_face], range(len(hand.links)) if links is None else links)
    triangles = np.where(wanted[:, None, None], triangles, triangles[:, :1])  # no area, so no points
    drawn = count * (CANDIDATES_PER_POINT if even else CANDIDATES_PER_POINT // 4)
    face, position = sample_triangles(triangles, drawn)
    shape = shape_of_face[face]
    bare = np.flatnonzero(~_covered(hand, link_of_shape, shape, position, device))
    if len(bare) < count:
        raise HandError(
            hand.path, f"only {len(bare)} of {drawn} surface points are outside every other part of the hand"
        )

    link, position, face = link_of_shape[shape[bare]], position[bare], face[bare]
    world = _at_open_pose(hand, link, position)
    chosen = farthest_points(world, count) if even else np.linspace(0, len(bare) - 1, count).round().astype(int)
    chosen = np.concatenate([_compact(position, chosen[link[chosen] == part]) for part in np.unique(link[chosen])])
    area = _share(world, link, chosen) * float(triangle_areas(triangles).sum()) / drawn
    normal = np.concatenate([np.asarray(mesh.face_normals) for mesh in meshes])[face]
    return SurfacePoints(link[chosen], position[chosen], normal[chosen], area)


def _compact(position: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return chosen[compact_order(position[chosen])]


def _covered(hand: Hand, link_of_shape: np.ndarray, shape: np.ndarray, position: np.ndarray, device: str) -> np.ndarray:
    """Whether each point, on the given shape, is inside another shape at the open pose, shape (point,)."""
    shapes = [s for part in hand.links for s in part.shapes]
    # Each shape is a group of its own, so that a link's overlapping shapes hide each other's points too. A mesh
    # stands as its hull here: it hides other links' points, but not those of its own link.
    is_mesh = np.array([s.kind == "mesh" for s in shapes])
    may_touch = np.array(link_of_shape[:, None] != link_of_shape[None, :]) | ~is_mesh[None, :]
    np.fill_diagonal(may_touch, False)
    pose = hand.link_transforms(hand.open_position)[link_of_shape]
    world = _at_open_pose(hand, link_of_shape[shape], position)
    packed = collision.pack([(s,) for s in shapes], device)
    transform = transforms_from_matrices(pose[None], device)
    sphere = wp.zeros(transform.shape, dtype=wp.vec4, device=device)
    collision.place_spheres(packed, transform, sphere)
    # Points as they lie in their shape's group, whose frame is its link's; candidates come sorted by shape.
    clusters = cluster_points(position, shape, device)
    depth = collision.no_depth(1, len(position), clusters)
    collision.find_deepest_link(
        packed,
        wp.array(may_touch.astype(np.int32), dtype=int, device=device),
        transform,
        sphere,
        wp.array(world[None].astype(np.float32), dtype=wp.vec3, device=device),
        clusters,
        depth,
    )
    return depth.distance.numpy()[0] < -CULL_DEPTH


def _at_open_pose(hand: Hand, link: np.ndarray, position: np.ndarray) -> np.ndarray:
    pose = hand.link_transforms(hand.open_position)[link]
    return np.einsum("nij,nj->ni", pose[:, :3, :3], position) + pose[:, :3, 3]


def _share(position: np.ndarray, link: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How many candidates of the same link are nearest to each chosen one, shape (chosen,)."""
    from scipy.spatial import KDTree

    metres_between_links = 10.0
    keyed = np.concatenate([position, metres_between_links * link[:, None]], axis=1)
    nearest = KDTree(keyed[chosen]).query(keyed)[1]
    return np.bincount(nearest, minlength=len(chosen)).astype(float)
