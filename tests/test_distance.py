"""Closest faces and signed distance against float64 references, and the sign on real objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
import warp as wp
from distance_query import Query, check_adjoint, check_gradient, points_around
from reference import (
    closest_barycentric,
    signed_crossings,
    triangle_distance,
    winding_number,
)

from warpgrasp.distance import (
    FAR_DISTANCE,
    DeviceMesh,
    find_closest_faces,
    signed_distance,
)
from warpgrasp.errors import DeviceError, OptionError, ShapeError
from warpgrasp.kernels import distance as kernels
from warpgrasp.mesh import load_object


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


# ---- value


@every_mesh
def test_distance_is_that_of_the_closest_triangle(name, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 40))
    distance, _ = query.evaluate()
    expected = [min(triangle_distance(p, triangle) for triangle in query.triangles) for p in query.points]
    inside = winding_number(query.points, query.triangles) > 0.5
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_allclose(distance, np.where(inside, -1.0, 1.0) * expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("mode", ["distance", "plane", "printed"])
@pytest.mark.parametrize("name", ["ball", "box", "ring"])
def test_phong_distance_matches_reference(name, mode, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 100))
    distance, _ = query.evaluate(0.75, mode)
    expected = [query.value(i, 0.75, mode)(p) for i, p in enumerate(query.points)]
    np.testing.assert_allclose(distance, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_known_distances_of_a_ball(alpha, device):
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.09], [0.03, 0.0, 0.0], [0.2, 0.0, 0.0]])
    actual = signed_distance(ball(4), points, phong_alpha=alpha, device=device)
    np.testing.assert_allclose(actual, [-0.05, 0.04, -0.02, 0.15], atol=1e-4)


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
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 60))
    smooth = query.smooth(alpha)
    assert len(smooth) > 17
    check_gradient(query, smooth, alpha, mode)


@every_mesh
@each_formula
def test_adjoint_matches_finite_difference(name, alpha, mode, rng, device):
    """Of u phi + t . grad phi: the second term goes through the curvature of the distance."""
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 60))
    smooth = query.smooth(alpha)
    assert len(smooth) > 17
    check_adjoint(query, smooth, alpha, mode, rng)


@each_formula
def test_adjoint_matches_finite_difference_in_every_region(alpha, mode, rng, device):
    """There is a formula each for faces, edges and vertices."""
    mesh = SMOOTH_AND_SHARP["box"]
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 1500))
    regions: dict[tuple[int, float], list[int]] = {}
    for i in query.smooth(alpha):
        zeros = (np.abs(closest_barycentric(query.points[i], query.triangles[query.face[i]])) < 1e-9).sum()
        regions.setdefault((int(zeros), query.side[i]), []).append(i)
    assert set(regions) == {(0, 1.0), (0, -1.0), (1, 1.0), (2, 1.0)}
    for points in regions.values():
        assert len(points) > 17
        check_adjoint(query, points[:18], alpha, mode, rng)


# ---- stored faces


def test_the_sign_changes_when_a_point_passes_through_its_face(device):
    points = np.array([[0.01, 0.005, 0.012], [0.02, -0.01, 0.0105]])
    query = Query(DeviceMesh(load_object(SMOOTH_AND_SHARP["box"]), device), points)
    np.testing.assert_allclose(query.evaluate()[0], [0.002, 0.0005], atol=1e-8)
    query.move(points - [0.0, 0.0, 0.003])
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(distance, [-0.001, -0.0025], atol=1e-8)
    np.testing.assert_allclose(gradient, [[0.0, 0.0, 1.0]] * 2, atol=1e-5)


@every_mesh
def test_outward_is_a_unit_vector_out_of_the_object(name, rng, device):
    mesh = SMOOTH_AND_SHARP[name]
    query = Query(DeviceMesh(load_object(mesh), device), points_around(mesh, rng, 200))
    np.testing.assert_allclose(np.linalg.norm(query.outward, axis=1), 1.0, atol=1e-6)
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(query.outward, gradient, atol=1e-5)
    beyond = query.points - (distance - 1e-4)[:, None] * query.outward
    if name in ("ball", "box", "ring"):
        assert (winding_number(beyond, query.triangles) < 0.5).all()


@pytest.mark.parametrize("name", ["box", "cross"])
def test_a_point_on_the_surface_has_the_normal_of_the_face(name, device):
    points = np.array([[0.05, 0.003, 0.002], [0.04, 0.001, 0.01 if name == "box" else 0.015]])
    query = Query(DeviceMesh(load_object(SMOOTH_AND_SHARP[name]), device), points)
    distance, gradient = query.evaluate()
    np.testing.assert_allclose(distance, 0.0, atol=1e-8)
    np.testing.assert_allclose(query.outward, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(gradient, query.outward, atol=1e-6)


@pytest.mark.parametrize("name", ["ball", "opened"])
@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_points_out_of_reach_are_far_and_pull_nowhere(name, alpha, device):
    points = np.array([[0.0, 0.0, 0.08], [0.0, 0.0, 0.06]])
    query = Query(DeviceMesh(load_object(SMOOTH_AND_SHARP[name]), device), points, max_distance=0.02)
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
    query = Query(DeviceMesh(obj, device), np.zeros((4, 3)))
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


def test_faces_are_kept_while_points_move_little(rng, device):
    """A random walk of points near and far: few searches, and distances that are off by twice their moves at most."""
    mesh = DeviceMesh(load_object(trimesh.creation.icosphere(subdivisions=3, radius=0.05)), device)
    place = rng.uniform(-0.1, 0.1, (400, 3))
    kept, always = Query(mesh, place), Query(mesh, place)
    searched = wp.full((1, 400), wp.vec4(-1.0), dtype=wp.vec4, device=device)
    slack, steps, searches = 1.0e-3, 30, 0
    for _ in range(steps):
        place = place + 2.0e-4 * rng.normal(size=(400, 3))
        before = searched.numpy().copy()
        for query in (kept, always):
            query.move(place)
        find_closest_faces(mesh, kept.at, 1.0, kept.face_out, kept.outward_out, slack=slack, searched=searched)
        find_closest_faces(mesh, always.at, 1.0, always.face_out, always.outward_out)
        searches += int((searched.numpy() != before).any(axis=-1).sum())
        near, exact = kept.evaluate()[0], always.evaluate()[0]
        excess = np.abs(near) - np.abs(exact)
        assert excess.min() > -1e-6, "no face is nearer than the nearest"
        assert (excess <= 2.0 * (slack + 0.15 * (np.abs(exact) + slack))).all()
        assert np.abs(exact[near * exact < 0.0]).max(initial=0.0) <= slack, "sides are told apart but for the slack"
    assert 400 <= searches < 0.3 * steps * 400


class Drag:
    """Points that jump from place to place, searched by what is known of the last search, and anew."""

    def __init__(self, mesh: DeviceMesh, points: np.ndarray, reach: float) -> None:
        self.mesh, self.reach = mesh, reach
        self.kept, self.anew = Query(mesh, points, reach), Query(mesh, points, reach)
        self.searched = wp.full(self.kept.at.shape, wp.vec4(-1.0), dtype=wp.vec4, device=mesh.device)
        self.move(points)

    def move(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move the points and search.

        Returns:
            Which points were searched, and which of them are nearer to their last place than the surface was.
        """
        before = self.searched.numpy()[0].copy()
        for query in (self.kept, self.anew):
            query.move(points)
        out = self.kept.face_out, self.kept.outward_out
        find_closest_faces(self.mesh, self.kept.at, self.reach, *out, slack=0.0, searched=self.searched)
        find_closest_faces(self.mesh, self.anew.at, self.reach, self.anew.face_out, self.anew.outward_out)
        fresh = (self.searched.numpy()[0, :, :3] == self.kept.points).all(axis=1)
        moved = np.linalg.norm(self.kept.points - before[:, :3], axis=1)
        return fresh, fresh & (moved < 0.98 * before[:, 3])


@pytest.mark.parametrize("reach", [1.0, 0.01])
@pytest.mark.parametrize("name", ["cross", "opened", "ball", "ycb/025_mug.obj", "pybullet_random/random_000.obj"])
def test_points_dragged_through_a_mesh_are_searched_as_if_anew(name, reach, rng, device, request):
    """Faces are as near and sides are the same, however much of the last search is used."""
    source = request.getfixturevalue("shared") / "objects" / name if "/" in name else SMOOTH_AND_SHARP[name]
    obj = load_object(source)
    mesh = DeviceMesh(obj, device)
    low, high = obj.bounds
    start, end = (low + (high - low) * rng.uniform(-0.4, 1.4, (300, 3)) for _ in range(2))
    drag = Drag(mesh, start, reach)
    near = crossed = 0
    inside = np.zeros(300, bool)
    for t in np.linspace(0.0, 1.0, 25) ** 1.5:
        fresh, unhindered = drag.move(start + t * (end - start))
        near += int(unhindered.sum())
        kept, anew = drag.kept.evaluate()[0][fresh], drag.anew.evaluate()[0][fresh]
        np.testing.assert_allclose(kept, anew, rtol=1e-5, atol=1e-7)
        if obj.watertight:
            expected = winding_number(drag.kept.points[fresh], drag.kept.triangles) > 0.5
            found = np.abs(kept) < FAR_DISTANCE
            np.testing.assert_array_equal((kept < 0.0)[found], expected[found])
            crossed += int((expected != inside[fresh]).sum())
            inside[fresh] = expected
    assert near > 100
    assert not obj.watertight or crossed > 100


def test_a_point_enters_an_open_mesh_through_its_hole(device):
    """It moves by less than its distance, crosses no face, and is inside all the same."""
    bowl = trimesh.creation.icosphere(subdivisions=3, radius=0.05)
    bowl = trimesh.Trimesh(bowl.vertices, bowl.faces[bowl.triangles_center[:, 2] < 0.01])
    drag = Drag(DeviceMesh(load_object(bowl), device), np.array([[0.0, 0.0, 0.04]]), 1.0)
    assert drag.kept.evaluate()[0] > 0.0
    fresh, unhindered = drag.move(np.array([[0.0, 0.0, 0.005]]))
    assert fresh.all() and unhindered.all()
    assert drag.kept.evaluate()[0] < 0.0


def test_a_point_beyond_reach_inside_is_inside_when_it_is_found(device):
    """Its side was not known before: no face was found."""
    drag = Drag(DeviceMesh(load_object(two_boxes()), device), np.array([[0.004, 0.0, 0.0]]), 0.01)
    assert drag.kept.face_out.numpy()[0, 0] == -1
    fresh, unhindered = drag.move(np.array([[0.004, 0.0, 0.008]]))
    assert fresh.all() and unhindered.all()
    np.testing.assert_allclose(drag.kept.evaluate()[0], -0.007, rtol=1e-5)


def test_distance_to_any_triangle(rng, device):
    """Of every shape, obtuse ones and needles too, from far and from near."""
    corners = 0.02 * rng.normal(size=(600, 3, 3))
    along = corners[:, 0] + rng.uniform(-1.0, 2.0, (600, 1)) * (corners[:, 1] - corners[:, 0])
    thin = np.geomspace(1.0, 1e-4, 600)[:, None]
    corners[:, 2] = along + thin * (corners[:, 2] - along)
    soup = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(1800).reshape(-1, 3), process=False)
    points = corners.mean(axis=1) + rng.normal(size=(600, 3)) * np.exp(rng.uniform(-8.0, -2.0, (600, 1)))
    query = Query(DeviceMesh(load_object(soup), device), points)
    assert len(query.triangles) == 600
    query.face_out.assign(np.arange(600, dtype=np.int32)[None])
    expected = [triangle_distance(p, triangle) for p, triangle in zip(query.points, query.triangles, strict=True)]
    np.testing.assert_allclose(np.abs(query.evaluate()[0]), expected, rtol=1e-5, atol=1e-8)


def test_a_negative_slack_is_refused(device):
    mesh = DeviceMesh(load_object(trimesh.creation.box()), device)
    query = Query(mesh, np.zeros((3, 3)))
    with pytest.raises(OptionError, match="slack"):
        find_closest_faces(mesh, query.at, 1.0, query.face_out, query.outward_out, slack=-1.0)
