"""Linear programs over sets of wrenches that are known by their support function, by a dual simplex method.

The set is K, all wrenches that the contacts of one grasp can apply with forces of total one (or of one each). Its
polar P = {y : w . y <= 1 for every w in K} has one constraint per wrench, of which only those are looked at that a
trial point violates most: the support function h(y) = max over w in K of w . y names it. So friction cones with any
number of edges cost the same, and circular cones are exact.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

Vec6 = wp.types.vector(6, wp.float64)
Mat46 = wp.types.matrix((4, 6), wp.float64)
Mat66 = wp.types.matrix((6, 6), wp.float64)

FAR = wp.constant(wp.float64(1.0e7))
"""Where the polar is cut off: a set that reaches less than 1 / FAR in some direction has no inside."""

NEVER = wp.constant(wp.float64(1.0e300))


@wp.struct
class WrenchSpace:
    """The contact wrenches of all grasps, torques divided by a length."""

    wrench: wp.array2d[Mat46]
    """In rows: normal, friction along the first and the second tangent, torsion, shape [grasp, contact]."""

    contact_count: wp.array[int]
    """Contacts of each grasp; they stand first, shape [grasp]."""

    edge: wp.array[wp.vec2d]
    """Directions of the edges of a friction cone in its tangents; empty: circular cones, shape [edge]."""

    shift: wp.array[Vec6]
    """Subtracted from every wrench, shape [grasp]."""

    summed: int
    """1: every contact applies a force of up to one; 0: the forces of all contacts sum to one."""


@wp.struct
class Program:
    """Maximize c . y over P, at a vertex where six constraints N y = b are active."""

    row: Mat66
    """N."""

    column: Mat66
    """Inverse of N, transposed."""

    right: Vec6
    """b."""

    multiplier: Vec6
    """Of the active constraints, >= 0; their product with b is an upper bound of the maximum."""

    y: Vec6
    """The vertex; in P at the end."""


@wp.func
def edge_direction(edge: wp.array[wp.vec2d], slope: wp.vec2d):
    """Direction of the friction force that goes furthest along ``slope``."""
    if edge.shape[0] == 0:
        return wp.normalize(slope)
    best = edge[0]
    value = wp.dot(best, slope)
    for i in range(1, edge.shape[0]):
        trial = wp.dot(edge[i], slope)
        if trial > value:
            value = trial
            best = edge[i]
    return best


@wp.func
def contact_weights(edge: wp.array[wp.vec2d], along: wp.vec4d):
    """Weights of the four rows of a contact in its wrench that goes furthest, from how far each row goes."""
    one = wp.float64(1.0)
    slope = wp.vec2d(along[1], along[2])
    direction = edge_direction(edge, slope)
    if wp.abs(along[3]) > wp.dot(direction, slope):
        return wp.vec4d(one, wp.float64(0.0), wp.float64(0.0), wp.sign(along[3]))
    return wp.vec4d(one, direction[0], direction[1], wp.float64(0.0))


@wp.func
def may_exceed(along: wp.vec4d, best: wp.float64):
    """Whether a wrench of one contact may go further than ``best``; exact for circular cones."""
    missing = best - along[0]
    friction = along[1] * along[1] + along[2] * along[2]
    return missing < wp.float64(0.0) or wp.max(friction, along[3] * along[3]) > missing * missing


@wp.func
def strongest(space: WrenchSpace, grasp: int, y: Vec6, floor: wp.float64):
    """Of the contacts' wrenches the one that goes furthest along y, if further than ``floor``; else zero."""
    best = floor
    chosen = int(-1)
    weights = wp.vec4d()
    for contact in range(space.contact_count[grasp]):
        along = space.wrench[grasp, contact] @ y
        if may_exceed(along, best):
            trial = contact_weights(space.edge, along)
            value = wp.dot(trial, along)
            if value > best:
                best = value
                chosen = contact
                weights = trial
    if chosen < 0:
        return Vec6()
    return weights @ space.wrench[grasp, chosen]


@wp.func
def strongest_sum(space: WrenchSpace, grasp: int, y: Vec6):
    """Sum over the contacts of each one's wrench that goes furthest along y, where that is forwards."""
    wrench = Vec6()
    for contact in range(space.contact_count[grasp]):
        along = space.wrench[grasp, contact] @ y
        if may_exceed(along, wp.float64(0.0)):
            weights = contact_weights(space.edge, along)
            if wp.dot(weights, along) > wp.float64(0.0):
                wrench += weights @ space.wrench[grasp, contact]
    return wrench


@wp.func
def support(space: WrenchSpace, grasp: int, y: Vec6, floor: wp.float64):
    """The wrench of one grasp that goes furthest along y, minus the shift; zero where none goes beyond ``floor``."""
    if space.summed == 1:
        return strongest_sum(space, grasp, y) - space.shift[grasp]
    wrench = strongest(space, grasp, y, floor + wp.dot(space.shift[grasp], y))
    if wp.length_sq(wrench) > wp.float64(0.0):
        wrench = wrench - space.shift[grasp]
    return wrench


@wp.func
def box_program(c: Vec6):
    """The program max c . y with the box |y_i| <= FAR as its first constraints."""
    program = Program()
    for i in range(6):
        side = wp.where(c[i] < wp.float64(0.0), wp.float64(-1.0), wp.float64(1.0))
        program.row[i, i] = side
        program.column[i, i] = side
        # The tiny part keeps the dual from being degenerate where c has zeros.
        program.multiplier[i] = wp.abs(c[i]) + wp.float64(1.0e-12) * wp.float64(i + 1)
        program.right[i] = FAR
    return program


@wp.func
def leaving(alpha: Vec6, multiplier: Vec6):
    """The active constraint that gives way to one with coefficients alpha in the others; -1: none."""
    leave = int(-1)
    ratio = wp.float64(1.0e300)
    for i in range(6):
        if alpha[i] > wp.float64(1.0e-12):
            trial = multiplier[i] / alpha[i]
            if trial < ratio:
                ratio = trial
                leave = i
    return leave


@wp.func
def lowest(t: Vec6):
    """Index of the least entry."""
    k = int(0)
    for i in range(1, 6):
        if t[i] < t[k]:
            k = i
    return k


@wp.func
def exchange(start: Program, enter: Vec6, right: wp.float64, alpha: Vec6, leave: int):
    """The program after enter . y = right took the place of an active constraint; alpha = column @ enter."""
    program = start
    direction = start.column[leave] / alpha[leave]
    change = start.multiplier[leave] / alpha[leave]
    others = alpha
    others[leave] = alpha[leave] - wp.float64(1.0)
    program.column = start.column - wp.outer(others, direction)
    program.multiplier = start.multiplier - change * others
    program.row[leave] = enter
    program.right[leave] = right
    return program


@wp.func
def maximize(
    space: WrenchSpace,
    grasp: int,
    start: Program,
    face: Mat66,
    enough: wp.float64,
    surplus: wp.float64,
    tolerance: wp.float64,
    pivots: int,
):
    """Follow a program to its maximum over P and the cone t = y face >= 0, or until the answer is known.

    That is when its upper bound is at most ``enough``, or when a point of P, the vertex shortened, has more than
    ``surplus``. Every step makes the wrench active that the vertex violates most; where it violates none, the face
    that it violates most.
    """
    program = start
    program.y = program.right @ program.column
    for _pivot in range(pivots):
        if wp.dot(program.multiplier, program.right) <= enough:
            break
        enter = support(space, grasp, program.y, wp.float64(1.0))
        right = wp.float64(1.0)
        t = program.y @ face
        k = lowest(t)
        value = wp.max(wp.dot(enter, program.y), wp.float64(1.0))
        if t[k] >= -tolerance and wp.dot(program.multiplier, program.right) > value * surplus:
            break
        if value <= wp.float64(1.0) + tolerance:
            if t[k] >= -tolerance:
                break
            for i in range(6):
                enter[i] = -face[i, k]
            right = wp.float64(0.0)
        alpha = program.column @ enter
        leave = leaving(alpha, program.multiplier)
        if leave < 0:
            break
        program = exchange(program, enter, right, alpha, leave)
        program.y = program.right @ program.column
    return program


@wp.kernel
def gauge(
    # In:
    space: WrenchSpace,
    target: wp.array[Vec6],
    # Out:
    gauge_out: wp.array[wp.float64],
):
    """The least factor s with target in s K, for sets that hold the origin in their relative inside.

    By duality, the maximum of target . y over P. Components of y in which neither the wrenches nor the target have
    a part do not matter.

    Launch: dim = grasp.

    Args:
        space: Contact wrenches of all grasps.
        target: The wrenches to reach, shape [grasp].
        gauge_out: The factors, shape [grasp].
    """
    grasp = wp.tid()
    zero = wp.float64(0.0)
    program = maximize(space, grasp, box_program(target[grasp]), Mat66(), -FAR, NEVER, wp.float64(1.0e-12), 400)
    gauge_out[grasp] = wp.max(wp.dot(target[grasp], program.y), zero)
