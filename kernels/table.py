"""Height of the hand's convex shapes above a plane, and the penalty that keeps them there."""

import warp as wp

from .collision import CYLINDER, ROUNDED_BOX  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})


@wp.func
def lowest_corner(up: wp.vec3, vertex: wp.array[wp.vec3], begin: int, end: int):
    """The one of some vertices that is farthest against ``up``."""
    lowest = vertex[begin]
    height = wp.dot(up, lowest)
    for i in range(begin + 1, end):
        other = wp.dot(up, vertex[i])
        if other < height:
            lowest = vertex[i]
            height = other
    return lowest


@wp.func
def lowest_point(up: wp.vec3, kind: int, size: wp.vec4, vertex: wp.array[wp.vec3], begin: int, end: int):
    """The point of a convex shape that is farthest against the unit vector ``up``, in the shape's frame [m]."""
    if kind == ROUNDED_BOX:
        side = wp.vec3(wp.sign(up[0]), wp.sign(up[1]), wp.sign(up[2]))
        return -wp.cw_mul(side, wp.vec3(size[0], size[1], size[2])) - size[3] * up
    if kind == CYLINDER:
        scale = size[0] / wp.max(wp.length(wp.vec2(up[0], up[1])), 1.0e-9)
        return -wp.vec3(scale * up[0], scale * up[1], wp.sign(up[2]) * size[1])
    return lowest_corner(up, vertex, begin, end)


@wp.func
def placed_lowest_point(
    frame: wp.transform,
    normal: wp.vec3,
    kind: int,
    size: wp.vec4,
    vertex: wp.array[wp.vec3],
    begin: int,
    end: int,
):
    """The lowest point of a shape whose frame is ``frame``, in the frame of the plane's ``normal`` [m]."""
    up = wp.transform_vector(wp.transform_inverse(frame), normal)
    return wp.transform_point(frame, lowest_point(up, kind, size, vertex, begin, end))


@wp.kernel
def link_heights(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_vertex_begin: wp.array[int],
    vertex: wp.array[wp.vec3],
    link_shape_begin: wp.array[int],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    normal: wp.vec3,
    offset: float,
    # Out:
    height_out: wp.array2d[float],
):
    """Height of the lowest point of each link above a plane.

    Launch: dim = (grasp, link).

    Args:
        shape_kind: 0 rounded box, 1 cylinder, 2 polytope, shape [shape]; shapes are sorted by link.
        shape_transform: Shape in its link's frame, shape [shape].
        shape_size: Half extents and radius, or radius and half length [m], shape [shape].
        shape_vertex_begin: First vertex of each polytope and, last, the number of vertices, shape [shape + 1].
        vertex: Vertices of the polytopes in the shape's frame [m], shape [vertex].
        link_shape_begin: First shape of each link and, last, the number of shapes, shape [link + 1].
        link_transform: Links in the object frame, shape [grasp, link].
        normal: Unit normal of the plane, up, in the object frame.
        offset: The plane is normal . x = offset [m].
        height_out: [m], infinite for a link without shapes, shape [grasp, link].
    """
    grasp, link = wp.tid()
    height = float(wp.inf)
    for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
        point = placed_lowest_point(
            link_transform[grasp, link] * shape_transform[shape],
            normal,
            shape_kind[shape],
            shape_size[shape],
            vertex,
            shape_vertex_begin[shape],
            shape_vertex_begin[shape + 1],
        )
        height = wp.min(height, wp.dot(normal, point) - offset)
    height_out[grasp, link] = height


@wp.kernel
def table_wrenches(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_vertex_begin: wp.array[int],
    vertex: wp.array[wp.vec3],
    link_shape_begin: wp.array[int],
    link_sphere: wp.array[wp.vec4],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    normal: wp.vec3,
    offset: float,
    # Options:
    margin: float,
    weight: float,
    # Out:
    loss_out: wp.array2d[float],
    link_wrench_out: wp.array2d[wp.spatial_vector],
):
    """Penalty of shapes that are not ``margin`` above a plane, and its gradient added to the links' wrenches.

    l = weight sum_s max(0, margin - h_s)^2 with the height h_s of the lowest point p_s of each shape s, whose
    derivative for a motion of the link is the normal at p_s: f = -2 weight (margin - h_s) n, t = p_s x f.

    Source: the quadratic form of E_tpen in UniDexGrasp (Xu et al. 2023, supplement A, eq. 4), which is linear there
    and summed over points.
    Launch: dim = (grasp, link). One thread sums one link, so equal inputs give equal bits.

    Args:
        shape_kind: 0 rounded box, 1 cylinder, 2 polytope, shape [shape]; shapes are sorted by link.
        shape_transform: Shape in its link's frame, shape [shape].
        shape_size: Half extents and radius, or radius and half length [m], shape [shape].
        shape_vertex_begin: First vertex of each polytope and, last, the number of vertices, shape [shape + 1].
        vertex: Vertices of the polytopes in the shape's frame [m], shape [vertex].
        link_shape_begin: First shape of each link and, last, the number of shapes, shape [link + 1].
        link_sphere: Bounding sphere in the link's frame, centre and radius [m], shape [link].
        link_transform: Links in the object frame, shape [grasp, link].
        normal: Unit normal of the plane, up, in the object frame.
        offset: The plane is normal . x = offset [m].
        margin: Height that is kept [m].
        weight: [1/m^2]
        loss_out: Penalty of each link, shape [grasp, link].
        link_wrench_out: Gradient with respect to the links, increased, shape [grasp, link].
    """
    grasp, link = wp.tid()
    pose = link_transform[grasp, link]
    sphere = link_sphere[link]
    center = wp.transform_point(pose, wp.vec3(sphere[0], sphere[1], sphere[2]))
    loss = float(0.0)
    if wp.dot(normal, center) - sphere[3] < offset + margin:
        for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
            point = placed_lowest_point(
                pose * shape_transform[shape],
                normal,
                shape_kind[shape],
                shape_size[shape],
                vertex,
                shape_vertex_begin[shape],
                shape_vertex_begin[shape + 1],
            )
            lack = margin + offset - wp.dot(normal, point)
            if lack > 0.0:
                loss += weight * lack * lack
                force = -2.0 * weight * lack * normal
                link_wrench_out[grasp, link] += wp.spatial_vector(force, wp.cross(point, force))
    loss_out[grasp, link] = loss
