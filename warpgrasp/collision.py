"""The hand's links as convex shapes on the device, and the depth of points inside them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import warp as wp

from .clusters import PointClusters
from .device import thread_count
from .hand import Hand, Shape
from .kernels import collision as kernels

KINDS = {"box": 0, "sphere": 0, "capsule": 0, "cylinder": 1, "mesh": 2}
"""The kernel's shape kinds: spheres and capsules are rounded boxes."""

PLANE_COUNT = 64
"""Planes of the polytope that stands for a mesh."""

REMEMBERED = 16
"""Hands whose shapes stay on a device; each takes less than 1 MB."""


@dataclass(frozen=True, eq=False)
class CollisionShapes:
    """Convex shapes of all links, sorted by link, on one device. Fields as in ``kernels.collision``."""

    kind: wp.array
    transform: wp.array
    size: wp.array
    sphere: wp.array
    plane_begin: wp.array
    plane: wp.array
    link_begin: wp.array
    link_sphere: wp.array
    link_swing: wp.array


def fibonacci_sphere(count: int) -> np.ndarray:
    """Unit vectors spread evenly over the sphere, shape (count, 3)."""
    i = np.arange(count) + 0.5
    z = 1.0 - 2.0 * i / count
    angle = np.pi * (1.0 + np.sqrt(5.0)) * i
    ring = np.sqrt(1.0 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def bounding_planes(vertices: np.ndarray) -> np.ndarray:
    """Planes n . x = d of a convex polytope that holds all vertices, shape (plane, 4).

    The convex hull itself where it has few faces; otherwise it is cut by ``PLANE_COUNT`` evenly spread planes, which
    lie outside the hull by a few percent of its size at most.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        normals = ConvexHull(vertices).equations[:, :3]
        # Qhull triangulates flat sides: one plane of each is enough.
        normals = normals[np.unique(np.round(normals, 6), axis=0, return_index=True)[1]]
    except QhullError:  # a flat or needle-like mesh has no hull
        normals = None
    if normals is None or len(normals) > PLANE_COUNT:
        normals = np.concatenate([fibonacci_sphere(PLANE_COUNT - 6), np.eye(3), -np.eye(3)])
    return np.concatenate([normals, (vertices @ normals.T).max(axis=0)[:, None]], axis=1)


def _size(shape: Shape) -> list[float]:
    match shape.kind:
        case "box":
            return [*shape.size, 0.0]
        case "sphere":
            return [0.0, 0.0, 0.0, shape.size[0]]
        case "capsule":
            return [0.0, 0.0, shape.size[1], shape.size[0]]
        case "cylinder":
            return [shape.size[0], shape.size[1], 0.0, 0.0]
    return [0.0, 0.0, 0.0, 0.0]


def _bounding_sphere(points: np.ndarray) -> np.ndarray:
    center = 0.5 * (points.min(axis=0) + points.max(axis=0))
    # A little larger than the vertices: round shapes bulge between the vertices of their triangles.
    return np.append(center, 1.02 * np.linalg.norm(points - center, axis=1).max() + 1e-4)


def _link_sphere(points: list[np.ndarray]) -> np.ndarray:
    return _bounding_sphere(np.concatenate(points)) if points else np.zeros(4)


def _swing(link_sphere: np.ndarray, shape_spheres: np.ndarray) -> float:
    """How far from the centre of a link's sphere its shapes reach, and clusters of points on them lie at most [m]."""
    # Three points of a ball can bound a box whose middle is outside of it, by a factor of 1.061 at most.
    off_center = np.linalg.norm(shape_spheres[:, :3] - link_sphere[:3], axis=1)
    return 1.07 * float((off_center + shape_spheres[:, 3]).max(initial=0.0))


def pack(groups: list[tuple[Shape, ...]], device: str | None) -> CollisionShapes:
    """Put the shapes of each link (or of any other rigid group) on the device."""
    shapes = [shape for group in groups for shape in group]
    points = [np.asarray(shape.trimesh().vertices) for shape in shapes]
    planes = [bounding_planes(shape.vertices) if shape.vertices is not None else np.zeros((0, 4)) for shape in shapes]
    first = np.cumsum([0] + [len(group) for group in groups])
    spheres = np.array([_bounding_sphere(p) for p in points]).reshape(-1, 4)
    link_spheres = [_link_sphere(points[a:b]) for a, b in itertools.pairwise(first)]
    quaternions = [np.roll(shape.quaternion, -1) for shape in shapes]

    def array(values: list | np.ndarray, dtype: type, width: int = 0) -> wp.array:
        host = np.asarray(values, dtype=np.int32 if dtype is int else np.float32)
        return wp.array(host.reshape(-1, width) if width else host, dtype=dtype, device=device)

    return CollisionShapes(
        kind=array([KINDS[shape.kind] for shape in shapes], int),
        transform=array([[*s.position, *q] for s, q in zip(shapes, quaternions, strict=True)], wp.transform, 7),
        size=array([_size(shape) for shape in shapes], wp.vec4, 4),
        sphere=array(spheres, wp.vec4, 4),
        plane_begin=array(np.cumsum([0] + [len(p) for p in planes]), int),
        plane=array(np.concatenate([*planes, np.zeros((0, 4))]), wp.vec4, 4),
        link_begin=array(first, int),
        link_sphere=array(link_spheres, wp.vec4, 4),
        link_swing=array(
            [
                _swing(around, spheres[a:b])
                for around, (a, b) in zip(link_spheres, itertools.pairwise(first), strict=True)
            ],
            float,
        ),
    )


@dataclass(frozen=True)
class HandOnDevice:
    """What depends on nothing else is remembered by it; hands compare by their hash."""

    hand: Hand = field(compare=False)
    hand_hash: str
    device: str


def hand_shapes(hand: Hand, device: str) -> CollisionShapes:
    """Put a hand's shapes on the device, or find them there: those of the last few hands are remembered."""
    return _remembered(HandOnDevice(hand, hand.hash, device))


@lru_cache(maxsize=REMEMBERED)
def _remembered(key: HandOnDevice) -> CollisionShapes:
    return pack([link.shapes for link in key.hand.links], key.device)


def touch_matrix(hand: Hand) -> np.ndarray:
    """1 where a point of the row's link must stay out of the column's; the last row is for the object's points."""
    count = len(hand.links)
    allowed = np.ones((count + 1, count), np.int32)
    np.fill_diagonal(allowed, 0)
    for low, high in hand.neighbours:
        allowed[low, high] = allowed[high, low] = 0
    return allowed


def place_spheres(shapes: CollisionShapes, link_transform: wp.array, sphere_out: wp.array) -> None:
    """Launch ``kernels.collision.place_spheres``; see there for the arrays."""
    wp.launch(
        kernels.place_spheres,
        dim=link_transform.shape,
        inputs=[shapes.link_sphere, link_transform],
        outputs=[sphere_out],
        device=link_transform.device,
    )


@dataclass(frozen=True, eq=False)
class LinkSteps:
    """How far links move between two searches. Fields as in ``kernels.collision.longest_steps``."""

    last: wp.array
    step: wp.array


def no_steps(grasp_count: int, link_count: int, device: str | None) -> LinkSteps:
    """No pose is known yet."""
    return LinkSteps(
        last=wp.zeros((grasp_count, link_count), dtype=wp.transform, device=device),
        step=wp.zeros(grasp_count, dtype=float, device=device),
    )


def find_longest_steps(shapes: CollisionShapes, link_transform: wp.array, sphere: wp.array, steps: LinkSteps) -> None:
    """Launch ``kernels.collision.longest_steps``; see there for the arrays. ``steps`` is updated."""
    wp.launch(
        kernels.longest_steps,
        dim=link_transform.shape[0],
        inputs=[shapes.link_swing, link_transform, sphere],
        outputs=[steps.last, steps.step],
        device=link_transform.device,
    )


@dataclass(frozen=True, eq=False)
class LinkDepth:
    """Which points are inside which links, and how deep. Fields as in ``kernels.collision.deepest_link``."""

    slack: wp.array
    group_links: wp.array
    touched: wp.array
    link: wp.array
    distance: wp.array
    gradient: wp.array


def no_depth(grasp_count: int, point_count: int, clusters: PointClusters) -> LinkDepth:
    """No point is inside a link yet."""
    device = clusters.link.device
    per_point = (grasp_count, point_count)
    group_count = -(-len(clusters) // int(kernels.GROUP_SIZE))
    return LinkDepth(
        slack=wp.zeros((grasp_count, len(clusters)), dtype=float, device=device),
        group_links=wp.zeros((grasp_count, group_count), dtype=int, device=device),
        touched=wp.zeros((grasp_count, len(clusters)), dtype=int, device=device),
        link=wp.full(per_point, -1, dtype=int, device=device),
        distance=wp.zeros(per_point, dtype=float, device=device),
        gradient=wp.zeros(per_point, dtype=wp.vec3, device=device),
    )


def find_deepest_link(
    shapes: CollisionShapes,
    may_touch: wp.array,
    link_transform: wp.array,
    sphere: wp.array,
    point_position: wp.array,
    clusters: PointClusters,
    depth: LinkDepth,
    step: wp.array | None = None,
) -> None:
    """Launch ``kernels.collision.deepest_link``; see there for the arrays. ``depth`` is updated.

    With ``step``, ``find_longest_steps`` must have run once since the last search that updated this ``depth``.
    """
    depth.group_links.zero_()
    part_count = thread_count(len(clusters), point_position.device)
    wp.launch(
        kernels.deepest_link,
        dim=(link_transform.shape[0], part_count),
        inputs=[
            shapes.kind,
            shapes.transform,
            shapes.size,
            shapes.sphere,
            shapes.plane_begin,
            shapes.plane,
            shapes.link_begin,
            shapes.link_sphere,
            may_touch,
            clusters.begin,
            clusters.link,
            clusters.sphere,
            link_transform,
            sphere,
            step,
            point_position,
            part_count,
        ],
        outputs=[depth.slack, depth.group_links, depth.touched, depth.link, depth.distance, depth.gradient],
        device=point_position.device,
    )
