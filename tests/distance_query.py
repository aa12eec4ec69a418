"""Points at an object on a device, and the comparison of their distances with float64 references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
import warp as wp
from reference import central_difference, closest_barycentric, phong_height, phong_signed_distance, triangle_distance

from warpgrasp.distance import (
    DeviceMesh,
    PhongMode,
    evaluate_signed_distance,
    evaluate_signed_distance_adjoint,
    find_closest_faces,
)


class Query:
    """Points at an object, on a device, and everything the kernels say about them."""

    def __init__(self, mesh: DeviceMesh, points: np.ndarray, max_distance: float = 0.5) -> None:
        self.mesh, device = mesh, mesh.device
        # what the device sees, in float64
        corners: np.ndarray = mesh.indices.numpy().reshape(-1, 3)
        self.triangles = mesh.vertices.numpy().astype(float)[corners]
        self.normals = self.mesh.corner_normals.numpy().astype(float)
        self.points = points.astype(np.float32).astype(float)
        self.at = wp.array(self.points[None], dtype=wp.vec3, device=device)
        self.face_out = wp.full((1, len(points)), value=-7, dtype=int, device=device)
        self.outward_out = wp.full((1, len(points)), value=wp.vec3(wp.nan), dtype=wp.vec3, device=device)
        find_closest_faces(self.mesh, self.at, max_distance, self.face_out, self.outward_out)
        self.face, self.outward = self.face_out.numpy()[0], self.outward_out.numpy()[0]
        self.side = np.sign(self.evaluate()[0]).astype(float)

    def move(self, points: np.ndarray) -> None:
        """Move the points, keeping the faces."""
        self.points = points.astype(np.float32).astype(float)
        self.at = wp.array(self.points[None], dtype=wp.vec3, device=self.at.device)

    def evaluate(self, alpha: float = 0.0, mode: PhongMode = "distance") -> tuple[np.ndarray, np.ndarray]:
        """Distances and gradients on the stored faces."""
        distance = wp.full(self.at.shape, value=wp.nan, dtype=float, device=self.at.device)
        gradient = wp.full(self.at.shape, value=wp.vec3(wp.nan), dtype=wp.vec3, device=self.at.device)
        evaluate_signed_distance(
            self.mesh,
            self.at,
            self.face_out,
            self.outward_out,
            phong_alpha=alpha,
            phong_mode=mode,
            distance_out=distance,
            gradient_out=gradient,
        )
        return distance.numpy()[0], gradient.numpy()[0]

    def evaluate_adjoint(
        self, distance_adjoint: np.ndarray, gradient_adjoint: np.ndarray, alpha: float, mode: PhongMode = "distance"
    ) -> np.ndarray:
        """Adjoints of the points on the stored faces."""
        device = self.at.device
        adjoint = wp.full(self.at.shape, value=wp.vec3(wp.nan), dtype=wp.vec3, device=device)
        evaluate_signed_distance_adjoint(
            self.mesh,
            self.at,
            self.face_out,
            self.outward_out,
            phong_alpha=alpha,
            phong_mode=mode,
            distance_adjoint=wp.array(distance_adjoint[None], dtype=float, device=device),
            gradient_adjoint=wp.array(gradient_adjoint[None], dtype=wp.vec3, device=device),
            point_adjoint_out=adjoint,
        )
        return adjoint.numpy()[0]

    def value(self, i: int, alpha: float, mode: str = "distance") -> Callable[[np.ndarray], float]:
        """Reference for the distance of point i as a function of its position, on its face and side."""
        triangle, normals, side = self.triangles[self.face[i]], self.normals[self.face[i]], self.side[i]
        if alpha == 0.0:
            return lambda x: float(side * triangle_distance(x, triangle))
        return lambda x: phong_signed_distance(x, triangle, normals, alpha, mode, side)

    def smooth(self, alpha: float) -> list[int]:
        """Points away from jumps.

        Of the derivative where the closest point moves onto an edge, of the value where the sign changes.
        """
        found = []
        for i, (p, face) in enumerate(zip(self.points, self.face, strict=True)):
            triangle, normals = self.triangles[face], self.normals[face]
            weight = closest_barycentric(p, triangle)
            on_edge = ((np.abs(weight) > 1e-9) & (weight < 1e-2)).any()
            heights = self.value(i, alpha)(p), phong_height(p, triangle, normals, alpha)
            if not on_edge and np.abs(heights).min() > 1e-4:
                found.append(i)
        return found


def points_around(mesh: trimesh.Trimesh, rng: np.random.Generator, count: int, spread: float = 0.01) -> np.ndarray:
    """Points within about ``spread`` [m] of a surface, on both sides, a quarter of them near its vertices."""
    f = rng.choice(len(mesh.faces), count - count // 4, p=mesh.area_faces / mesh.area)
    weight = rng.dirichlet([1.0, 1.0, 1.0], len(f))
    on_faces = (weight[:, :, None] * mesh.triangles[f]).sum(axis=1)
    on_vertices = mesh.vertices[rng.choice(len(mesh.vertices), count // 4)]
    return np.concatenate([on_faces, on_vertices]) + rng.normal(scale=spread, size=(count, 3))


def check_gradient(query: Query, points: list[int], alpha: float, mode: PhongMode) -> None:
    """Compare the gradients of some points with differences."""
    gradient = query.evaluate(alpha, mode)[1]
    expected = [central_difference(query.value(i, alpha, mode), query.points[i]) for i in points]
    np.testing.assert_allclose(gradient[points], expected, rtol=1e-4, atol=1e-4)


def check_adjoint(query: Query, points: list[int], alpha: float, mode: PhongMode, rng: np.random.Generator) -> None:
    """Compare the adjoints of some points with differences of differences."""
    u, t = rng.normal(size=len(query.points)), rng.normal(size=query.points.shape)
    adjoint = query.evaluate_adjoint(u, t, alpha, mode)
    for i in points:
        value = query.value(i, alpha, mode)

        def loss(x: np.ndarray, value=value, i=i) -> float:
            return u[i] * value(x) + t[i] @ central_difference(value, x)

        expected = central_difference(loss, query.points[i])
        np.testing.assert_allclose(adjoint[i], expected, rtol=2e-3, atol=2e-3 * float(np.linalg.norm(expected)) + 2e-3)
