"""Adam on wrist poses and joint coordinates, with ranges and couplings kept at every step."""

import warp as wp

from .ranges import Frees, keep_ranges, staying  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})


@wp.func
def rotation_from_vector(vector: wp.vec3):
    """Unit quaternion of the rotation by |vector| [rad] about its direction."""
    angle = wp.length(vector)
    if angle < 1.0e-9:
        return wp.quat_identity()
    return wp.quat_from_axis_angle(vector / angle, angle)


@wp.func
def follow(moments: wp.array3d[float], gradient: float, grasp: int, row: int, first_decay: float, second_decay: float):
    """Update the two moments of one coordinate."""
    moments[0, grasp, row] = first_decay * moments[0, grasp, row] + (1.0 - first_decay) * gradient
    moments[1, grasp, row] = second_decay * moments[1, grasp, row] + (1.0 - second_decay) * gradient * gradient


@wp.func
def unit_step(moments: wp.array3d[float], grasp: int, row: int, first_decay: float, second_decay: float, time: float):
    """The step of one coordinate for a unit step size."""
    unbiased = moments[0, grasp, row] / (1.0 - wp.pow(first_decay, time))
    scale = wp.sqrt(moments[1, grasp, row] / (1.0 - wp.pow(second_decay, time)))
    return -unbiased / (scale + 1.0e-8)


@wp.kernel
def adam(
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
    position_step: float,
    rotation_step: float,
    first_decay: float,
    second_decay: float,
    keeps_ranges: bool,
    # Out:
    moments_out: wp.array3d[float],
    wrist_out: wp.array[wp.transform],
    free_position_out: wp.array2d[float],
):
    """One Adam step.

    Where ranges are kept, neither the gradient nor its mean may push a joint out of them: both are projected onto the
    directions that stay inside. So nothing builds up while a joint is held, and it leaves as soon as it is let go.

    Source: Kingma & Ba 2015, algorithm 1.
    Launch: dim = grasp.

    Args:
        free_lower: Lower ends of the ranges [rad or m], shape [free].
        free_upper: Upper ends of the ranges [rad or m], shape [free].
        free_step: Step sizes [rad or m], shape [free].
        coupling: G, shape [coupling, free].
        coupling_minimum: g, shape [coupling].
        schedule: Step scale in the first column, shape [iteration, 3].
        iteration: The current iteration, shape [1].
        wrist_gradient: Gradient for a translation of the wrist and a rotation about its own origin, shape [grasp].
        free_gradient: Gradient with respect to x, shape [grasp, free].
        position_step: Step size of the wrist position [m].
        rotation_step: Step size of the wrist rotation [rad].
        first_decay: Decay of the mean of the gradient.
        second_decay: Decay of the mean of its square.
        keeps_ranges: Whether the joints are put back into their ranges and couplings.
        moments_out: The two moments, updated, shape [2, grasp, 6 + free].
        wrist_out: Wrist pose, updated, shape [grasp].
        free_position_out: x, updated, shape [grasp, free].
    """
    grasp = wp.tid()
    now = iteration[0]
    time = float(now + 1)
    scale = schedule[now, 0]

    gradient = wrist_gradient[grasp]
    shift = wp.vec3()
    turn = wp.vec3()
    for i in range(3):
        follow(moments_out, gradient[i], grasp, i, first_decay, second_decay)
        follow(moments_out, gradient[i + 3], grasp, i + 3, first_decay, second_decay)
        shift[i] = unit_step(moments_out, grasp, i, first_decay, second_decay, time)
        turn[i] = unit_step(moments_out, grasp, i + 3, first_decay, second_decay, time)
    position = wp.transform_get_translation(wrist_out[grasp]) + position_step * scale * shift
    rotation = rotation_from_vector(rotation_step * scale * turn) * wp.transform_get_rotation(wrist_out[grasp])
    wrist_out[grasp] = wp.transform(position, wp.normalize(rotation))

    free_count = free_lower.shape[0]
    descent = Frees()
    for free in range(free_count):
        descent[free] = -free_gradient[grasp, free]
    if keeps_ranges:
        descent = staying(free_lower, free_upper, coupling, coupling_minimum, grasp, free_position_out, descent)
    for free in range(free_count):
        follow(moments_out, -descent[free], grasp, 6 + free, first_decay, second_decay)
        descent[free] = -moments_out[0, grasp, 6 + free]
    if keeps_ranges:
        descent = staying(free_lower, free_upper, coupling, coupling_minimum, grasp, free_position_out, descent)
    for free in range(free_count):
        moments_out[0, grasp, 6 + free] = -descent[free]
        step = unit_step(moments_out, grasp, 6 + free, first_decay, second_decay, time)
        free_position_out[grasp, free] += free_step[free] * scale * step
    if keeps_ranges:
        keep_ranges(free_lower, free_upper, coupling, coupling_minimum, grasp, free_position_out)


@wp.kernel
def advance(iteration_out: wp.array[int]):
    """Count one iteration, on the device so that a captured graph needs nothing from the host.

    Launch: dim = 1.

    Args:
        iteration_out: The current iteration, incremented, shape [1].
    """
    iteration_out[0] = iteration_out[0] + 1
