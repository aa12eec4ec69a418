"""Geometry of grasps: against closed forms, manifold3d, and slow float64 NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import reference_grasp
import trimesh
import warp as wp
from random_hand import random_hand, random_shape, unit

import warpgrasp
from warpgrasp import collision, geometry, rotation
from warpgrasp import volume as volumes
from warpgrasp.geometry import (
    THRESHOLDS,
    contact_area,
    contact_consistency,
    finger_distance,
    links_in_contact,
    measure_geometry,
)
from warpgrasp.hand import Finger, Hand, Link, Palm, Shape
from warpgrasp.kernels import geometry as kernels
from warpgrasp.mesh import ObjectMesh, load_object
from warpgrasp.pose import Pose
from warpgrasp.self_collision import self_penetration
from warpgrasp.volume import intersection_volume

UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def rigid_hand(*links: tuple[Shape, ...]) -> Hand:
    """A hand of one link (the others are neighbours that no joint could hold) made of the given shapes."""
    parts = tuple(Link(f"l{i}", 0.1, np.zeros(3), np.eye(3), shapes) for i, shapes in enumerate(links))
    return Hand(
        name="rigid",
        path=Path("rigid.urdf"),
        links=parts,
        joints=(),
        frames={},
        mimics=(),
        couplings=(),
        fingers=(),
        pads=(),
        palm=Palm(0, np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        open_position=np.zeros(0),
        neighbours=frozenset(),
    )


def ball(radius: float = 0.03, position: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Shape:
    return Shape("sphere", np.array([radius]), np.array(position), UPRIGHT)


def box(half_extents: list[float], position: list[float]) -> Shape:
    return Shape("box", np.array(half_extents), np.array(position), UPRIGHT)


def wrists(position: list[list[float]] | np.ndarray, quaternion: np.ndarray | None = None) -> Pose:
    """Poses of a hand without joints."""
    position = np.asarray(position, float)
    turn = np.broadcast_to(UPRIGHT, (len(position), 4)) if quaternion is None else quaternion
    return Pose(position, turn, np.zeros((len(position), 0)))


def round_object(radius: float, subdivisions: int = 5) -> ObjectMesh:
    """A sphere whose triangles enclose the sphere's own volume."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return load_object(mesh.apply_scale((4.0 / 3.0 * np.pi * radius**3 / mesh.volume) ** (1.0 / 3.0)))


def lens(radius: float, distance: float) -> float:
    """Volume shared by two equal spheres [m³]."""
    return np.pi * (4.0 * radius + distance) * (2.0 * radius - distance) ** 2 / 12.0


def case(shared: Path, name: str) -> dict:
    cases = json.loads((shared / "facts" / "metric_cases.json").read_text(encoding="utf-8"))["cases"]
    return next(entry for entry in cases if entry["id"] == name)


def agrees(value: float, expected: dict) -> bool:
    scale = abs(expected["expected"]) if expected["tol_kind"] == "rel" else 1.0
    return abs(value - expected["expected"]) <= expected["tol"] * scale


# Contact area


def test_contact_areas_match_numpy(rng, device):
    distance = rng.uniform(-0.012, 0.012, (5, 40)).astype(np.float32).astype(float)
    area = rng.uniform(1e-6, 5e-6, 40).astype(np.float32).astype(float)
    limits = np.array(THRESHOLDS, np.float32).astype(float)
    band = [[area[np.abs(row) <= t].sum() for t in limits] for row in distance]
    inside = [[area[row <= t].sum() for t in limits] for row in distance]
    np.testing.assert_allclose(contact_area(distance, area, device=device), band, rtol=1e-12)
    np.testing.assert_allclose(contact_area(distance, area, inside_counted=True, device=device), inside, rtol=1e-12)


def test_a_sphere_on_a_plane_touches_with_its_zone(device):
    """A plane at distance t cuts a zone of area 2 pi R t off the sphere."""
    table = load_object(trimesh.creation.box(extents=(0.2, 0.2, 0.05)).apply_translation((0.0, 0.0, -0.025)))
    found = measure_geometry(rigid_hand((ball(),)), table, wrists([[0.0, 0.0, 0.03]]), device=device)
    expected = 2.0 * np.pi * 0.03 * np.array(THRESHOLDS)
    np.testing.assert_allclose(found.contact_area[0], expected, rtol=0.03)
    np.testing.assert_allclose(found.contact_area[0, 4:], expected[4:], rtol=0.01)
    np.testing.assert_array_equal(found.contact_area, found.contact_area_inside_counted)


def test_penetration_counts_only_where_it_should(device):
    """Pushed 8 mm in: the zone below 5 mm of depth is in one area and not in the other."""
    table = load_object(trimesh.creation.box(extents=(0.2, 0.2, 0.05)).apply_translation((0.0, 0.0, -0.025)))
    found = measure_geometry(
        rigid_hand((ball(),)), table, wrists([[0.0, 0.0, 0.022]]), thresholds=[0.005], device=device
    )
    assert found.contact_area[0, 0] == pytest.approx(2 * np.pi * 0.03 * 0.010, rel=0.01)
    assert found.contact_area_inside_counted[0, 0] == pytest.approx(2 * np.pi * 0.03 * 0.013, rel=0.01)
    assert found.hand_in_object_depth[0] == pytest.approx(0.008, abs=1e-4)


def test_reference_case_of_contact_area(shared, device):
    expected = case(shared, "ca_sphere_plane")
    table = load_object(trimesh.creation.box(extents=(0.2, 0.2, 0.1)).apply_translation((0.0, 0.0, -0.05)))
    found = measure_geometry(
        rigid_hand((ball(0.03),)),
        table,
        wrists([[0.0, 0.0, 0.03]]),
        thresholds=[expected["inputs"]["threshold"]],
        device=device,
    )
    assert agrees(found.contact_area[0, 0], expected)


def test_the_skin_lies_on_the_round_shapes(rng, device):
    """Points of the triangles move onto spheres, capsules and cylinders; those of boxes and meshes stay."""
    shapes = [random_shape(rng, kind) for kind in ("box", "sphere", "capsule", "cylinder", "mesh")]
    for shape in shapes:
        points = np.asarray(trimesh.sample.sample_surface(shape.trimesh(), 60, seed=1)[0])
        local = wp.array(points.astype(np.float32), dtype=wp.vec3, device=device)
        link = wp.zeros(len(points), dtype=int, device=device)
        geometry._put_onto_shapes(collision.pack([(shape,)], device), link, local)
        moved = local.numpy().astype(float)
        distance = np.array([reference_grasp.shape_distance(shape, p) for p in moved])
        np.testing.assert_allclose(distance, 0.0, atol=5e-9 if shape.kind != "mesh" else 1e-8)
        shift = np.linalg.norm(moved - points, axis=1).max()
        assert shift < 2e-8 if shape.kind in ("box", "mesh") else 1e-6 < shift < 3e-4


# Intersection volume


def test_lens_of_two_spheres_is_its_closed_form(device):
    volume = intersection_volume(
        rigid_hand((ball(),)), round_object(0.03), wrists([[0.05, 0, 0]]), voxel_size=2.5e-4, device=device
    )
    assert volume[0] == pytest.approx(lens(0.03, 0.05), rel=1e-3)


def test_lenses_of_many_spheres_agree_on_average(rng, device):
    """A 1 mm grid is off by half a percent in one place, by nothing over many."""
    direction = np.array([unit(rng, 3) for _ in range(60)])
    volume = intersection_volume(rigid_hand((ball(),)), round_object(0.03), wrists(0.05 * direction), device=device)
    np.testing.assert_allclose(volume, lens(0.03, 0.05), rtol=0.02)
    assert volume.mean() == pytest.approx(lens(0.03, 0.05), rel=1e-3)


@pytest.mark.parametrize("name", ["iv_spheres", "iv_boxes"])
def test_reference_cases_of_intersection_volume(name, shared, device):
    expected = case(shared, name)
    given = expected["inputs"]
    if name == "iv_spheres":
        obj, hand = round_object(given["sphere_a"]["r"]), rigid_hand((ball(given["sphere_b"]["r"]),))
        position = given["sphere_b"]["c"]
    else:
        (low, high), other = given["box_a"].values(), given["box_b"]
        mesh = trimesh.creation.box(bounds=[low, high])
        obj = load_object(mesh)
        low, high = np.array(other["min"]), np.array(other["max"])
        hand, position = rigid_hand((box(list((high - low) / 2), [0, 0, 0]),)), list((low + high) / 2)
    volume = intersection_volume(hand, obj, wrists([position]), device=device)
    assert agrees(volume[0], expected)


@pytest.mark.parametrize("kind", ["box", "sphere", "capsule", "cylinder", "mesh"])
def test_volumes_agree_with_manifold3d(kind, rng, device):
    pytest.importorskip("manifold3d")
    shape = random_shape(rng, kind)
    mesh = trimesh.creation.box(extents=(0.02, 0.03, 0.025))
    turn = np.array([unit(rng, 4) for _ in range(6)])
    pose = wrists(rng.uniform(-0.01, 0.01, (6, 3)), turn)
    volume = intersection_volume(rigid_hand((shape,)), load_object(mesh), pose, voxel_size=2.5e-4, device=device)
    for found, position, quaternion in zip(volume, pose.wrist_position, turn, strict=True):
        placed = reference_grasp.transform(position, reference_grasp.wxyz(quaternion))
        exact = trimesh.boolean.intersection([mesh, fine(shape).apply_transform(placed)], engine="manifold").volume
        assert found == pytest.approx(exact, rel=5e-3, abs=1e-9)


def fine(shape: Shape) -> trimesh.Trimesh:
    """The surface in the link frame with so many triangles that round shapes lose less than 0.1 % of their volume."""
    match shape.kind:
        case "sphere":
            surface = trimesh.creation.icosphere(subdivisions=5, radius=shape.size[0])
        case "capsule":
            surface = trimesh.creation.capsule(height=2.0 * shape.size[1], radius=shape.size[0], count=[128, 128])
            surface = surface.apply_translation(-surface.bounds.mean(axis=0)).convex_hull
        case "cylinder":
            surface = trimesh.creation.cylinder(radius=shape.size[0], height=2.0 * shape.size[1], sections=256)
        case _:
            return shape.trimesh()
    return surface.apply_transform(reference_grasp.transform(shape.position, reference_grasp.wxyz(shape.quaternion)))


def test_overlapping_shapes_count_once(device):
    """Three copies of one sphere, in two links, are one sphere."""
    obj, pose = round_object(0.03), wrists([[0.05, 0.0, 0.0]])
    one = intersection_volume(rigid_hand((ball(),)), obj, pose, device=device)
    many = intersection_volume(_linked([ball(), ball()], [ball()]), obj, Pose(*_one_joint(pose)), device=device)
    np.testing.assert_array_equal(one, many)


def _linked(first: list[Shape], second: list[Shape]) -> Hand:
    """Two links and a joint that does nothing at zero."""
    from warpgrasp.hand import Joint

    hand = rigid_hand(tuple(first), tuple(second))
    joint = Joint("j", "revolute", 0, np.zeros(3), UPRIGHT, np.array([0.0, 0.0, 1.0]), -1.0, 1.0)
    fields = {name: getattr(hand, name) for name in ("name", "path", "frames", "mimics", "couplings", "fingers")}
    return Hand(
        **fields,
        links=hand.links,
        joints=(joint,),
        pads=(),
        palm=hand.palm,
        open_position=np.zeros(1),
        neighbours=frozenset(),
    )


def _one_joint(pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pose.wrist_position, pose.wrist_quaternion, np.zeros((len(pose), 1))


def test_what_is_swallowed_counts_whole(device):
    """No surface shell: a sphere of 10 mm inside one of 30 mm shares all of itself."""
    volume = intersection_volume(rigid_hand((ball(0.01),)), round_object(0.03), wrists([[0.0, 0, 0]]), device=device)
    assert volume[0] == pytest.approx(4.0 / 3.0 * np.pi * 1e-6, rel=0.01)


def scattered(rng: np.random.Generator, count: int) -> tuple[Hand, Pose]:
    hand = random_hand(rng, 20)
    joints = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (count, hand.free_count)))
    turn = np.array([unit(rng, 4) for _ in range(count)])
    return hand, Pose(rng.uniform(-0.02, 0.02, (count, 3)), turn, joints)


def placed_links(hand: Hand, pose: Pose, grasp: int) -> np.ndarray:
    wrist = reference_grasp.transform(pose.wrist_position[grasp], reference_grasp.wxyz(pose.wrist_quaternion[grasp]))
    return reference_grasp.link_transforms(hand, wrist, hand.free_position(pose.joint_position[grasp]))


def hand_distance(hand: Hand, links: np.ndarray, point: np.ndarray) -> float:
    """Signed distance to the union of all shapes where it is negative."""
    return min(
        reference_grasp.shape_distance(shape, links[i][:3, :3].T @ (point - links[i][:3, 3]))
        for i, part in enumerate(hand.links)
        for shape in part.shapes
    )


def test_voxels_of_a_tree_match_numpy(rng, device):
    """Every voxel of the object's box, one after the other; those within rounding of a surface may go either way."""
    hand, pose = scattered(rng, 2)
    mesh = trimesh.creation.box(extents=(0.07, 0.09, 0.08))
    size = 0.006
    volume = intersection_volume(hand, load_object(mesh), pose, voxel_size=size, device=device)
    axes = [(np.arange(-20, 20) + 0.5) * size] * 3
    centers = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    centers = centers[(np.abs(centers) < mesh.extents / 2).all(axis=1)]
    for grasp in range(2):
        links = placed_links(hand, pose, grasp)
        distance = np.array([hand_distance(hand, links, c) for c in centers])
        assert (np.abs(distance) > 1e-7).all()
        assert round(volume[grasp] / size**3) == (distance < 0.0).sum() > 20


def test_chunks_and_batches_do_not_matter(rng, device, monkeypatch):
    hand, pose = scattered(rng, 5)
    obj = round_object(0.04, 3)
    whole = intersection_volume(hand, obj, pose, device=device)
    monkeypatch.setattr(volumes, "CELLS_AT_ONCE", 777)
    monkeypatch.setattr(volumes, "CPU_BATCH", 2)
    monkeypatch.setattr(volumes, "GPU_BATCH", 2)
    np.testing.assert_array_equal(intersection_volume(hand, obj, pose, voxel_size=0.001, device=device), whole)
    assert (whole > 0.0).all()


@pytest.mark.parametrize("voxel_size", [0.001, 0.0007])
def test_voxels_classified_beforehand_are_the_same(voxel_size, rng, device, monkeypatch):
    hand, pose = scattered(rng, 5)
    obj = load_object(round_object(0.02, 3).trimesh().apply_translation((0.0123, -0.004, 0.0007)))
    monkeypatch.setattr(volumes, "GRID_VOXELS_PER_GRASP", 0)
    searched = intersection_volume(hand, obj, pose, voxel_size=voxel_size, device=device)
    monkeypatch.setattr(volumes, "GRID_VOXELS_PER_GRASP", 10**6)
    monkeypatch.setattr(volumes, "CELLS_AT_ONCE", 9999)
    np.testing.assert_array_equal(intersection_volume(hand, obj, pose, voxel_size=voxel_size, device=device), searched)
    assert searched.max() > 0.0


def test_a_hand_far_away_shares_nothing(device):
    pose = wrists([[5.0, 0.0, 0.0], [1e8, -1e8, 1e8], [0.0, 0.0, 0.0]])
    volume = intersection_volume(rigid_hand((ball(),)), round_object(0.03), pose, device=device)
    assert volume[:2].tolist() == [0.0, 0.0]
    assert volume[2] > 0.0


def test_a_surface_that_overlaps_itself_counts_once(device):
    """Two boxes that share half of themselves, in one mesh: inside is where the winding number says."""
    parts = [trimesh.creation.box(extents=(0.04, 0.04, 0.04)).apply_translation((x, 0, 0)) for x in (-0.01, 0.01)]
    obj = load_object(parts[0] + parts[1])
    volume = intersection_volume(rigid_hand((box([0.1, 0.1, 0.1], [0, 0, 0]),)), obj, wrists([[0.0, 0, 0]]))
    assert volume[0] == pytest.approx(0.06 * 0.04 * 0.04, rel=1e-3)


# Penetration


def test_reference_case_of_penetration_depth(shared, device):
    expected = case(shared, "pd_spheres")
    found = measure_geometry(rigid_hand((ball(),)), round_object(0.03), wrists([[0.05, 0.0, 0.0]]), device=device)
    assert agrees(found.object_in_hand_depth[0], expected)
    assert agrees(found.hand_in_object_depth[0], expected)


def test_a_corner_is_deep_in_the_hand_where_the_hand_is_not_in_it(device):
    """The two depths differ: a thin plate stands 10 mm deep in a ball whose skin is within 1 mm of the plate."""
    plate = load_object(trimesh.creation.box(extents=(0.002, 0.1, 0.1)))
    found = measure_geometry(rigid_hand((ball(),)), plate, wrists([[0.0, 0.0, 0.07]]), device=device)
    assert found.object_in_hand_depth[0] == pytest.approx(0.01, abs=2e-4)
    assert found.hand_in_object_depth[0] <= 0.001 + 1e-6


def test_self_penetration_is_at_least_that_of_points(rng, device):
    """To part two shapes takes at least the depth of any point of one in the other."""
    hand, pose = scattered(rng, 3)
    obj = round_object(0.02, 2)
    found = measure_geometry(hand, obj, pose, hand_points=600, device=device)
    assert (found.self_penetration_depth > 0.0).any()
    skin = geometry.Skin(hand, geometry.surface_points(hand, 600, even=False, device=device), device)
    owner, local = np.asarray(skin.point_link.numpy(), int), skin.point_local.numpy().astype(float)
    for grasp in range(3):
        links = np.asarray(placed_links(hand, pose, grasp))
        points = np.einsum("nij,nj->ni", links[owner][:, :3, :3], local) + links[owner][:, :3, 3]
        deepest = min(reference_grasp.link_distance(hand, links, p, o) for p, o in zip(points, owner, strict=True))
        assert -deepest - 1e-6 <= found.self_penetration_depth[grasp] < 0.05
    np.testing.assert_array_equal(found.self_penetration_depth, self_penetration(hand, pose.joint_position))


# Links


def test_nearest_points_match_numpy(rng, device):
    hand, pose = scattered(rng, 4)
    obj = round_object(0.03, 2)
    found = measure_geometry(hand, obj, pose, hand_points=200, device=device)
    skin = geometry.Skin(hand, geometry.surface_points(hand, 200, even=False, device=device), device)
    owner, local = np.asarray(skin.point_link.numpy(), int), skin.point_local.numpy().astype(float)
    triangles = obj.vertices[obj.faces]
    links = placed_links(hand, pose, 0)
    points = np.einsum("nij,nj->ni", links[owner][:, :3, :3], local) + links[owner][:, :3, 3]
    near = np.linalg.norm(points, axis=1) < 0.039
    distance = np.array(
        [reference_grasp.signed_distance(p, triangles) if n else np.inf for p, n in zip(points, near, strict=True)]
    )
    for link in range(len(hand.links)):
        least = distance[owner == link].min(initial=np.inf)
        if least < 0.008:
            assert found.contact_distance[0, link] == pytest.approx(least, abs=1e-6)
    close = found.contact_distance < 0.01
    assert close.sum() > 10
    normal, position = found.contact_normal[close], found.contact_position[close]
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=1e-5)
    on_surface = trimesh.proximity.closest_point(obj.trimesh(), position)[1]
    np.testing.assert_allclose(on_surface, 0.0, atol=1e-6)
    assert ((normal * -position).sum(axis=1) > 0.8 * np.linalg.norm(position, axis=1)).all(), "into the ball"


def test_patches_are_the_nearest_point_and_others_far_from_it(rng, device):
    hand, pose = scattered(rng, 4)
    obj = round_object(0.03, 2)
    found = measure_geometry(hand, obj, pose, hand_points=1000, patch_points=3, device=device)
    there = np.isfinite(found.patch_position[..., 0])
    touching = found.contact_distance <= geometry.CONTACT_DISTANCE
    np.testing.assert_array_equal(there.any(axis=2), touching)
    assert there.all(axis=2).sum() > 5
    np.testing.assert_allclose(found.patch_position[:, :, 0][touching], found.contact_position[touching], atol=1e-7)
    np.testing.assert_allclose(found.patch_normal[:, :, 0][touching], found.contact_normal[touching], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.patch_normal[there], axis=1), 1.0, rtol=1e-12)
    on_surface = trimesh.proximity.closest_point(obj.trimesh(), found.patch_position[there])[1]
    np.testing.assert_allclose(on_surface, 0.0, atol=1e-6)
    whole = measure_geometry(hand, obj, pose, hand_points=1000, patch_points=1000, device=device)
    for grasp, link in np.argwhere(there.all(axis=2)):
        every = whole.patch_position[grasp, link]
        every = every[np.isfinite(every[:, 0])]
        first, second, third = found.patch_position[grasp, link]
        apart = np.linalg.norm(every - first, axis=1)
        assert np.linalg.norm(second - first) == pytest.approx(apart.max(), abs=1e-9)
        apart = np.minimum(apart, np.linalg.norm(every - second, axis=1))
        nearest = min(np.linalg.norm(third - first), np.linalg.norm(third - second))
        assert nearest == pytest.approx(apart.max(), abs=1e-9)


def test_in_a_mirror_everything_is_the_same(rng, device):
    """A right hand about an object, and the left one about the mirrored object: other points, equal values."""
    right, left = warpgrasp.load_hand("shadow"), warpgrasp.load_hand("shadow_left")
    flip = np.array([-1.0, 1.0, 1.0])
    mesh = trimesh.creation.cylinder(radius=0.03, height=0.12, sections=48).apply_translation((0.004, 0.0, 0.01))
    mirrored = trimesh.Trimesh(mesh.vertices * flip, mesh.faces[:, ::-1], process=False)
    turn = np.array([unit(rng, 4) for _ in range(4)])
    bent = right.clamp(right.open_position + 0.1)[None].repeat(4, axis=0)
    frames = rotation.matrix_from_quaternion(turn)
    # the palm faces the object from a few centimetres away, each time from another side
    palm = right.link_transforms(bent[0])[right.palm.link]
    face = palm[:3, :3] @ right.palm.normal
    place = palm[:3, :3] @ right.palm.position + palm[:3, 3] + 0.03 * face
    position = -np.einsum("nij,j->ni", frames, place)
    here = Pose(position, turn, bent)
    flipped = rotation.quaternion_from_matrix(np.diag(flip) @ frames @ np.diag(flip))
    there = Pose(position * flip, flipped, bent)
    one = measure_geometry(right, load_object(mesh), here, patch_points=4, device=device)
    other = measure_geometry(left, load_object(mirrored), there, patch_points=4, device=device)
    assert one.hand_in_object_depth.max() > 0.002
    assert (one.contact_distance < 0.01).sum() > 20
    # within 2 mm a few hundred points make up the area
    np.testing.assert_allclose(one.contact_area[:, 2:], other.contact_area[:, 2:], rtol=0.04, atol=1e-4)
    # points are 2 mm apart, and depths of a pierced object have a ridge along its middle
    for name in ("hand_in_object_depth", "object_in_hand_depth", "self_penetration_depth"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0.03, atol=4e-4, err_msg=name)
    near = np.abs(one.contact_distance) < 0.01
    np.testing.assert_allclose(one.contact_distance[near], other.contact_distance[near], atol=9e-4)
    volume = intersection_volume(right, load_object(mesh), here, device=device)
    assert volume.max() > 1e-6
    np.testing.assert_allclose(
        volume, intersection_volume(left, load_object(mirrored), there, device=device), rtol=0.02, atol=1e-8
    )


def test_a_link_out_of_reach_has_no_distance(device):
    found = measure_geometry(rigid_hand((ball(),)), round_object(0.03), wrists([[0.5, 0, 0]]), device=device)
    assert found.contact_distance[0, 0] == np.inf
    assert found.contact_area.sum() == found.hand_in_object_depth[0] == found.object_in_hand_depth[0] == 0.0


def test_links_in_contact_counts_what_is_near_or_inside():
    distance = np.array([[0.001, 0.002, 0.0021, -0.004, np.inf], [np.inf, np.nan, 1.0, 0.1, 0.01]])
    assert links_in_contact(distance).tolist() == [3, 0]
    assert links_in_contact(distance, 0.01).tolist() == [4, 1]


def test_consistency_is_largest_minus_smallest():
    fingers = [Finger(name, (), links, np.zeros(3)) for name, links in (("a", (1, 2)), ("b", (3,)), ("c", ()))]
    distance = np.array([[-1.0, 0.003, -0.002, 0.001], [0.0, 0.02, np.inf, 0.03]])
    np.testing.assert_allclose(finger_distance(distance, fingers[:2]), [[-0.002, 0.001], [0.01, 0.01]])
    np.testing.assert_allclose(contact_consistency(distance, fingers[:2]), [0.003, 0.0])
    np.testing.assert_allclose(contact_consistency(distance, fingers), [0.012, 0.0], err_msg="no link: far away")
    assert np.isnan(contact_consistency(distance, [])).all()


# Everything


def test_least_values_are_never_positive(rng, device):
    value = rng.uniform(-1.0, 1.0, (3, 40)).astype(np.float32)
    value[1] = np.abs(value[1])
    least = wp.full(3, wp.inf, dtype=float, device=device)
    given = wp.array(value, dtype=float, device=device)
    wp.launch(kernels.least_values, dim=3, inputs=[given], outputs=[least], device=device)
    np.testing.assert_array_equal(least.numpy(), np.minimum(value.min(axis=1), 0.0))


def test_no_grasp_is_no_error(device):
    hand, obj = rigid_hand((ball(),)), round_object(0.03, 2)
    found = measure_geometry(hand, obj, wrists(np.zeros((0, 3))), device=device)
    assert found.contact_area.shape == (0, len(THRESHOLDS))
    assert found.contact_position.shape == (0, 1, 3)
    assert intersection_volume(hand, obj, wrists(np.zeros((0, 3))), device=device).shape == (0,)


def test_bad_options_say_what_would_work():
    hand, obj, pose = rigid_hand((ball(),)), round_object(0.03, 2), wrists([[0.0, 0.0, 0.0]])
    with pytest.raises(warpgrasp.OptionError, match=r"voxel_size must be in \[5e-05, 0.01\] \[m\], got 1"):
        intersection_volume(hand, obj, pose, voxel_size=1)
    with pytest.raises(warpgrasp.OptionError, match="thresholds must be distances of at least 0"):
        measure_geometry(hand, obj, pose, thresholds=[-0.001])
    with pytest.raises(warpgrasp.DeviceError, match="no device named 'gpu'"):
        measure_geometry(hand, obj, pose, device="gpu")
    with pytest.raises(warpgrasp.ShapeError, match=r"area has shape \(3,\), expected \(4,\)"):
        contact_area(np.zeros((2, 4)), np.zeros(3))
    with pytest.raises(warpgrasp.ShapeError, match=r"distance has shape \(4,\), expected \(N, point\)"):
        contact_area(np.zeros(4), np.zeros(4))
