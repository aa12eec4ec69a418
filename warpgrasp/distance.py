"""Signed distance from points to an object's surface, negative inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import OptionError, ShapeError
from .mesh import ObjectMesh, load_object
from .phong import phong_surface

if TYPE_CHECKING:
    import trimesh
    import warp as wp

PhongMode = Literal["distance", "plane", "printed"]
"""Distance to the Phong point, to the plane through it with the interpolated normal, or as Fast-Grasp'D prints it."""

FAR_DISTANCE = 10.0
"""Distance of a point that has no face within reach [m]; the constant of the same name in the kernels."""


class DeviceMesh:
    """An object's surface on a device, with the tree that finds the closest face.

    Args:
        obj: The object.
        device: Warp device; the first GPU when omitted, the CPU where there is none.
        phong_alpha: Where positive, the surface is made ready for this share of Phong smoothing: normals are split at
            creases and faces subdivided until it bulges by a tenth of a millimetre at most. With 0, faces and normals
            are those of the object.

    Raises:
        DeviceError: there is no such device.
        OptionError: ``phong_alpha`` is not in [0, 1].
    """

    def __init__(self, obj: ObjectMesh, device: str | None = None, *, phong_alpha: float = 0.0) -> None:
        import warp as wp

        from .device import choose

        self.device = choose(device)
        """Name of the Warp device."""
        self.object = obj
        """What is on the device, as it was given."""
        _check_phong_alpha(phong_alpha)
        self.bulge = 0.0
        """How far the Phong surface may lie from the flat one [m]; 0 unless it was made ready for Phong."""
        corner_normals = obj.vertex_normals[obj.faces]
        if phong_alpha > 0.0:
            surface = phong_surface(obj, phong_alpha)
            obj, corner_normals = surface.obj, surface.corner_normals
            self.bulge = surface.bulge
        self.sign_method = obj.sign_method
        self.vertices = wp.array(obj.vertices, dtype=wp.vec3, device=self.device)
        """In the object frame [m], vec3, shape [vertex]."""
        self.indices = wp.array(obj.faces.ravel(), dtype=int, device=self.device)
        """Corners of the faces, int, shape [3 face]."""
        self.lower, self.upper = (wp.vec3(*map(float, corner)) for corner in obj.bounds)
        """Corners of the bounding box [m]."""
        self.vertex_normals = wp.array(obj.vertex_normals, dtype=wp.vec3, device=self.device)
        """Unit outward normals, vec3, shape [vertex]."""
        self.edge_normals = wp.array(obj.edge_normals, dtype=wp.vec3, device=self.device)
        """Unit outward normals, vec3, shape [face, 3]."""
        self.corner_normals = wp.array(corner_normals, dtype=wp.vec3, device=self.device)
        """Unit outward normals at the corners of the faces, between which Phong curves, vec3, shape [face, 3]."""
        self.mesh = wp.Mesh(self.vertices, self.indices, support_winding_number=obj.sign_method == "winding")

    @property
    def id(self) -> wp.uint64:
        """Id of the Warp mesh, what kernels take."""
        return self.mesh.id


def find_closest_faces(
    mesh: DeviceMesh,
    points: wp.array,
    max_distance: float,
    face_out: wp.array,
    outward_out: wp.array,
    *,
    slack: float = 0.0,
    searched: wp.array | None = None,
) -> None:
    """Find the closest face of each point, and on which side of it the point lies.

    With ``searched``, a point keeps the face that it has until it has moved by ``slack`` and 15 % of its distance from
    the surface: far from the surface the same face stays near enough for long.

    Allocates nothing, so it can be recorded in a CUDA graph.

    Args:
        mesh: The object.
        points: Points in the object frame [m], vec3, shape [grasp, point].
        max_distance: Reach of the search [m], at most ``FAR_DISTANCE``. The shorter, the faster.
        face_out: Index of the closest face, -1 where none is within reach, int, shape [grasp, point].
        outward_out: Unit direction from the surface to the outside at each point, vec3, shape [grasp, point].
        slack: How far a point on the surface may move until it is searched again [m].
        searched: Where points were searched last and their distance then, vec4, shape [grasp, point]; fill it with
            -1 before the first call. Without it, every point is searched.

    Raises:
        ShapeError: an output does not match ``points``.
        OptionError: ``max_distance`` is not in (0, ``FAR_DISTANCE``], or ``slack`` is negative.
    """
    import warp as wp

    from .kernels import distance as kernels

    if not 0.0 < max_distance <= FAR_DISTANCE:
        raise OptionError(f"max_distance must be in (0, {FAR_DISTANCE:g}] [m], got {max_distance}")
    if slack < 0.0:
        raise OptionError(f"slack must not be negative, got {slack} [m]")
    _check_shapes(
        points, face_out=face_out, outward_out=outward_out, **({} if searched is None else {"searched": searched})
    )
    by_normal = mesh.sign_method == "normal"
    model = [mesh.vertex_normals, mesh.edge_normals] if by_normal else [mesh.lower, mesh.upper, mesh.object.watertight]
    wp.launch(
        kernels.closest_face_by_normal if by_normal else kernels.closest_face_by_winding,
        dim=points.shape,
        inputs=[mesh.id, *model, points, max_distance, slack if searched is not None else -1.0],
        outputs=[searched, face_out, outward_out],
        device=mesh.device,
    )


def evaluate_signed_distance(
    mesh: DeviceMesh,
    points: wp.array,
    face: wp.array,
    outward: wp.array,
    *,
    phong_alpha: float = 0.0,
    phong_mode: PhongMode = "distance",
    distance_out: wp.array,
    gradient_out: wp.array,
) -> None:
    """Signed distance of each point to its stored face, and the gradient with respect to the point.

    Allocates nothing, so it can be recorded in a CUDA graph. With ``phong_alpha`` the surface is curved between the
    corners of each face by their normals; on coarse sharp meshes it then bulges (a box of 12 faces by centimetres)
    unless the ``DeviceMesh`` was made with ``phong_alpha`` too. A surface dilated by a radius is the level set of that
    distance: subtract the radius.

    Args:
        mesh: The object.
        points: Points in the object frame [m], vec3, shape [grasp, point].
        face: Face of each point from :func:`find_closest_faces`, -1 for none, int, shape [grasp, point].
        outward: From the same call, vec3, shape [grasp, point].
        phong_alpha: 0 for flat triangles, up to 1 for the fully curved surface.
        phong_mode: What is measured. "distance" is the distance to the Phong point. "plane" measures along the
            interpolated normal within a third of a millimetre of the surface, where the direction of "distance" is
            unsteady, and the same further away. "printed" is Fast-Grasp'D as printed: the sign of the flat mesh, wrong
            between the two surfaces, and a gradient that is not the derivative.
        distance_out: Signed distance [m], negative inside, ``FAR_DISTANCE`` without a face, shape [grasp, point].
        gradient_out: Its derivative (of "printed", see there) in the object frame, zero without a face, vec3, shape
            [grasp, point].

    Raises:
        ShapeError: an array does not match ``points``.
        OptionError: ``phong_alpha`` is not in [0, 1] or ``phong_mode`` is unknown.
    """
    import warp as wp

    from .kernels import distance as kernels

    mode = phong_mode_number(phong_alpha, phong_mode)
    _check_shapes(points, face=face, outward=outward, distance_out=distance_out, gradient_out=gradient_out)
    wp.launch(
        kernels.signed_distance,
        dim=points.shape,
        inputs=[mesh.id, mesh.corner_normals, points, face, outward, phong_alpha, mode],
        outputs=[distance_out, gradient_out],
        device=mesh.device,
    )


def evaluate_signed_distance_adjoint(
    mesh: DeviceMesh,
    points: wp.array,
    face: wp.array,
    outward: wp.array,
    *,
    phong_alpha: float = 0.0,
    phong_mode: PhongMode = "distance",
    distance_adjoint: wp.array,
    gradient_adjoint: wp.array,
    point_adjoint_out: wp.array,
) -> None:
    """Derivative of a loss with respect to the points, from those with respect to their distances and gradients.

    The adjoint of :func:`evaluate_signed_distance` on the stored faces. Allocates nothing, so it can be recorded in a
    CUDA graph. Close to an edge or a vertex the gradient turns fast: its derivative is one over the distance, and zero
    within a micrometre.

    Args:
        mesh: The object.
        points: Points in the object frame [m], vec3, shape [grasp, point].
        face: Face of each point from :func:`find_closest_faces`, -1 for none, int, shape [grasp, point].
        outward: From the same call, vec3, shape [grasp, point].
        phong_alpha: As in :func:`evaluate_signed_distance`.
        phong_mode: As in :func:`evaluate_signed_distance`.
        distance_adjoint: Derivative of the loss with respect to the distances [1/m], shape [grasp, point].
        gradient_adjoint: Derivative of the loss with respect to the gradients, vec3, shape [grasp, point].
        point_adjoint_out: Derivative of the loss with respect to the points [1/m], overwritten, zero without a face,
            vec3, shape [grasp, point].

    Raises:
        ShapeError: an array does not match ``points``.
        OptionError: ``phong_alpha`` is not in [0, 1] or ``phong_mode`` is unknown.
    """
    import warp as wp

    from .kernels import distance as kernels

    mode = phong_mode_number(phong_alpha, phong_mode)
    _check_shapes(
        points,
        face=face,
        outward=outward,
        distance_adjoint=distance_adjoint,
        gradient_adjoint=gradient_adjoint,
        point_adjoint_out=point_adjoint_out,
    )
    model = [mesh.id, mesh.corner_normals]
    wp.launch(
        kernels.signed_distance_adjoint,
        dim=points.shape,
        inputs=[*model, points, face, outward, distance_adjoint, gradient_adjoint, phong_alpha, mode],
        outputs=[point_adjoint_out],
        device=mesh.device,
    )


def signed_distance(
    obj: str | Path | trimesh.Trimesh | ObjectMesh,
    points: np.ndarray,
    *,
    phong_alpha: float = 0.0,
    device: str | None = None,
) -> np.ndarray:
    """Distance from points to the surface of an object, negative inside.

    Args:
        obj: The object, or anything that :func:`warpgrasp.load_object` takes.
        points: In the object frame [m], shape (N, 3).
        phong_alpha: 0 for flat triangles, up to 1 for a surface curved by the normals between its creases; it is
            subdivided first and stays within a tenth of a millimetre of the flat one.
        device: Warp device; the first GPU when omitted, the CPU where there is none.

    Returns:
        Distances [m], float32, shape (N,); ``FAR_DISTANCE`` for points further away than that.
    """
    import warp as wp

    points = np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ShapeError("points", "(N, 3)", points.shape)
    mesh = DeviceMesh(load_object(obj), device, phong_alpha=phong_alpha)
    shape = (1, len(points))
    at = wp.array(points[None], dtype=wp.vec3, device=mesh.device)
    face = wp.empty(shape, dtype=int, device=mesh.device)
    outward, gradient = wp.empty_like(at), wp.empty_like(at)
    distance = wp.empty(shape, dtype=float, device=mesh.device)
    find_closest_faces(mesh, at, FAR_DISTANCE, face, outward)
    evaluate_signed_distance(
        mesh, at, face, outward, phong_alpha=phong_alpha, distance_out=distance, gradient_out=gradient
    )
    return distance.numpy()[0]


def _check_phong_alpha(alpha: float) -> None:
    """A share of smoothing is from 0 to 1."""
    if not 0.0 <= alpha <= 1.0:
        raise OptionError(f"phong_alpha must be in [0, 1], got {alpha}")


def phong_mode_number(alpha: float, mode: PhongMode) -> int:
    """Number of a mode in the kernels."""
    from .kernels import distance as kernels

    _check_phong_alpha(alpha)
    modes = {
        "distance": kernels.PHONG_DISTANCE,
        "plane": kernels.PHONG_PLANE,
        "printed": kernels.PHONG_PRINTED,
    }
    if mode not in modes:
        raise OptionError(f"phong_mode must be one of {', '.join(modes)}, got {mode!r}")
    return modes[mode]


def _check_shapes(points: wp.array, **arrays: wp.array) -> None:
    """Every array must be [grasp, point] like the points."""
    for name, array in arrays.items():
        if array.shape != points.shape:
            raise ShapeError(name, f"{points.shape} like points", array.shape)
