"""Obstacles against float64 NumPy, trimesh and MuJoCo."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
import warp as wp
from random_hand import random_hand, unit
from reference_grasp import wxyz

from warpgrasp import OptionError, ShapeError, load_hand, load_object, rotation
from warpgrasp.device import transforms_from_matrices
from warpgrasp.errors import MeshError
from warpgrasp.hand import Hand, Shape
from warpgrasp.model import HandModel, hand_model
from warpgrasp.obstacles import MARGIN, SKIN_POINTS, WEIGHT, Obstacles, _joined
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.hand_model import PREFIX, ROOT, add_hand
from warpgrasp.physics.protocols import FC6
from warpgrasp.pose import Pose
from warpgrasp.state import allocate
from warpgrasp.surface import object_points, surface_points

SIDES = np.array([0.03, 0.05, 0.08])
"""Of the box that is an obstacle [m]."""


def model_of(hand: Hand, device: str) -> HandModel:
    return hand_model(hand, surface_points(hand, 64, device=device), device)


def scattered(rng: np.random.Generator, hand: Hand, count: int, spread: float) -> Pose:
    """Hands all over the place."""
    joints = hand.clamp(rng.uniform(hand.lower, hand.upper, (count, hand.joint_count)))
    return Pose(rng.uniform(-spread, spread, (count, 3)), np.array([unit(rng, 4) for _ in range(count)]), joints)


def links_of(hand: Hand, pose: Pose) -> np.ndarray:
    return rotation.matrix(pose.wrist_position, pose.wrist_quaternion)[:, None] @ hand.link_transforms(
        pose.joint_position
    )


def box_distance(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Signed distance to a box about the origin [m]."""
    excess = np.abs(points) - half
    return np.linalg.norm(np.maximum(excess, 0.0), axis=-1) + np.minimum(excess.max(axis=-1), 0.0)


def shape_distances(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Signed distances of points in the link's frame to a shape; of a mesh, to the plane of a face."""
    p = (points - shape.position) @ wxyz(shape.quaternion)
    match shape.kind:
        case "box":
            return box_distance(p, shape.size)
        case "sphere":
            return np.linalg.norm(p, axis=1) - shape.size[0]
        case "capsule":
            return box_distance(p, np.array([0.0, 0.0, shape.size[1]])) - shape.size[0]
        case "cylinder":
            flat = np.stack([np.hypot(p[:, 0], p[:, 1]), p[:, 2]], axis=1)
            return box_distance(flat, shape.size)
    assert shape.vertices is not None and shape.faces is not None
    a, b, c = shape.vertices[shape.faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return (p @ normal.T - (a * normal).sum(1)).max(axis=1)


def link_points_distance(hand: Hand, link: int, transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Signed distances of points to a link, infinite where it has no shape."""
    local = (points - transform[:3, 3]) @ transform[:3, :3]
    shapes = hand.links[link].shapes
    return np.min([np.full(len(points), np.inf), *(shape_distances(shape, local) for shape in shapes)], axis=0)


def loss_of_link(
    hand: Hand, link: int, transform: np.ndarray, skin: np.ndarray, points: np.ndarray, radius: np.ndarray
) -> float:
    """What a link adds to the loss beside the box: its points ``skin`` (in its frame) and the obstacles' points."""
    on_skin = skin @ transform[:3, :3].T + transform[:3, 3]
    short = np.maximum(MARGIN - box_distance(on_skin, 0.5 * SIDES), 0.0)
    local = (points - transform[:3, 3]) @ transform[:3, :3]
    lacking = [np.maximum(MARGIN + radius - shape_distances(shape, local), 0.0) for shape in hand.links[link].shapes]
    return WEIGHT * float((short**2).sum() + np.sum(np.square(lacking)))


def motion(twist: np.ndarray) -> np.ndarray:
    """The small rigid motion of a translation and a rotation about the origin, (6,)."""
    angle = float(np.linalg.norm(twist[3:]))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.matrix_from_axis_angle(twist[3:] / angle, np.array(angle))
    matrix[:3, 3] = twist[:3]
    return matrix


def test_loss_and_gradient_match_differences(rng, device):
    hand = random_hand(rng, 20)
    box = trimesh.creation.box(extents=SIDES)
    cloud = rng.uniform(-0.1, 0.1, (40, 3))
    radius = rng.uniform(0.0, 0.006, 40)
    obstacles = Obstacles([box], cloud, radius=radius)
    points = np.concatenate([cloud, object_points(obstacles.meshes[0], 4096)])
    radii = np.concatenate([radius, np.zeros(len(points) - 40)])
    skin = surface_points(hand, SKIN_POINTS, device=device)
    pose = scattered(rng, hand, 18, 0.05)
    place = links_of(hand, pose)

    model = model_of(hand, device)
    state = allocate(model, pose, np.zeros((0, 3)))
    wp.copy(state.link_transform, transforms_from_matrices(place, device))
    term = obstacles.term(model, pose)
    term.add_gradient(state)
    term.restart()
    state.link_wrench.zero_()
    term.add_gradient(state)
    wrench = state.link_wrench.numpy()
    compared = 0
    for grasp in range(18):
        losses = []
        for link in range(len(hand.links)):

            def loss(transform: np.ndarray, link: int = link) -> float:
                return loss_of_link(hand, link, transform, skin.position[skin.link == link], points, radii)

            at = place[grasp, link]
            losses.append(loss(at))
            twist, step = unit(rng, 6), 1e-6
            slope = (loss(motion(step * twist) @ at) - loss(motion(-step * twist) @ at)) / (2.0 * step)
            size = float(np.linalg.norm(wrench[grasp, link])) + 1.0
            assert wrench[grasp, link] @ twist == pytest.approx(slope, rel=1e-3, abs=2e-3 * size)
            compared += losses[-1] > 0.0
        assert term.loss.numpy()[grasp] == pytest.approx(sum(losses), rel=2e-4)
    assert compared > 60


def test_clearance_of_points_is_that_of_the_shapes(rng, device):
    hand = random_hand(rng, 20)
    # outside a mesh the planes of its hull only bound the distance
    bare = (dataclasses.replace(link, shapes=()) if link.shapes[0].kind == "mesh" else link for link in hand.links)
    hand = dataclasses.replace(hand, links=tuple(bare))
    cloud, radius = rng.uniform(-0.15, 0.15, (60, 3)), rng.uniform(0.0, 0.005, 60)
    pose = scattered(rng, hand, 20, 0.2)
    found = Obstacles(points=cloud, radius=radius).clearance(model_of(hand, device), pose)
    for links, clearance in zip(links_of(hand, pose), found, strict=True):
        each = [link_points_distance(hand, link, at, cloud) - radius for link, at in enumerate(links)]
        assert clearance == pytest.approx(min(float(np.min(each)), 0.05), abs=1e-6)
    assert (found < 0.0).any() and (found == np.float32(0.05)).any()


def clearance_in_mujoco(hand: Hand, pose: Pose, half: np.ndarray, box_pose: np.ndarray) -> np.ndarray:
    """Least signed distance of any shape of the hand to a box, by MuJoCo [m]."""
    mj, spec = mujoco(), mujoco().MjSpec()
    spec.compiler.degree = False
    add_hand(spec, hand, FC6)
    quaternion = rotation.quaternion_from_matrix(box_pose[:3, :3])
    spec.worldbody.add_geom(type=mj.mjtGeom.mjGEOM_BOX, size=half, pos=box_pose[:3, 3], quat=quaternion)
    model = spec.compile()
    data = mj.MjData(model)
    root = int(model.joint(ROOT).qposadr[0])
    joints = [int(model.joint(PREFIX + name).qposadr[0]) for name in hand.joint_names]
    box = next(geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == 0)
    others = [geom for geom in range(model.ngeom) if geom != box]
    clearance = []
    for row in range(len(pose)):
        data.qpos[root : root + 3] = pose.wrist_position[row]
        data.qpos[root + 3 : root + 7] = pose.wrist_quaternion[row]
        data.qpos[joints] = pose.joint_position[row]
        mj.mj_kinematics(model, data)
        clearance.append(min(mj.mj_geomDistance(model, data, geom, box, 1.0, None) for geom in others))
    return np.array(clearance)


@pytest.mark.parametrize("name", ["barrett", "shadow"])
def test_clearance_of_a_mesh_is_that_of_mujoco(name, rng, device):
    hand = load_hand(name)
    box_pose = rotation.matrix(np.array([0.02, 0.0, 0.03]), unit(rng, 4))
    obstacles = Obstacles([(trimesh.creation.box(extents=SIDES), box_pose)])
    pose = scattered(rng, hand, 80, 0.12)
    found = obstacles.clearance(model_of(hand, device), pose)
    expected = np.minimum(clearance_in_mujoco(hand, pose, 0.5 * SIDES, box_pose), 0.05)
    apart = expected > 0.0
    assert apart.sum() > 10 and (~apart).sum() > 10 and (expected < 0.05).sum() > 20
    assert (found[apart] > expected[apart] - 2e-4).all(), "round shapes are sampled a little inside"
    np.testing.assert_allclose(found[apart], expected[apart], atol=1.5e-3)
    assert np.median(np.abs(found - expected)[apart]) < 2e-4
    assert (found[expected < -1.5e-3] < 0.0).all()


def test_several_meshes_are_as_one(rng, device):
    hand = load_hand("barrett")
    model = model_of(hand, device)
    ball = trimesh.creation.icosphere(radius=0.04)
    box = trimesh.creation.box(extents=SIDES)
    far = rotation.matrix(np.array([1.5, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    pose = scattered(rng, hand, 30, 0.2)
    alone = [Obstacles([mesh]).clearance(model, pose) for mesh in (ball, box)]
    both = Obstacles([ball, box, (ball, far)]).clearance(model, pose)
    outside = np.min(alone, axis=0) > 0.0
    assert outside.any() and not outside.all()
    np.testing.assert_allclose(both[outside], np.min(alone, axis=0)[outside], atol=1e-6)
    assert (both[~outside] < 1e-6).all()  # where they overlap, depth counts to the surface of both together


def test_device_data_is_made_once(device):
    obstacles = Obstacles(points=np.zeros((1, 3)))
    assert obstacles.on(device) is obstacles.on(device)


def test_obstacles_in_the_object_are_refused(device):
    cube = load_object(trimesh.creation.box(extents=[0.06, 0.06, 0.06]), name="cube")
    for offset, depth in ((0.055, None), (0.050, "5.0 mm"), (0.0, None)):
        place = rotation.matrix(np.array([0.0, 0.005, offset]), np.array([1.0, 0.0, 0.0, 0.0]))
        other = load_object(trimesh.creation.box(extents=[0.05, 0.05, 0.05]), name="brick")
        obstacles = Obstacles([(other, place)])
        if offset == 0.055:
            obstacles.check(cube, device=device)
            continue
        with pytest.raises(OptionError, match=f"obstacle 'brick' reaches {depth or '.* mm'} into the object; move one"):
            obstacles.check(cube, device=device)
    points = np.array([[0.0, 0.0, 0.05], [0.0, 0.0, 0.029], [0.0, 0.0, 0.02], [0.01, 0.0, 0.0]])
    Obstacles(points=points[:2], radius=0.03).check(cube, device=device)
    with pytest.raises(OptionError, match=r"2 of 4 points of the obstacles are in the object, up to 20.0 mm deep"):
        Obstacles(points=points).check(cube, device=device)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, OptionError, "at least one mesh or one point, got none"),
        ({"points": np.zeros((3, 2))}, ShapeError, r"points has shape \(3, 2\), expected \(P, 3\)"),
        ({"points": [[0, 0, np.nan], [0, 0, 0]]}, OptionError, "1 of 2 obstacle points are not finite"),
        ({"points": np.zeros((2, 3)), "radius": -0.1}, OptionError, "radius must be finite and at least 0"),
        ({"points": np.zeros((2, 3)), "radius": np.zeros(3)}, ShapeError, r"radius has shape \(3,\)"),
        ({"points": np.zeros((500_001, 3))}, OptionError, "have 500001 points, more than 500000"),
        ({"meshes": [trimesh.Trimesh()]}, MeshError, "has 0 vertices and 0 faces"),
        ({"meshes": [(trimesh.creation.box(), np.eye(3))]}, ShapeError, r"expected \(4, 4\)"),
        ({"meshes": [(trimesh.creation.box(), np.diag([1, 1, -1, 1]))]}, OptionError, "is no rigid transform"),
        ({"meshes": [(trimesh.creation.box(), np.eye(4), 1)]}, OptionError, "a pair of a mesh and a pose, got 3"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Obstacles(**arguments)


def test_meshes_together_are_closed_if_each_is():
    box = trimesh.creation.box()
    closed, opened = load_object(box), load_object(trimesh.Trimesh(box.vertices, box.faces[2:]))
    assert _joined((closed, closed)).watertight
    assert not _joined((closed, opened)).watertight
    assert not _joined((opened, closed)).watertight
