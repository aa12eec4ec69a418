"""What an object touches with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.physics import object_model, scene
from warpgrasp.physics.merge import merge_pieces
from warpgrasp.physics.protocols import DGN6, FC6

TURN = rotation.matrix(np.array([0.01, 0.02, -0.03]), rotation.quaternion_from_rpy(np.array([0.3, 0.5, 0.7])))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has an empty cache of its own."""
    monkeypatch.setenv("WARPGRASP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def turned(mesh):
    mesh.apply_transform(TURN)
    return warpgrasp.load_object(mesh)


@pytest.mark.parametrize(
    ("kind", "mesh", "size"),
    [
        ("box", trimesh.creation.box((0.02, 0.04, 0.06)), [0.01, 0.02, 0.03]),
        ("box", trimesh.creation.box((0.04, 0.04, 0.04)).subdivide(), [0.02, 0.02, 0.02]),
        ("sphere", trimesh.creation.icosphere(3, 0.03), [0.03]),
        ("cylinder", trimesh.creation.cylinder(0.02, 0.1, sections=64), [0.02, 0.05]),
    ],
)
def test_primitives_stay_primitives(kind, mesh, size):
    shape = object_model.object_shape(turned(mesh.copy()))
    if kind == "box" and len(mesh.vertices) > 8:
        kind, size = "pieces", []
    assert shape.kind == kind
    np.testing.assert_allclose(np.sort(shape.size), np.sort(size), rtol=2e-3)


def test_a_cone_or_a_capsule_is_its_hull():
    for mesh in (trimesh.creation.cone(0.03, 0.06), trimesh.creation.capsule(0.05, 0.02)):
        shape = object_model.object_shape(warpgrasp.load_object(mesh))
        assert (shape.kind, len(shape.pieces)) == ("pieces", 1)


@pytest.mark.parametrize("kind", ["box", "cylinder"])
def test_a_primitive_lies_where_the_mesh_does(kind):
    create = {"box": trimesh.creation.box((0.02, 0.04, 0.06)), "cylinder": trimesh.creation.cylinder(0.02, 0.06)}
    obj = turned(create[kind].copy())
    hand = warpgrasp.load_hand("panda")
    model = scene.compile_scene(scene.scene_spec(hand, obj, object_model.object_shape(obj), FC6), FC6)
    geom = model.geom(f"{object_model.OBJECT} 0")
    turn = rotation.matrix_from_quaternion(geom.quat)
    corner = (obj.vertices - obj.center_of_mass - geom.pos) @ turn
    assert (np.abs(corner).max(axis=0) <= model.geom_aabb[geom.id, 3:] * 1.01 + 1e-6).all()
    assert model.body(object_model.OBJECT).mass[0] == pytest.approx(0.1)


def bracket():
    """An L of two boxes as one surface."""
    outline = np.array([[0, 0], [0.06, 0], [0.06, 0.02], [0.02, 0.02], [0.02, 0.06], [0, 0.06]])
    corners = np.concatenate([np.c_[outline, np.zeros(6)], np.c_[outline, np.full(6, 0.03)]])
    sides = [[i, (i + 1) % 6, 6 + i] for i in range(6)] + [[(i + 1) % 6, 6 + (i + 1) % 6, 6 + i] for i in range(6)]
    caps = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]])
    return warpgrasp.load_object(
        trimesh.Trimesh(corners, np.concatenate([sides, caps[:, ::-1], caps + 6])), name="bracket"
    )


def test_concave_objects_are_cut_once_and_kept(cache, monkeypatch):
    pytest.importorskip("coacd")
    obj = bracket()
    first = object_model.object_shape(obj)
    volume = sum(trimesh.PointCloud(piece).convex_hull.volume for piece in first.pieces)
    assert len(first.pieces) >= 2
    assert volume == pytest.approx(obj.volume, rel=0.05)
    assert len(list(cache.rglob("*.npz"))) == 1
    assert not list(cache.rglob("*.tmp"))
    monkeypatch.setattr(object_model, "_cut", lambda *_: pytest.fail("cut again"))
    second = object_model.object_shape(obj)
    for a, b in zip(first.pieces, second.pieces, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pieces_are_joined_where_the_mesh_is_only_rough_and_kept_apart_where_it_is_hollow():
    """A bar cut into four is one bar again; an L stays two, since one hull would leave it by a centimetre."""
    bar = warpgrasp.load_object(trimesh.creation.box((0.08, 0.02, 0.02)))
    slices = tuple(
        trimesh.creation.box(bounds=[[x, -0.01, -0.01], [x + 0.02, 0.01, 0.01]]).vertices
        for x in (-0.04, -0.02, 0.0, 0.02)
    )
    (whole,) = merge_pieces(bar, slices, 1e-4)
    np.testing.assert_allclose(np.ptp(whole, axis=0), [0.08, 0.02, 0.02], atol=1e-9)
    arms = ([[0, 0, 0], [0.06, 0.02, 0.03]], [[0, 0.02, 0], [0.02, 0.06, 0.03]])
    boxes = tuple(np.asarray(trimesh.creation.box(bounds=arm).vertices) for arm in arms)
    assert len(merge_pieces(bracket(), boxes, 5e-3)) == 2
    assert len(merge_pieces(bracket(), boxes, 2e-2)) == 1


def test_a_damaged_cache_is_made_again(cache):
    pytest.importorskip("coacd")
    first = object_model.object_shape(bracket())
    file = next(cache.rglob("*.npz"))
    file.write_bytes(b"not an archive")
    assert len(object_model.object_shape(bracket()).pieces) == len(first.pieces)


def test_a_mesh_in_several_sizes_is_cut_once(cache, monkeypatch):
    pytest.importorskip("coacd")
    small = object_model.object_shape(bracket())
    monkeypatch.setattr(object_model, "_cut_closed", lambda *_: pytest.fail("it is cut again"))
    large = object_model.object_shape(warpgrasp.load_object(bracket(), scale=1.7))
    for a, b in zip(small.pieces, large.pieces, strict=True):
        np.testing.assert_allclose(1.7 * a, b, rtol=1e-12)
    moved = dataclasses.replace(bracket(), vertices=bracket().vertices + np.array([1e-5, 0.0, 0.0]))
    with pytest.raises(pytest.fail.Exception, match="cut again"):
        object_model.object_shape(moved)


def test_what_cannot_be_cut_is_its_hull_and_says_so(monkeypatch):
    pytest.importorskip("coacd")
    monkeypatch.setattr(object_model, "CUT_SECONDS", 1e-3)
    with pytest.warns(UserWarning, match="bracket is tested as its convex hull: CoACD did not finish"):
        shape = object_model.object_shape(bracket())
    assert len(shape.pieces) == 1
    assert "convex hull" in shape.note


def test_an_open_sheet_that_coacd_refuses_is_its_hull():
    pytest.importorskip("coacd")
    sheet = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.1, 0.1, 0.05]], [[0, 1, 2], [2, 1, 3]])
    obj = dataclasses.replace(warpgrasp.load_object(sheet), faces=np.zeros((0, 3), int))
    with pytest.raises(object_model.CutError, match="CoACD cannot cut it"):
        object_model.convex_pieces(obj)


def test_the_object_has_the_mass_of_the_protocol():
    obj = bracket()
    hand = warpgrasp.load_hand("panda")
    shape = object_model.ObjectShape("pieces", pieces=(obj.vertices,))
    model = scene.compile_scene(scene.scene_spec(hand, obj, shape, DGN6), DGN6)
    assert model.body(object_model.OBJECT).mass[0] == pytest.approx(500.0 * obj.volume)
    np.testing.assert_allclose(model.body(object_model.OBJECT).pos, obj.center_of_mass)
