"""The radius of the largest ball about the origin in a set of wrenches, with a lower and an upper bound.

epsilon = min over unit d of h(d) = 1 / max over y in P of |y|, where P is the polar of the set (see gauge.py). The
maximum of a convex function over a convex set has many local maxima; branch and bound over cones finds the global one.

In the cone of six unit rays u_k, y = sum t_k u_k with t >= 0, so |y| <= sum t_k. The maximum of that sum over P within
the cone is a linear program, and its value bounds |y| there. Cones whose bound exceeds the best |y| known are cut in
two along the edge (k, l) that contributes most to the difference (sum t)^2 - |y|^2 = 2 sum t_k t_l (1 - u_k . u_l). The
halves go on from the program of the whole, whose dual stays feasible: that saves most of the steps.

Source: conical branch and bound is Tuy 1964; the bound on |y| and the choice of the edge are our own.
"""

import warp as wp

from .gauge import (  # noqa: TID251
    FAR,
    NEVER,
    Mat66,
    Program,
    Vec6,
    WrenchSpace,
    box_program,
    exchange,
    leaving,
    lowest,
    maximize,
    support,
)

wp.set_module_options({"enable_backward": False})

ORTHANTS = wp.constant(64)
LOCAL_STEPS = wp.constant(30)
PIVOTS = wp.constant(80)


@wp.func
def into_polar(space: WrenchSpace, grasp: int, y: Vec6):
    """Shorten y until it is in P."""
    return y / wp.max(wp.float64(1.0), wp.dot(support(space, grasp, y, wp.float64(1.0)), y))


@wp.func
def climb(space: WrenchSpace, grasp: int, start: Vec6):
    """A local maximum of |y| over P: the point furthest along y replaces y until that does not make it longer."""
    best = Vec6()
    length = wp.float64(0.0)
    c = start
    for _step in range(LOCAL_STEPS):
        program = maximize(space, grasp, box_program(c), Mat66(), -FAR, NEVER, wp.float64(1.0e-11), 4 * PIVOTS)
        y = into_polar(space, grasp, program.y)
        if wp.length(y) <= length * (wp.float64(1.0) + wp.float64(1.0e-11)):
            break
        length = wp.length(y)
        best = y
        c = y / length
    return best


@wp.func
def far_program(ray: Mat66, face: Mat66):
    """The program max sum t over a cone, starting from a bound on the sum that is far away.

    Each t weighs up to 7e-9 more than one, by a different amount, which keeps the dual from being degenerate; the
    maximum is then an upper bound of the one that is asked for.
    """
    program = Program()
    faces = wp.transpose(face)
    program.right[0] = FAR
    program.row[0] = faces[0] + faces[1] + faces[2] + faces[3] + faces[4] + faces[5]
    program.column[0] = ray[0]
    program.multiplier[0] = wp.float64(1.0) + wp.float64(7.0e-9)
    for k in range(1, 6):
        program.row[k] = -faces[k]
        program.column[k] = ray[0] - ray[k]
        program.multiplier[k] = wp.float64(1.0e-9) * wp.float64(6 - k)
    return program


@wp.func
def cone_program(space: WrenchSpace, grasp: int, ray: Mat66, face: Mat66):
    """The program max sum t over a cone, starting from the wrench that goes furthest along its middle."""
    middle = ray[0] + ray[1] + ray[2] + ray[3] + ray[4] + ray[5]
    wrench = support(space, grasp, middle, -FAR)
    along = ray @ wrench
    j = lowest(along)
    if along[j] < wp.float64(1.0e-3):
        return far_program(ray, face)
    program = Program()
    for k in range(6):
        program.row[k] = -wp.transpose(face)[k]
        program.column[k] = along[k] / along[j] * ray[j] - ray[k]
        program.multiplier[k] = along[k] / along[j] - wp.float64(1.0)
    program.right[j] = wp.float64(1.0)
    program.row[j] = wrench
    program.column[j] = ray[j] / along[j]
    program.multiplier[j] = wp.float64(1.0) / along[j]
    return program


@wp.func
def narrowed(start: Program, side: Vec6, weight: wp.float64):
    """The program after the constraint side . y <= 0 came in and weight * side was added to the objective.

    What was an optimal vertex's dual stays feasible: the new constraint takes the weight, and then as much more or
    less as lowers the bound most.
    """
    program = start
    alpha = start.column @ side
    leave = int(-1)
    if wp.dot(start.right, alpha) > wp.float64(0.0):
        leave = leaving(alpha, start.multiplier)
    if leave < 0:
        leave = leaving(-alpha, start.multiplier)
        if leave >= 0:
            if start.multiplier[leave] >= -alpha[leave] * weight:
                leave = int(-1)
    if leave >= 0:
        program = exchange(start, side, wp.float64(0.0), alpha, leave)
        program.multiplier[leave] = program.multiplier[leave] + weight
    else:
        program.multiplier = wp.max(start.multiplier + weight * alpha, Vec6())
    return program


@wp.func
def proved_length(program: Program, ray: Mat66):
    """Upper bound of |y| over P within the cone that needs no faith in the inverse.

    The multipliers make one wrench of K: where it goes as far as one along every ray, sum t <= their sum.
    """
    wrench = Vec6()
    total = wp.float64(0.0)
    for i in range(6):
        if program.right[i] > wp.float64(0.0):
            share = wp.max(program.multiplier[i], wp.float64(0.0))
            wrench += share * program.row[i]
            total += share * program.right[i]
    return total / wp.max(wp.min(ray @ wrench), wp.float64(1.0e-9))


@wp.func
def is_within(program: Program, ray: Mat66, limit: wp.float64):
    """Whether what the active constraints leave beyond c . y = limit is a simplex inside the ball of that radius.

    On this side of it, the cone is inside too, since c . y >= sum t. The last lines distrust rounding.
    """
    if wp.length(program.y) > limit:
        return False
    excess = wp.dot(program.multiplier, program.right) - limit
    for i in range(6):
        corner = program.multiplier[i] * program.y - excess * program.column[i]
        if wp.length(corner) > limit * program.multiplier[i]:
            return False
    if wp.min(ray @ (program.multiplier @ program.row)) < wp.float64(1.0) - wp.float64(1.0e-9):
        return False
    error = program.row @ wp.transpose(program.column)
    for i in range(6):
        error[i, i] = error[i, i] - wp.float64(1.0)
    return wp.ddot(error, error) < wp.float64(1.0e-14)


@wp.func
def longest_edge(ray: Mat66, t: Vec6):
    """The pair of rays that contributes most to (sum t)^2 - |y|^2, by its square root; t >= 0."""
    pair = wp.vec2i(0, 1)
    most = wp.float64(-1.0)
    for k in range(6):
        for j in range(k):
            excess = wp.sqrt(t[k] * t[j]) * (wp.float64(1.0) - wp.dot(ray[k], ray[j]))
            if excess > most:
                most = excess
                pair = wp.vec2i(j, k)
    return pair


@wp.func
def put_cone(
    ray: Mat66,
    face: Mat66,
    program: Program,
    grasp: int,
    slot: int,
    ray_out: wp.array2d[Mat66],
    face_out: wp.array2d[Mat66],
    program_out: wp.array2d[Program],
):
    """Store one cone on the stack."""
    ray_out[grasp, slot] = ray
    face_out[grasp, slot] = face
    program_out[grasp, slot] = program


@wp.func
def replace_ray(ray: Mat66, row: int, new: Vec6):
    """The cone with one ray replaced."""
    cone = ray
    cone[row] = new
    return cone


@wp.func
def replace_face(face: Mat66, row: int, other: int, share: wp.float64, length: wp.float64):
    """Inverse of the rays after ray ``row`` became (share ray[row] + (1 - share) ray[other]) / length."""
    cone = face
    for i in range(6):
        cone[i, row] = face[i, row] * length / share
        cone[i, other] = face[i, other] - face[i, row] * (wp.float64(1.0) - share) / share
    return cone


@wp.func
def put_halves(
    program: Program,
    t: Vec6,
    grasp: int,
    slot: int,
    ray_out: wp.array2d[Mat66],
    face_out: wp.array2d[Mat66],
    program_out: wp.array2d[Program],
):
    """Cut the cone at ``slot`` in two, near the point y = sum t_k u_k, and store the halves there and above."""
    ray = ray_out[grasp, slot]
    face = face_out[grasp, slot]
    pair = longest_edge(ray, t)
    j = pair[0]
    k = pair[1]
    one = wp.float64(1.0)
    share = wp.clamp(t[j] / wp.max(t[j] + t[k], wp.float64(1.0e-300)), wp.float64(0.35), wp.float64(0.65))
    cut = share * ray[j] + (one - share) * ray[k]
    length = wp.length(cut)
    faces = wp.transpose(face)
    first = narrowed(program, -faces[j], (one - length) / share)
    second = narrowed(program, -faces[k], (one - length) / (one - share))
    first_face = replace_face(face, j, k, share, length)
    second_face = replace_face(face, k, j, one - share, length)
    put_cone(replace_ray(ray, j, cut / length), first_face, first, grasp, slot, ray_out, face_out, program_out)
    put_cone(replace_ray(ray, k, cut / length), second_face, second, grasp, slot + 1, ray_out, face_out, program_out)


@wp.func
def put_orthants(
    space: WrenchSpace,
    frame: Mat66,
    grasp: int,
    ray_out: wp.array2d[Mat66],
    face_out: wp.array2d[Mat66],
    program_out: wp.array2d[Program],
):
    """Start with the 64 orthants of an orthonormal frame."""
    for orthant in range(ORTHANTS):
        ray = frame
        for k in range(6):
            if ((orthant >> k) & 1) == 1:
                ray[k] = -frame[k]
        face = wp.transpose(ray)
        put_cone(ray, face, cone_program(space, grasp, ray, face), grasp, orthant, ray_out, face_out, program_out)


@wp.func
def turned_frame(frame: Mat66, first: Vec6):
    """The orthonormal frame with ``first`` in the place of the row nearest to it, and the others across it."""
    most = int(0)
    for k in range(1, 6):
        if wp.abs(wp.dot(frame[k], first)) > wp.abs(wp.dot(frame[most], first)):
            most = k
    turned = frame
    turned[most] = first
    for k in range(6):
        if k != most:
            row = frame[k] - wp.dot(frame[k], first) * first
            for j in range(k):
                if j != most:
                    row = row - wp.dot(turned[j], row) * turned[j]
            turned[k] = wp.normalize(row)
    return turned


@wp.kernel
def epsilon_bounds(
    # In:
    space: WrenchSpace,
    start: wp.array[Vec6],
    frame: wp.array[Mat66],
    # Options:
    tolerance: wp.float64,
    cone_limit: int,
    # Out:
    ray_out: wp.array2d[Mat66],
    face_out: wp.array2d[Mat66],
    program_out: wp.array2d[Program],
    lower_out: wp.array[wp.float64],
    upper_out: wp.array[wp.float64],
    cone_count_out: wp.array[int],
):
    """Bound the radius of the largest ball about the origin in K.

    Local maxima of |y| come first, one from each start; then the proof, which stops when no cone is left that could
    hold a point more than ``tolerance`` longer. After ``cone_limit`` cones no more are cut, and the bounds of those
    that are left count.

    Launch: dim = grasp. One thread follows one grasp, with a stack of cones of its own.

    Args:
        space: Contact wrenches of all grasps.
        start: Directions to climb from, shape [start].
        frame: Rows are an orthonormal frame; turned to the longest y, its orthants are the first cones, shape [grasp].
        tolerance: Relative difference of the bounds to stop at.
        cone_limit: Cones of one grasp after which none is cut any more.
        ray_out: Stack: unit rays of each cone in rows, shape [grasp, slot].
        face_out: Stack: inverse of the rays, so that t = y face, shape [grasp, slot].
        program_out: Stack: dual feasible programs max sum t over each cone, shape [grasp, slot].
        lower_out: Lower bounds, shape [grasp].
        upper_out: Upper bounds, attained in some direction; 0: no ball about the origin, shape [grasp].
        cone_count_out: Cones looked at, shape [grasp].
    """
    grasp = wp.tid()
    far = wp.float64(0.1) * FAR
    factor = wp.float64(1.0) + tolerance
    longest = wp.float64(0.0)
    best = Vec6()
    for i in range(start.shape[0]):
        y = climb(space, grasp, start[i])
        if wp.length(y) > longest:
            longest = wp.length(y)
            best = y
    basis = frame[grasp]
    if longest > wp.float64(0.0):
        basis = turned_frame(frame[grasp], best / longest)
    put_orthants(space, basis, grasp, ray_out, face_out, program_out)
    size = int(ORTHANTS)
    cone_count = int(0)
    unproved = wp.float64(0.0)
    while size > 0 and longest < far:
        size -= 1
        limit = longest * factor
        ray = ray_out[grasp, size]
        face = face_out[grasp, size]
        cone_count += 1
        program = program_out[grasp, size]
        program = maximize(space, grasp, program, face, limit, limit, wp.float64(1.0e-6), PIVOTS)
        bound = wp.dot(program.multiplier, program.right)
        if bound <= limit and proved_length(program, ray) > limit:
            # Many exchanges have worn out the inverse.
            program = cone_program(space, grasp, ray, face)
            program = maximize(space, grasp, program, face, limit, limit, wp.float64(1.0e-6), PIVOTS)
            bound = proved_length(program, ray)
        if bound <= limit or is_within(program, ray, limit):
            continue
        if cone_count > cone_limit or size + 2 > ray_out.shape[1]:
            unproved = wp.max(unproved, proved_length(program, ray))
            continue
        y = into_polar(space, grasp, program.y)
        if wp.length(y) > longest:
            longest = wp.max(wp.length(y), wp.length(climb(space, grasp, wp.normalize(y))))
        put_halves(program, wp.max(program.y @ face, Vec6()), grasp, size, ray_out, face_out, program_out)
        size += 2
    cone_count_out[grasp] = cone_count
    lower_out[grasp] = wp.float64(0.0)
    upper_out[grasp] = wp.float64(0.0)
    if longest < far:
        upper_out[grasp] = wp.float64(1.0) / longest
        if unproved < far:
            lower_out[grasp] = wp.float64(1.0) / wp.max(unproved, longest * factor)
