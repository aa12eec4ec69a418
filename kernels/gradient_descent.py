"""Plain gradient descent on wrist poses and joint coordinates."""

import warp as wp

from .adam import rotation_from_vector  # noqa: TID251  a sibling, not the bare package
from .ranges import Frees, keep_ranges, staying  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})


@wp.kernel
def gradient_descent(
    # Model:
    free_lower: wp.array[float],
    free_upper: wp.array[float],
    free_step: wp.array[float],
    coupling: wp.array2d[float],
    coupling_minimum: wp.array[float],
    schedule: wp.array2d[float],
    # In:
    iteration: wp.array[int],
    wrist_gradient: wp.array[wp.spatial_vector],
    free_gradient: wp.array2d[float],
    # Options:
    position_rate: float,
    rotation_rate: float,
    keeps_ranges: bool,
    # Out:
    wrist_out: wp.array[wp.transform],
    free_position_out: wp.array2d[float],
):
    """One step against the gradient, x <- x - rate dL/dx.

    Source: Turpin et al. 2023, Fast-Grasp'D, section IV-A, "Optimization".
    Launch: dim = grasp.

    Args:
        free_lower: Lower ends of the ranges [rad or m], shape [free].
        free_upper: Upper ends of the ranges [rad or m], shape [free].
        free_step: Learning rates, shape [free].
        coupling: G, shape [coupling, free].
        coupling_minimum: g, shape [coupling].
        schedule: Scale of the rates in the first column, shape [iteration, column].
        iteration: The current iteration, shape [1].
        wrist_gradient: Gradient for a translation of the wrist and a rotation about its own origin, shape [grasp].
        free_gradient: Gradient with respect to x, shape [grasp, free].
        position_rate: Learning rate of the wrist position.
        rotation_rate: Learning rate of the wrist rotation.
        keeps_ranges: Whether the joints are put back into their ranges and couplings.
        wrist_out: Wrist pose, updated, shape [grasp].
        free_position_out: x, updated, shape [grasp, free].
    """
    grasp = wp.tid()
    scale = schedule[iteration[0], 0]
    gradient = wrist_gradient[grasp]
    shift = position_rate * scale * wp.spatial_top(gradient)
    turn = rotation_rate * scale * wp.spatial_bottom(gradient)
    position = wp.transform_get_translation(wrist_out[grasp]) - shift
    rotation = rotation_from_vector(-turn) * wp.transform_get_rotation(wrist_out[grasp])
    wrist_out[grasp] = wp.transform(position, wp.normalize(rotation))
    descent = Frees()
    for free in range(free_lower.shape[0]):
        descent[free] = -free_gradient[grasp, free]
    if keeps_ranges:
        descent = staying(free_lower, free_upper, coupling, coupling_minimum, grasp, free_position_out, descent)
    for free in range(free_lower.shape[0]):
        free_position_out[grasp, free] += free_step[free] * scale * descent[free]
    if keeps_ranges:
        keep_ranges(free_lower, free_upper, coupling, coupling_minimum, grasp, free_position_out)
