"""The Phong distance on surfaces made ready for it: how far from exact, with which gradients, and as printed."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from distance_query import Query, check_adjoint, check_gradient, points_around
from reference import central_difference, phong_point, printed_gradient

from warpgrasp import phong
from warpgrasp.distance import DeviceMesh, PhongMode
from warpgrasp.errors import OptionError
from warpgrasp.mesh import ObjectMesh, load_object
from warpgrasp.phong import phong_surface

ALPHA = 0.75
BOX = (0.1, 0.06, 0.02)
MESHES = {
    "box": trimesh.creation.box(extents=BOX),
    "ball": trimesh.creation.icosphere(subdivisions=2, radius=0.05),
    "drum": trimesh.creation.cylinder(radius=0.03, height=0.1, sections=12),
    "cone": trimesh.creation.cone(radius=0.03, height=0.1),
}
every_mesh = pytest.mark.parametrize("name", MESHES)
each_mode = pytest.mark.parametrize("mode", ["distance", "plane"])


def around(obj: ObjectMesh, rng: np.random.Generator, count: int) -> np.ndarray:
    """Points up to 20 mm off the surface, a quarter of them on it."""
    on = trimesh.sample.sample_surface(obj.trimesh(), count, seed=0)[0]
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return on + rng.uniform(0.0, 0.02, (count, 1)) * direction * (np.arange(count) % 4 > 0)[:, None]


def box_distance(points: np.ndarray) -> np.ndarray:
    """Signed distance to the box in closed form."""
    over = np.abs(points) - np.array(BOX) / 2.0
    return np.linalg.norm(np.maximum(over, 0.0), axis=1) + np.minimum(over.max(axis=1), 0.0)


# ---- accuracy


@each_mode
def test_a_box_stays_a_box(mode, rng, device):
    obj = load_object(MESHES["box"])
    query = Query(DeviceMesh(obj, device, phong_alpha=ALPHA), around(obj, rng, 20_000))
    assert np.abs(query.evaluate(ALPHA, mode)[0] - box_distance(query.points)).max() < 3e-4
    assert len(query.triangles) == 12, "flat faces need no subdivision"


@each_mode
def test_an_unprepared_box_bulges_by_centimetres(mode, rng, device):
    obj = load_object(MESHES["box"])
    query = Query(DeviceMesh(obj, device), around(obj, rng, 2000))
    assert np.abs(query.evaluate(ALPHA, mode)[0] - box_distance(query.points)).max() > 0.01


@each_mode
@pytest.mark.parametrize("file", ["ycb/025_mug.obj", "ycb/035_power_drill.obj"])
def test_real_objects_stay_within_a_third_of_a_millimetre(file, mode, shared, rng, device):
    obj = load_object(shared / "objects" / file)
    points = around(obj, rng, 20_000)
    exact = Query(DeviceMesh(obj, device), points).evaluate()[0]
    query = Query(DeviceMesh(obj, device, phong_alpha=ALPHA), points)
    np.testing.assert_allclose(query.evaluate()[0], exact, atol=1e-6)
    curved = query.evaluate(ALPHA, mode)[0]
    assert 1e-5 < np.abs(curved - exact).max() < 3e-4


@every_mesh
def test_the_surface_bulges_no_further_than_it_says(name, rng):
    surface = phong_surface(load_object(MESHES[name]), ALPHA)
    triangles, normals = surface.obj.vertices[surface.obj.faces], surface.corner_normals
    lift = 0.0
    for face in rng.choice(len(triangles), 200):
        for weight in (*rng.dirichlet([1.0, 1.0, 1.0], 3), np.full(3, 1 / 3), np.array([0.5, 0.5, 0.0])):
            curved = phong_point(weight, triangles[face], normals[face], ALPHA)
            lift = max(lift, float(np.linalg.norm(curved - weight @ triangles[face])))
    assert lift <= surface.bulge + 1e-12 and surface.bulge <= phong.BULGE
    assert lift > 0.3 * surface.bulge


# ---- the surface


@every_mesh
def test_subdivision_keeps_the_surface(name):
    obj = load_object(MESHES[name])
    surface = phong_surface(obj, ALPHA)
    before, after = obj.trimesh(), surface.obj.trimesh()
    assert after.is_watertight and after.is_winding_consistent
    np.testing.assert_allclose([after.area, after.volume], [before.area, before.volume], rtol=1e-9)
    lengths = np.linalg.norm(surface.corner_normals, axis=-1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-9)


def test_normals_part_at_creases_only():
    box = phong_surface(load_object(MESHES["box"]), ALPHA)
    np.testing.assert_allclose(box.corner_normals, np.repeat(box.obj.trimesh().face_normals[:, None], 3, 1), atol=1e-9)
    ball = phong_surface(load_object(MESHES["ball"]), ALPHA)
    np.testing.assert_allclose(ball.corner_normals[ball.obj.faces == 0], [ball.obj.vertex_normals[0]] * 5, atol=1e-9)
    drum = phong_surface(load_object(MESHES["drum"]), ALPHA)
    assert set(np.round(np.abs(drum.corner_normals[..., 2]), 9).ravel()) == {0.0, 1.0}, "lid and wall share no normal"


def test_the_tip_of_a_cone_has_a_normal_for_each_face():
    cone = phong_surface(load_object(MESHES["cone"]), ALPHA)
    facing = (cone.corner_normals * cone.obj.trimesh().face_normals[:, None]).sum(axis=-1)
    assert facing.min() > np.cos(phong.CREASE_ANGLE)


def test_the_number_of_faces_is_bounded(monkeypatch):
    obj = load_object(trimesh.creation.icosphere(subdivisions=1, radius=1.0))
    monkeypatch.setattr(phong, "FACE_LIMIT", 5000)
    surface = phong_surface(obj, ALPHA)
    assert 4990 < len(surface.obj.faces) <= 5000
    assert surface.obj.trimesh().is_watertight
    assert phong.BULGE < surface.bulge < 0.01
    assert DeviceMesh(obj, "cpu", phong_alpha=ALPHA).bulge == surface.bulge


def test_without_phong_the_mesh_is_untouched():
    obj = load_object(MESHES["ball"])
    mesh = DeviceMesh(obj, "cpu")
    np.testing.assert_array_equal(mesh.indices.numpy(), obj.faces.ravel())
    np.testing.assert_array_equal(mesh.corner_normals.numpy(), obj.vertex_normals[obj.faces].astype(np.float32))
    assert mesh.bulge == 0.0


def test_a_bad_share_is_named():
    with pytest.raises(OptionError, match=r"phong_alpha must be in \[0, 1\], got 1.5"):
        DeviceMesh(load_object(MESHES["ball"]), "cpu", phong_alpha=1.5)


# ---- gradients on the subdivided surface


@pytest.mark.parametrize("name", ["box", "drum", "ball"])
@each_mode
def test_gradient_and_adjoint_match_finite_difference(name, mode, rng, device):
    mesh = DeviceMesh(load_object(MESHES[name]), device, phong_alpha=ALPHA)
    query = Query(mesh, points_around(MESHES[name], rng, 60, spread=0.003))
    smooth = query.smooth(ALPHA)
    assert len(smooth) > 17
    np.testing.assert_allclose(
        query.evaluate(ALPHA, mode)[0],
        [query.value(i, ALPHA, mode)(p) for i, p in enumerate(query.points)],
        rtol=1e-5,
        atol=1e-8,
    )
    check_gradient(query, smooth, ALPHA, mode)
    check_adjoint(query, smooth, ALPHA, mode, rng)


def test_normals_turn_steadily_near_the_surface(rng, device):
    """The gradient of "plane" neither turns back nor loses its length where a point passes through the surface."""
    obj = load_object(MESHES["ball"])
    points = trimesh.sample.sample_surface(obj.trimesh(), 2000, seed=0)[0]
    points = points + rng.normal(scale=2e-4, size=points.shape)
    query = Query(DeviceMesh(obj, device, phong_alpha=ALPHA), points)
    out = points / np.linalg.norm(points, axis=1, keepdims=True)
    distance, plane = ((query.evaluate(ALPHA, mode)[1] * out).sum(axis=1) for mode in ("distance", "plane"))
    assert 0.9 < plane.min() and plane.max() < 1.1
    assert distance.min() < 0.5


# ---- as printed


@pytest.mark.parametrize("name", ["ball", "box", "drum"])
@pytest.mark.parametrize("prepared", [0.0, ALPHA])
def test_printed_gradient_and_its_adjoint_match_the_reference(name, prepared, rng, device):
    """The printed gradient is not the derivative of the printed value, and its adjoint is that of what is computed."""
    mesh = DeviceMesh(load_object(MESHES[name]), device, phong_alpha=prepared)
    query = Query(mesh, points_around(MESHES[name], rng, 60))
    u, t = rng.normal(size=60), rng.normal(size=(60, 3))
    gradient, adjoint = query.evaluate(ALPHA, "printed")[1], query.evaluate_adjoint(u, t, ALPHA, "printed")
    smooth = query.smooth(ALPHA)
    assert len(smooth) > 17
    for i in smooth:
        value, face = query.value(i, ALPHA, "printed"), query.face[i]

        def printed(x: np.ndarray, i=i, face=face) -> np.ndarray:
            return printed_gradient(x, query.triangles[face], query.normals[face], ALPHA, query.side[i])

        def loss(x: np.ndarray, value=value, printed=printed, i=i) -> float:
            return u[i] * value(x) + t[i] @ printed(x)

        np.testing.assert_allclose(gradient[i], printed(query.points[i]), atol=1e-4)
        expected = central_difference(loss, query.points[i])
        # rounding of t - n n.t, over |d|
        noise = 1e-6 / abs(value(query.points[i]))
        np.testing.assert_allclose(adjoint[i], expected, rtol=1e-3, atol=1e-3 * float(np.linalg.norm(expected)) + noise)


def test_the_printed_sign_reverses_normals_near_the_surface(rng, device):
    """And the interpolated normal does not."""
    obj = load_object(trimesh.creation.icosphere(subdivisions=2, radius=0.05))
    points = trimesh.sample.sample_surface(obj.trimesh(), 4000, seed=0)[0] + rng.normal(scale=4e-4, size=(4000, 3))
    query = Query(DeviceMesh(obj, device), points)

    def reversed_share(mode: PhongMode) -> float:
        gradient = query.evaluate(ALPHA, mode)[1]
        return float(((gradient * points).sum(axis=1) < 0.0).mean())

    assert reversed_share("printed") > 0.25
    assert reversed_share("distance") < 0.01
    assert reversed_share("plane") == 0.0


def test_a_coarse_ball_as_it_is_becomes_rounder(rng, device):
    direction = rng.normal(size=(500, 3))
    points = 0.05 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    query = Query(DeviceMesh(load_object(MESHES["ball"]), device), points)
    flat, curved = (np.abs(query.evaluate(alpha)[0]).mean() for alpha in (0.0, ALPHA))
    assert curved < 0.5 * flat
