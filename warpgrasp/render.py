"""Headless pictures of triangle scenes, cast with Warp on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import warp as wp

from .kernels import render as kernels


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles that can be drawn many times."""

    vertices: np.ndarray
    """In the frame of the surface [m], shape (vertex, 3)."""

    faces: np.ndarray
    """Vertex indices, shape (face, 3)."""

    @cached_property
    def normals(self) -> np.ndarray:
        """Normals at the corners of the faces, shape (face, 3, 3)."""
        return corner_normals(self.vertices, self.faces)


@dataclass(frozen=True, eq=False)
class Part:
    """A surface at its place, in one colour."""

    surface: Surface

    color: tuple[float, float, float]
    """sRGB in [0, 1]."""

    pose: np.ndarray = field(default_factory=lambda: np.eye(4))
    """Rigid transform from the frame of the surface to that of the scene, shape (4, 4)."""

    label: int = 0
    """What :meth:`Scene.identify` reports where this part is seen; not negative."""

    def vertices(self) -> np.ndarray:
        """In the frame of the scene [m], shape (vertex, 3)."""
        return self.surface.vertices @ self.pose[:3, :3].T + self.pose[:3, 3]

    def normals(self) -> np.ndarray:
        """In the frame of the scene, shape (face, 3, 3)."""
        return self.surface.normals @ self.pose[:3, :3].T


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with a square image."""

    eye: np.ndarray
    """Position in the scene's frame [m], shape (3,)."""

    axes: np.ndarray
    """Directions right, up and backwards in the scene's frame, as columns, shape (3, 3)."""

    tangent: float
    """Tangent of half the angle of view."""

    @classmethod
    def framing(
        cls, points: np.ndarray, toward_eye: np.ndarray, up: np.ndarray, *, tangent: float = 0.2, margin: float = 1.06
    ) -> Camera:
        """The closest camera in direction ``toward_eye`` that has all points in its picture.

        Args:
            points: In the scene's frame [m], shape (point, 3).
            toward_eye: Direction from the points to the camera, shape (3,).
            up: Direction that is up in the picture, not parallel to ``toward_eye``, shape (3,).
            tangent: Tangent of half the angle of view.
            margin: How much larger the picture is than the points.
        """
        back = toward_eye / np.linalg.norm(toward_eye)
        right = np.cross(up, back)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(back, right), back], axis=1)
        local = points @ axes
        center = 0.5 * (local.min(axis=0) + local.max(axis=0))[:2]
        spread = margin * np.abs(local[:, :2] - center).max(axis=1)
        distance = (local[:, 2] + spread / tangent).max()
        return cls(axes @ np.array([*center, distance]), axes, tangent)


class Scene:
    """Parts that are seen together."""

    def __init__(self, parts: Sequence[Part], *, device: wp.DeviceLike = None) -> None:
        """Copy the parts to a device.

        Args:
            parts: At least one.
            device: Warp device; its preferred one when omitted.
        """
        self.device = wp.get_device(device)
        vertices = [part.vertices() for part in parts]
        first = np.cumsum([0, *map(len, vertices)])
        self.vertices = np.concatenate(vertices).astype(np.float32)
        self.faces = np.concatenate([part.surface.faces + i for part, i in zip(parts, first, strict=False)])
        face_count = [len(part.surface.faces) for part in parts]
        color = np.repeat([linear(np.array(part.color)) for part in parts], face_count, axis=0)
        label = np.repeat([part.label for part in parts], face_count)
        normal = np.concatenate([part.normals() for part in parts])
        with wp.ScopedDevice(self.device):
            self._color = wp.array(color, dtype=wp.vec3)
            self._label = wp.array(label, dtype=int)
            self._normal = wp.array(normal, dtype=wp.vec3)

    @cached_property
    def mesh(self) -> wp.Mesh:
        """All parts as one mesh on the device."""
        return warp_mesh(self.vertices, self.faces, self.device)

    @cached_property
    def outline(self) -> np.ndarray:
        """Vertices of the convex hull, which are all that decides what fits in a picture [m], shape (vertex, 3)."""
        from scipy.spatial import ConvexHull

        return self.vertices[ConvexHull(self.vertices).vertices].astype(float)

    def render(self, camera: Camera, size: int = 400, *, samples: int = 3) -> np.ndarray:
        """Take a picture.

        Args:
            camera: Where from.
            size: Side of the picture in pixels.
            samples: Rays along each side of a pixel; more give smoother edges and shadows.

        Returns:
            sRGB, uint8, shape (row, column, 3).
        """
        color = wp.empty((size, size), dtype=wp.vec3, device=self.device)  # pyright: ignore[reportArgumentType]
        reach = 0.3 * float(np.ptp(self.vertices, axis=0).max())
        wp.launch(
            kernels.shade,
            dim=(size, size),
            inputs=[
                self.mesh.id,
                self._normal,
                self._color,
                wp.vec3(*camera.eye),
                wp.mat33(*camera.axes.ravel()),
                camera.tangent,
                reach,
                samples,
            ],
            outputs=[color],
            device=self.device,
        )
        return (255.0 * srgb(color.numpy()) + 0.5).astype(np.uint8)

    def identify(self, cameras: Sequence[Camera], size: int = 64) -> np.ndarray:
        """Label of the part that each pixel shows, -1 for none, shape (camera, row, column).

        Args:
            cameras: All with the same angle of view.
            size: Side of a picture in pixels.
        """
        label = wp.empty((len(cameras), size, size), dtype=int, device=self.device)
        eye = np.array([camera.eye for camera in cameras], np.float32)
        axes = np.array([camera.axes for camera in cameras], np.float32)
        wp.launch(
            kernels.identify,
            dim=label.shape,
            inputs=[
                self.mesh.id,
                self._label,
                wp.array(eye, dtype=wp.vec3, device=self.device),
                wp.array(axes, dtype=wp.mat33, device=self.device),
                cameras[0].tangent,
            ],
            outputs=[label],
            device=self.device,
        )
        return label.numpy()


def surface_distance(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray, *, reach: float, device: wp.DeviceLike = None
) -> np.ndarray:
    """Unsigned distance [m] of points to a surface, at most ``reach``, shape (point,).

    Args:
        vertices: Of the surface [m], shape (vertex, 3).
        faces: Vertex indices, shape (face, 3).
        points: In the frame of the surface [m], shape (point, 3).
        reach: Largest distance of interest [m].
        device: Warp device; its preferred one when omitted.
    """
    surface = warp_mesh(vertices, faces, device)
    distance = wp.empty(len(points), dtype=float, device=device)
    wp.launch(
        kernels.surface_distance,
        dim=len(points),
        inputs=[surface.id, wp.array(points, dtype=wp.vec3, device=device), reach],
        outputs=[distance],
        device=device,
    )
    return distance.numpy()


def warp_mesh(vertices: np.ndarray, faces: np.ndarray, device: wp.DeviceLike) -> wp.Mesh:
    """Triangles as a Warp mesh."""
    return wp.Mesh(
        points=wp.array(vertices, dtype=wp.vec3, device=device),
        indices=wp.array(np.ravel(faces), dtype=int, device=device),
    )


def corner_normals(vertices: np.ndarray, faces: np.ndarray, crease: float = np.radians(50.0)) -> np.ndarray:
    """Unit normals for smooth shading that keep sharp edges sharp, shape (face, 3, 3).

    The normal at a corner is the area-weighted mean over the faces at the same place whose normals differ by less
    than ``crease`` [rad]. Corners at one place count together even where the file has a vertex for each face.
    """
    from scipy.sparse import csr_matrix

    corner = np.asarray(vertices, float)[faces]
    area = 0.5 * np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(area, axis=1, keepdims=True)
    normal = np.where(length > 0.0, area / np.where(length > 0.0, length, 1.0), [0.0, 0.0, 1.0])

    _, place = np.unique(np.round(corner.reshape(-1, 3), 7), axis=0, return_inverse=True)
    place = place.ravel()
    corner_at = csr_matrix((np.ones(len(place), np.int32), (np.arange(len(place)), place)))
    first, second = (corner_at @ corner_at.T).nonzero()
    alike = np.einsum("ij,ij->i", normal[first // 3], normal[second // 3]) > np.cos(crease)
    first, second = first[alike], second[alike]
    total = np.stack([np.bincount(first, area[second // 3, i], 3 * len(faces)) for i in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    total = np.where(length > 0.0, total / np.where(length > 0.0, length, 1.0), np.repeat(normal, 3, axis=0))
    return total.reshape(-1, 3, 3)


def linear(color: np.ndarray) -> np.ndarray:
    """Linear RGB of sRGB, both in [0, 1]. Source: IEC 61966-2-1."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def srgb(color: np.ndarray) -> np.ndarray:
    """The sRGB values in [0, 1] of linear RGB; brighter light is cut off. Source: IEC 61966-2-1."""
    color = np.clip(color, 0.0, 1.0)
    return np.where(color <= 0.0031308, 12.92 * color, 1.055 * color ** (1.0 / 2.4) - 0.055)
