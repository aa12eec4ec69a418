"""Joint ranges and couplings: the nearest joints that keep them, and the directions that do not leave them."""

import warp as wp

wp.set_module_options({"enable_backward": False})

MOST_FREE = wp.constant(64)
MOST_COUPLINGS = wp.constant(32)
Frees = wp.types.vector(length=64, dtype=float)
Rows = wp.types.vector(length=32, dtype=float)

SWEEPS = wp.constant(1000)
PIECES = wp.constant(2 * 64 + 2)
CONVERGED = wp.constant(4.0e-7)
FAR = wp.constant(1.0e30)
ACTIVE = wp.constant(2.0e-6)


@wp.func
def coupling_piece(
    raw: Frees, lower: Frees, upper: Frees, coupling: wp.array2d[float], row: int, sign: float, free_count: int
):
    """G x of one coupling for x = clamp(raw), its slope while raw moves by sign G, and how far the slope holds."""
    value = float(0.0)
    slope = float(0.0)
    reach = float(FAR)
    for free in range(free_count):
        factor = coupling[row, free]
        if factor != 0.0:
            value += factor * wp.clamp(raw[free], lower[free], upper[free])
            towards = upper[free]
            behind = lower[free]
            if sign * factor < 0.0:
                towards = lower[free]
                behind = upper[free]
            speed = sign * factor
            if (behind - raw[free]) * speed > 0.0:
                reach = wp.min(reach, (behind - raw[free]) / speed)
            elif (towards - raw[free]) * speed > 0.0:
                slope += factor * factor
                reach = wp.min(reach, (towards - raw[free]) / speed)
    return wp.vec3(value, slope, reach)


@wp.func
def nearest(point: Frees, lower: Frees, upper: Frees, coupling: wp.array2d[float], minimum: Rows, free_count: int):
    """The nearest x to a point with lower <= x <= upper and G x >= minimum; rows with minimum -FAR do not count.

    The dual of this quadratic program is concave in the multipliers m of the couplings, with x = clamp(point + G' m)
    and the gradient minimum - G x. One multiplier after the other is set to where that is zero, or to zero: along it
    G x is piecewise linear, so this is exact. Ascent by coordinates converges to the maximum. Couplings that share no
    joint take one sweep, and another to see that nothing is left.

    Source: Hildreth, A quadratic programming procedure, 1957; Luo & Tseng 1992 for the convergence.
    """
    raw = point
    multiplier = Rows()
    for _sweep in range(SWEEPS):
        worst = float(0.0)
        for row in range(coupling.shape[0]):
            for piece in range(PIECES):
                sign = float(1.0)
                most = float(FAR)
                here = coupling_piece(raw, lower, upper, coupling, row, sign, free_count)
                if here[0] > minimum[row]:
                    sign = -1.0
                    most = multiplier[row]
                if most == 0.0:
                    break
                if sign < 0.0:
                    here = coupling_piece(raw, lower, upper, coupling, row, sign, free_count)
                missing = wp.abs(minimum[row] - here[0])
                worst = wp.max(worst, wp.where(piece == 0, missing, 0.0))
                if here[1] > 0.0:
                    most = wp.min(most, missing / here[1])
                step = wp.min(most, here[2])
                if step >= FAR:
                    break
                multiplier[row] = multiplier[row] + sign * step
                for free in range(free_count):
                    raw[free] = raw[free] + sign * step * coupling[row, free]
                if step == most:
                    break
        if worst <= CONVERGED:
            break
    for free in range(free_count):
        raw[free] = wp.clamp(raw[free], lower[free], upper[free])
    return raw


@wp.func
def keep_ranges(
    free_lower: wp.array[float],
    free_upper: wp.array[float],
    coupling: wp.array2d[float],
    coupling_minimum: wp.array[float],
    grasp: int,
    free_position: wp.array2d[float],
):
    """Put the free joints of one grasp back into their ranges and couplings, in place: to the nearest such x."""
    free_count = free_lower.shape[0]
    x = Frees()
    lower = Frees()
    upper = Frees()
    for free in range(free_count):
        x[free] = free_position[grasp, free]
        lower[free] = free_lower[free]
        upper[free] = free_upper[free]
    minimum = Rows()
    for row in range(coupling_minimum.shape[0]):
        minimum[row] = coupling_minimum[row]
    x = nearest(x, lower, upper, coupling, minimum, free_count)
    for free in range(free_count):
        free_position[grasp, free] = x[free]


@wp.func
def staying(
    free_lower: wp.array[float],
    free_upper: wp.array[float],
    coupling: wp.array2d[float],
    coupling_minimum: wp.array[float],
    grasp: int,
    free_position: wp.array2d[float],
    direction: Frees,
):
    """The part of a direction that leaves no range and no coupling: its projection onto their tangent cone at x."""
    free_count = free_lower.shape[0]
    lower = Frees()
    upper = Frees()
    for free in range(free_count):
        x = free_position[grasp, free]
        lower[free] = wp.where(x <= free_lower[free] + ACTIVE, 0.0, -FAR)
        upper[free] = wp.where(x >= free_upper[free] - ACTIVE, 0.0, FAR)
    minimum = Rows()
    for row in range(coupling_minimum.shape[0]):
        slack = -coupling_minimum[row]
        for free in range(free_count):
            slack += coupling[row, free] * free_position[grasp, free]
        minimum[row] = wp.where(slack <= ACTIVE, 0.0, -FAR)
    return nearest(direction, lower, upper, coupling, minimum, free_count)
