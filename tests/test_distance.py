"""Closest faces and signed distance against float64 references, and the sign on real objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
import warp as wp
from reference import (
    central_difference,
    closest_barycentric,
    phong_signed_distance,
    printed_gradient,
    signed_crossings,
    triangle_distance,
    winding_number,
)

from warpgrasp.distance import (
    FAR_DISTANCE,
    DeviceMesh,
    PhongMode,
    evaluate_signed_distance,
    evaluate_signed_distance_adjoint,
    find_closest_faces,
    signed_distance,
)
from warpgrasp.errors import DeviceError, OptionError, ShapeError
from warpgrasp.kernels import distance as kernels
from warpgrasp.mesh import ObjectMesh, load_object


def ball(subdivisions: int = 2) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.05)


def two_boxes() -> trimesh.Trimesh:
    """Two boxes that overlap in a cross."""
    a, b = trimesh.creation.box(extents=(0.1, 0.03, 0.03)), trimesh.creation.box(extents=(0.03, 0.1, 0.03))
    return trimesh.Trimesh(np.concatenate([a.vertices, b.vertices]), np.concatenate([a.faces, b.faces + 8]))


def opened_ball() -> trimesh.Trimesh:
    return trimesh.Trimesh(ball().vertices, ball().faces[8:])


SMOOTH_AND_SHARP = {
    "ball": ball(),
    "box": trimesh.creation.box(extents=(0.1, 0.06, 0.02)),
    "ring": trimesh.creation.annulus(r_min=0.02, r_max=0.05, height=0.03, sections=24),
    "cross": two_boxes(),
    "opened": opened_ball(),
}
every_mesh = pytest.mark.parametrize("name", SMOOTH_AND_SHARP)


class Query:
    """Points at an object, on a device, and everything the kernels say about them."""

    def __init__(self, obj: ObjectMesh, points: np.ndarray, device: str, max_distance: float = 0.5) -> None:
        self.mesh = DeviceMesh(obj, device)
        # what the device sees, in float64
        self.triangles = obj.vertices.astype(np.float32).astype(float)[obj.faces]
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

    def is_smooth(self, i: int, alpha: float) -> bool:
        """Whether point i is away from jumps.

        Of the derivative where the closest point moves onto an edge, of the value where the sign changes.
        """
        weight = closest_barycentric(self.points[i], self.triangles[self.face[i]])
        on_edge = ((np.abs(weight) > 1e-9) & (weight < 1e-2)).any()
        modes = ("distance", "plane") if alpha > 0.0 else ("distance",)
        return not on_edge and min(abs(self.value(i, alpha, mode)(self.points[i])) for mode in modes) > 1e-4


def points_around(mesh: trimesh.Trimesh, rng: np.random.Generator, count: int, spread: float = 0.01) -> np.ndarray:
    """Points within about ``spread`` [m] of a surface, on both sides, a quarter of them near its vertices."""
    f = rng.choice(len(mesh.faces), count - count // 4, p=mesh.area_faces / mesh.area)
    weight = rng.dirichlet([1.0, 1.0, 1.0], len(f))
    on_faces = (weight[:, :, None] * mesh.triangles[f]).sum(axis=1)
    on_vertices = mesh.vertices[rng.choice(len(mesh.vertices), count // 4)]
    return np.concatenate([on_faces, on_vertices]) + rng.normal(scale=spread, size=(count, 3))


# ---- value


@every_mesh
def test_distance_is_that_of_the_closest_triangle(name, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 40), device)
    distance, _ = query.evaluate()
    expected = [min(triangle_distance(p, triangle) for triangle in query.triangles) for p in query.points]
    inside = winding_number(query.points, query.triangles) > 0.5
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_allclose(distance, np.where(inside, -1.0, 1.0) * expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("mode", ["distance", "plane", "printed"])
@pytest.mark.parametrize("name", ["ball", "box", "ring"])
def test_phong_distance_matches_reference(name, mode, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 100), device)
    distance, _ = query.evaluate(0.75, mode)
    expected = [query.value(i, 0.75, mode)(p) for i, p in enumerate(query.points)]
    np.testing.assert_allclose(distance, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_known_distances_of_a_ball(alpha, device):
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.09], [0.03, 0.0, 0.0], [0.2, 0.0, 0.0]])
    actual = signed_distance(ball(4), points, phong_alpha=alpha, device=device)
    np.testing.assert_allclose(actual, [-0.05, 0.04, -0.02, 0.15], atol=1e-4)


def test_phong_brings_a_coarse_ball_closer_to_round(rng, device):
    direction = rng.normal(size=(500, 3))
    points = 0.05 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    flat, curved = (signed_distance(ball(2), points, phong_alpha=alpha, device=device) for alpha in (0.0, 0.75))
    assert np.abs(curved).mean() < 0.5 * np.abs(flat).mean()


def test_halfway_between_two_sides_is_inside(device):
    """Two faces are equally close there; their normals must not cancel."""
    plate = trimesh.creation.box(extents=(0.1, 0.1, 0.002))
    grid = np.linspace(-0.04, 0.04, 21)
    points = np.stack([*np.meshgrid(grid, grid), np.zeros((21, 21))], axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(signed_distance(plate, points, device=device), -0.001, rtol=1e-5)


# ---- gradient


each_formula = pytest.mark.parametrize(
    ("alpha", "mode"), [(0.0, "distance"), (0.75, "distance"), (0.75, "plane"), (1.0, "distance")]
)


@every_mesh
@each_formula
def test_gradient_matches_finite_difference(name, alpha, mode, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 60), device)
    _, gradient = query.evaluate(alpha, mode)
    smooth = [i for i in range(len(query.points)) if query.is_smooth(i, alpha)]
    expected = [central_difference(query.value(i, alpha, mode), query.points[i]) for i in smooth]
    assert len(smooth) > 17
    np.testing.assert_allclose(gradient[smooth], expected, rtol=1e-4, atol=1e-4)


@every_mesh
@each_formula
def test_adjoint_matches_finite_difference(name, alpha, mode, rng, device):
    """Of u phi + t . grad phi: the second term goes through the curvature of the distance."""
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 60), device)
    smooth = [i for i in range(len(query.points)) if query.is_smooth(i, alpha)]
    assert len(smooth) > 17
    check_adjoint(query, smooth, alpha, mode, rng)


@each_formula
def test_adjoint_matches_finite_difference_in_every_region(alpha, mode, rng, device):
    """There is a formula each for faces, edges and vertices."""
    mesh = SMOOTH_AND_SHARP["box"]
    query = Query(load_object(mesh), points_around(mesh, rng, 1500), device)
    regions: dict[tuple[int, float], list[int]] = {}
    for i, p in enumerate(query.points):
        zeros = (np.abs(closest_barycentric(p, query.triangles[query.face[i]])) < 1e-9).sum()
        if query.is_smooth(i, alpha):
            regions.setdefault((int(zeros), query.side[i]), []).append(i)
    assert set(regions) == {(0, 1.0), (0, -1.0), (1, 1.0), (2, 1.0)}
    for points in regions.values():
        assert len(points) > 17
        check_adjoint(query, points[:18], alpha, mode, rng)


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


@pytest.mark.parametrize("name", ["ball", "box", "ring"])
def test_printed_gradient_and_its_adjoint_match_the_reference(name, rng, device):
    """The printed gradient is not the derivative of the printed value, and its adjoint is that of what is computed."""
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 60), device)
    u, t = rng.normal(size=60), rng.normal(size=(60, 3))
    gradient, adjoint = query.evaluate(0.75, "printed")[1], query.evaluate_adjoint(u, t, 0.75, "printed")
    smooth = [i for i in range(len(query.points)) if query.is_smooth(i, 0.75)]
    assert len(smooth) > 17
    for i in smooth:
        value, face = query.value(i, 0.75, "printed"), query.face[i]

        def printed(x: np.ndarray, i=i, face=face) -> np.ndarray:
            return printed_gradient(x, query.triangles[face], query.normals[face], 0.75, query.side[i])

        def loss(x: np.ndarray, value=value, printed=printed, i=i) -> float:
            return u[i] * value(x) + t[i] @ printed(x)

        np.testing.assert_allclose(gradient[i], printed(query.points[i]), atol=1e-4)
        expected = central_difference(loss, query.points[i])
        np.testing.assert_allclose(adjoint[i], expected, rtol=1e-3, atol=1e-3 * float(np.linalg.norm(expected)) + 1e-3)


# ---- stored faces


def test_the_sign_changes_when_a_point_passes_through_its_face(device):
    points = np.array([[0.01, 0.005, 0.012], [0.02, -0.01, 0.0105]])
    query = Query(load_object(SMOOTH_AND_SHARP["box"]), points, device)
    np.testing.assert_allclose(query.evaluate()[0], [0.002, 0.0005], atol=1e-8)
    query.move(points - [0.0, 0.0, 0.003])
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(distance, [-0.001, -0.0025], atol=1e-8)
    np.testing.assert_allclose(gradient, [[0.0, 0.0, 1.0]] * 2, atol=1e-5)


@every_mesh
def test_outward_is_a_unit_vector_out_of_the_object(name, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(load_object(mesh), points_around(mesh, rng, 200), device)
    np.testing.assert_allclose(np.linalg.norm(query.outward, axis=1), 1.0, atol=1e-6)
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(query.outward, gradient, atol=1e-5)
    beyond = query.points - (distance - 1e-4)[:, None] * query.outward
    if name in ("ball", "box", "ring"):
        assert (winding_number(beyond, query.triangles) < 0.5).all()


@pytest.mark.parametrize("name", ["box", "cross"])
def test_a_point_on_the_surface_has_the_normal_of_the_face(name, device):
    points = np.array([[0.05, 0.003, 0.002], [0.04, 0.001, 0.01 if name == "box" else 0.015]])
    query = Query(load_object(SMOOTH_AND_SHARP[name]), points, device)
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(distance, 0.0, atol=1e-8)
    np.testing.assert_allclose(query.outward, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(gradient, query.outward, atol=1e-6)


@pytest.mark.parametrize("name", ["ball", "opened"])
@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_points_out_of_reach_are_far_and_pull_nowhere(name, alpha, device):
    points = np.array([[0.0, 0.0, 0.08], [0.0, 0.0, 0.06]])
    query = Query(load_object(SMOOTH_AND_SHARP[name]), points, device, max_distance=0.02)
    assert query.face[0] == -1 and query.face[1] >= 0
    distance, gradient = query.evaluate(alpha)
    assert distance[0] == FAR_DISTANCE and distance[1] < 0.02
    adjoint = query.evaluate_adjoint(np.ones(2), np.ones((2, 3)), alpha)
    np.testing.assert_array_equal([query.outward[0], gradient[0], adjoint[0]], np.zeros((3, 3)))


def test_the_far_distance_is_the_same_constant():
    assert FAR_DISTANCE == kernels.FAR_DISTANCE


# ---- errors


def test_bad_arguments_are_named(device):
    obj = load_object(ball())
    with pytest.raises(ShapeError, match=r"points has shape \(3,\), expected \(N, 3\)"):
        signed_distance(obj, np.zeros(3), device=device)
    query = Query(obj, np.zeros((4, 3)), device)
    short = wp.zeros((1, 3), dtype=int, device=device)
    with pytest.raises(ShapeError, match=r"face_out has shape \(1, 3\), expected \(1, 4\) like points"):
        find_closest_faces(query.mesh, query.at, 0.1, short, query.outward_out)
    with pytest.raises(OptionError, match=r"max_distance must be in \(0, 10\] \[m\], got 0.0"):
        find_closest_faces(query.mesh, query.at, 0.0, query.face_out, query.outward_out)
    with pytest.raises(OptionError, match=r"phong_alpha must be in \[0, 1\], got 2.0"):
        query.evaluate(2.0)
    with pytest.raises(OptionError, match=r"phong_mode must be one of distance, plane, printed, got 'round'"):
        query.evaluate(0.5, "round")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"gradient_adjoint has shape \(1, 3\), expected \(1, 4\) like points"):
        query.evaluate_adjoint(np.zeros(4), np.zeros((3, 3)), 0.0)


def test_an_unknown_device_is_named():
    with pytest.raises(DeviceError, match=r"'tpu:0'.*cpu"):
        DeviceMesh(load_object(ball()), "tpu:0")


# ---- inside and outside of real objects


def objects() -> list[str]:
    manifest = Path(__file__).resolve().parents[2] / "shared" / "objects" / "manifest.json"
    if not manifest.is_file():
        return []
    return [entry["file"] for entry in json.loads(manifest.read_text())]


def near_and_around(mesh: trimesh.Trimesh, rng: np.random.Generator, count: int) -> np.ndarray:
    """Half in a box somewhat larger than the mesh, half within a few millimetres of its surface."""
    center, half = mesh.bounds.mean(axis=0), mesh.extents / 2.0
    around = center + rng.uniform(-1.1, 1.1, (count // 2, 3)) * half
    return np.concatenate([around, points_around(mesh, rng, count - count // 2, spread=0.0015)])


def inside_by_rays(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Winding number above one half, as most of the three axes say, so that a hole in one direction does no harm."""
    crossings = [signed_crossings(np.roll(points, i, axis=1), np.roll(triangles, i, axis=2)) for i in range(3)]
    return np.median(crossings, axis=0) > 0.5


def test_rays_and_solid_angles_agree(rng):
    """The two references for inside and outside are not the same mistake twice."""
    mesh = SMOOTH_AND_SHARP["cross"]
    points = points_around(mesh, rng, 300)
    triangles = np.asarray(mesh.triangles)
    np.testing.assert_allclose(signed_crossings(points, triangles), winding_number(points, triangles), atol=1e-9)


@pytest.mark.parametrize("file", objects())
def test_inside_and_outside_of_a_real_object(file, shared, rng):
    raw = trimesh.load_mesh(shared / "objects" / file, process=False)
    points = near_and_around(raw, rng, 20_000).astype(np.float32)
    inside = signed_distance(shared / "objects" / file, points, device="cpu") < 0.0
    expected = inside_by_rays(points.astype(float), np.asarray(raw.triangles))
    assert 0.1 < expected.mean() < 0.9
    agreement = (inside == expected).mean()
    assert agreement >= 0.995
