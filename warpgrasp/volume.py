"""The volume that is inside both hand and object, counted in voxels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import warp as wp

from . import device as devices
from .distance import FAR_DISTANCE, DeviceMesh
from .errors import OptionError
from .geometry import CPU_BATCH, GPU_BATCH, signed_distances
from .hand import Hand
from .hand_solid import HandSolid
from .kernels import volume as kernels
from .mesh import ObjectMesh
from .pose import Pose

VOXEL_SIZE = 0.001
"""Side of the voxels that the shared volume is counted in [m]."""

CELLS_AT_ONCE = 1 << 21
"""Voxels of shapes that are looked at in one launch; each takes up to 60 bytes."""

GRID_VOXELS_PER_GRASP = 20_000
"""The object's voxels are classified once for all grasps where there are at most that many per grasp: a hand in the
object's box covers a few times as many."""

CUBE = 8
"""Voxels along the side of the cubes that are looked at first; inside most of them there is no surface."""

GRID_LIMIT = 1 << 26
"""Most voxels that are classified beforehand; one byte each."""


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
    solid, mesh = HandSolid(hand, target), DeviceMesh(obj, target)
    size = CPU_BATCH if target == "cpu" else GPU_BATCH
    starts = range(0, max(len(pose), 1), size)
    grid = _Grid.of(mesh, voxel_size, min(GRID_VOXELS_PER_GRASP * len(pose), GRID_LIMIT))
    count = np.concatenate([_shared_voxels(solid, grid, pose[a : a + size]) for a in starts])
    return count * voxel_size**3


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
            distance, _ = signed_distances(self.mesh, points, reach)
            kernel, given = kernels.mark_inside, [distance]
            if cubes is not None:
                kernel = kernels.mark_near_or_like_cube
                given = [distance, cubes, shape, parent, CUBE, start, FAR_DISTANCE]
            wp.launch(kernel, dim=count, inputs=given, outputs=[inside[start : start + count]], device=device)
        return inside

    def count_inside(self, points: wp.array, grasp: wp.array, count_out: wp.array) -> None:
        """Add the voxel centres [1, point] that are inside to the count of their grasps [point]."""
        if self.inside is None:
            kernel, given = kernels.count_inside, [signed_distances(self.mesh, points, FAR_DISTANCE)[0], grasp]
        else:
            block = wp.vec3i(*map(int, self.first)), wp.vec3i(*map(int, self.extent))
            kernel, given = kernels.count_marked, [self.inside, *block, points, grasp, self.voxel_size]
        wp.launch(kernel, dim=grasp.shape[0], inputs=given, outputs=[count_out], device=self.mesh.device)


def _shared_voxels(solid: HandSolid, grid: _Grid, pose: Pose) -> np.ndarray:
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


def _voxel_boxes(solid: HandSolid, mesh: DeviceMesh, links: wp.array, voxel_size: float) -> tuple[wp.array, wp.array]:
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
    solid: HandSolid,
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
