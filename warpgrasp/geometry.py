"""Geometry of grasps: contact area, shared volume, penetration both ways, links in contact, contact consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import warp as wp

from . import collision, rotation
from . import device as devices
from .distance import FAR_DISTANCE, DeviceMesh, evaluate_signed_distance, find_closest_faces
from .errors import OptionError, ShapeError
from .hand import Finger, Hand, Shape
from .kernels import geometry as kernels
from .kernels import kinematics
from .mesh import ObjectMesh
from .pose import Pose
from .surface import SurfacePoints, sample_triangles, surface_points

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

VOXEL_SIZE = 0.001
"""Side of the voxels that the shared volume is counted in [m]."""

CPU_BATCH, GPU_BATCH = 64, 1024
"""Grasps that are measured at once; each takes about 2 MB."""

CELLS_AT_ONCE = 1 << 21
"""Voxels of shapes that are looked at in one launch; each takes up to 60 bytes."""

GRID_VOXELS_PER_GRASP = 20_000
"""The object's voxels are classified once for all grasps where there are at most that many per grasp: a hand in the
object's box covers a few times as many."""

CUBE = 8
"""Voxels along the side of the cubes that are looked at first; inside most of them there is no surface."""

GRID_LIMIT = 1 << 26
"""Most voxels that are classified beforehand; one byte each."""


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
    """Deepest point of a link in another that is no neighbour [m], shape (N,)."""

    contact_distance: np.ndarray
    """Signed distance of each link's nearest point to the object, inf beyond reach [m], shape (N, L)."""

    contact_position: np.ndarray
    """The object's surface next to that point, object frame [m], shape (N, L, 3)."""

    contact_normal: np.ndarray
    """Unit normal there, into the object, shape (N, L, 3)."""


def measure_geometry(
    hand: Hand,
    obj: ObjectMesh,
    pose: Pose,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    hand_points: int = HAND_POINTS,
    object_points: int = OBJECT_POINTS,
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
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Returns:
        All distances, areas and contacts. Depths miss what lies between two points: 0.1 mm on a fingertip.

    Raises:
        HandError: The hand has no geometry.
        OptionError: A threshold is negative or not finite.
        DeviceError: There is no such device.
    """
    _require_lengths(thresholds=thresholds)
    target = devices.choose(device)
    skin = _Skin(hand, surface_points(hand, hand_points, even=False, device=target), target)
    mesh = DeviceMesh(obj, target)
    reach = _reach(obj, max([*thresholds, CONSISTENCY_CAP]))
    probe = object_surface(obj, object_points)
    limit = wp.array(np.asarray(thresholds, np.float32), dtype=float, device=target)
    size = CPU_BATCH if target == "cpu" else GPU_BATCH
    starts = range(0, max(len(pose), 1), size)
    parts = [_measure_batch(skin, mesh, pose[a : a + size], probe, limit, reach) for a in starts]
    return Geometry(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Geometry)))


def intersection_volume(
    hand: Hand, obj: ObjectMesh, pose: Pose, *, voxel_size: float = VOXEL_SIZE, device: str | None = None
) -> np.ndarray:
    """Volume that is inside both hand and object [m³], shape (N,).

    Counts the centres of a grid of voxels, aligned with the axes of the object frame, that are inside a shape of the
    hand and inside the object; once where shapes overlap. Volumes, not surface shells: a voxel deep inside counts.

    Args:
        hand: The hand; meshes count as convex polytopes.
        obj: The object; open ones count as what their winding number encloses.
        pose: Wrist (in the object frame) and joints of each hand, all finite.
        voxel_size: Side of a voxel [m]. Time grows with its inverse cube.
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Raises:
        OptionError: ``voxel_size`` is not in [0.05 mm, 10 mm].
        DeviceError: There is no such device.
    """
    if not 5.0e-5 <= voxel_size <= 0.01:
        raise OptionError(f"voxel_size must be in [5e-05, 0.01] [m], got {voxel_size}")
    target = devices.choose(device)
    solid, mesh = _Solid(hand, target), DeviceMesh(obj, target)
    size = CPU_BATCH if target == "cpu" else GPU_BATCH
    starts = range(0, max(len(pose), 1), size)
    grid = _Grid.of(mesh, voxel_size, min(GRID_VOXELS_PER_GRASP * len(pose), GRID_LIMIT))
    count = np.concatenate([_shared_voxels(solid, grid, pose[a : a + size]) for a in starts])
    return count * voxel_size**3


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


def object_surface(obj: ObjectMesh, count: int) -> np.ndarray:
    """Points by area and up to as many vertices (sharp corners are what penetrates) [m], shape (point, 3)."""
    by_area = sample_triangles(obj.vertices[obj.faces], count)[1]
    chosen = np.unique(np.linspace(0, len(obj.vertices) - 1, min(count, len(obj.vertices))).round().astype(int))
    return np.concatenate([by_area, obj.vertices[chosen]])


class _Solid:
    """The hand's shapes on a device, with the box around each."""

    def __init__(self, hand: Hand, device: str) -> None:
        self.hand, self.device = hand, device
        self.shapes = collision.pack([part.shapes for part in hand.links], device)
        shapes = [shape for part in hand.links for shape in part.shapes]
        link = [link for link, part in enumerate(hand.links) for _ in part.shapes]
        boxes = np.array([_box(shape) for shape in shapes], np.float32).reshape(-1, 2, 3)
        self.shape_count = len(shapes)
        self.shape_link = wp.array(np.array(link, np.int32), dtype=int, device=device)
        self.center = wp.array(boxes[:, 0].copy(), dtype=wp.vec3, device=device)
        self.half_extents = wp.array(boxes[:, 1].copy(), dtype=wp.vec3, device=device)

    def place(self, pose: Pose) -> wp.array:
        """Links in the object frame, transform, shape [grasp, link]."""
        joints = np.asarray(pose.joint_position, float)
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        links = wrist[:, None] @ self.hand.link_transforms(joints)
        return devices.transforms_from_matrices(links, self.device)


class _Skin(_Solid):
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


def _box(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half sides of the box around a shape, in its own frame [m]."""
    match shape.kind:
        case "box":
            return np.zeros(3), shape.size
        case "sphere":
            return np.zeros(3), np.full(3, shape.size[0])
        case "capsule":
            return np.zeros(3), np.array([shape.size[0], shape.size[0], shape.size[0] + shape.size[1]])
        case "cylinder":
            return np.zeros(3), np.array([shape.size[0], shape.size[0], shape.size[1]])
    assert shape.vertices is not None
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    return 0.5 * (low + high), 0.5 * (high - low)


def _reach(obj: ObjectMesh, distance: float) -> float:
    """How far to look for a face: as far as any contact, or any point inside the object, can be from one [m]."""
    return min(max(1.001 * distance, 0.501 * float(obj.extents.min())) + 1e-6, FAR_DISTANCE)


def _measure_batch(
    skin: _Skin, mesh: DeviceMesh, pose: Pose, probe: np.ndarray, thresholds: wp.array, reach: float
) -> Geometry:
    links = skin.place(pose)
    per_point = (len(pose), skin.point_link.shape[0])
    points = _empty(per_point, wp.vec3, skin.device)
    wp.launch(
        kinematics.point_positions,
        dim=per_point,
        inputs=[skin.point_link, skin.point_local, links],
        outputs=[points],
        device=skin.device,
    )
    distance, gradient = _signed_distance(mesh, points, reach)
    band, inside_counted = _contact_areas(distance, skin.area, thresholds)
    contact_distance, position, normal = _nearest_points(skin, distance, gradient, points)
    per_probe = (len(pose), len(probe))
    probes = wp.array(np.broadcast_to(probe.astype(np.float32), (*per_probe, 3)), dtype=wp.vec3, device=skin.device)
    nobody = wp.full(len(probe), len(skin.hand.links), dtype=int, device=skin.device)
    return Geometry(
        contact_area=band,
        contact_area_inside_counted=inside_counted,
        hand_in_object_depth=_depth(distance),
        object_in_hand_depth=_depth(_link_distance(skin, links, probes, nobody)),
        self_penetration_depth=_depth(_link_distance(skin, links, points, skin.point_link)),
        contact_distance=contact_distance,
        contact_position=position,
        contact_normal=normal,
    )


def _signed_distance(mesh: DeviceMesh, points: wp.array, reach: float) -> tuple[wp.array, wp.array]:
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
    skin: _Skin, distance: wp.array, gradient: wp.array, points: wp.array
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


def _depth(distance: wp.array) -> np.ndarray:
    """Minus the least distance of each row, at least 0 [m], shape (N,)."""
    least = _empty(distance.shape[0], float, distance.device)
    wp.launch(kernels.least_values, dim=distance.shape[0], inputs=[distance], outputs=[least], device=distance.device)
    return -least.numpy().astype(float) + 0.0


def _link_distance(skin: _Skin, links: wp.array, points: wp.array, owner: wp.array) -> wp.array:
    """Minus the depth of points in the links that their owners must stay out of, shape [grasp, point]."""
    sphere = _empty(links.shape, wp.vec4, skin.device)
    link = _empty(points.shape, int, skin.device)
    distance = _empty(points.shape, float, skin.device)
    gradient = _empty(points.shape, wp.vec3, skin.device)
    collision.place_spheres(skin.shapes, links, sphere)
    collision.find_deepest_link(skin.shapes, skin.may_touch, links, sphere, points, owner, link, distance, gradient)
    return distance


class _Grid:
    """The grid of voxels about an object: it says how many of some voxels are inside."""

    def __init__(self, mesh: DeviceMesh, voxel_size: float) -> None:
        self.mesh, self.voxel_size = mesh, voxel_size
        low, high = (np.array(list(corner)) / voxel_size - 0.5 for corner in (mesh.lower, mesh.upper))
        # one voxel more on each side: no rounding of the corners leaves one out
        self.first = np.ceil(low).astype(int) - 1
        self.extent = np.maximum(np.floor(high).astype(int) - self.first + 2, 0)
        self.inside: wp.array | None = None

    @classmethod
    def of(cls, mesh: DeviceMesh, voxel_size: float, limit: int) -> _Grid:
        """The grid, every voxel classified beforehand where there are no more than ``limit``."""
        grid = cls(mesh, voxel_size)
        if grid.extent.prod() <= limit:
            grid.inside = grid.classify()
        return grid

    def classify(self) -> wp.array:
        """1 for voxels whose centres are inside, uint8, shape [voxel].

        A voxel without a surface near it is inside if the cube around it is: nothing lies between the two centres.
        Where the winding number decides, inside and outside can meet without a surface, so each voxel is searched.
        """
        if self.mesh.sign_method != "normal":
            return self._mark(self.extent, 1, FAR_DISTANCE, None)
        cubes = self._mark(-(-self.extent // CUBE), CUBE, FAR_DISTANCE, None)
        half_diagonal = 0.5 * np.sqrt(3.0) * CUBE * self.voxel_size
        return self._mark(self.extent, 1, float(half_diagonal), cubes)

    def _mark(self, extent: np.ndarray, stride: int, reach: float, cubes: wp.array | None) -> wp.array:
        """1 for cubes of ``stride`` voxels whose centres are inside, uint8, shape [cube]."""
        total, device = int(extent.prod()), self.mesh.device
        inside = _empty(total, wp.uint8, device)
        first, shape, parent = (wp.vec3i(*map(int, v)) for v in (self.first, extent, -(-extent // CUBE)))
        for start in range(0, total, CELLS_AT_ONCE):
            count = min(CELLS_AT_ONCE, total - start)
            points = _empty((1, count), wp.vec3, device)
            place = [first, shape, stride, start, self.voxel_size]
            wp.launch(kernels.grid_centers, dim=count, inputs=place, outputs=[points], device=device)
            distance, _ = _signed_distance(self.mesh, points, reach)
            kernel, given = kernels.mark_inside, [distance]
            if cubes is not None:
                kernel = kernels.mark_near_or_like_cube
                given = [distance, cubes, shape, parent, CUBE, start, FAR_DISTANCE]
            wp.launch(kernel, dim=count, inputs=given, outputs=[inside[start : start + count]], device=device)
        return inside

    def count_inside(self, points: wp.array, grasp: wp.array, count_out: wp.array) -> None:
        """Add the voxel centres [1, point] that are inside to the count of their grasps [point]."""
        if self.inside is None:
            kernel, given = kernels.count_inside, [_signed_distance(self.mesh, points, FAR_DISTANCE)[0], grasp]
        else:
            block = wp.vec3i(*map(int, self.first)), wp.vec3i(*map(int, self.extent))
            kernel, given = kernels.count_marked, [self.inside, *block, points, grasp, self.voxel_size]
        wp.launch(kernel, dim=grasp.shape[0], inputs=given, outputs=[count_out], device=self.mesh.device)


def _shared_voxels(solid: _Solid, grid: _Grid, pose: Pose) -> np.ndarray:
    """Voxel centres inside hand and object, shape (N,)."""
    links = solid.place(pose)
    count = wp.zeros(len(pose), dtype=int, device=solid.device)
    first, extent = _voxel_boxes(solid, grid.mesh, links, grid.voxel_size)
    cells = extent.numpy().astype(np.int64).reshape(-1, 3).prod(axis=1)
    begin = np.concatenate([[0], np.cumsum(cells)])
    device_begin = wp.array(begin, dtype=wp.int64, device=solid.device)
    for start in range(0, int(begin[-1]), CELLS_AT_ONCE):
        dim = min(CELLS_AT_ONCE, int(begin[-1]) - start)
        points, grasp = _hand_voxels(solid, links, (first, extent, device_begin), start, dim, grid.voxel_size)
        if len(grasp):
            grid.count_inside(points, grasp, count)
    return count.numpy()


def _voxel_boxes(solid: _Solid, mesh: DeviceMesh, links: wp.array, voxel_size: float) -> tuple[wp.array, wp.array]:
    shape = (links.shape[0], solid.shape_count)
    first, extent = (_empty(shape, wp.vec3i, solid.device) for _ in range(2))
    wp.launch(
        kernels.voxel_boxes,
        dim=shape,
        inputs=[
            solid.shape_link,
            solid.shapes.transform,
            solid.center,
            solid.half_extents,
            mesh.lower,
            mesh.upper,
            links,
            voxel_size,
        ],
        outputs=[first, extent],
        device=solid.device,
    )
    return first, extent


def _hand_voxels(
    solid: _Solid,
    links: wp.array,
    boxes: tuple[wp.array, wp.array, wp.array],
    start: int,
    dim: int,
    voxel_size: float,
) -> tuple[wp.array, wp.array]:
    """Centres of voxels inside the hand [1, point], and the grasp of each [point]."""
    found = wp.zeros(1, dtype=int, device=solid.device)
    position = _empty((1, dim), wp.vec3, solid.device)
    grasp = _empty(dim, int, solid.device)
    shapes = solid.shapes
    wp.launch(
        kernels.hand_voxels,
        dim=dim,
        inputs=[
            shapes.kind,
            shapes.transform,
            shapes.size,
            shapes.plane_begin,
            shapes.plane,
            solid.shape_link,
            links,
            *boxes,
            start,
            voxel_size,
        ],
        outputs=[found, position, grasp],
        device=solid.device,
    )
    count = int(found.numpy()[0])
    return cast(wp.array, position[:, :count]), cast(wp.array, grasp[:count])


def _empty(shape: int | tuple[int, ...], dtype: Any, device: Any) -> wp.array:
    return wp.empty(shape, dtype=dtype, device=device)


def _require_lengths(**values: Sequence[float]) -> None:
    for name, given in values.items():
        array = np.asarray(given, float)
        if array.ndim != 1 or not np.isfinite(array).all() or (array < 0.0).any():
            raise OptionError(f"{name} must be distances of at least 0 [m], got {given}")
