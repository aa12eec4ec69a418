"""Distance between a hand and obstacles both ways, hand points to meshes and points to links, and the penalty on it."""

import warp as wp

from .collision import CYLINDER, POLYTOPE, polytope  # noqa: TID251  a sibling, not the bare package
from .self_collision import point_distance  # noqa: TID251

wp.set_module_options({"enable_backward": False})


@wp.func
def shape_gap(point: wp.vec3, kind: int, size: wp.vec4, plane: wp.array[wp.vec4], plane_begin: int, plane_end: int):
    """Signed distance [m] of a point to a shape, and its gradient, in the shape's frame.

    Outside a polytope it is the distance to the furthest plane, which is no more than that to the polytope.
    """
    if kind == POLYTOPE:
        return polytope(point, plane, plane_begin, plane_end)
    return point_distance(point, kind, size)


@wp.func
def box_around(kind: int, size: wp.vec4, bound: float, turn: wp.quat):
    """Half sides of the upright box around a turned shape [m]; ``bound`` is the radius of a ball around a polytope."""
    if kind == POLYTOPE:
        return wp.vec3(bound, bound, bound)
    half = wp.vec3(size[0] + size[3], size[1] + size[3], size[2] + size[3])
    if kind == CYLINDER:
        half = wp.vec3(size[0], size[0], size[1])
    m = wp.quat_to_matrix(turn)
    return wp.vec3(
        wp.abs(m[0, 0]) * half[0] + wp.abs(m[0, 1]) * half[1] + wp.abs(m[0, 2]) * half[2],
        wp.abs(m[1, 0]) * half[0] + wp.abs(m[1, 1]) * half[1] + wp.abs(m[1, 2]) * half[2],
        wp.abs(m[2, 0]) * half[0] + wp.abs(m[2, 1]) * half[1] + wp.abs(m[2, 2]) * half[2],
    )


@wp.kernel
def obstacle_penalties(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_sphere: wp.array[wp.vec4],
    shape_plane_begin: wp.array[int],
    plane: wp.array[wp.vec4],
    link_shape_begin: wp.array[int],
    link_begin: wp.array[int],
    tree: wp.uint64,
    obstacle_point: wp.array[wp.vec4],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    point_position: wp.array2d[wp.vec3],
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    # Options:
    weight: float,
    margin: float,
    # Out:
    link_loss_out: wp.array2d[float],
    link_wrench_out: wp.array2d[wp.spatial_vector],
):
    """Penalty on a link that is nearer to an obstacle than a margin, and its gradient.

    L = sum over the link's points of w max(m - d, 0)^2 + sum over its shapes and the obstacles' points of
    w max(m + r - s, 0)^2

    with d the signed distance of the link's point to the obstacles' meshes, s the one of an obstacle's point to a
    shape and r the point's radius.

    Launch: dim = (grasp, link). Each thread adds in the same order, without atomics.

    Args:
        shape_kind: See ``collision.deepest_link``, shape [shape].
        shape_transform: Likewise.
        shape_size: Likewise.
        shape_sphere: Likewise.
        shape_plane_begin: Likewise, shape [shape + 1].
        plane: Likewise.
        link_shape_begin: Likewise, shape [link + 1].
        link_begin: First of the points on each link's skin and, last, their number, shape [link + 1].
        tree: Id of the tree of boxes around the obstacles' points.
        obstacle_point: Points of the obstacles in the object frame and their radii [m], shape [obstacle point].
        link_transform: Links in the object frame, shape [grasp, link].
        point_position: Points on the hand's skin in the object frame [m], shape [grasp, point].
        distance: d [m], shape [grasp, point].
        distance_gradient: Derivative of d with respect to the point, shape [grasp, point].
        weight: w [1/m^2].
        margin: m [m].
        link_loss_out: L, shape [grasp, link].
        link_wrench_out: Gradient for the link's motion: for a translation, and for a rotation about the object frame's
            origin. L's is added to what is there. Shape [grasp, link].
    """
    grasp, link = wp.tid()
    loss = float(0.0)
    force = wp.vec3()
    torque = wp.vec3()
    for point in range(link_begin[link], link_begin[link + 1]):
        short = margin - distance[grasp, point]
        if short > 0.0:
            loss += weight * short * short
            slope = -2.0 * weight * short * distance_gradient[grasp, point]
            force += slope
            torque += wp.cross(point_position[grasp, point], slope)
    for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
        pose = link_transform[grasp, link] * shape_transform[shape]
        into_shape = wp.transform_inverse(pose)
        ball = shape_sphere[shape]
        center = wp.transform_get_translation(pose)
        half = box_around(shape_kind[shape], shape_size[shape], ball[3], wp.transform_get_rotation(pose))
        if shape_kind[shape] == POLYTOPE:
            center = wp.transform_point(link_transform[grasp, link], wp.vec3(ball[0], ball[1], ball[2]))
        half += wp.vec3(margin, margin, margin)
        query = wp.bvh_query_aabb(tree, center - half, center + half)
        found = int(0)
        while wp.bvh_query_next(query, found):
            there = wp.vec3(obstacle_point[found][0], obstacle_point[found][1], obstacle_point[found][2])
            nearest = shape_gap(
                wp.transform_point(into_shape, there),
                shape_kind[shape],
                shape_size[shape],
                plane,
                shape_plane_begin[shape],
                shape_plane_begin[shape + 1],
            )
            short = margin + obstacle_point[found][3] - nearest[0]
            if short > 0.0:
                loss += weight * short * short
                away = wp.transform_vector(pose, wp.vec3(nearest[1], nearest[2], nearest[3]))
                slope = 2.0 * weight * short * away
                force += slope
                torque += wp.cross(there, slope)
    link_loss_out[grasp, link] = loss
    link_wrench_out[grasp, link] += wp.spatial_vector(force, torque)


@wp.kernel
def link_clearances(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_sphere: wp.array[wp.vec4],
    shape_plane_begin: wp.array[int],
    plane: wp.array[wp.vec4],
    link_shape_begin: wp.array[int],
    link_begin: wp.array[int],
    tree: wp.uint64,
    obstacle_point: wp.array[wp.vec4],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    distance: wp.array2d[float],
    # Options:
    reach: float,
    # Out:
    clearance_out: wp.array2d[float],
):
    """Least signed distance between a link and the obstacles, both ways.

    Launch: dim = (grasp, link).

    Args:
        shape_kind: See ``collision.deepest_link``, shape [shape].
        shape_transform: Likewise.
        shape_size: Likewise.
        shape_sphere: Likewise.
        shape_plane_begin: Likewise, shape [shape + 1].
        plane: Likewise.
        link_shape_begin: Likewise, shape [link + 1].
        link_begin: First of the points on each link's skin and, last, their number, shape [link + 1].
        tree: Id of the tree of boxes around the obstacles' points.
        obstacle_point: Points of the obstacles in the object frame and their radii [m], shape [obstacle point].
        link_transform: Links in the object frame, shape [grasp, link].
        distance: Signed distance of points on the hand's skin to the obstacles' meshes [m], shape [grasp, point].
        reach: What is further away counts as this far [m].
        clearance_out: Shape [grasp, link].
    """
    grasp, link = wp.tid()
    least = float(reach)
    for point in range(link_begin[link], link_begin[link + 1]):
        least = wp.min(least, distance[grasp, point])
    for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
        pose = link_transform[grasp, link] * shape_transform[shape]
        into_shape = wp.transform_inverse(pose)
        ball = shape_sphere[shape]
        center = wp.transform_get_translation(pose)
        half = box_around(shape_kind[shape], shape_size[shape], ball[3], wp.transform_get_rotation(pose))
        if shape_kind[shape] == POLYTOPE:
            center = wp.transform_point(link_transform[grasp, link], wp.vec3(ball[0], ball[1], ball[2]))
        around = wp.max(least, 0.0)
        half += wp.vec3(around, around, around)
        query = wp.bvh_query_aabb(tree, center - half, center + half)
        found = int(0)
        while wp.bvh_query_next(query, found):
            there = wp.vec3(obstacle_point[found][0], obstacle_point[found][1], obstacle_point[found][2])
            nearest = shape_gap(
                wp.transform_point(into_shape, there),
                shape_kind[shape],
                shape_size[shape],
                plane,
                shape_plane_begin[shape],
                shape_plane_begin[shape + 1],
            )
            least = wp.min(least, nearest[0] - obstacle_point[found][3])
    clearance_out[grasp, link] = least
