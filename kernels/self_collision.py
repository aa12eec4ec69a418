"""Signed distance between pairs of the hand's convex shapes, and the penalty on it.

The signed distance of two convex shapes is the largest gap between them over all directions: their distance, or minus
the least translation that parts them. A segment that is swept by a ball has it from the segment's point that is nearest
to the other shape. For two solid shapes the directions are tried where a gap can be largest; whichever is taken, the
gap along it is a lower bound of the distance.
"""

import warp as wp

from .collision import CYLINDER, POLYTOPE, rounded_box  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})

BISECTIONS = wp.constant(16)
"""Halvings of a segment: to a micrometre for any finger, and the distance is flat there."""

SEARCH_ROUNDS = wp.constant(16)
"""Rounds of the search for a better direction where a cylinder's rim is near."""

ALIGNED = wp.constant(1.0e-3)
"""Sine of the angle below which two directions count as the same."""


@wp.func
def solid_cylinder(point: wp.vec3, radius: float, half_length: float):
    """Signed distance [m] to a cylinder along z, exact on both sides, and its gradient."""
    from_axis = wp.length(wp.vec2(point[0], point[1]))
    scale = 1.0 / wp.max(from_axis, 1.0e-9)
    side = from_axis - radius
    cap = wp.abs(point[2]) - half_length
    along = wp.sign(point[2])
    if side > 0.0 and cap > 0.0:
        length = wp.sqrt(side * side + cap * cap)
        outward = side / length * scale
        return wp.vec4(length, point[0] * outward, point[1] * outward, along * cap / length)
    if side >= cap:
        return wp.vec4(side, point[0] * scale, point[1] * scale, 0.0)
    return wp.vec4(cap, 0.0, 0.0, along)


@wp.func
def point_distance(point: wp.vec3, kind: int, size: wp.vec4):
    """Signed distance [m] to a rounded box or cylinder, and its gradient, in the shape's frame."""
    if kind == CYLINDER:
        return solid_cylinder(point, size[0], size[1])
    return rounded_box(point, wp.vec3(size[0], size[1], size[2]), size[3])


@wp.func
def is_segment(kind: int, size: wp.vec4):
    """Whether a shape is a ball, or a ball swept along z."""
    return kind != CYLINDER and size[0] == 0.0 and size[1] == 0.0


@wp.func
def segment_distance(size: wp.vec4, kind: int, other: wp.vec4, pose: wp.transform):
    """Signed distance [m] of a swept segment to another shape, the direction towards the segment and the point.

    The distance is convex along the segment, so halving it by the sign of the slope finds the least.

    Args:
        size: Of the segment's shape.
        kind: Of the other shape.
        other: Its size.
        pose: Of the segment in the other shape's frame, in which direction and point are given.
    """
    center = wp.transform_get_translation(pose)
    axis = wp.transform_vector(pose, wp.vec3(0.0, 0.0, 1.0))
    low = -size[2]
    high = float(size[2])
    for _i in range(wp.where(size[2] > 0.0, BISECTIONS, 0)):
        middle = 0.5 * (low + high)
        result = point_distance(center + middle * axis, kind, other)
        if wp.dot(wp.vec3(result[1], result[2], result[3]), axis) > 0.0:
            high = middle
        else:
            low = middle
    point = center + 0.5 * (low + high) * axis
    result = point_distance(point, kind, other)
    return result[0] - size[3], wp.vec3(result[1], result[2], result[3]), point


@wp.func
def segments_distance(size_a: wp.vec4, size_b: wp.vec4, pose: wp.transform):
    """Signed distance [m] of two swept segments, the direction from a to b, and the nearest point of b's segment.

    Source: Ericson 2005, section 5.1.9.

    Args:
        size_a: Of the shape in whose frame all is.
        size_b: Of the other.
        pose: Of b.
    """
    center = wp.transform_get_translation(pose)
    axis = wp.transform_vector(pose, wp.vec3(0.0, 0.0, 1.0))
    along = wp.dot(center, axis)
    cosine = axis[2]
    sine_squared = axis[0] * axis[0] + axis[1] * axis[1]
    a = center[2]
    if sine_squared > ALIGNED * ALIGNED:
        a = (center[2] - cosine * along) / sine_squared
    a = wp.clamp(a, -size_a[2], size_a[2])
    b = wp.clamp(a * cosine - along, -size_b[2], size_b[2])
    a = wp.clamp(center[2] + b * cosine, -size_a[2], size_a[2])
    point = center + b * axis
    between = point - wp.vec3(0.0, 0.0, a)
    length = wp.length(between)
    if length < 1.0e-9:
        return -size_a[3] - size_b[3], wp.vec3(1.0, 0.0, 0.0), point
    return length - size_a[3] - size_b[3], between / length, point


@wp.func
def reach(kind: int, size: wp.vec4, n: wp.vec3):
    """How far a shape extends from its centre in a unit direction [m]."""
    if kind == CYLINDER:
        return size[0] * wp.length(wp.vec2(n[0], n[1])) + size[1] * wp.abs(n[2])
    return wp.abs(n[0]) * size[0] + wp.abs(n[1]) * size[1] + wp.abs(n[2]) * size[2] + size[3]


@wp.func
def wider(
    best: wp.vec4,
    direction: wp.vec3,
    kind_a: int,
    size_a: wp.vec4,
    kind_b: int,
    size_b: wp.vec4,
    center: wp.vec3,
    turn: wp.mat33,
):
    """The better of a unit direction with its gap, (n, gap [m]), and of another direction, which points from a to b.

    All shapes are symmetric about their centres, so the sign of a direction follows from the centre of b.
    """
    length = wp.length(direction)
    if length < ALIGNED:
        return best
    n = direction * (wp.where(wp.dot(direction, center) < 0.0, -1.0, 1.0) / length)
    gap = wp.dot(n, center) - reach(kind_a, size_a, n) - reach(kind_b, size_b, wp.transpose(turn) * n)
    if gap > best[3]:
        return wp.vec4(n[0], n[1], n[2], gap)
    return best


@wp.func
def axis_of(kind: int, i: int, towards: wp.vec3):
    """A unit direction in which a solid shape has a flat side; for a cylinder also the radial one to a point."""
    if kind == CYLINDER and i < 2:
        return wp.normalize(wp.vec3(towards[0], towards[1], 0.0)) * wp.where(i == 0, 1.0, 0.0)
    return wp.vec3(wp.where(i == 0, 1.0, 0.0), wp.where(i == 1, 1.0, 0.0), wp.where(i == 2, 1.0, 0.0))


@wp.func
def edge_of(kind: int, i: int):
    """A direction of straight edges; a cylinder's side has one only, and zero for the others."""
    if kind == CYLINDER and i < 2:
        return wp.vec3()
    return wp.vec3(wp.where(i == 0, 1.0, 0.0), wp.where(i == 1, 1.0, 0.0), wp.where(i == 2, 1.0, 0.0))


@wp.func
def corner_of(size: wp.vec4, i: int):
    """One of the eight corners of a box [m]."""
    return wp.vec3(
        wp.where((i & 1) == 0, -size[0], size[0]),
        wp.where((i & 2) == 0, -size[1], size[1]),
        wp.where((i & 4) == 0, -size[2], size[2]),
    )


@wp.func
def widest_gap(
    kind_a: int, size_a: wp.vec4, kind_b: int, size_b: wp.vec4, center: wp.vec3, turn: wp.mat33, enough: float
):
    """Direction from a to b along which two solid shapes are furthest apart, and their gap, (n, gap [m]).

    Two boxes are furthest apart along a normal or across two edges (Gottschalk et al. 1996, the separating axes). A
    cylinder's side adds the radial directions to corners; near its rim the best of these is improved by a search.

    Args:
        kind_a: Of the shape in whose frame all is.
        size_a: Its size.
        kind_b: Of the other.
        size_b: Its size.
        center: Of b.
        turn: Rotation of b.
        enough: Gap at which it does not matter whether there is a wider one [m].
    """
    best = wp.vec4(0.0, 0.0, 1.0, -1.0e6)
    back = wp.transpose(turn) * center
    for i in range(3):
        best = wider(best, axis_of(kind_a, i, center), kind_a, size_a, kind_b, size_b, center, turn)
        best = wider(best, turn * axis_of(kind_b, i, back), kind_a, size_a, kind_b, size_b, center, turn)
        if best[3] > enough:
            return best
    for i in range(3):
        for j in range(3):
            across = wp.cross(edge_of(kind_a, i), turn * edge_of(kind_b, j))
            best = wider(best, across, kind_a, size_a, kind_b, size_b, center, turn)
    if best[3] > enough or (kind_a - CYLINDER) * (kind_b - CYLINDER) != 0:
        return best
    for i in range(8):
        if kind_b != CYLINDER:
            corner = center + turn * corner_of(size_b, i)
            radial = wp.normalize(wp.vec3(corner[0], corner[1], 0.0))
            best = wider(best, radial, kind_a, size_a, kind_b, size_b, center, turn)
        elif kind_a != CYLINDER:
            corner = wp.transpose(turn) * (corner_of(size_a, i) - center)
            radial = turn * wp.normalize(wp.vec3(corner[0], corner[1], 0.0))
            best = wider(best, radial, kind_a, size_a, kind_b, size_b, center, turn)
    step = float(0.4)
    for _i in range(SEARCH_ROUNDS):
        n = wp.vec3(best[0], best[1], best[2])
        side = wp.normalize(wp.cross(n, wp.where(wp.abs(n[0]) < 0.6, wp.vec3(1.0, 0.0, 0.0), wp.vec3(0.0, 1.0, 0.0))))
        up = wp.cross(n, side)
        best = wider(best, n + step * side, kind_a, size_a, kind_b, size_b, center, turn)
        best = wider(best, n - step * side, kind_a, size_a, kind_b, size_b, center, turn)
        best = wider(best, n + step * up, kind_a, size_a, kind_b, size_b, center, turn)
        best = wider(best, n - step * up, kind_a, size_a, kind_b, size_b, center, turn)
        step = 0.6 * step
    return best


@wp.func
def tied(kind: int, n: wp.vec3):
    """Which of its coordinates the direction does not decide for a shape's furthest point, 1 for each that is free."""
    flat = wp.vec3(
        wp.where(wp.abs(n[0]) < ALIGNED, 1.0, 0.0),
        wp.where(wp.abs(n[1]) < ALIGNED, 1.0, 0.0),
        wp.where(wp.abs(n[2]) < ALIGNED, 1.0, 0.0),
    )
    if kind == CYLINDER:
        both = flat[0] * flat[1]
        return wp.vec3(both, both, flat[2])
    return flat


@wp.func
def furthest_point(kind: int, size: wp.vec4, n: wp.vec3):
    """Furthest point of a solid shape in a direction, in the middle of those that are equally far [m]."""
    free = tied(kind, n)
    if kind == CYLINDER:
        scale = (1.0 - free[0]) * size[0] / wp.max(wp.length(wp.vec2(n[0], n[1])), 1.0e-9)
        return wp.vec3(scale * n[0], scale * n[1], (1.0 - free[2]) * wp.sign(n[2]) * size[1])
    return wp.vec3(
        (1.0 - free[0]) * wp.sign(n[0]) * size[0],
        (1.0 - free[1]) * wp.sign(n[1]) * size[1],
        (1.0 - free[2]) * wp.sign(n[2]) * size[2],
    )


@wp.func
def contact_point(
    n: wp.vec3, kind_a: int, size_a: wp.vec4, kind_b: int, size_b: wp.vec4, center: wp.vec3, turn: wp.mat33
):
    """A point of the line along which two solid shapes push each other apart [m]: the corner, or where edges cross."""
    along = wp.transpose(turn) * n
    point_a = furthest_point(kind_a, size_a, n)
    point_b = center + turn * furthest_point(kind_b, size_b, -along)
    free_a = tied(kind_a, n)
    free_b = tied(kind_b, along)
    count_a = free_a[0] + free_a[1] + free_a[2]
    count_b = free_b[0] + free_b[1] + free_b[2]
    if count_a < count_b:
        return point_a
    if count_b < count_a:
        return point_b
    if count_a == 1.0:
        edge = turn * free_b
        across = wp.length_sq(wp.cross(free_a, edge))
        if across > ALIGNED * ALIGNED:
            offset = wp.cross(point_b - point_a, edge)
            return point_a + wp.dot(offset, wp.cross(free_a, edge)) / across * free_a
    return 0.5 * (point_a + point_b)


@wp.func
def pair_distance(kind_a: int, size_a: wp.vec4, kind_b: int, size_b: wp.vec4, pose: wp.transform, enough: float):
    """Signed distance of two shapes [m], direction from a to b, and a point of the line of contact, in the frame of a.

    Args:
        kind_a: Of the one.
        size_a: Its size.
        kind_b: Of the other.
        size_b: Its size.
        pose: Of b in the frame of a.
        enough: Distance beyond which it need not be exact [m].
    """
    if is_segment(kind_a, size_a) and is_segment(kind_b, size_b):
        distance, direction, point = segments_distance(size_a, size_b, pose)
        return distance, direction, point
    if is_segment(kind_b, size_b):
        distance, direction, point = segment_distance(size_b, kind_a, size_a, pose)
        return distance, direction, point
    if is_segment(kind_a, size_a):
        distance, direction, point = segment_distance(size_a, kind_b, size_b, wp.transform_inverse(pose))
        return distance, -wp.transform_vector(pose, direction), wp.transform_point(pose, point)
    center = wp.transform_get_translation(pose)
    turn = wp.quat_to_matrix(wp.transform_get_rotation(pose))
    best = widest_gap(kind_a, size_a, kind_b, size_b, center, turn, enough)
    n = wp.vec3(best[0], best[1], best[2])
    return best[3], n, contact_point(n, kind_a, size_a, kind_b, size_b, center, turn)


@wp.kernel
def pair_penalties(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_sphere: wp.array[wp.vec4],
    link_shape_begin: wp.array[int],
    link_sphere: wp.array[wp.vec4],
    link_pair: wp.array[wp.vec2i],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    sphere: wp.array2d[wp.vec4],
    # Options:
    weight: float,
    margin: float,
    part_count: int,
    # Out:
    loss_out: wp.array2d[float],
    wrench_out: wp.array2d[wp.spatial_vector],
):
    """Penalty on two links that are nearer than a margin, and its gradient.

    L = sum over pairs of shapes of w max(m - s, 0)^2 with s their signed distance. Polytopes are left out.

    Launch: dim = (grasp, part); a part is every ``part_count``-th pair of links.

    Args:
        shape_kind: See ``collision.deepest_link``, shape [shape].
        shape_transform: Likewise.
        shape_size: Likewise.
        shape_sphere: Likewise.
        link_shape_begin: Likewise, shape [link + 1].
        link_sphere: Likewise, shape [link].
        link_pair: Links that must not touch, shape [pair].
        link_transform: Links in the object frame, shape [grasp, link].
        sphere: Bounding spheres of the links, see ``collision.place_spheres``, shape [grasp, link].
        weight: w [1/m^2].
        margin: m [m].
        part_count: Threads that share a grasp.
        loss_out: L, shape [grasp, pair].
        wrench_out: Gradient for the first link's motion: for a translation, and for a rotation about the object frame's
            origin. The second link's is its opposite. Shape [grasp, pair].
    """
    grasp, part = wp.tid()
    for pair in range(part, link_pair.shape[0], part_count):
        link_a = link_pair[pair][0]
        link_b = link_pair[pair][1]
        ball_a = sphere[grasp, link_a]
        ball_b = sphere[grasp, link_b]
        apart = wp.vec3(ball_a[0] - ball_b[0], ball_a[1] - ball_b[1], ball_a[2] - ball_b[2])
        limit = link_sphere[link_a][3] + link_sphere[link_b][3] + margin
        loss = float(0.0)
        force = wp.vec3()
        torque = wp.vec3()
        if wp.length_sq(apart) < limit * limit:
            pose_a = link_transform[grasp, link_a]
            relative = wp.transform_inverse(pose_a) * link_transform[grasp, link_b]
            for b in range(link_shape_begin[link_b], link_shape_begin[link_b + 1]):
                bound_b = shape_sphere[b]
                center_b = wp.transform_point(relative, wp.vec3(bound_b[0], bound_b[1], bound_b[2]))
                for a in range(link_shape_begin[link_a], link_shape_begin[link_a + 1]):
                    bound_a = shape_sphere[a]
                    between = center_b - wp.vec3(bound_a[0], bound_a[1], bound_a[2])
                    touching = bound_a[3] + bound_b[3] + margin
                    near = wp.length_sq(between) < touching * touching
                    if near and shape_kind[a] != POLYTOPE and shape_kind[b] != POLYTOPE:
                        frame = shape_transform[a]
                        distance, direction, point = pair_distance(
                            shape_kind[a],
                            shape_size[a],
                            shape_kind[b],
                            shape_size[b],
                            wp.transform_inverse(frame) * relative * shape_transform[b],
                            margin,
                        )
                        short = margin - distance
                        if short > 0.0:
                            whole = pose_a * frame
                            push = 2.0 * weight * short * wp.transform_vector(whole, direction)
                            loss += weight * short * short
                            force += push
                            torque += wp.cross(wp.transform_point(whole, point), push)
        loss_out[grasp, pair] = loss
        wrench_out[grasp, pair] = wp.spatial_vector(force, torque)


@wp.func
def sum_signed(wrench: wp.array2d[wp.spatial_vector], sided_pair: wp.array[int], grasp: int, begin: int, end: int):
    """Sum of the wrenches of some pairs; -1 - pair stands for the second link of a pair."""
    total = wp.spatial_vector()
    for i in range(begin, end):
        pair = sided_pair[i]
        if pair >= 0:
            total += wrench[grasp, pair]
        else:
            total -= wrench[grasp, -1 - pair]
    return total


@wp.kernel
def add_pair_wrenches(
    # Model:
    pair_begin: wp.array[int],
    sided_pair: wp.array[int],
    # In:
    pair_loss: wp.array2d[float],
    pair_wrench: wp.array2d[wp.spatial_vector],
    # State:
    link_wrench_out: wp.array2d[wp.spatial_vector],
    # Out:
    loss_out: wp.array[float],
):
    """Hand the wrenches of pairs to their links, and sum the loss of each grasp.

    Launch: dim = (grasp, link). Each thread adds in the same order, without atomics.

    Args:
        pair_begin: First entry of each link in ``sided_pair`` and, last, their number, shape [link + 1].
        sided_pair: Pairs that a link is the first of, and -1 - pair for those that it is the second of.
        pair_loss: Shape [grasp, pair].
        pair_wrench: Gradient for the first link's motion, shape [grasp, pair].
        link_wrench_out: Gradient with respect to the links; these are added, shape [grasp, link].
        loss_out: Shape [grasp].
    """
    grasp, link = wp.tid()
    link_wrench_out[grasp, link] += sum_signed(pair_wrench, sided_pair, grasp, pair_begin[link], pair_begin[link + 1])
    if link == 0:
        loss = float(0.0)
        for pair in range(pair_loss.shape[1]):
            loss += pair_loss[grasp, pair]
        loss_out[grasp] = loss
