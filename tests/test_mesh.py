"""Loading, repairing and measuring object meshes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from trimesh.remesh import subdivide_to_size

from warpgrasp.errors import MeshError, OptionError
from warpgrasp.mesh import ObjectMesh, load_object


def ball(radius: float = 0.05, subdivisions: int = 2) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def box(*extents: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=extents, transform=trimesh.transformations.translation_matrix(at))


def lathe(*profile: tuple[float, float]) -> trimesh.Trimesh:
    """Surface of revolution about z of a line through (radius, height)."""
    # in centimetres, because revolve() drops faces that are small in absolute terms
    surface = trimesh.creation.revolve(100.0 * np.array(profile), sections=400)
    surface.apply_scale(0.01)
    return surface


def box_inertia(x: float, y: float, z: float) -> np.ndarray:
    return np.diag([y * y + z * z, x * x + z * z, x * x + y * y]) / 12.0


# ---- files


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply", "off", "glb"])
def test_every_format_gives_the_same_object(suffix, tmp_path):
    path = tmp_path / f"ball.{suffix}"
    ball().export(path)
    obj = load_object(str(path))
    assert (obj.name, obj.path, obj.watertight, obj.sign_method) == ("ball", path, True, "normal")
    assert obj.vertices.shape == ball().vertices.shape
    assert obj.volume == pytest.approx(ball().volume, rel=1e-5)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_text_and_binary_ply(encoding, tmp_path):
    path = tmp_path / "ball.ply"
    ball().export(path, encoding=encoding)
    assert load_object(path).watertight


def test_parts_of_a_glb_scene_are_joined_where_the_scene_places_them(tmp_path):
    scene = trimesh.Scene()
    for x in (-0.1, 0.1):
        scene.add_geometry(box(0.02, 0.04, 0.06), transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    scene.export(tmp_path / "two.glb")
    obj = load_object(tmp_path / "two.glb")
    np.testing.assert_allclose(obj.extents, [0.22, 0.04, 0.06], atol=1e-7)
    assert (obj.body_count, obj.sign_method, obj.watertight) == (2, "winding", True)


def test_missing_material_and_quads_do_not_matter(tmp_path):
    corners = [(x, y, z) for x in (0, 0.1) for y in (0, 0.1) for z in (0, 0.1)]
    quads = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
    lines = ["mtllib not_here.mtl", *(f"v {x} {y} {z}" for x, y, z in corners), "usemtl red"]
    (tmp_path / "cube.obj").write_text("\n".join([*lines, *("f {} {} {} {}".format(*quad) for quad in quads)]))
    obj = load_object(tmp_path / "cube.obj")
    assert obj.faces.shape == (12, 3)
    assert obj.volume == pytest.approx(1e-3)


BAD_FILES = {
    "folder.obj": (None, "is a folder; pass the path of a mesh file"),
    "step.step": (b"ISO-10303-21;", r"unknown mesh format '.step'; readable are .obj, .stl, .ply, .off, .glb"),
    "empty.obj": (b"", "the file is empty"),
    "page.stl": (b"\n<!DOCTYPE html>\n<html>", "is a web page"),
    "lfs.glb": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "0 faces; a surface of triangles is needed"),
    "noise.glb": (b"glTF" + bytes(range(200)), "cannot be read as GLB"),
    "noise.ply": (b"ply\nformat none\n", "cannot be read as PLY"),
    "nan.obj": (b"v 0 0 0\nv nan 0 0\nv 0 0.1 0\nf 1 2 3\n", "1 vertices that are not finite"),
    "inf.off": (b"OFF\n3 1 0\n0 0 0\ninf 0 0\n0 1 0\n3 0 1 2\n", "1 vertices that are not finite"),
    "line.obj": (b"v 0 0 0\nv 0.1 0 0\nv 0.2 0 0\nf 1 2 3\n", "no face with an area"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_a_reason(name, tmp_path):
    content, message = BAD_FILES[name]
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(MeshError, match=message) as caught:
        load_object(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(MeshError, match=r"nowhere.obj: no such file"):
        load_object("nowhere.obj")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.stl"
    with path.open("wb") as file:
        file.truncate(300 * 1024**2)
    with pytest.raises(MeshError, match="is 315 MB, more than 268 MB; simplify it first"):
        load_object(path)


def test_a_wrong_type_is_refused():
    with pytest.raises(MeshError, match=r"expected a path, a trimesh\.Trimesh or an ObjectMesh, got"):
        load_object(3)  # pyright: ignore[reportArgumentType]


def test_importing_the_module_loads_neither_warp_nor_trimesh():
    code = "import sys, warpgrasp.mesh; sys.exit(bool({'warp', 'trimesh', 'torch', 'scipy'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# ---- size


@pytest.mark.parametrize(
    ("length", "scale", "message"),
    [
        (100.0, 1.0, r"is 100 m long, more than 2 m; looks like millimetres: pass scale=0.001"),
        (100.0, 2.0, r"is 200 m long, more than 2 m; looks like millimetres: pass scale=0.002"),
        (3.0, 1.0, r"is 3 m long, more than 2 m; looks like centimetres: pass scale=0.01"),
        (0.001, 1.0, r"is 1 mm long, less than 5 mm; .* \(scale=100 makes it 0.1 m long\)"),
    ],
)
def test_a_size_that_is_not_in_metres_is_refused(length, scale, message):
    with pytest.raises(MeshError, match=message):
        load_object(box(length, length / 2, length / 2), scale=scale)


def test_an_object_far_from_its_origin_is_refused():
    with pytest.raises(MeshError, match="lies 1000 m from its origin"):
        load_object(box(0.1, 0.1, 0.1, at=(1000.0, 0.0, 0.0)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_must_be_positive(scale):
    with pytest.raises(OptionError, match="scale must be a positive number, got"):
        load_object(ball(), scale=scale)


def test_scale_is_applied_once():
    obj = load_object(box(100.0, 50.0, 20.0), scale=0.001, name="brick")
    np.testing.assert_allclose(obj.extents, [0.1, 0.05, 0.02])
    assert load_object(obj) is obj
    assert load_object(obj, name="other").name == "other"
    np.testing.assert_allclose(load_object(obj, scale=2.0).extents, [0.2, 0.1, 0.04])


# ---- repair


def joined(*parts: trimesh.Trimesh) -> trimesh.Trimesh:
    vertices = np.concatenate([part.vertices for part in parts])
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    return trimesh.Trimesh(vertices, faces, process=False)


def soup(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3), process=False)


def test_coincident_vertices_are_merged():
    obj = load_object(soup(ball()))
    assert obj.watertight and obj.sign_method == "normal"
    assert obj.repairs == (f"merged {3 * len(ball().faces) - len(ball().vertices)} coincident vertices",)


def test_degenerate_and_repeated_faces_and_loose_vertices_are_dropped():
    sphere = ball()
    faces = np.concatenate([sphere.faces, np.roll(sphere.faces[:2], 1, axis=1), [[5, 5, 6]]])
    vertices = np.concatenate([sphere.vertices, [[9.0, 9.0, 9.0], [np.nan, 0.0, 0.0]]])
    obj = load_object(trimesh.Trimesh(vertices, faces, process=False))
    assert obj.watertight and len(obj.faces) == len(sphere.faces) and len(obj.vertices) == len(sphere.vertices)
    assert obj.repairs == ("dropped 3 faces that were degenerate or repeated",)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_flipped_faces_are_turned_outward(share, rng):
    sphere = ball()
    flip = rng.random(len(sphere.faces)) < share
    faces = np.where(flip[:, None], sphere.faces[:, ::-1], sphere.faces)
    obj = load_object(trimesh.Trimesh(sphere.vertices, faces, process=False))
    assert obj.sign_method == "normal"
    assert obj.volume == pytest.approx(sphere.volume)
    assert (np.einsum("vi,vi->v", obj.vertex_normals, obj.vertices) > 0.0).all()


def test_each_body_is_turned_outward_but_a_cavity_stays():
    left, right, hollow = box(0.1, 0.1, 0.1), box(0.1, 0.1, 0.1, at=(0.2, 0.0, 0.0)), box(0.05, 0.05, 0.05)
    for inward in (left, hollow):
        inward.invert()
    two = load_object(joined(left, right))
    assert (two.body_count, two.volume) == (2, pytest.approx(2e-3))
    left.invert()
    shell = load_object(joined(left, hollow))
    assert shell.volume == pytest.approx(1e-3 - 1.25e-4)
    left.invert()
    hollow.invert()
    inverted = load_object(joined(left, hollow))
    assert inverted.volume == pytest.approx(shell.volume)


def test_an_open_mesh_is_reported_and_turned_outward():
    sphere = ball(subdivisions=3)
    opened = trimesh.Trimesh(sphere.vertices, sphere.faces[10:, ::-1], process=False)
    obj = load_object(opened)
    assert (obj.watertight, obj.sign_method, obj.mass_model) == (False, "winding", "solid")
    assert (np.einsum("vi,vi->v", obj.vertex_normals, obj.vertices) > 0.0).all()
    assert obj.volume == pytest.approx(sphere.volume, rel=1e-2)


def test_vertex_normals_do_not_depend_on_the_triangulation():
    obj = load_object(box(0.1, 0.06, 0.02))
    np.testing.assert_allclose(obj.vertex_normals, np.sign(obj.vertices) / np.sqrt(3.0), atol=1e-12)


def test_edge_normals_are_the_mean_of_two_faces():
    obj = load_object(box(0.1, 0.06, 0.02))
    corners = obj.vertices[obj.faces]
    middle = (corners + np.roll(corners, -1, axis=1)) / obj.extents
    expected = np.sign(np.round(middle, 6)) * (np.abs(middle) > 0.9)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(obj.edge_normals, expected, atol=1e-12)


def test_content_hash_follows_the_geometry(tmp_path):
    ball().export(tmp_path / "ball.ply")
    first, again = load_object(ball(), name="a"), load_object(ball(), name="b")
    assert first.content_hash == again.content_hash and len(first.content_hash) == 64
    assert first.content_hash != load_object(ball(), scale=1.001).content_hash


def test_trimesh_gives_the_same_surface():
    obj = load_object(ball())
    assert obj.trimesh().is_watertight and obj.trimesh().volume == pytest.approx(obj.volume)


# ---- mass


def check_mass(obj: ObjectMesh, volume: float, center: list[float], inertia: np.ndarray, rtol: float) -> None:
    size = obj.extents.max()
    assert obj.volume == pytest.approx(volume, rel=rtol)
    np.testing.assert_allclose(obj.center_of_mass, center, atol=rtol * size)
    np.testing.assert_allclose(obj.inertia, inertia, rtol=rtol, atol=rtol * size**2 / 12.0)


def test_mass_of_a_solid_sphere():
    obj = load_object(ball(0.05, subdivisions=5))
    check_mass(obj, 4 / 3 * np.pi * 0.05**3, [0, 0, 0], 0.4 * 0.05**2 * np.eye(3), rtol=1e-3)
    assert obj.radius_of_gyration == pytest.approx(0.05 * np.sqrt(0.4), rel=1e-3)


def test_mass_of_a_box_away_from_the_origin():
    obj = load_object(box(0.1, 0.06, 0.02, at=(0.3, -0.2, 0.1)))
    check_mass(obj, 0.1 * 0.06 * 0.02, [0.3, -0.2, 0.1], box_inertia(0.1, 0.06, 0.02), rtol=1e-9)


def test_inertia_is_in_the_axes_of_the_mesh():
    turn = trimesh.transformations.euler_matrix(0.3, -0.5, 0.7)
    tilted = box(0.1, 0.06, 0.02)
    tilted.apply_transform(turn)
    rotation = turn[:3, :3]
    expected = rotation @ box_inertia(0.1, 0.06, 0.02) @ rotation.T
    np.testing.assert_allclose(load_object(tilted).inertia, expected, atol=1e-12)


def test_mass_of_an_open_hemisphere_is_that_of_a_shell():
    radius, angle = 0.05, np.linspace(0.0, np.pi / 2, 200)
    obj = load_object(lathe(*zip(radius * np.sin(angle), radius * np.cos(angle), strict=True)))
    assert (obj.mass_model, obj.watertight) == ("shell", False)
    inertia = radius**2 * np.diag([5 / 12, 5 / 12, 2 / 3])
    check_mass(obj, 2 * np.pi * radius**2 * 0.002, [0, 0, radius / 2], inertia, rtol=1e-3)


def cylinder_moments(radius: float, low: float, high: float) -> tuple[float, float, float, float]:
    """Volume, and integrals of z, z² and x² over an upright cylinder."""
    area = np.pi * radius**2
    return (
        area * (high - low),
        area * (high**2 - low**2) / 2,
        area * (high**3 - low**3) / 3,
        np.pi * radius**4 / 4 * (high - low),
    )


def test_mass_of_a_cup_with_a_wall():
    cup = lathe((0.0, 0.0), (0.04, 0.0), (0.04, 0.1), (0.036, 0.1), (0.036, 0.005), (0.0, 0.005))
    volume, z, zz, xx = np.subtract(cylinder_moments(0.04, 0.0, 0.1), cylinder_moments(0.036, 0.005, 0.1)).tolist()
    center = z / volume
    across = (xx + zz) / volume - center**2
    obj = load_object(cup)
    assert (obj.watertight, obj.sign_method) == (True, "normal")
    check_mass(obj, volume, [0, 0, center], np.diag([across, across, 2 * xx / volume]), rtol=1e-3)


def test_bodies_that_overlap_count_once():
    cross = joined(box(0.1, 0.04, 0.04), box(0.04, 0.1, 0.04))
    obj = load_object(cross)
    bar, core = 0.1 * 0.04 * 0.04, 0.04**3
    volume = 2 * bar - core
    inertia = bar * (box_inertia(0.1, 0.04, 0.04) + box_inertia(0.04, 0.1, 0.04)) - core * box_inertia(0.04, 0.04, 0.04)
    assert (obj.body_count, obj.watertight) == (2, True)
    check_mass(obj, volume, [0, 0, 0], inertia / volume, rtol=5e-3)


def test_one_body_that_overlaps_itself_gets_the_winding_number():
    """A square bar bent into a ring whose ends run through each other."""
    bar = box(2.0 * np.pi * 1.1, 0.01, 0.01)
    vertices, faces = subdivide_to_size(bar.vertices, bar.faces, max_edge=0.2)[:2]
    angle, offset, height = vertices.T
    ring = np.stack([(0.04 + offset) * np.cos(angle), (0.04 + offset) * np.sin(angle), height + 0.0005 * angle], axis=1)
    obj = load_object(trimesh.Trimesh(ring, faces))
    assert (obj.watertight, obj.body_count, obj.sign_method) == (True, 1, "winding")
    full_turn = 2.0 * np.pi * 0.04 * 0.01**2
    assert obj.volume == pytest.approx(full_turn * (1.0 + 0.1 * 0.0005 * 2.0 * np.pi / 0.01), rel=1e-2)


def test_a_two_sided_sheet_is_a_shell():
    corners = [[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]]
    sheet = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]], process=False)
    obj = load_object(sheet)
    assert (obj.mass_model, obj.sign_method) == ("shell", "winding")
    np.testing.assert_allclose(obj.inertia, box_inertia(0.1, 0.1, 0.0), atol=1e-12)
