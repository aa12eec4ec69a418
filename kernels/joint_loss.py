"""Losses of the joints alone: nearness to the middle of their ranges, and excess over their ends."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def joint_loss(
    # Model:
    free_lower: wp.array[float],
    free_upper: wp.array[float],
    # In:
    free_position: wp.array2d[float],
    # Options:
    range_weight: float,
    limit_weight: float,
    # Out:
    loss_out: wp.array[float],
    free_gradient_out: wp.array2d[float],
):
    """Loss of one grasp's joints; its gradient is added to what is there.

    L = w_r |x - (upper + lower) / 2| + w_l sum_j (max(x_j - upper_j, 0) + max(lower_j - x_j, 0))

    The free joints stand for all: those that follow them have nothing of their own to choose. At the very middle
    the first term has no direction, and no gradient.

    Source: Turpin et al. 2023, Fast-Grasp'D, equations 3 and 4.
    Launch: dim = grasp.

    Args:
        free_lower: Lower ends of the ranges [rad or m], shape [free].
        free_upper: Upper ends of the ranges [rad or m], shape [free].
        free_position: x [rad or m], shape [grasp, free].
        range_weight: w_r.
        limit_weight: w_l.
        loss_out: L, shape [grasp].
        free_gradient_out: Gradient with respect to x, increased, shape [grasp, free].
    """
    grasp = wp.tid()
    square = float(0.0)
    excess = float(0.0)
    for free in range(free_lower.shape[0]):
        x = free_position[grasp, free]
        off = x - 0.5 * (free_upper[free] + free_lower[free])
        square += off * off
        excess += wp.max(x - free_upper[free], 0.0) + wp.max(free_lower[free] - x, 0.0)
    off_middle = wp.sqrt(square)
    loss_out[grasp] = range_weight * off_middle + limit_weight * excess
    for free in range(free_lower.shape[0]):
        x = free_position[grasp, free]
        off = x - 0.5 * (free_upper[free] + free_lower[free])
        gradient = range_weight * off / wp.max(off_middle, 1.0e-9)
        if x > free_upper[free]:
            gradient += limit_weight
        if x < free_lower[free]:
            gradient -= limit_weight
        free_gradient_out[grasp, free] += gradient
