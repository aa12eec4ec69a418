"""Joint ranges and couplings, kept after every step of every optimizer."""

import warp as wp

wp.set_module_options({"enable_backward": False})

COUPLING_SWEEPS = wp.constant(8)


@wp.func
def coupling_slack(
    coupling: wp.array2d[float], minimum: wp.array[float], free_position: wp.array2d[float], grasp: int, row: int
):
    """G x - g of one coupling, and |G|^2."""
    slack = -minimum[row]
    square = float(0.0)
    for free in range(free_position.shape[1]):
        slack += coupling[row, free] * free_position[grasp, free]
        square += coupling[row, free] * coupling[row, free]
    return wp.vec2(slack, square)


@wp.func
def keep_ranges(
    free_lower: wp.array[float],
    free_upper: wp.array[float],
    coupling: wp.array2d[float],
    coupling_minimum: wp.array[float],
    grasp: int,
    free_position: wp.array2d[float],
):
    """Put the free joints of one grasp back into their ranges and couplings, in place.

    A coupling G x >= g that is violated is projected onto its boundary and the ranges are applied again. For
    couplings of two joints with overlapping ranges, such as J1 <= J2, one sweep is exact.
    """
    for free in range(free_lower.shape[0]):
        free_position[grasp, free] = wp.clamp(free_position[grasp, free], free_lower[free], free_upper[free])
    for _sweep in range(COUPLING_SWEEPS):
        for row in range(coupling_minimum.shape[0]):
            slack = coupling_slack(coupling, coupling_minimum, free_position, grasp, row)
            if slack[0] < 0.0:
                for free in range(free_lower.shape[0]):
                    x = free_position[grasp, free] - slack[0] / slack[1] * coupling[row, free]
                    free_position[grasp, free] = wp.clamp(x, free_lower[free], free_upper[free])
