"""The dynamics differentiated by Warp, against float64 NumPy; and the fused adjoints against both."""

from __future__ import annotations

import numpy as np
import pytest
import reference_dynamics as reference
import trimesh
import warp as wp
from test_dynamics import clear_of_switches, single

from warpgrasp.distance import (
    DeviceMesh,
    evaluate_signed_distance,
    evaluate_signed_distance_adjoint,
    find_closest_faces,
)
from warpgrasp.dynamics import Body, allocate, find_stability
from warpgrasp.errors import OptionError, ShapeError
from warpgrasp.exact_dynamics import ExactDynamics
from warpgrasp.kernels.dynamics import RADIUS_COLUMN
from warpgrasp.mesh import ObjectMesh, load_object
from warpgrasp.options import Dynamics

GRASPS = 18
POINTS = 24
VANISHING = 1e-6
"""Speed at which the object moves by a nanometre [m/s]."""


def load(name: str, shared) -> ObjectMesh:
    """A sphere, a box, or an object that is not part of the repository."""
    if name == "sphere":
        return load_object(trimesh.creation.icosphere(subdivisions=3, radius=0.04))
    if name == "box":
        return load_object(trimesh.creation.box((0.06, 0.08, 0.1)))
    return load_object(shared / "objects" / "ycb" / name)


def points_near(obj: ObjectMesh, rng) -> np.ndarray:
    """Points of which a third are up to a millimetre inside, the others up to a centimetre outside."""
    count = GRASPS * POINTS
    surface = obj.trimesh()
    position, face = trimesh.sample.sample_surface(surface, count, seed=3)[:2]
    inside = rng.uniform(size=count) < 0.3
    offset = np.where(inside, rng.uniform(-1e-3, -1e-5, count), rng.uniform(5e-4, 0.01, count))
    return single(position + offset[:, None] * surface.face_normals[face]).reshape(GRASPS, POINTS, 3)


def conditions(position, radius, device):
    """Schedule, iteration and points on the device."""
    schedule = np.full((1, RADIUS_COLUMN + 1), radius, np.float32)
    points = wp.array(position.astype(np.float32), dtype=wp.vec3, device=device)
    return wp.array(schedule, dtype=float, device=device), wp.zeros(1, dtype=int, device=device), points


def fused(mesh, options, position, alpha: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient with respect to the points, by the hand-written adjoints."""
    schedule, iteration, points = conditions(position, 0.0, mesh.device)
    distance, face = (wp.zeros(points.shape, dtype=kind, device=mesh.device) for kind in (float, int))
    outward, gradient, point_adjoint = (wp.zeros_like(points) for _ in range(3))
    arrays = allocate(points.shape[0], points.shape[1], options, mesh.device)
    find_closest_faces(mesh, points, 0.3, face, outward)
    evaluate_signed_distance(
        mesh, points, face, outward, phong_alpha=alpha, distance_out=distance, gradient_out=gradient
    )
    find_stability(Body.of(mesh.object), options, schedule, iteration, points, distance, gradient, arrays)
    evaluate_signed_distance_adjoint(
        mesh,
        points,
        face,
        outward,
        phong_alpha=alpha,
        distance_adjoint=arrays.distance_adjoint,
        gradient_adjoint=arrays.gradient_adjoint,
        point_adjoint_out=point_adjoint,
    )
    return arrays.loss.numpy(), point_adjoint.numpy() + arrays.arm_adjoint.numpy()


def exact(mesh, options, position, alpha: float = 0.0, radius: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The same through ``wp.Tape``, with a search at every predicted pose."""
    dynamics = ExactDynamics(mesh, options, GRASPS, POINTS, phong_alpha=alpha)
    dynamics.find_stability(*conditions(position, radius, mesh.device))
    return dynamics.loss.numpy(), dynamics.point_gradient.numpy()


def relative_difference(gradient: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of each grasp's gradient."""
    return np.linalg.norm(gradient - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))


@pytest.mark.parametrize(
    "options",
    [
        Dynamics(leak=0.0),
        Dynamics(leak=0.0, averaging="sum", friction=0.5, angular_length=0.5),
        Dynamics(leak_attracts_only=False, simulations=13, squared=True),
        Dynamics(simulations=13, friction=0.5, averaging="all"),
        Dynamics(simulations=13, friction=0.5, steps=3),
        Dynamics(leak=0.0, friction=0.5, steps=3, squared=True),
    ],
    ids=["plain", "sum", "leaky", "attracting", "steps", "squared-steps"],
)
def test_tape_matches_reference_on_a_box(options, rng, device):
    """Points in front of the faces of a box, whose distance is known exactly, at every pose."""
    half = np.array([0.03, 0.04, 0.05])
    mesh = DeviceMesh(load_object(trimesh.creation.box(2.0 * half)), device)
    body = Body.of(mesh.object)
    position = rng.uniform(-0.6, 0.6, (GRASPS, POINTS, 3)) * half
    axis = rng.integers(0, 3, (GRASPS, POINTS, 1))
    touches = rng.uniform(size=axis.shape) < 0.3
    offset = np.where(touches, rng.uniform(-5e-4, 1e-4, axis.shape), rng.uniform(5e-4, 5e-3, axis.shape))
    side = rng.choice([-1.0, 1.0], axis.shape) * (half[axis] + offset)
    np.put_along_axis(position, axis, side, axis=2)
    position = single(position)
    loss, gradient = exact(mesh, options, position, radius=1e-4)

    follow = reference.box_follower(half, body.center)
    unused, unused_too = np.zeros(position.shape[:2]), np.zeros(position.shape)
    points = unused, unused_too, position - body.center
    branches = reference.Branches()
    expected_loss, _, _ = reference.simulate(points, 1e-4, body, options, branches=branches, follow=follow)
    kept = clear_of_switches(branches)
    assert kept.sum() > 12
    np.testing.assert_allclose(loss[kept], expected_loss[kept], rtol=1e-4, atol=2e-4 * expected_loss.max())
    direction = unused, unused_too, rng.normal(size=position.shape)
    expected = reference.point_slopes(points, 1e-4, body, options, direction, follow)
    slope = (gradient * direction[2]).sum(axis=-1)
    error = np.abs(slope - expected)[kept].max(axis=1) / np.abs(expected)[kept].max(axis=1)
    assert error.max() < 2e-3
    assert np.median(error) < 3e-4


@pytest.mark.parametrize("alpha", [0.0, 0.75], ids=["flat", "phong"])
@pytest.mark.parametrize("name", ["sphere", "box", "025_mug.obj"])
def test_fused_gradient_is_that_of_the_tape_where_the_object_hardly_moves(name, alpha, rng, device, request):
    """Then the linearisation changes nothing, and only the adjoints differ: by hand, and by Warp."""
    shared = request.getfixturevalue("shared") if name.endswith(".obj") else None
    obj = load(name, shared)
    mesh = DeviceMesh(obj, device, phong_alpha=alpha)
    position = points_near(obj, rng)
    for options in (
        Dynamics(speed=VANISHING),
        Dynamics(speed=VANISHING, simulations=13, friction=0.5, squared=True),
        Dynamics(speed=VANISHING, friction=0.5, leak=0.0),
    ):
        loss, gradient = fused(mesh, options, position, alpha)
        expected_loss, expected = exact(mesh, options, position, alpha)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-4 * expected_loss.max())
        assert np.median(relative_difference(gradient, expected)) < 1e-4
        moved = np.linalg.norm(expected, axis=-1) > 1e-3 * np.linalg.norm(expected, axis=-1).max()
        per_point = np.linalg.norm(gradient - expected, axis=-1)[moved] / np.linalg.norm(expected, axis=-1)[moved]
        assert np.median(per_point) < 1e-4


@pytest.mark.parametrize("name", ["sphere", "box"])
def test_linearised_gradient_is_close_when_the_object_moves_by_a_tenth_of_a_millimetre(name, rng, device):
    obj = load(name, None)
    mesh = DeviceMesh(obj, device)
    position = points_near(obj, rng)
    options = Dynamics()
    assert options.speed * options.time_step == pytest.approx(1e-4)
    difference = relative_difference(fused(mesh, options, position)[1], exact(mesh, options, position)[1])
    assert 1e-5 < np.median(difference) < 0.05


def test_captured_tape_equals_launched(rng, device):
    """The way back is recorded too, and a second replay adds nothing to the first."""
    obj = load("sphere", None)
    mesh = DeviceMesh(obj, device)
    position = points_near(obj, rng)
    options = Dynamics(steps=2, friction=0.5)
    loss, gradient = exact(mesh, options, position)
    dynamics = ExactDynamics(mesh, options, GRASPS, POINTS)
    inputs = conditions(position, 0.0, device)
    with wp.ScopedCapture(device=device) as capture:
        dynamics.find_stability(*inputs)
    assert capture.graph is not None
    for _ in range(2):
        wp.capture_launch(capture.graph)
    np.testing.assert_allclose(dynamics.loss.numpy(), loss, rtol=1e-5)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(dynamics.point_gradient.numpy(), gradient, rtol=0, atol=1e-5 * scale)


def test_what_it_cannot_do_is_said(device):
    mesh = DeviceMesh(load("box", None), device)
    with pytest.raises(OptionError, match="need solver='jacobi', got 'gauss-seidel'"):
        ExactDynamics(mesh, Dynamics(solver="gauss-seidel"), 1, 1)
    dynamics = ExactDynamics(mesh, Dynamics(), 2, 3)
    with pytest.raises(ShapeError, match=r"point_position has shape \(1, 4\), expected \(2, 3\)"):
        dynamics.find_stability(*conditions(np.zeros((1, 4, 3)), 0.0, device))
