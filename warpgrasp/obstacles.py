"""Obstacles around the object: meshes and points that every link of the hand must avoid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import warp as wp

from . import rotation
from .device import choose, transforms_from_matrices
from .distance import FAR_DISTANCE, DeviceMesh, evaluate_signed_distance, find_closest_faces, signed_distance
from .errors import OptionError, ShapeError
from .kernels import combine, kinematics
from .kernels import distance as distance_kernels
from .kernels import obstacles as kernels
from .kinematics import place_points
from .mesh import ObjectMesh, load_object
from .model import HandModel
from .pose import Pose
from .proximity import SEARCH_DISTANCE
from .state import State
from .surface import object_points, sample_triangles, surface_points

if TYPE_CHECKING:
    import trimesh

    MeshLike = ObjectMesh | trimesh.Trimesh | str | Path

MARGIN = 0.003
"""Distance that the loss asks for [m], so that what the rest of it presses together stays clear."""

WEIGHT = 1.0e6
"""Of the squared lack of distance of each point [1/m²]."""

SKIN_POINTS = 512
"""Points on the skin of all links that the loss is summed over."""

CHECK_POINTS = 4096
"""Points on the skin of all links that clearances are measured with."""

MESH_POINTS = 4096
"""Points on each mesh that are kept out of the hand, half of them by area and up to half of them vertices."""

CLEARANCE_REACH = 0.05
"""Larger clearances are not told apart [m]."""

MOST_POINTS = 500_000
"""Points, those on meshes included."""

MOST_FACES = 1_000_000

TOLERANCE = 0.002
"""How deep an obstacle may reach into the object [m]: what touches it in a scan, or in a simulation, overlaps a bit."""

QUERY_SLACK = 5.0e-4
"""How far a point on a mesh may move until its closest face is looked for again [m]."""

CPU_BATCH, GPU_BATCH = 64, 1024
"""Grasps whose clearance is measured at once."""


class Obstacles:
    """What stands around the object: meshes, and points such as a depth camera sees.

    Distances are looked for both ways: points on the hand's skin against the meshes, and points, those on the meshes
    included, against the hand's convex shapes. A mesh that is not closed counts as solid where a winding number says
    so, and as a sheet elsewhere; from behind a sheet the hand is not pushed back.

    Args:
        meshes: Each an ``ObjectMesh``, a ``trimesh.Trimesh`` or a path, in the object's frame; or a pair of one and its
            pose in the object's frame, a rigid transform of shape (4, 4). Sizes as for objects, at most 2 m.
        points: Points in the object's frame [m], shape (P, 3).
        radius: Of the balls that the points stand for [m], a number or shape (P,). About half the distance between
            neighbouring points closes a surface.

    Raises:
        MeshError: A mesh cannot be used; see :func:`warpgrasp.load_object`.
        OptionError: A point, radius or pose is not finite, a radius negative, a pose not rigid; there is no obstacle at
            all, or there are too many.
        ShapeError: ``points``, ``radius`` or a pose has another shape.
    """

    def __init__(
        self,
        meshes: Sequence[MeshLike | tuple[MeshLike, np.ndarray]] = (),
        points: np.ndarray | None = None,
        *,
        radius: float | np.ndarray = 0.0,
    ) -> None:
        self.meshes = tuple(_placed(entry, number) for number, entry in enumerate(meshes))
        """Meshes in the object's frame."""
        self.points, self.radius = _balls(points, radius)
        if not self.meshes and not len(self.points):
            raise OptionError("obstacles need at least one mesh or one point, got none; leave obstacles out instead")
        faces = sum(len(mesh.faces) for mesh in self.meshes)
        if faces > MOST_FACES:
            raise OptionError(f"the obstacles have {faces} faces, more than {MOST_FACES}; simplify their meshes")
        surface = [object_points(mesh, MESH_POINTS) for mesh in self.meshes]
        self._balls = np.zeros((len(self.points) + sum(map(len, surface)), 4), np.float32)
        self._balls[:, :3] = np.concatenate([self.points, *surface])
        self._balls[: len(self.points), 3] = self.radius
        if len(self._balls) > MOST_POINTS:
            raise OptionError(
                f"obstacles have {len(self._balls)} points, more than {MOST_POINTS}; keep one in each cell of a grid"
            )
        self._on: dict[str, _OnDevice] = {}

    def on(self, device: str | None = None) -> _OnDevice:
        """What is constant on a device; made once."""
        name = choose(device)
        if name not in self._on:
            self._on[name] = _put(self, name)
        return self._on[name]

    def term(self, model: HandModel, start: Pose) -> ObstacleTerm:
        """The penalty of a batch of as many grasps as there are starts."""
        return ObstacleTerm(self, model, len(start))

    def clearance(self, model: HandModel, pose: Pose, *, reach: float = CLEARANCE_REACH) -> np.ndarray:
        """Least signed distance between hand and obstacles, at most ``reach`` [m], below 0 in them, shape (N,).

        Measured with ``CHECK_POINTS`` points on all links, with the obstacles' points, and with ``MESH_POINTS`` on each
        of their meshes; what lies between two points is missed, about a millimetre where a hand's edge crosses an
        obstacle's, less elsewhere.

        Args:
            model: The hand, on any device; its own points are not used.
            pose: Wrist (in the object's frame) and joints.
            reach: What is further away counts as this far [m].
        """
        size = CPU_BATCH if model.device == "cpu" else GPU_BATCH
        starts = range(0, len(pose), size)
        return np.concatenate([self._clearance(model, pose[a : a + size], reach) for a in starts] or [np.zeros(0)])

    def _clearance(self, model: HandModel, pose: Pose, reach: float) -> np.ndarray:
        near = self.on(model.device)
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        links = transforms_from_matrices(wrist[:, None] @ model.hand.link_transforms(pose.joint_position), model.device)
        skin = _Skin(model, CHECK_POINTS if near.mesh else 0, len(pose))
        skin.find_distances(near.mesh, links, reach=_reach(self.meshes, reach))
        clearance = _empty(links.shape, float, model.device)
        wp.launch(
            kernels.link_clearances,
            dim=links.shape,
            inputs=[*_shape_arrays(model), skin.begin, near.tree.id, near.ball, links, skin.distance, reach],
            outputs=[clearance],
            device=model.device,
        )
        return clearance.numpy().astype(float).min(axis=1)

    def check(self, obj: ObjectMesh, *, device: str | None = None) -> None:
        """Refuse obstacles that are where the object is.

        Raises:
            OptionError: A mesh or a point reaches more than ``TOLERANCE`` into the object; the message says which, and
                how deep in millimetres.
        """
        advice = "move one of them, or take the object itself out of the obstacles"
        for mesh in self.meshes:
            both = ((mesh, _under_the_surface(obj)), (obj, _under_the_surface(mesh)))
            depth = -min(float(signed_distance(solid, points, device=device).min()) for solid, points in both)
            if depth > TOLERANCE:
                raise OptionError(f"obstacle {mesh.name!r} reaches {1000 * depth:.1f} mm into the object; {advice}")
        if len(self.points):
            depths = -signed_distance(obj, self.points, device=device)
            inside = int((depths > TOLERANCE).sum())
            if inside:
                raise OptionError(
                    f"{inside} of {len(depths)} points of the obstacles are in the object, "
                    f"up to {1000 * depths.max():.1f} mm deep; {advice}"
                )


class ObstacleTerm:
    """Penalty of a batch of grasps for links that are not ``margin`` away from obstacles; see ``warpgrasp.term.Term``.

    Args:
        obstacles: The obstacles.
        model: The hand; all its links count, those without a pad too.
        grasp_count: Grasps in the batch.
        margin: Distance that is asked for [m].
        weight: [1/m²]
    """

    modules = (kernels, combine, distance_kernels, kinematics)

    def __init__(
        self,
        obstacles: Obstacles,
        model: HandModel,
        grasp_count: int,
        *,
        margin: float = MARGIN,
        weight: float = WEIGHT,
    ) -> None:
        self.model, self.margin, self.weight = model, margin, weight
        self.near = obstacles.on(model.device)
        self.skin = _Skin(model, SKIN_POINTS if self.near.mesh else 0, grasp_count)
        self.loss = wp.zeros(grasp_count, dtype=float, device=model.device)
        self.link_loss = wp.zeros((grasp_count, len(model.hand.links)), dtype=float, device=model.device)

    def add_gradient(self, state: State) -> None:
        """Find the loss, and add its gradient to ``state.link_wrench``."""
        skin, links, device = self.skin, state.link_transform, self.model.device
        skin.find_distances(self.near.mesh, links, slack=QUERY_SLACK)
        wp.launch(
            kernels.obstacle_penalties,
            dim=links.shape,
            inputs=[
                *_shape_arrays(self.model),
                skin.begin,
                self.near.tree.id,
                self.near.ball,
                links,
                skin.position,
                skin.distance,
                skin.gradient,
                self.weight,
                self.margin,
            ],
            outputs=[self.link_loss, state.link_wrench],
            device=device,
        )
        wp.launch(combine.sum_links, dim=self.loss.shape, inputs=[self.link_loss], outputs=[self.loss], device=device)

    def restart(self) -> None:
        """Forget the closest faces."""
        self.skin.searched.fill_(wp.vec4(-1.0))


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """Obstacles on a device."""

    mesh: DeviceMesh | None
    """All meshes as one."""

    ball: wp.array
    """Points and their radii [m], vec4, shape [obstacle point]."""

    tree: wp.Bvh
    """Boxes around them."""


def _put(obstacles: Obstacles, device: str) -> _OnDevice:
    balls = obstacles._balls
    corners = [
        wp.array(balls[:, :3] + side * balls[:, 3:], dtype=wp.vec3, device=device) for side in (np.float32(-1), 1)
    ]
    mesh = DeviceMesh(_joined(obstacles.meshes), device) if obstacles.meshes else None
    # The constructor is named so that every device visits points in the same order.
    return _OnDevice(mesh, wp.array(balls, dtype=wp.vec4, device=device), wp.Bvh(*corners, constructor="sah"))


def _joined(meshes: tuple[ObjectMesh, ...]) -> ObjectMesh:
    """All meshes as one; where they overlap, winding numbers still tell inside from outside."""
    if len(meshes) == 1:
        return meshes[0]
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return dataclasses.replace(
        meshes[0],
        name="obstacles",
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, first, strict=True)]).astype(np.int32),
        vertex_normals=np.concatenate([mesh.vertex_normals for mesh in meshes]),
        watertight=all(mesh.watertight for mesh in meshes),
        sign_method="winding",
    )


class _Skin:
    """Points on all links of a batch of hands, and their distances to the obstacles' meshes."""

    def __init__(self, model: HandModel, point_count: int, grasp_count: int) -> None:
        even = point_count <= SKIN_POINTS  # slower, and worth it where points are few
        points = surface_points(model.hand, point_count, even=even, device=model.device) if point_count else None
        link = points.link if points else np.zeros(0, int)
        local = points.position if points else np.zeros((0, 3))
        begin = np.searchsorted(link, np.arange(len(model.hand.links) + 1))
        self.begin = wp.array(begin.astype(np.int32), dtype=int, device=model.device)
        self.link = wp.array(link.astype(np.int32), dtype=int, device=model.device)
        self.local = wp.array(local.astype(np.float32), dtype=wp.vec3, device=model.device)
        shape = (grasp_count, point_count)
        self.position, self.outward, self.gradient = (_empty(shape, wp.vec3, model.device) for _ in range(3))
        self.face, self.distance = (_empty(shape, dtype, model.device) for dtype in (int, float))
        self.searched = wp.full(shape, wp.vec4(-1.0), dtype=wp.vec4, device=model.device)

    def find_distances(
        self, mesh: DeviceMesh | None, links: wp.array, *, reach: float = SEARCH_DISTANCE, slack: float | None = None
    ) -> None:
        """Place the points, and find their signed distances to a mesh; without ``slack`` all faces are searched."""
        if mesh is None:
            return
        place_points(self.link, self.local, links, self.position)
        kept = {} if slack is None else {"slack": slack, "searched": self.searched}
        find_closest_faces(mesh, self.position, reach, self.face, self.outward, **kept)
        evaluate_signed_distance(
            mesh, self.position, self.face, self.outward, distance_out=self.distance, gradient_out=self.gradient
        )


def _empty(shape: Any, dtype: Any, device: str) -> wp.array:
    return wp.empty(shape, dtype=dtype, device=device)


def _shape_arrays(model: HandModel) -> list[wp.array]:
    shapes = model.shapes
    arrays = [shapes.kind, shapes.transform, shapes.size, shapes.sphere, shapes.plane_begin, shapes.plane]
    return [*arrays, shapes.link_begin]


def _under_the_surface(mesh: ObjectMesh) -> np.ndarray:
    """Points on the surface, and as many a little below it: two equal meshes are not in each other at the surface."""
    face, position = sample_triangles(mesh.vertices[mesh.faces], MESH_POINTS)
    normal = np.asarray(mesh.trimesh().face_normals)[face]
    return np.concatenate([object_points(mesh, MESH_POINTS), position - 2.0 * TOLERANCE * normal])


def _reach(meshes: tuple[ObjectMesh, ...], distance: float) -> float:
    """How far to look for a face: as far as asked for, or as any point inside a mesh can be from one [m]."""
    deepest = max((0.501 * float(mesh.extents.min()) for mesh in meshes), default=0.0)
    return min(max(1.001 * distance, deepest) + 1e-6, FAR_DISTANCE)


def _placed(entry: Any, number: int) -> ObjectMesh:
    """A mesh in the object's frame."""
    if not isinstance(entry, tuple):
        return load_object(entry)
    if len(entry) != 2:
        raise OptionError(f"obstacle {number} must be a mesh or a pair of a mesh and a pose, got {len(entry)} values")
    mesh, pose = load_object(entry[0]), np.asarray(entry[1], float)
    if pose.shape != (4, 4):
        raise ShapeError(f"pose of obstacle {mesh.name!r}", "(4, 4)", pose.shape)
    turn = pose[:3, :3]
    rigid = np.isfinite(pose).all() and np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) and np.linalg.det(turn) > 0.0
    if not rigid or not np.allclose(pose[3], [0.0, 0.0, 0.0, 1.0]):
        raise OptionError(
            f"the pose of obstacle {mesh.name!r} is no rigid transform; give a rotation and a position, got "
            f"{np.round(pose, 4).tolist()}"
        )
    return load_object(mesh.trimesh().apply_transform(pose), name=mesh.name)


def _balls(points: np.ndarray | None, radius: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 3) and radii (P,), checked."""
    given = np.zeros((0, 3)) if points is None else np.asarray(points, float)
    if given.ndim != 2 or given.shape[1] != 3:
        raise ShapeError("points", "(P, 3)", given.shape)
    radii = np.asarray(radius, float)
    if radii.shape not in ((), (len(given),)):
        raise ShapeError("radius", f"() or ({len(given)},)", radii.shape)
    bad = int((~np.isfinite(given)).any(axis=1).sum())
    if bad:
        raise OptionError(f"{bad} of {len(given)} obstacle points are not finite; leave them out")
    if not np.isfinite(radii).all() or (radii < 0.0).any():
        raise OptionError(f"radius must be finite and at least 0 [m], got {np.min(radii)} to {np.max(radii)}")
    return given, np.broadcast_to(radii, len(given)).copy()
