"""Depth of points inside the convex shapes of the hand's links."""

import warp as wp

wp.set_module_options({"enable_backward": False})

ROUNDED_BOX = wp.constant(0)
CYLINDER = wp.constant(1)
POLYTOPE = wp.constant(2)

HORIZON = wp.constant(0.01)
"""Clusters further than this from a link need not be told apart [m]."""

ROUNDING = wp.constant(1.0e-5)
"""What gaps and steps may be wrong by together [m]."""

GROUP_SIZE = wp.constant(32)
"""Clusters that share one set of links that their points are inside."""


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
def polytope(point: wp.vec3, plane: wp.array[wp.vec4], begin: int, end: int, enough: float = 1.0e6):
    """Largest of the distances [m] to the planes n . x = d, or the first above ``enough``, and its gradient."""
    nearest = wp.vec4(-1.0e6, 0.0, 0.0, 0.0)
    for i in range(begin, end):
        normal = wp.vec3(plane[i][0], plane[i][1], plane[i][2])
        distance = wp.dot(normal, point) - plane[i][3]
        if distance > nearest[0]:
            nearest = wp.vec4(distance, normal[0], normal[1], normal[2])
            if distance >= enough:
                return nearest
    return nearest


@wp.func
def shape_distance(
    point: wp.vec3,
    kind: int,
    size: wp.vec4,
    plane: wp.array[wp.vec4],
    plane_begin: int,
    plane_end: int,
    enough: float = 1.0e6,
):
    """Signed distance [m] to a shape and its gradient, in the shape's frame; exact inside it, no more than it outside.

    Of distances from ``enough`` on, only that they are no less than it counts.
    """
    if kind == ROUNDED_BOX:
        return rounded_box(point, wp.vec3(size[0], size[1], size[2]), size[3])
    if kind == CYLINDER:
        return cylinder(point, size[0], size[1])
    return polytope(point, plane, plane_begin, plane_end, enough)


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
def longest_steps(
    # Model:
    link_swing: wp.array[float],
    # State:
    link_transform: wp.array2d[wp.transform],
    # In:
    sphere: wp.array2d[wp.vec4],
    # Out:
    last_out: wp.array2d[wp.transform],
    step_out: wp.array[float],
):
    """A bound on how far any point of each hand has moved since the last launch.

    max over links of |c - c'| + 2 r |q - q'|

    with c the centre of the link's sphere, q its rotation and r the largest distance from c.

    Launch: dim = grasp.

    Args:
        link_swing: r [m], shape [link].
        link_transform: Links in the object frame, shape [grasp, link].
        sphere: Bounding spheres of the links, see ``place_spheres``, shape [grasp, link].
        last_out: c' and q' on entry, c and q on return, shape [grasp, link].
        step_out: The bound [m], NaN where a link's pose is or was, shape [grasp].
    """
    grasp = wp.tid()
    longest = float(0.0)
    for link in range(link_transform.shape[1]):
        around = sphere[grasp, link]
        center = wp.vec3(around[0], around[1], around[2])
        turn = wp.transform_get_rotation(link_transform[grasp, link])
        last = last_out[grasp, link]
        moved = wp.length(center - wp.transform_get_translation(last))
        # A turn by t moves a point at r by 2 r sin(t / 2), which is at most 2 r times this length, 2 sin(t / 4).
        turned = wp.length(turn - wp.transform_get_rotation(last))
        step = moved + 2.0 * link_swing[link] * turned
        if step > longest or wp.isnan(step):
            longest = step
        last_out[grasp, link] = wp.transform(center, turn)
    step_out[grasp] = longest


@wp.func
def link_bit(link: int):
    """What stands for a link in a set of links; those 32 apart have the same."""
    return 1 << (link % 32)


@wp.func
def links_of_points(link: wp.array2d[int], grasp: int, begin: int, end: int):
    """Set of the links that points ``begin`` to ``end`` are inside."""
    links = int(0)
    for point in range(begin, end):
        if link[grasp, point] >= 0:
            links = links | link_bit(link[grasp, point])
    return links


@wp.func
def forget_points(
    grasp: int,
    begin: int,
    end: int,
    link_out: wp.array2d[int],
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """Points ``begin`` to ``end`` are inside no link."""
    for point in range(begin, end):
        link_out[grasp, point] = -1
        distance_out[grasp, point] = 0.0
        gradient_out[grasp, point] = wp.vec3()


@wp.func
def search_shape(
    link: int,
    pose: wp.transform,
    frame: wp.transform,
    kind: int,
    size: wp.vec4,
    ball: wp.vec4,
    plane: wp.array[wp.vec4],
    plane_begin: int,
    plane_end: int,
    point_position: wp.array2d[wp.vec3],
    grasp: int,
    cluster: int,
    begin: int,
    end: int,
    gap: float,
    touched_out: wp.array2d[int],
    link_out: wp.array2d[int],
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """Least distance of a cluster's points to a shape, between 0 and ``gap`` [m].

    Those that are deeper inside it than inside any shape before are written to ``link_out`` and so on.
    """
    into_link = wp.transform_inverse(pose)
    into_shape = wp.transform_inverse(frame)
    least = float(gap)
    for point in range(begin, end):
        local = wp.transform_point(into_link, point_position[grasp, point])
        from_middle = wp.length_sq(local - wp.vec3(ball[0], ball[1], ball[2]))
        if from_middle < (ball[3] + least) * (ball[3] + least):
            there = wp.transform_point(into_shape, local)
            result = shape_distance(there, kind, size, plane, plane_begin, plane_end, least)
            least = wp.clamp(result[0], 0.0, least)
            if result[0] < distance_out[grasp, point] and from_middle < ball[3] * ball[3]:
                out = wp.transform_vector(frame, wp.vec3(result[1], result[2], result[3]))
                touched_out[grasp, cluster] = 1
                link_out[grasp, point] = link
                distance_out[grasp, point] = result[0]
                gradient_out[grasp, point] = wp.transform_vector(pose, out)
    return least


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
    step: wp.array[float],
    point_position: wp.array2d[wp.vec3],
    # Options:
    part_count: int,
    # Out:
    slack_out: wp.array2d[float],
    group_links_out: wp.array2d[int],
    touched_out: wp.array2d[int],
    link_out: wp.array2d[int],
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """The link that each point of a cluster is deepest inside, how deep, and the way out.

    Only links and shapes whose spheres meet the cluster's are looked at, and a cluster that is clear of all links only
    once they may have come nearer by as much. Where ``touched_out`` is 0 on entry, the other outputs are taken to say
    already that no point is inside any link.

    Launch: dim = (grasp, part); a part is every ``part_count``-th cluster. Equal inputs give equal bits.

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
        step: How far any point of the hand has moved since the last launch at most, see ``longest_steps`` [m], shape
            [grasp]; without it all clusters are looked at.
        point_position: Points in the object frame [m], shape [grasp, point].
        part_count: Threads that share a grasp.
        slack_out: How much nearer links may come to each cluster before it is looked at [m], shape [grasp, cluster].
        group_links_out: Set of the links that points of ``GROUP_SIZE`` clusters are inside, see ``link_bit``; to be
            empty on entry, shape [grasp, group].
        touched_out: 1 where a point of the cluster is inside a link, shape [grasp, cluster].
        link_out: Deepest link, -1 where the point is in none, shape [grasp, point].
        distance_out: Minus the depth [m], 0 where the point is in no link, shape [grasp, point].
        gradient_out: Derivative of the distance with respect to the point, in the object frame, shape [grasp, point].
    """
    grasp, part = wp.tid()
    for cluster in range(part, cluster_link.shape[0], part_count):
        owner = cluster_link[cluster]
        moves = owner < link_transform.shape[1]
        if step:
            slack = slack_out[grasp, cluster] - wp.where(moves, 2.0, 1.0) * step[grasp]
            if slack > 0.0:
                slack_out[grasp, cluster] = slack
                continue

        begin = cluster_begin[cluster]
        end = cluster_begin[cluster + 1]
        if touched_out[grasp, cluster] == 1:
            forget_points(grasp, begin, end, link_out, distance_out, gradient_out)
            touched_out[grasp, cluster] = 0
        radius = cluster_sphere[cluster][3]
        center = wp.vec3(cluster_sphere[cluster][0], cluster_sphere[cluster][1], cluster_sphere[cluster][2])
        if moves:
            center = wp.transform_point(link_transform[grasp, owner], center)

        gap = float(HORIZON)
        for link in range(link_transform.shape[1]):
            around = sphere[grasp, link]
            apart = wp.length_sq(center - wp.vec3(around[0], around[1], around[2]))
            reach = radius + link_sphere[link][3]
            if may_touch[owner, link] == 1 and apart < (reach + gap) * (reach + gap):
                pose = link_transform[grasp, link]
                local = wp.transform_point(wp.transform_inverse(pose), center)
                for shape in range(link_shape_begin[link], link_shape_begin[link + 1]):
                    ball = shape_sphere[shape]
                    if wp.length(local - wp.vec3(ball[0], ball[1], ball[2])) < radius + ball[3] + gap:
                        frame = shape_transform[shape]
                        kind = shape_kind[shape]
                        size = shape_size[shape]
                        first = shape_plane_begin[shape]
                        last = shape_plane_begin[shape + 1]
                        there = wp.transform_point(wp.transform_inverse(frame), local)
                        nearest = shape_distance(there, kind, size, plane, first, last, radius + gap)
                        if nearest[0] >= radius or apart >= reach * reach:
                            gap = wp.clamp(nearest[0] - radius, 0.0, gap)
                        else:
                            gap = search_shape(
                                link,
                                pose,
                                frame,
                                kind,
                                size,
                                ball,
                                plane,
                                first,
                                last,
                                point_position,
                                grasp,
                                cluster,
                                begin,
                                end,
                                gap,
                                touched_out,
                                link_out,
                                distance_out,
                                gradient_out,
                            )
        slack_out[grasp, cluster] = gap - ROUNDING
        if touched_out[grasp, cluster] == 1:
            links = links_of_points(link_out, grasp, begin, end)
            wp.atomic_or(group_links_out, grasp, cluster // GROUP_SIZE, links)
