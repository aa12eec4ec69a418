"""Depth of points inside the convex shapes of the hand's links."""

import warp as wp

wp.set_module_options({"enable_backward": False})

ROUNDED_BOX = wp.constant(0)
CYLINDER = wp.constant(1)
POLYTOPE = wp.constant(2)


@wp.func
def rounded_box(point: wp.vec3, half_extents: wp.vec3, radius: float):
    """Signed distance [m] to a box grown by ``radius``, and its gradient; spheres and capsules are special cases."""
    side = wp.vec3(wp.sign(point[0]), wp.sign(point[1]), wp.sign(point[2]))
    excess = wp.abs(point) - half_extents
    outside = wp.max(excess, wp.vec3())
    length = wp.length(outside)
    if length > 0.0:
        direction = wp.cw_mul(side, outside) / length
        return wp.vec4(length - radius, direction[0], direction[1], direction[2])
    if excess[0] >= excess[1] and excess[0] >= excess[2]:
        return wp.vec4(excess[0] - radius, side[0], 0.0, 0.0)
    if excess[1] >= excess[2]:
        return wp.vec4(excess[1] - radius, 0.0, side[1], 0.0)
    return wp.vec4(excess[2] - radius, 0.0, 0.0, side[2])


@wp.func
def cylinder(point: wp.vec3, radius: float, half_length: float):
    """Largest of the distances [m] to the side and the caps of a cylinder along z, and its gradient; exact inside."""
    from_axis = wp.length(wp.vec2(point[0], point[1]))
    side = from_axis - radius
    cap = wp.abs(point[2]) - half_length
    if side >= cap:
        scale = 1.0 / wp.max(from_axis, 1.0e-9)
        return wp.vec4(side, point[0] * scale, point[1] * scale, 0.0)
    return wp.vec4(cap, 0.0, 0.0, wp.sign(point[2]))


@wp.func
def polytope(point: wp.vec3, plane: wp.array[wp.vec4], begin: int, end: int):
    """Largest of the distances [m] to the planes n . x = d, and its gradient; exact inside."""
    nearest = wp.vec4(-1.0e6, 0.0, 0.0, 0.0)
    for i in range(begin, end):
        normal = wp.vec3(plane[i][0], plane[i][1], plane[i][2])
        distance = wp.dot(normal, point) - plane[i][3]
        if distance > nearest[0]:
            nearest = wp.vec4(distance, normal[0], normal[1], normal[2])
    return nearest


@wp.func
def shape_distance(
    point: wp.vec3, kind: int, size: wp.vec4, plane: wp.array[wp.vec4], plane_begin: int, plane_end: int
):
    """Signed distance [m] to a shape, exact inside it, and its gradient, in the shape's frame."""
    if kind == ROUNDED_BOX:
        return rounded_box(point, wp.vec3(size[0], size[1], size[2]), size[3])
    if kind == CYLINDER:
        return cylinder(point, size[0], size[1])
    return polytope(point, plane, plane_begin, plane_end)


@wp.kernel
def place_spheres(
    # Model:
    link_sphere: wp.array[wp.vec4],
    # State:
    link_transform: wp.array2d[wp.transform],
    # Out:
    sphere_out: wp.array2d[wp.vec4],
):
    """Bounding spheres of the links in the object frame, with squared radii.

    Launch: dim = (grasp, link).

    Args:
        link_sphere: Bounding sphere in the link's frame, centre and radius [m], shape [link].
        link_transform: Links in the object frame, shape [grasp, link].
        sphere_out: Centre in the object frame [m] and squared radius [m^2], shape [grasp, link].
    """
    grasp, link = wp.tid()
    sphere = link_sphere[link]
    center = wp.transform_point(link_transform[grasp, link], wp.vec3(sphere[0], sphere[1], sphere[2]))
    sphere_out[grasp, link] = wp.vec4(center[0], center[1], center[2], sphere[3] * sphere[3])


@wp.kernel
def deepest_link(
    # Model:
    shape_kind: wp.array[int],
    shape_transform: wp.array[wp.transform],
    shape_size: wp.array[wp.vec4],
    shape_sphere: wp.array[wp.vec4],
    shape_plane_begin: wp.array[int],
    plane: wp.array[wp.vec4],
    link_shape_begin: wp.array[int],
    link_sphere: wp.array[wp.vec4],
    may_touch: wp.array2d[int],
    cluster_begin: wp.array[int],
    cluster_link: wp.array[int],
    cluster_sphere: wp.array[wp.vec4],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    sphere: wp.array2d[wp.vec4],
    point_position: wp.array2d[wp.vec3],
    # Out:
    touched_out: wp.array2d[int],
    link_out: wp.array2d[int],
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """The link that each point of a cluster is deepest inside, how deep, and the way out.

    Only links and shapes whose spheres meet the cluster's are looked at. Where ``touched_out`` is 0 on entry, the other
    outputs are taken to say already that no point is inside any link.

    Launch: dim = (grasp, cluster).

    Args:
        shape_kind: 0 rounded box, 1 cylinder, 2 polytope, shape [shape]; shapes are sorted by link.
        shape_transform: Shape in its link's frame, shape [shape].
        shape_size: Half extents and radius, or radius and half length [m], shape [shape].
        shape_sphere: Bounding sphere in the link's frame, centre and radius [m], shape [shape].
        shape_plane_begin: First plane of each polytope and, last, the number of planes, shape [shape + 1].
        plane: Planes n . x = d of the polytopes in the shape's frame, (n, d) [m], shape [plane].
        link_shape_begin: First shape of each link and, last, the number of shapes, shape [link + 1].
        link_sphere: Bounding sphere of each link in its frame, centre and radius [m], shape [link].
        may_touch: 1 where a point of the row's link must stay out of the column's link; the last row is for points
            that belong to no link, shape [link + 1, link].
        cluster_begin: First point of each cluster and, last, the number of points, shape [cluster + 1].
        cluster_link: Link of each cluster, the number of links for points of none, shape [cluster].
        cluster_sphere: Sphere around a cluster in the frame of its link, or in the object frame, centre and radius [m],
            shape [cluster].
        link_transform: Links in the object frame, shape [grasp, link].
        sphere: Bounding spheres of the links, see ``place_spheres``, shape [grasp, link].
        point_position: Points in the object frame [m], shape [grasp, point].
        touched_out: 1 where a point of the cluster is inside a link, shape [grasp, cluster].
        link_out: Deepest link, -1 where the point is in none, shape [grasp, point].
        distance_out: Minus the depth [m], 0 where the point is in no link, shape [grasp, point].
        gradient_out: Derivative of the distance with respect to the point, in the object frame, shape [grasp, point].
    """
    grasp, cluster = wp.tid()
    owner = cluster_link[cluster]
    begin = cluster_begin[cluster]
    end = cluster_begin[cluster + 1]
    if touched_out[grasp, cluster] == 1:
        for point in range(begin, end):
            link_out[grasp, point] = -1
            distance_out[grasp, point] = 0.0
            gradient_out[grasp, point] = wp.vec3()
        touched_out[grasp, cluster] = 0
    radius = cluster_sphere[cluster][3]
    center = wp.vec3(cluster_sphere[cluster][0], cluster_sphere[cluster][1], cluster_sphere[cluster][2])
    if owner < link_transform.shape[1]:
        center = wp.transform_point(link_transform[grasp, owner], center)

    for link in range(link_transform.shape[1]):
        if may_touch[owner, link] == 1:
            around = sphere[grasp, link]
            reach = radius + link_sphere[link][3]
            if wp.length_sq(center - wp.vec3(around[0], around[1], around[2])) < reach * reach:
                pose = link_transform[grasp, link]
                into_link = wp.transform_inverse(pose)
                local_center = wp.transform_point(into_link, center)
                for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
                    ball = shape_sphere[shape]
                    middle = wp.vec3(ball[0], ball[1], ball[2])
                    if wp.length(local_center - middle) < radius + ball[3]:
                        frame = shape_transform[shape]
                        into_shape = wp.transform_inverse(frame)
                        for point in range(begin, end):
                            local = wp.transform_point(into_link, point_position[grasp, point])
                            if wp.length_sq(local - middle) < ball[3] * ball[3]:
                                result = shape_distance(
                                    wp.transform_point(into_shape, local),
                                    shape_kind[shape],
                                    shape_size[shape],
                                    plane,
                                    shape_plane_begin[shape],
                                    shape_plane_begin[shape + 1],
                                )
                                if result[0] < distance_out[grasp, point]:
                                    out = wp.transform_vector(frame, wp.vec3(result[1], result[2], result[3]))
                                    touched_out[grasp, cluster] = 1
                                    link_out[grasp, point] = link
                                    distance_out[grasp, point] = result[0]
                                    gradient_out[grasp, point] = wp.transform_vector(pose, out)
