"""The object's motion against the static hand, the loss of it, and the loss's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from .errors import ShapeError
from .kernels import dynamics as kernels
from .mesh import ObjectMesh
from .options import Dynamics

AVERAGING = {"active": kernels.AVERAGE_ACTIVE, "all": kernels.AVERAGE_ALL, "sum": kernels.AVERAGE_SUM}


@dataclass(frozen=True, eq=False)
class Body:
    """What the motion of a free object depends on."""

    center: np.ndarray
    """Centre of mass in the object frame [m], shape (3,)."""

    inertia: np.ndarray
    """Per unit mass, about the centre of mass, in the axes of the object frame [m²], shape (3, 3)."""

    @classmethod
    def of(cls, obj: ObjectMesh) -> Body:
        """The body of a mesh."""
        return cls(obj.center_of_mass, obj.inertia)

    @property
    def radius_of_gyration(self) -> float:
        """Root mean square, over all axes through the centre of mass, of the gyration radius [m]."""
        return float(np.sqrt(np.trace(self.inertia) / 3.0))


@dataclass(frozen=True, eq=False)
class DynamicsArrays:
    """Device arrays of the simulations of one batch of grasps; everything is in the object frame."""

    loss: wp.array
    """Share of each simulation in a grasp's loss: their sum is the loss, shape [grasp, simulation]."""

    end_velocity: wp.array
    """Velocity and angular velocity at the end [m/s, rad/s], spatial vector, shape [grasp, simulation]."""

    distance_adjoint: wp.array
    """Derivative of the loss with respect to the signed distance [1/m], shape [grasp, point]."""

    gradient_adjoint: wp.array
    """Derivative of the loss with respect to the distance's gradient, vec3, shape [grasp, point]."""

    arm_adjoint: wp.array
    """Derivative of the loss with respect to the point's position where distance and gradient stay as they are [1/m],
    vec3, shape [grasp, point]."""

    predicted: wp.array
    """Displacement and rotation after the prediction of each step [m, rad], spatial vector, shape
    [grasp, simulation, step]."""

    velocity: wp.array
    """Predicted velocities [m/s, rad/s], spatial vector, shape [grasp, simulation, step]."""

    spin: wp.array
    """Angular velocity at the beginning of each step [rad/s], vec3, shape [grasp, simulation, step]."""

    share: wp.array
    """Jacobi: what the sum of displacements was multiplied by, shape [grasp, simulation, step]."""

    displacement_adjoint: wp.array
    """Jacobi: derivative of the loss with respect to the displacement by one point, spatial vector, shape
    [grasp, simulation, step]."""

    correction: wp.array
    """Gauss-Seidel: what earlier points have added to the prediction [m, rad], spatial vector, shape
    [grasp, simulation, step, point]; no points for Jacobi, like the next three."""

    simulation_penetration_adjoint: wp.array
    """Gauss-Seidel: derivative of the loss with respect to the penetration, shape [grasp, simulation, point]."""

    simulation_normal_adjoint: wp.array
    """Gauss-Seidel: with respect to the distance's gradient, vec3, shape [grasp, simulation, point]."""

    simulation_arm_adjoint: wp.array
    """Gauss-Seidel: with respect to the point's position, vec3, shape [grasp, simulation, point]."""


def allocate(grasp_count: int, point_count: int, options: Dynamics, device: str) -> DynamicsArrays:
    """Arrays for :func:`find_stability`: 28 bytes per point, 28 per simulation, and 88 per simulation and step.

    Gauss-Seidel takes another 24 bytes per point, simulation and step, and 28 per point and simulation.
    """
    per_point = (grasp_count, point_count)
    per_simulation = (grasp_count, options.simulations)
    per_step = (*per_simulation, options.steps)
    own_points = point_count if options.solver == "gauss-seidel" else 0

    def zeros(shape: tuple[int, ...], dtype: Any) -> wp.array:
        return wp.zeros(shape, dtype=dtype, device=device)

    return DynamicsArrays(
        loss=zeros(per_simulation, float),
        end_velocity=zeros(per_simulation, wp.spatial_vector),
        distance_adjoint=zeros(per_point, float),
        gradient_adjoint=zeros(per_point, wp.vec3),
        arm_adjoint=zeros(per_point, wp.vec3),
        predicted=zeros(per_step, wp.spatial_vector),
        velocity=zeros(per_step, wp.spatial_vector),
        spin=zeros(per_step, wp.vec3),
        share=zeros(per_step, float),
        displacement_adjoint=zeros(per_step, wp.spatial_vector),
        correction=zeros((*per_step, own_points), wp.spatial_vector),
        simulation_penetration_adjoint=zeros((*per_simulation, own_points), float),
        simulation_normal_adjoint=zeros((*per_simulation, own_points), wp.vec3),
        simulation_arm_adjoint=zeros((*per_simulation, own_points), wp.vec3),
    )


def find_stability(
    body: Body,
    options: Dynamics,
    schedule: wp.array,
    iteration: wp.array,
    point_position: wp.array,
    distance: wp.array,
    distance_gradient: wp.array,
    arrays: DynamicsArrays,
) -> None:
    """How fast the object leaves the hand, and the derivative of it; fills ``arrays``.

    Distance and gradient are taken at the object's rest pose; the simulations follow them linearly. The derivative of
    the loss with respect to a point is the arm's adjoint, plus what the adjoints of the distance and of its gradient
    give on the way back through the signed distance.

    Allocates nothing, so it can be recorded in a CUDA graph.

    Args:
        body: The object.
        options: Solver, simulations and loss; ``exact`` is not looked at.
        schedule: Quantities that change from iteration to iteration; ``kernels.RADIUS_COLUMN`` is the dilation of the
            object's surface [m]; shape [iteration, column].
        iteration: The current iteration, int, shape [1].
        point_position: Hand points in the object frame [m], vec3, shape [grasp, point].
        distance: Signed distance of the points [m], shape [grasp, point].
        distance_gradient: Its derivative with respect to the point, zero out of reach, vec3, shape [grasp, point].
        arrays: From :func:`allocate` with the same counts and options.

    Raises:
        ShapeError: an array does not match ``point_position`` or the options.
    """
    per_simulation = (point_position.shape[0], options.simulations)
    _check_shape("arrays.predicted", arrays.predicted, (*per_simulation, options.steps))
    for name, array in [
        ("distance", distance),
        ("distance_gradient", distance_gradient),
        ("arrays.distance_adjoint", arrays.distance_adjoint),
    ]:
        _check_shape(name, array, point_position.shape)

    inputs = [kernel_settings(body, options), schedule, iteration, point_position, distance, distance_gradient]
    states = [arrays.predicted, arrays.velocity, arrays.spin]
    ends = [arrays.end_velocity, arrays.loss]
    adjoints = [arrays.distance_adjoint, arrays.gradient_adjoint, arrays.arm_adjoint]
    per_point = point_position.shape
    if options.solver == "jacobi":
        _launch(kernels.simulate_jacobi, per_simulation, inputs, [*states, arrays.share, *ends])
        inputs_and_states = [*inputs, *states, arrays.share, arrays.end_velocity]
        _launch(kernels.trace_jacobi, per_simulation, inputs_and_states, [arrays.displacement_adjoint])
        flat = (per_simulation[0], options.simulations * options.steps)
        states = [array.reshape(flat) for array in (arrays.predicted, arrays.velocity, arrays.displacement_adjoint)]
        _launch(kernels.point_adjoint_jacobi, per_point, [*inputs, *states], adjoints)
        return
    own_adjoints = [
        arrays.simulation_penetration_adjoint,
        arrays.simulation_normal_adjoint,
        arrays.simulation_arm_adjoint,
    ]
    _check_shape("arrays.correction", arrays.correction, (*arrays.predicted.shape, per_point[1]))
    _launch(kernels.simulate_gauss_seidel, per_simulation, inputs, [*states, arrays.correction, *ends])
    inputs_and_states = [*inputs, *states, arrays.correction, arrays.end_velocity]
    _launch(kernels.trace_gauss_seidel, per_simulation, inputs_and_states, own_adjoints)
    _launch(kernels.sum_simulations, per_point, own_adjoints, adjoints)


def kernel_settings(body: Body, options: Dynamics) -> Any:
    """Body and options as the kernels take them."""
    gyration = body.radius_of_gyration
    settings: Any = kernels.Settings()
    settings.center = wp.vec3(*map(float, body.center))
    settings.inertia = wp.mat33(*map(float, body.inertia.ravel()))
    settings.inverse_inertia = wp.mat33(*map(float, np.linalg.inv(body.inertia).ravel()))
    settings.speed = options.speed
    settings.spin = options.speed / gyration
    settings.time_step = options.time_step
    settings.angular_length = gyration if options.angular_length is None else options.angular_length
    settings.friction = options.friction
    settings.leak = options.leak
    settings.leak_limit = 0.0 if options.leak_attracts_only else np.finfo(np.float32).max
    settings.averaging = AVERAGING[options.averaging]
    settings.squared = int(options.squared)
    return settings


def _launch(kernel: Any, dim: tuple[int, ...], inputs: list[Any], outputs: list[wp.array]) -> None:
    wp.launch(kernel, dim=dim, inputs=inputs, outputs=outputs, device=outputs[0].device)


def _check_shape(name: str, array: wp.array, expected: tuple[int, ...]) -> None:
    if array.shape != tuple(expected):
        raise ShapeError(name, str(tuple(expected)), array.shape)
