"""Slow and obvious version of the contact dynamics, for real (float64) and complex numbers.

A derivative is the imaginary part of the loss where an input carries a tiny imaginary part (complex step): exact to
rounding, on the branch that the input is on. Every comparison therefore looks at real parts only, and no function
takes a complex conjugate. The biased derivative of a leak is a branch of its own that has no value, only a slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from warpgrasp.dynamics import Body
from warpgrasp.options import Dynamics

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Signed distances (..., N) [m], their gradients (..., N, 3), and arms from the centre of mass (..., N, 3) [m]."""

IMAGINARY = 1e-200
"""Size of the complex step; its square is zero, so that a real part of zero stays zero."""


@dataclass
class Branches:
    """Which way the comparisons went, and how close they were."""

    penetration: list[np.ndarray] = field(default_factory=list)
    """C of every point [m], one array per step (Gauss-Seidel: per step and point), shape (..., M, points)."""

    sticking: list[np.ndarray] = field(default_factory=list)
    """Friction cone minus what would stop the point [m], NaN where nothing touches or slides; positive sticks."""


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=-1, keepdims=True)


def norm(a: np.ndarray) -> np.ndarray:
    """Length of vectors; zero, without a derivative, for the vector zero."""
    zero = (np.real(a) == 0.0).all(axis=-1, keepdims=True)
    return np.where(zero, 0.0, np.sqrt(np.where(zero, 1.0, dot(a, a))))


def start_velocities(body: Body, options: Dynamics) -> tuple[np.ndarray, np.ndarray]:
    """Velocity and angular velocity of each simulation, two arrays (M, 3)."""
    axes = np.array([sign * axis for axis in np.eye(3) for sign in (1.0, -1.0)])
    linear, angular = np.zeros((2, options.simulations, 3))
    linear[1:7] = options.speed * axes
    if options.simulations == 13:
        angular[7:13] = options.speed / body.radius_of_gyration * axes
    return linear, angular


Follow = Callable[[Points, np.ndarray, np.ndarray], Points]
"""From the points before, and displacement and rotation of the object since (..., M, 1, 3), to the points after."""


def linearly(points: Points, x: np.ndarray, theta: np.ndarray) -> Points:
    """Distances follow the object linearly; gradients and arms stay what they are."""
    distance, normal, arm = points
    return distance - dot(normal, x) - dot(np.cross(arm, normal), theta), normal, arm


def box_follower(half_extents: np.ndarray, center: np.ndarray) -> Follow:
    """Distances and gradients of a box about the origin, from the arms alone; exact but in front of its edges."""

    def follow(points: Points, x: np.ndarray, theta: np.ndarray) -> Points:
        arm = points[2] - x
        rotation = rotation_matrix(theta)
        y = center + (np.swapaxes(rotation, -1, -2) @ arm[..., None])[..., 0]
        side = (np.abs(np.real(y)) - half_extents).argmax(axis=-1)
        axis = np.eye(3)[side] * np.sign(np.real(y))
        return dot(axis, y) - dot(np.abs(axis), half_extents), (rotation @ axis[..., None])[..., 0], arm

    return follow


def rotation_matrix(theta: np.ndarray) -> np.ndarray:
    """Matrices (..., 3, 3) of small rotation vectors, from the series of the exponential."""
    spin = np.swapaxes(np.cross(theta[..., None, :], np.eye(3)), -1, -2)
    return np.eye(3) + spin + spin @ spin / 2.0 + spin @ spin @ spin / 6.0


def displacement(points: Points, radius, body, friction, state, begin, leak, nudge, branches):
    """By every point, from the same state: two arrays (..., M, points, 3), and which points touch.

    Distances, gradients and arms are those at that state.
    """
    distance, normal, arm = points
    inverse = np.linalg.inv(body.inertia)
    b = np.cross(arm, normal)
    c = radius - distance
    branches.penetration.append(c.real[..., 0])
    touches = c.real > 0.0
    positive = np.where(touches, c, leak * (c - c.real)) + nudge
    force = positive / (dot(normal, normal) + dot(b, b @ inverse.T)) * normal
    if friction > 0.0:
        slip = state[0] - begin[0] + np.cross(state[1] - begin[1], arm)
        unit = normal / norm(normal)
        tangential = slip - dot(slip, unit) * unit
        length = norm(tangential)
        slides = norm(tangential.real) > 1e-5 * norm(slip.real)
        t = tangential / np.where(slides, length, 1.0)
        turn = np.cross(arm, t)
        stop = length / (1.0 + dot(turn, turn @ inverse.T))
        cone = friction * positive / (dot(normal, normal) + dot(b, b @ inverse.T))
        branches.sticking.append(np.where(touches & slides, (cone - stop).real, np.nan)[..., 0])
        force = force + np.where(slides, np.where(cone.real < stop.real, cone, stop), 0.0) * t
    return -force, -np.cross(arm, force) @ inverse.T, touches


def simulate(
    points: Points,
    radius: float,
    body: Body,
    options: Dynamics,
    leak: float | np.ndarray = 0.0,
    nudge: float | np.ndarray = 0.0,
    branches: Branches | None = None,
    follow: Follow = linearly,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of every simulation in the loss, and its velocities at the end.

    Args:
        points: Distances, gradients and arms.
        radius: Dilation [m].
        body: The object.
        options: All of them but those of the leak.
        leak: Slope of max(0, C) for C <= 0, shape (..., M, steps, N) or a number.
        nudge: Added to max(0, C), shape (..., M, steps, N) or a number.
        branches: Is filled.
        follow: How distances, gradients and arms change with the object's pose.

    Returns:
        Loss (..., M), velocity (..., M, 3) and angular velocity (..., M, 3).
    """
    branches = branches or Branches()
    distance, normal, arm = points
    point_count = distance.shape[-1]
    full = np.broadcast_shapes(
        (*distance.shape[:-1], options.simulations, options.steps, point_count), np.shape(leak), np.shape(nudge)
    )
    leak, nudge = (np.moveaxis(np.broadcast_to(value, full), -2, 0)[..., None] for value in (leak, nudge))
    points = distance[..., None, :, None], normal[..., None, :, :], arm[..., None, :, :]
    dt, inertia, inverse = options.time_step, body.inertia, np.linalg.inv(body.inertia)
    v, w = (a[:, None] + np.zeros((*full[:-3], 1, 1, 1)) for a in start_velocities(body, options))
    x, theta = 0.0 * v, 0.0 * w
    for step in range(options.steps):
        begin = x, theta
        w = w - dt * np.cross(w, w @ inertia.T) @ inverse.T
        x, theta = x + dt * v, theta + dt * w
        if options.solver == "jacobi":
            dx, dtheta, touches = displacement(
                follow(points, x, theta),
                radius,
                body,
                options.friction,
                (x, theta),
                begin,
                leak[step],
                nudge[step],
                branches,
            )
            active = touches.sum(axis=-2, keepdims=True)
            share = {"active": 1.0 / np.maximum(active, 1), "all": 1.0 / point_count, "sum": 1.0}[options.averaging]
            x = x + share * dx.sum(axis=-2, keepdims=True)
            theta = theta + share * dtheta.sum(axis=-2, keepdims=True)
        else:
            for i in range(point_count):
                distance, normal, arm, own_leak, own_nudge = (
                    a[..., i : i + 1, :] for a in (*points, leak[step], nudge[step])
                )
                point = follow((distance, normal, arm), x, theta)
                dx, dtheta, _ = displacement(
                    point, radius, body, options.friction, (x, theta), begin, own_leak, own_nudge, branches
                )
                x, theta = x + dx, theta + dtheta
        v, w = (x - begin[0]) / dt, (theta - begin[1]) / dt
    length = body.radius_of_gyration if options.angular_length is None else options.angular_length
    if options.squared:
        loss = dot(v, v) + length**2 * dot(w, w)
    else:
        loss = norm(v) + length * norm(w)
    return loss[..., 0, 0] / options.simulations, v[..., 0, :], w[..., 0, :]


def leaks(points: Points, radius: float, body: Body, options: Dynamics, follow: Follow = linearly) -> np.ndarray:
    """Slope of max(0, C) for C <= 0 of every point, shape (..., M, steps, N).

    Whether a larger C would lower the loss is asked by adding a complex step to it, the last point first: how the
    loss answers depends on the leaks of what follows.
    """
    distance, normal, arm = points
    shape = (*distance.shape[:-1], options.simulations, options.steps, distance.shape[-1])
    leak = np.full(shape, options.leak)
    if not options.leak_attracts_only or options.leak == 0.0:
        return leak
    leak[:] = 0.0
    order = reversed(range(shape[-1]))
    together = [list(order)] if options.solver == "jacobi" else [[i] for i in order]
    for step in reversed(range(options.steps)):
        for group in together:
            nudge = np.zeros((len(group), *shape), complex)
            for row, i in enumerate(group):
                nudge[row, ..., step, i] = 1j * IMAGINARY
            stacked = distance[None], normal[None], arm[None]
            loss, _, _ = simulate(stacked, radius, body, options, leak, nudge, follow=follow)
            leak[..., step, group] = np.where(np.moveaxis(np.imag(loss), 0, -1) < 0.0, options.leak, 0.0)
    return leak


def point_slopes(
    points: Points, radius: float, body: Body, options: Dynamics, direction: Points, follow: Follow = linearly
) -> np.ndarray:
    """Derivative of the loss as each point by itself follows its direction, shape (..., N).

    Args:
        points: Distances, gradients and arms.
        radius: Dilation [m].
        body: The object.
        options: All of them.
        direction: Rates of distances, gradients and arms.
        follow: How distances, gradients and arms change with the object's pose.
    """
    leak = leaks(points, radius, body, options, follow)
    distance, normal, arm = points
    only = np.eye(distance.shape[-1]).reshape(-1, *(1,) * (distance.ndim - 1), distance.shape[-1])
    step = 1j * IMAGINARY
    moved = (
        distance + step * only * direction[0],
        normal + step * only[..., None] * direction[1],
        arm + step * only[..., None] * direction[2],
    )
    loss, _, _ = simulate(moved, radius, body, options, leak, follow=follow)
    return np.moveaxis(np.imag(loss.sum(axis=-1)) / IMAGINARY, 0, -1)
