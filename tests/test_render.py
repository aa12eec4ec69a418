"""Pictures: the rays hit what they should, the light is the formula's, the camera and the labels are right."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from matplotlib.image import imread

import warpgrasp
from warpgrasp import hands
from warpgrasp.errors import FileFormatError, OptionError
from warpgrasp.preview import OBJECT_LABEL, clearest_camera, closed_position, mean_tip_gap, preview, preview_hand
from warpgrasp.render import Camera, Part, Scene, Surface, corner_normals, linear, srgb, surface_distance

UP = np.array([0.0, 0.0, 1.0])


def surface(mesh: trimesh.Trimesh) -> Surface:
    return Surface(np.asarray(mesh.vertices, float), np.asarray(mesh.faces))


def ball(radius: float = 0.05, position: tuple[float, float, float] = (0.0, 0.0, 0.0), label: int = 0) -> Part:
    pose = np.eye(4)
    pose[:3, 3] = position
    return Part(surface(trimesh.creation.icosphere(subdivisions=4, radius=radius)), (0.8, 0.5, 0.2), pose, label)


def rays(camera: Camera, size: int) -> np.ndarray:
    """Direction through the centre of each pixel, float64, shape (row, column, 3)."""
    step = 2.0 * (np.arange(size) + 0.5) / size - 1.0
    local = np.stack(np.broadcast_arrays(camera.tangent * step, -camera.tangent * step[:, None], -1.0), axis=-1)
    direction = local @ camera.axes.T
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def image_coordinates(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Where points appear, the picture being [-1, 1] in both directions."""
    local = (points - camera.eye) @ camera.axes
    return local[:, :2] / (-local[:, 2:] * camera.tangent)


def test_framed_points_fill_the_picture(rng):
    points = rng.normal(size=(50, 3)) * [0.1, 0.2, 0.05]
    for toward_eye in rng.normal(size=(20, 3)):
        camera = Camera.framing(points, toward_eye, UP, margin=1.0)
        np.testing.assert_allclose(camera.axes.T @ camera.axes, np.eye(3), atol=1e-12)
        reach = np.abs(image_coordinates(camera, points)).max()
        assert 0.7 < reach <= 1.0 + 1e-9


def test_labels_match_ray_sphere_intersections(device):
    near, far = ball(0.03, (0.0, -0.1, 0.01), label=3), ball(0.05, label=5)
    scene = Scene([near, far], device=device)
    cameras = [Camera.framing(scene.vertices, np.array(d), UP) for d in ([0.1, -1.0, 0.2], [0.2, 1.0, 0.5])]
    label = scene.identify(cameras, 80)
    for camera, seen in zip(cameras, label, strict=True):
        expected, closest = np.full((80, 80), -1), np.full((80, 80), np.inf)
        for center, radius, name in (((0.0, -0.1, 0.01), 0.03, 3), ((0.0, 0.0, 0.0), 0.05, 5)):
            offset = camera.eye - center
            b = rays(camera, 80) @ offset
            root = b**2 - offset @ offset + radius**2
            t = np.where(root > 0.0, -b - np.sqrt(np.maximum(root, 0.0)), np.inf)
            expected[t < closest], closest = name, np.minimum(t, closest)
        assert (seen != expected).mean() < 0.01  # the ball is a polyhedron
        assert set(np.unique(seen)) == {-1, 3, 5}


def test_light_on_an_open_plane_is_the_formula(device):
    corners = np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
    color = np.array([0.5, 0.4, 0.3])
    plane = Part(Surface(corners, np.array([[0, 1, 2], [0, 2, 3]])), tuple(color.tolist()))
    camera = Camera(np.array([0.0, -5.0, 0.0]), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), 0.02)
    pixel = Scene([plane], device=device).render(camera, 8)[4, 4] / 255.0
    toward_light = np.array([-0.55, 0.75, 0.75]) / np.linalg.norm([-0.55, 0.75, 0.75])
    normal, toward_eye = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    half = (toward_light + toward_eye) / np.linalg.norm(toward_light + toward_eye)
    light = 0.42 + 0.16 + 0.62 * (toward_light @ normal)
    expected = linear(color) * light + 0.10 * (half @ normal) ** 40
    np.testing.assert_allclose(pixel, srgb(expected), atol=0.01)


def test_shadow_and_background(device):
    floor = Part(surface(trimesh.creation.box(extents=[0.4, 0.4, 0.01])), (0.6, 0.6, 0.6))
    camera = Camera(np.array([0.0, -0.01, 2.0]), np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), 0.2)
    bare = Scene([floor], device=device).render(camera, 64)
    shaded = Scene([floor, ball(0.04, (0.0, 0.0, 0.08))], device=device).render(camera, 64)
    assert bare[0, 0].min() > 225
    darker = bare.astype(int).sum(axis=2) - shaded.astype(int).sum(axis=2) > 60
    columns = np.nonzero(darker)[1]
    assert columns.mean() > 32  # the key light is on the left, so the shadow falls to the right
    np.testing.assert_array_equal(
        shaded, Scene([floor, ball(0.04, (0.0, 0.0, 0.08))], device=device).render(camera, 64)
    )


def test_corner_normals_are_smooth_on_a_sphere_and_sharp_on_a_box():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    normals = corner_normals(sphere.vertices, sphere.faces)
    np.testing.assert_allclose(normals, sphere.triangles, atol=0.02)
    apart = corner_normals(sphere.triangles.reshape(-1, 3), np.arange(3 * len(sphere.faces)).reshape(-1, 3))
    np.testing.assert_allclose(apart, normals, atol=1e-6)
    box = trimesh.creation.box()
    np.testing.assert_allclose(corner_normals(box.vertices, box.faces), np.repeat(box.face_normals[:, None], 3, axis=1))


def test_a_face_without_area_has_finite_normals():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert np.isfinite(corner_normals(vertices, np.array([[0, 1, 2]]))).all()


def test_color_curves_are_inverse():
    values = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(srgb(linear(values)), values, atol=1e-12)
    assert linear(np.array(0.5)) == pytest.approx(0.21404114)


def test_distance_to_a_sphere(device, rng):
    sphere = ball(1.0).surface
    points = rng.normal(size=(200, 3))
    distance = surface_distance(sphere.vertices, sphere.faces, points, reach=0.5, device=device)
    expected = np.minimum(np.abs(np.linalg.norm(points, axis=1) - 1.0), 0.5)
    np.testing.assert_allclose(distance, expected, atol=5e-3)


def test_the_camera_looks_past_a_wall():
    wall = Part(surface(trimesh.creation.box(extents=[0.01, 0.4, 0.4])), (0.5, 0.5, 0.5), label=1)
    pose = np.eye(4)
    pose[0, 3] = 0.1
    scene = Scene([ball(0.05), Part(wall.surface, wall.color, pose, 1)], device="cpu")
    camera = clearest_camera(scene)
    assert camera.eye[0] < 0.1
    assert (scene.identify([camera], 48) == OBJECT_LABEL).sum() > 20


@pytest.mark.parametrize("name", hands.names())
def test_closed_position_is_possible_and_closed(name):
    hand = warpgrasp.load_hand(name)
    closed = closed_position(hand)
    free = closed[list(hand.free_joints)]
    assert (free >= hand.free_lower - 1e-9).all() and (free <= hand.free_upper + 1e-9).all()
    assert mean_tip_gap(hand, closed) < mean_tip_gap(hand, hand.open_position) - 0.003


@pytest.fixture(scope="module")
def grasps() -> warpgrasp.Grasps:
    box = trimesh.creation.box(extents=[0.05, 0.06, 0.07])
    return warpgrasp.synthesize("barrett", box, count=3, iterations=5, points=64, device="cpu")


def test_preview_draws_a_grid(grasps, tmp_path):
    preview(grasps, tmp_path / "grasps.png", count=2, size=96, device="cpu")
    picture = imread(tmp_path / "grasps.png")
    assert picture.shape[:2] == (96 + 44, 2 * 96)
    orange = (picture[:96, :, 0] > 0.5) & (picture[:96, :, 2] < 0.4)
    assert orange.mean() > 0.02


def test_preview_of_a_hand(tmp_path):
    preview_hand(warpgrasp.load_hand("panda"), tmp_path / "hand.png", size=64, device="cpu")
    picture = imread(tmp_path / "hand.png")
    assert picture.shape[:2] == (2 * (64 + 26) + 26, 3 * 64)
    red = (picture[..., 0] > 0.5) & (picture[..., 1] < 0.3) & (picture[..., 2] < 0.3)
    assert red.any()


def test_preview_says_what_is_wrong(grasps, tmp_path):
    with pytest.raises(FileFormatError, match=r"ends in \.png"):
        preview(grasps, tmp_path / "grasps.jpg")
    with pytest.raises(OptionError, match="no grasp to draw"):
        preview(grasps[:0], tmp_path / "grasps.png")
