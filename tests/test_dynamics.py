"""The contact dynamics and their adjoints, against float64 NumPy and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference_dynamics as reference
import warp as wp
from reference import central_difference

from warpgrasp.dynamics import Body, DynamicsArrays, allocate, find_stability
from warpgrasp.errors import ShapeError
from warpgrasp.kernels.dynamics import RADIUS_COLUMN
from warpgrasp.options import Dynamics

RADIUS = float(np.float32(1e-4))
GRASPS = 20
POINTS = 24
"""Above Warp's unroll limit of 16, where loops start to behave differently going backward."""

SOLVERS = [
    {"solver": "jacobi", "averaging": "active"},
    {"solver": "jacobi", "averaging": "all"},
    {"solver": "jacobi", "averaging": "sum"},
    {"solver": "gauss-seidel"},
]
LEAKS = [{"leak": 0.0}, {"leak": 0.1, "leak_attracts_only": False}, {"leak": 0.1, "leak_attracts_only": True}]


def single(array: np.ndarray) -> np.ndarray:
    """What float32 makes of it, in float64."""
    return np.asarray(array).astype(np.float32).astype(float)


def random_contacts(rng, grasps: int = GRASPS, points: int = POINTS):
    """A body whose inertia is not diagonal, and points of which a third touch it: distance, normal, position."""
    root = rng.normal(size=(3, 3)) * 0.015
    body = Body(single(rng.uniform(-0.02, 0.02, 3)), single(root @ root.T + 2e-4 * np.eye(3)))
    normal = rng.normal(size=(grasps, points, 3))
    normal *= rng.uniform(0.9, 1.1, (grasps, points, 1)) / np.linalg.norm(normal, axis=-1, keepdims=True)
    touches = rng.uniform(size=(grasps, points)) < 0.3
    distance = np.where(touches, rng.uniform(-3e-4, 1e-4, touches.shape), rng.uniform(0.0, 2e-3, touches.shape))
    return body, single(distance), single(normal), single(rng.uniform(-0.05, 0.05, normal.shape))


def random_direction(rng, arm) -> reference.Points:
    """Rates of distances, normals and arms, scaled so that each of the three changes the loss by as much."""
    return 1e-3 * rng.normal(size=arm.shape[:2]), rng.normal(size=arm.shape), 2e-2 * rng.normal(size=arm.shape)


def run(body, options, distance, normal, position, device, radius: float = RADIUS) -> DynamicsArrays:
    """Loss and adjoints; the radius is read from the second of two iterations."""
    schedule = np.full((2, RADIUS_COLUMN + 1), 7.0, np.float32)
    schedule[1, RADIUS_COLUMN] = radius
    arrays = allocate(distance.shape[0], distance.shape[1], options, device)
    for array in (arrays.loss, arrays.distance_adjoint, arrays.gradient_adjoint, arrays.arm_adjoint):
        array.fill_(wp.nan)
    find_stability(
        body,
        options,
        wp.array(schedule, dtype=float, device=device),
        wp.array([1], dtype=int, device=device),
        wp.array(position.astype(np.float32), dtype=wp.vec3, device=device),
        wp.array(distance.astype(np.float32), dtype=float, device=device),
        wp.array(normal.astype(np.float32), dtype=wp.vec3, device=device),
        arrays,
    )
    return arrays


def clear_of_switches(branches: reference.Branches) -> np.ndarray:
    """Grasps of which no point is within 10 nm of touching, or of sticking, in any simulation and step."""
    clear = np.array(True)
    for margins in (*branches.penetration, *branches.sticking):
        clear = clear & ~(np.abs(margins) < 1e-8).any(axis=(-2, -1))
    return clear


def check_that_points_stick_and_slide(branches: reference.Branches) -> None:
    sticks = np.concatenate([margin.ravel() for margin in branches.sticking])
    assert (sticks > 0.0).sum() > 100
    assert (sticks < 0.0).sum() > 100


def check_that_points_touch_or_not(branches: reference.Branches) -> None:
    penetration = np.concatenate([margin.ravel() for margin in branches.penetration])
    assert (penetration > 0.0).sum() > 100
    assert (penetration < 0.0).sum() > 100


@pytest.mark.parametrize("simulations", [7, 13])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda entry: "-".join(entry.values()))
def test_loss_matches_reference(solver, simulations, rng, device):
    for friction, steps, squared, length in itertools.product((0.0, 0.8), (1, 3), (False, True), (None, 0.5)):
        options = Dynamics(
            **solver, friction=friction, steps=steps, squared=squared, angular_length=length, simulations=simulations
        )
        body, distance, normal, position = random_contacts(rng)
        arrays = run(body, options, distance, normal, position, device)
        branches = reference.Branches()
        loss, v, w = reference.simulate(
            (distance, normal, position - body.center), RADIUS, body, options, branches=branches
        )
        kept = clear_of_switches(branches)
        assert kept.sum() > 16
        np.testing.assert_allclose(arrays.loss.numpy()[kept], loss[kept], rtol=1e-4, atol=1e-5 * loss.max())
        end = np.concatenate([v, w], axis=-1)
        for half in (slice(3), slice(3, 6)):
            expected = end[kept][..., half]
            tolerance = 2e-5 * np.abs(expected).max()
            np.testing.assert_allclose(arrays.end_velocity.numpy()[kept][..., half], expected, rtol=0, atol=tolerance)
        check_that_points_touch_or_not(branches)
        if friction > 0.0:
            check_that_points_stick_and_slide(branches)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("friction", [0.0, 0.8], ids=["frictionless", "friction"])
@pytest.mark.parametrize("leak", LEAKS, ids=["tight", "leaky", "attracting"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda entry: "-".join(entry.values()))
def test_gradient_matches_reference(solver, leak, friction, steps, rng, device):
    """Each point of each grasp, along a random direction in which distance, normal and arm change."""
    squared = (steps == 3) != (friction > 0.0)
    simulations = 13 if squared else 7
    options = Dynamics(**solver, **leak, friction=friction, steps=steps, squared=squared, simulations=simulations)
    errors, branches = slope_errors(options, random_contacts(rng), RADIUS, rng, device)
    assert len(errors) > 16 and errors.max() < 2e-4
    check_that_points_touch_or_not(branches)
    if friction > 0.0:
        check_that_points_stick_and_slide(branches)


def slope_errors(options, contacts, radius, rng, device) -> tuple[np.ndarray, reference.Branches]:
    """Largest error of each grasp's derivatives, relative to its largest one, and which way the comparisons went."""
    body, distance, normal, position = contacts
    arm = position - body.center
    arrays = run(body, options, distance, normal, position, device, radius)
    branches = reference.Branches()
    reference.simulate((distance, normal, arm), radius, body, options, branches=branches)
    direction = random_direction(rng, arm)
    expected = reference.point_slopes((distance, normal, arm), radius, body, options, direction)
    slope = (
        arrays.distance_adjoint.numpy() * direction[0]
        + (arrays.gradient_adjoint.numpy() * direction[1]).sum(axis=-1)
        + (arrays.arm_adjoint.numpy() * direction[2]).sum(axis=-1)
    )
    errors = np.abs(slope - expected).max(axis=1) / np.abs(expected).max(axis=1)
    return errors[clear_of_switches(branches)], branches


@pytest.mark.parametrize("solver", [SOLVERS[0], SOLVERS[3]], ids=lambda entry: "-".join(entry.values()))
def test_more_steps_than_warp_unrolls(solver, rng, device):
    """Above 16 steps too, the way back goes over all of them; what rounding does to a grasp grows meanwhile."""
    contacts = random_contacts(rng, points=18)
    options = Dynamics(**solver, friction=0.8, steps=18, speed=0.02, leak=0.0)
    body, distance, normal, position = contacts
    arrays = run(body, options, distance, normal, position, device)
    loss, _, _ = reference.simulate((distance, normal, position - body.center), RADIUS, body, options)
    np.testing.assert_allclose(np.median(arrays.loss.numpy() / loss), 1.0, rtol=1e-4)
    errors, _ = slope_errors(options, contacts, RADIUS, rng, device)
    assert len(errors) > 8 and np.median(errors) < 2e-4


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda entry: "-".join(entry.values()))
def test_dilation_is_a_smaller_distance(solver, rng, device):
    """By centimetres, as in the first iterations of the recipe as printed."""
    body, distance, normal, position = contacts = random_contacts(rng)
    distance += rng.uniform(0.0, 0.04, distance.shape)
    radius = float(np.float32(0.02))
    options = Dynamics(**solver, friction=0.5, leak_attracts_only=False, angular_length=1.0)
    errors, branches = slope_errors(options, contacts, radius, rng, device)
    assert len(errors) > 16 and errors.max() < 2e-4
    check_that_points_touch_or_not(branches)
    dilated = run(body, options, distance, normal, position, device, radius).loss.numpy()
    expected, _, _ = reference.simulate((distance, normal, position - body.center), radius, body, options)
    np.testing.assert_allclose(dilated, expected, rtol=1e-4, atol=1e-5 * expected.max())
    nearer = run(body, options, distance - radius, normal, position, device, radius=0.0).loss.numpy()
    np.testing.assert_allclose(dilated, nearer, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("solver", ["jacobi", "gauss-seidel"])
def test_reference_slope_is_the_central_difference(solver, rng):
    """Without a leak, where there is something to difference."""
    options = Dynamics(solver=solver, friction=0.8, steps=2, leak=0.0, simulations=13)
    body, distance, normal, position = random_contacts(rng, 2, 18)
    arm = position - body.center
    direction = random_direction(rng, arm)
    slope = reference.point_slopes((distance, normal, arm), RADIUS, body, options, direction)

    def loss(along: np.ndarray) -> float:
        along = along[..., None]
        moved = (distance + along[..., 0] * direction[0], normal + along * direction[1], arm + along * direction[2])
        return reference.simulate(moved, RADIUS, body, options)[0].sum()

    expected = central_difference(loss, np.zeros(distance.shape), step=1e-7)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_leak_without_contact_is_an_attraction(rng, device):
    """Nothing touches, so the loss is constant: its derivative is the leak alone, and has a closed form.

    Simulations run along +d and -d. One of the two is slowed by a point that comes closer, the other sped up, by
    |n . d| / (w dt) each. The symmetric leak adds them up to nothing.
    """
    body, _, normal, position = random_contacts(rng)
    distance = single(rng.uniform(1e-3, 2e-2, normal.shape[:2]))
    arm = position - body.center
    b = np.cross(arm, normal)
    weight = (normal**2).sum(axis=-1) + (b * (b @ np.linalg.inv(body.inertia))).sum(axis=-1)
    pull = 0.1 * np.abs(normal).sum(axis=-1) / (7.0 * 1e-3 * weight)
    attracting = run(body, Dynamics(leak=0.1), distance, normal, position, device)
    np.testing.assert_allclose(attracting.distance_adjoint.numpy(), pull, rtol=1e-5)
    symmetric = run(body, Dynamics(leak=0.1, leak_attracts_only=False), distance, normal, position, device)
    np.testing.assert_allclose(symmetric.distance_adjoint.numpy(), 0.0, atol=1e-5 * pull.max())


def test_free_object_keeps_its_velocity_and_angular_momentum(rng, device):
    """It turns about axes that are no principal ones, so that the angular velocity itself changes."""
    body, _, normal, position = random_contacts(rng, 1)
    options = Dynamics(simulations=13, steps=400, speed=0.1)
    arrays = run(body, options, np.full(normal.shape[:2], 1.0), normal, position, device)
    end = arrays.end_velocity.numpy()[0].astype(float)
    linear, angular = reference.start_velocities(body, options)
    np.testing.assert_allclose(end[:, :3], linear, rtol=1e-6)
    momentum, start_momentum = (np.linalg.norm(w @ body.inertia, axis=1)[7:] for w in (end[:, 3:], angular))
    np.testing.assert_allclose(momentum, start_momentum, rtol=0.01)
    energy, start_energy = ((w * (w @ body.inertia)).sum(axis=1)[7:] for w in (end[:, 3:], angular))
    np.testing.assert_allclose(energy, start_energy, rtol=0.01)
    assert (np.linalg.norm(end[7:, 3:] - angular[7:], axis=1) > 0.2 * np.linalg.norm(angular[7:], axis=1)).all()


@pytest.mark.parametrize("solver", ["jacobi", "gauss-seidel"])
def test_plane_returns_tangential_impulse_with_friction_only(solver, rng, device):
    """Points below a flat object, pressed into it: without friction only the normal velocity and the tilt change."""
    body, _, normal, position = random_contacts(rng)
    normal[:] = [0.0, 0.0, -1.0]
    distance = single(rng.uniform(-3e-4, 3e-4, normal.shape[:2]))
    start = single(reference.start_velocities(body, Dynamics())[0])
    free, rough = (
        run(body, Dynamics(solver=solver, friction=mu, steps=3), distance, normal, position, device)
        for mu in (0.0, 0.5)
    )
    np.testing.assert_array_equal(free.end_velocity.numpy()[..., :2], np.broadcast_to(start[:, :2], (GRASPS, 7, 2)))
    assert (free.end_velocity.numpy()[:, :, 2] > start[:, 2] + 0.01).all()
    sliding = rough.end_velocity.numpy()[:, 1, 0]
    assert (sliding < 0.1).mean() > 0.9


@pytest.mark.parametrize("share", [0.2, 0.9, 1.1, 5.0])
def test_grip_of_two_points_holds_above_the_friction_that_it_needs(share, device):
    """Two points on the x axis, at a and -a, each h deep; the object is pulled along z by e = speed dt.

    Their normals pass the centre, so the normal impulse of each is h and they cancel. Sticking takes e / w of
    displacement per point with w = 1 + a^2 / K_yy = 2 where K_yy = a^2, so both together take all of e, and their
    torques cancel. Friction must allow it: mu h >= e / 2, or the object leaves with speed (1 - 2 mu h / e).
    """
    a, h, speed, time_step = 0.03, 2e-4, 0.1, 1e-3
    threshold = speed * time_step / (2.0 * h)
    body = Body(np.zeros(3), a**2 * np.eye(3))
    options = Dynamics(speed=speed, time_step=time_step, friction=share * threshold, averaging="sum")
    position = np.array([[[a, 0.0, 0.0], [-a, 0.0, 0.0]]])
    normal = position / a
    arrays = run(body, options, np.full((1, 2), -h), normal, position, device, radius=0.0)
    pulled = arrays.end_velocity.numpy()[0, 5]
    np.testing.assert_allclose(pulled, [0, 0, speed * max(0.0, 1.0 - share), 0, 0, 0], atol=1e-5 * speed)


def test_point_out_of_reach_does_nothing(rng, device):
    """It has no gradient of the distance, which would be divided by."""
    body, distance, normal, position = random_contacts(rng)
    distance[:, ::2], normal[:, ::2] = 10.0, 0.0
    for solver in ("jacobi", "gauss-seidel"):
        options = Dynamics(solver=solver, friction=0.5, steps=2)
        arrays = run(body, options, distance, normal, position, device)
        rest = run(body, options, distance[:, 1::2], normal[:, 1::2], position[:, 1::2], device)
        np.testing.assert_array_equal(arrays.loss.numpy(), rest.loss.numpy())
        for name in ("distance_adjoint", "gradient_adjoint", "arm_adjoint"):
            adjoint = getattr(arrays, name).numpy()
            assert not adjoint[:, ::2].any()
            np.testing.assert_array_equal(adjoint[:, 1::2], getattr(rest, name).numpy())


@pytest.mark.parametrize("solver", ["jacobi", "gauss-seidel"])
def test_captured_equals_launched(solver, rng, device):
    """Nothing is allocated or copied to the host, and a graph gives the same bits."""
    options = Dynamics(solver=solver, friction=0.5, steps=2)
    body, distance, normal, position = random_contacts(rng)
    launched = run(body, options, distance, normal, position, device)
    arrays = allocate(distance.shape[0], distance.shape[1], options, device)
    schedule = wp.array(np.full((1, RADIUS_COLUMN + 1), RADIUS, np.float32), dtype=float, device=device)
    iteration = wp.zeros(1, dtype=int, device=device)
    points = wp.array(position.astype(np.float32), dtype=wp.vec3, device=device)
    values = wp.array(distance.astype(np.float32), dtype=float, device=device)
    normals = wp.array(normal.astype(np.float32), dtype=wp.vec3, device=device)
    with wp.ScopedCapture(device=device) as capture:
        find_stability(body, options, schedule, iteration, points, values, normals, arrays)
    assert capture.graph is not None
    wp.capture_launch(capture.graph)
    for name in ("loss", "distance_adjoint", "gradient_adjoint", "arm_adjoint"):
        np.testing.assert_array_equal(getattr(arrays, name).numpy(), getattr(launched, name).numpy())


def test_arrays_of_other_options_are_refused(rng, device):
    body, distance, normal, position = random_contacts(rng, 2)
    points = wp.array(position.astype(np.float32), dtype=wp.vec3, device=device)
    values = wp.array(distance.astype(np.float32), dtype=float, device=device)
    normals = wp.array(normal.astype(np.float32), dtype=wp.vec3, device=device)
    schedule, iteration = wp.zeros((1, 4), dtype=float, device=device), wp.zeros(1, dtype=int, device=device)
    arrays = allocate(2, POINTS, Dynamics(), device)
    for options in (Dynamics(steps=2), Dynamics(simulations=13), Dynamics(solver="gauss-seidel")):
        with pytest.raises(ShapeError, match=r"arrays\.\w+ has shape .*, expected "):
            find_stability(body, options, schedule, iteration, points, values, normals, arrays)
    fewer = wp.zeros((2, 3), dtype=float, device=device)
    with pytest.raises(ShapeError, match=r"distance has shape \(2, 3\), expected \(2, 24\)"):
        find_stability(body, Dynamics(), schedule, iteration, points, fewer, normals, arrays)
