"""Geometry of grasps: contact area, penetration both ways, links in contact, contact consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import warp as wp

from . import collision, surface
from . import device as devices
from .clusters import PointClusters, cluster_points, compact_order
from .distance import FAR_DISTANCE, DeviceMesh, evaluate_signed_distance, find_closest_faces
from .errors import OptionError, ShapeError
from .hand import Finger, Hand
from .hand_solid import HandSolid
from .kernels import geometry as kernels
from .kinematics import place_points
from .mesh import ObjectMesh
from .pose import Pose
from .self_collision import self_penetration
from .surface import SurfacePoints, farthest_points, surface_points

THRESHOLDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.010)
"""Distances up to which a point of the hand's skin touches, for the curve of contact areas [m]."""

CONTACT_DISTANCE = 0.002
"""Distance within which a link counts as touching [m]."""

CONSISTENCY_CAP = 0.010
"""Fingers further away than this count as this far away [m]."""

HAND_POINTS = 16384
"""Points on the hand's skin: about 3 mm² each on a hand of human size."""

OBJECT_POINTS = 8192
"""Points on the object's surface that are looked for in the hand; as many of its vertices come on top."""

CPU_BATCH, GPU_BATCH = 64, 1024
"""Grasps that are measured at once; each takes about 2 MB."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where N hands of L links are with respect to one object, float64."""

    contact_area: np.ndarray
    """Area of the hand's skin with |signed distance| <= threshold [m²], shape (N, threshold)."""

    contact_area_inside_counted: np.ndarray
    """Area of the hand's skin with signed distance <= threshold [m²], shape (N, threshold)."""

    hand_in_object_depth: np.ndarray
    """Depth of the hand's deepest point inside the object [m], 0 where none is, shape (N,)."""

    object_in_hand_depth: np.ndarray
    """Depth of the object's deepest point inside a link's shape [m], 0 where none is, shape (N,)."""

    self_penetration_depth: np.ndarray
    """Depth of a link in another that is no neighbour, see :func:`warpgrasp.self_collision.deepest_links` [m], shape
    (N,)."""

    contact_distance: np.ndarray
    """Signed distance of each link's nearest point to the object, inf beyond reach [m], shape (N, L)."""

    contact_position: np.ndarray
    """The object's surface next to that point, object frame [m], shape (N, L, 3)."""

    contact_normal: np.ndarray
    """Unit normal there, into the object, shape (N, L, 3)."""

    patch_position: np.ndarray
    """The object's surface next to points of each link within ``CONTACT_DISTANCE``: the nearest and others far from
    it, NaN where there are fewer; object frame [m], shape (N, L, patch point, 3)."""

    patch_normal: np.ndarray
    """Unit normals there, into the object, shape (N, L, patch point, 3)."""


def measure_geometry(
    hand: Hand,
    obj: ObjectMesh,
    pose: Pose,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    hand_points: int = HAND_POINTS,
    object_points: int = OBJECT_POINTS,
    patch_points: int = 0,
    mesh: DeviceMesh | None = None,
    device: str | None = None,
) -> Geometry:
    """Measure N poses of a hand about an object.

    Joints are taken as they are given: neither ranges nor couplings are applied. The hand is its collision shapes;
    a mesh counts as a convex polytope where points are looked for inside it.

    Args:
        hand: The hand.
        obj: The object.
        pose: Wrist (in the object frame) and joints of each hand, all finite.
        thresholds: Distances for the contact areas [m], not negative.
        hand_points: Points on the hand's skin, by area.
        object_points: Points on the object, by area; as many of its vertices come on top.
        patch_points: Most contacts on one link in ``patch_position``; none where omitted.
        mesh: The object on its device, where it is there already; ``device`` is ignored then.
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Returns:
        All distances, areas and contacts. Depths miss what lies between two points: about
        0.1 mm on a fingertip, more at a sharp corner.

    Raises:
        HandError: The hand has no geometry.
        OptionError: A threshold is negative or not finite.
        DeviceError: There is no such device.
    """
    _require_lengths(thresholds=thresholds)
    target = devices.choose(device) if mesh is None else mesh.device
    skin = Skin(hand, surface_points(hand, hand_points, even=False, device=target), target)
    mesh = mesh or DeviceMesh(obj, target)
    reach = _reach(obj, max([*thresholds, CONSISTENCY_CAP]))
    probe = surface.object_points(obj, 2 * object_points)
    limit = wp.array(np.asarray(thresholds, np.float32), dtype=float, device=target)
    size = CPU_BATCH if target == "cpu" else GPU_BATCH
    starts = range(0, max(len(pose), 1), size)
    parts = [_measure_batch(skin, mesh, pose[a : a + size], probe, limit, reach, patch_points) for a in starts]
    return Geometry(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Geometry)))


def contact_area(
    distance: np.ndarray,
    area: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    inside_counted: bool = False,
    device: str | None = None,
) -> np.ndarray:
    """Area of points near a surface [m²], shape (N, threshold).

    Args:
        distance: Signed distances of the points, negative inside [m], shape (N, point).
        area: Area that each point stands for [m²], shape (point,).
        thresholds: Distances up to which a point counts [m].
        inside_counted: Count every point inside, not only those that are no deeper than the threshold.
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Raises:
        ShapeError: ``area`` does not match ``distance``.
        OptionError: A threshold is negative or not finite.
    """
    distance, area = np.asarray(distance, np.float32), np.asarray(area, np.float32)
    if distance.ndim != 2:
        raise ShapeError("distance", "(N, point)", distance.shape)
    if area.shape != distance.shape[1:]:
        raise ShapeError("area", f"{distance.shape[1:]} like the points of distance", area.shape)
    _require_lengths(thresholds=thresholds)
    target = devices.choose(device)

    def put(values: np.ndarray) -> wp.array:
        return wp.array(values, dtype=float, device=target)

    areas = _contact_areas(put(distance), put(area), put(np.asarray(thresholds, np.float32)))
    return areas[int(inside_counted)]


def links_in_contact(contact_distance: np.ndarray, threshold: float = CONTACT_DISTANCE) -> np.ndarray:
    """Number of links whose nearest point is within ``threshold`` [m] of the object or inside it, int, shape (N,).

    Args:
        contact_distance: Least signed distance of each link, NaN or inf for none [m], shape (N, L).
        threshold: Largest distance of a contact [m].
    """
    return (np.asarray(contact_distance) <= threshold).sum(axis=1)


def finger_distance(
    contact_distance: np.ndarray, fingers: Sequence[Finger], cap: float = CONSISTENCY_CAP
) -> np.ndarray:
    """Least signed distance of each finger to the object, at most ``cap`` [m], shape (N, finger).

    Args:
        contact_distance: Least signed distance of each link [m], shape (N, L).
        fingers: Which links are a finger's.
        cap: What a finger further away counts as [m].
    """
    distance = np.asarray(contact_distance, float)
    columns = [np.minimum(distance[:, list(finger.links)].min(axis=1, initial=cap), cap) for finger in fingers]
    return np.stack(columns, axis=1) if columns else np.zeros((len(distance), 0))


def contact_consistency(
    contact_distance: np.ndarray, fingers: Sequence[Finger], cap: float = CONSISTENCY_CAP
) -> np.ndarray:
    """Largest minus smallest distance over the fingers [m], shape (N,): 0 where all touch alike; NaN without fingers.

    Distances are signed, so a finger 2 mm deep and one that just touches differ by 2 mm.

    Source: Chen et al. 2025, DexGraspBench (``contact_consis``).

    Args:
        contact_distance: Least signed distance of each link [m], shape (N, L).
        fingers: Which links are a finger's.
        cap: What a finger further away counts as [m].
    """
    distance = finger_distance(contact_distance, fingers, cap)
    if distance.shape[1] == 0:
        return np.full(len(distance), np.nan)
    return np.ptp(distance, axis=1)


class Skin(HandSolid):
    """The hand with points on its skin."""

    def __init__(self, hand: Hand, points: SurfacePoints, device: str) -> None:
        super().__init__(hand, device)
        begin = np.searchsorted(points.link, np.arange(len(hand.links) + 1)).astype(np.int32)
        self.may_touch = wp.array(collision.touch_matrix(hand), dtype=int, device=device)
        self.point_link = wp.array(points.link.astype(np.int32), dtype=int, device=device)
        self.point_local = wp.array(points.position.astype(np.float32), dtype=wp.vec3, device=device)
        self.area = wp.array(points.area.astype(np.float32), dtype=float, device=device)
        self.link_begin = wp.array(begin, dtype=int, device=device)
        _put_onto_shapes(self.shapes, self.point_link, self.point_local)


def _put_onto_shapes(shapes: collision.CollisionShapes, point_link: wp.array, point_local: wp.array) -> None:
    """Move points from the triangles that round shapes were sampled by onto the round shapes themselves."""
    wp.launch(
        kernels.onto_shapes,
        dim=point_local.shape[0],
        inputs=[
            shapes.kind,
            shapes.transform,
            shapes.size,
            shapes.plane_begin,
            shapes.plane,
            shapes.link_begin,
            point_link,
            point_local,
        ],
        outputs=[point_local],
        device=point_local.device,
    )


def _reach(obj: ObjectMesh, distance: float) -> float:
    """How far to look for a face: as far as any contact, or any point inside the object, can be from one [m]."""
    return min(max(1.001 * distance, 0.501 * float(obj.extents.min())) + 1e-6, FAR_DISTANCE)


def _measure_batch(
    skin: Skin,
    mesh: DeviceMesh,
    pose: Pose,
    probe: np.ndarray,
    thresholds: wp.array,
    reach: float,
    patch_points: int,
) -> Geometry:
    links = skin.place(pose)
    points = _empty((len(pose), skin.point_link.shape[0]), wp.vec3, skin.device)
    place_points(skin.point_link, skin.point_local, links, points)
    distance, gradient = signed_distances(mesh, points, reach)
    band, inside_counted = _contact_areas(distance, skin.area, thresholds)
    contact_distance, position, normal = _nearest_points(skin, distance, gradient, points)
    patch = _patches(skin, distance, gradient, points, contact_distance, patch_points)
    probe = probe[compact_order(probe)]
    per_probe = (len(pose), len(probe))
    probes = wp.array(np.broadcast_to(probe.astype(np.float32), (*per_probe, 3)), dtype=wp.vec3, device=skin.device)
    no_link = cluster_points(probe, np.full(len(probe), len(skin.hand.links)), skin.device)
    return Geometry(
        contact_area=band,
        contact_area_inside_counted=inside_counted,
        hand_in_object_depth=_depth(distance),
        object_in_hand_depth=_depth(_link_distance(skin, links, probes, no_link)),
        self_penetration_depth=self_penetration(skin.hand, pose.joint_position),
        contact_distance=contact_distance,
        contact_position=position,
        contact_normal=normal,
        patch_position=patch[0],
        patch_normal=patch[1],
    )


def signed_distances(mesh: DeviceMesh, points: wp.array, reach: float) -> tuple[wp.array, wp.array]:
    """Signed distances of points [grasp, point] and their gradients."""
    face = _empty(points.shape, int, mesh.device)
    distance = _empty(points.shape, float, mesh.device)
    outward = _empty(points.shape, wp.vec3, mesh.device)
    gradient = _empty(points.shape, wp.vec3, mesh.device)
    find_closest_faces(mesh, points, reach, face, outward)
    evaluate_signed_distance(mesh, points, face, outward, distance_out=distance, gradient_out=gradient)
    return distance, gradient


def _contact_areas(distance: wp.array, area: wp.array, thresholds: wp.array) -> tuple[np.ndarray, np.ndarray]:
    shape = (distance.shape[0], thresholds.shape[0])
    band, inside = (_empty(shape, wp.float64, distance.device) for _ in range(2))
    wp.launch(
        kernels.contact_areas,
        dim=shape,
        inputs=[area, thresholds, distance],
        outputs=[band, inside],
        device=distance.device,
    )
    return band.numpy(), inside.numpy()


def _nearest_points(
    skin: Skin, distance: wp.array, gradient: wp.array, points: wp.array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (points.shape[0], len(skin.hand.links))
    least = _empty(shape, float, skin.device)
    position, normal = (_empty(shape, wp.vec3, skin.device) for _ in range(2))
    wp.launch(
        kernels.nearest_points,
        dim=shape,
        inputs=[skin.link_begin, distance, gradient, points, FAR_DISTANCE],
        outputs=[least, position, normal],
        device=skin.device,
    )
    found = least.numpy().astype(float)
    return np.where(found < FAR_DISTANCE, found, np.inf), position.numpy().astype(float), normal.numpy().astype(float)


def _patches(
    skin: Skin, distance: wp.array, gradient: wp.array, points: wp.array, nearest: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the object's surface that each link touches and the normals into it, up to ``count`` on each link.

    The nearest point and others far from it among those that touch: a face holds against twist, a point does not.
    """
    position = np.full((*nearest.shape, count, 3), np.nan)
    normal = np.full_like(position, np.nan)
    if count == 0:
        return position, normal
    begin = skin.link_begin.numpy()
    depth, outward, place = (array.numpy() for array in (distance, gradient, points))
    for grasp, link in np.argwhere(nearest <= CONTACT_DISTANCE):
        part = slice(begin[link], begin[link + 1])
        touching = begin[link] + np.flatnonzero(depth[grasp, part] <= CONTACT_DISTANCE)
        along = outward[grasp, touching].astype(float)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        there = place[grasp, touching] - depth[grasp, touching, None] * along
        first = int(depth[grasp, touching].argmin())
        chosen = farthest_points(there, min(count, len(there)), first=first)
        position[grasp, link, : len(chosen)] = there[chosen]
        normal[grasp, link, : len(chosen)] = -along[chosen]
    return position, normal


def _depth(distance: wp.array) -> np.ndarray:
    """Minus the least distance of each row, at least 0 [m], shape (N,)."""
    least = _empty(distance.shape[0], float, distance.device)
    wp.launch(kernels.least_values, dim=distance.shape[0], inputs=[distance], outputs=[least], device=distance.device)
    return -least.numpy().astype(float) + 0.0


def _link_distance(skin: Skin, links: wp.array, points: wp.array, clusters: PointClusters) -> wp.array:
    """Minus the depth of points in the links that their owners must stay out of, shape [grasp, point]."""
    sphere = _empty(links.shape, wp.vec4, skin.device)
    depth = collision.no_depth(points.shape[0], points.shape[1], clusters)
    collision.place_spheres(skin.shapes, links, sphere)
    collision.find_deepest_link(skin.shapes, skin.may_touch, links, sphere, points, clusters, depth)
    return depth.distance


def _empty(shape: int | tuple[int, ...], dtype: Any, device: Any) -> wp.array:
    return wp.empty(shape, dtype=dtype, device=device)


def _require_lengths(**values: Sequence[float]) -> None:
    for name, given in values.items():
        array = np.asarray(given, float)
        if array.ndim != 1 or not np.isfinite(array).all() or (array < 0.0).any():
            raise OptionError(f"{name} must be distances of at least 0 [m], got {given}")
