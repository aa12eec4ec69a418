"""Forward kinematics of a tree of joints, and its adjoint by wrenches."""

import warp as wp

from .collision import GROUP_SIZE, link_bit  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})

PRISMATIC = wp.constant(1)


@wp.func
def joint_motion(kind: int, axis: wp.vec3, position: float):
    """Transform of the child frame that a joint at ``position`` [rad or m] adds."""
    if kind == PRISMATIC:
        return wp.transform(axis * position, wp.quat_identity())
    return wp.transform(wp.vec3(), wp.quat_from_axis_angle(axis, position))


@wp.kernel
def link_transforms(
    # Model:
    joint_parent: wp.array[int],
    joint_kind: wp.array[int],
    joint_origin: wp.array[wp.transform],
    joint_axis: wp.array[wp.vec3],
    joint_map: wp.array2d[float],
    joint_offset: wp.array[float],
    # State:
    wrist: wp.array[wp.transform],
    free_position: wp.array2d[float],
    # Out:
    joint_position_out: wp.array2d[float],
    link_transform_out: wp.array2d[wp.transform],
):
    """Pose of every link from the wrist pose and the free joint coordinates.

    q = A x + b;  T[j + 1] = T[parent j] * origin j * motion j(q j)

    Launch: dim = grasp.

    Args:
        joint_parent: Parent link of each joint, at most j, shape [joint].
        joint_kind: 0 revolute, 1 prismatic, shape [joint].
        joint_origin: Child frame in the parent frame at zero, shape [joint].
        joint_axis: Unit axis in the child frame, shape [joint].
        joint_map: A, shape [joint, free].
        joint_offset: b [rad or m], shape [joint].
        wrist: Base link in the object frame, shape [grasp].
        free_position: x [rad or m], shape [grasp, free].
        joint_position_out: q [rad or m], shape [grasp, joint].
        link_transform_out: Links in the object frame, shape [grasp, link].
    """
    grasp = wp.tid()
    link_transform_out[grasp, 0] = wrist[grasp]
    for joint in range(joint_parent.shape[0]):
        q = joint_offset[joint]
        for free in range(free_position.shape[1]):
            q += joint_map[joint, free] * free_position[grasp, free]
        joint_position_out[grasp, joint] = q
        motion = joint_motion(joint_kind[joint], joint_axis[joint], q)
        link_transform_out[grasp, joint + 1] = (
            link_transform_out[grasp, joint_parent[joint]] * joint_origin[joint] * motion
        )


@wp.kernel
def point_positions(
    # Model:
    point_link: wp.array[int],
    point_local: wp.array[wp.vec3],
    # State:
    link_transform: wp.array2d[wp.transform],
    # Options:
    part_count: int,
    # Out:
    point_position_out: wp.array2d[wp.vec3],
):
    """Hand surface points in the object frame.

    Launch: dim = (grasp, part); a part is every ``part_count``-th point.

    Args:
        point_link: Link of each point, shape [point].
        point_local: Point in its link's frame [m], shape [point].
        link_transform: Links in the object frame, shape [grasp, link].
        part_count: Threads that share a grasp.
        point_position_out: Points in the object frame [m], shape [grasp, point].
    """
    grasp, part = wp.tid()
    for point in range(part, point_position_out.shape[1], part_count):
        link = link_transform[grasp, point_link[point]]
        point_position_out[grasp, point] = wp.transform_point(link, point_local[point])


@wp.func
def sum_own_wrenches(position: wp.array2d[wp.vec3], gradient: wp.array2d[wp.vec3], grasp: int, begin: int, end: int):
    """Sum of the gradients of points ``begin`` to ``end``, and of their moments about the object frame's origin."""
    force = wp.vec3()
    torque = wp.vec3()
    for point in range(begin, end):
        force += gradient[grasp, point]
        torque += wp.cross(position[grasp, point], gradient[grasp, point])
    return wp.spatial_vector(force, torque)


@wp.func
def sum_wrenches_into(
    link: int,
    position: wp.array2d[wp.vec3],
    gradient: wp.array2d[wp.vec3],
    into: wp.array2d[int],
    cluster_begin: wp.array[int],
    group_links: wp.array2d[int],
    touched: wp.array2d[int],
    grasp: int,
):
    """Sum of the gradients and moments of those points that are inside ``link``."""
    force = wp.vec3()
    torque = wp.vec3()
    for group in range(group_links.shape[1]):
        if group_links[grasp, group] & link_bit(link) != 0:
            for cluster in range(group * GROUP_SIZE, wp.min((group + 1) * GROUP_SIZE, touched.shape[1])):
                if touched[grasp, cluster] == 1:
                    for point in range(cluster_begin[cluster], cluster_begin[cluster + 1]):
                        if into[grasp, point] == link:
                            force += gradient[grasp, point]
                            torque += wp.cross(position[grasp, point], gradient[grasp, point])
    return wp.spatial_vector(force, torque)


@wp.kernel
def link_wrenches(
    # Model:
    link_begin: wp.array[int],
    # In:
    point_position: wp.array2d[wp.vec3],
    point_gradient: wp.array2d[wp.vec3],
    self_gradient: wp.array2d[wp.vec3],
    self_link: wp.array2d[int],
    self_cluster_begin: wp.array[int],
    self_group_links: wp.array2d[int],
    self_touched: wp.array2d[int],
    object_point: wp.array2d[wp.vec3],
    object_gradient: wp.array2d[wp.vec3],
    object_link: wp.array2d[int],
    object_cluster_begin: wp.array[int],
    object_group_links: wp.array2d[int],
    object_touched: wp.array2d[int],
    # Out:
    link_wrench_out: wp.array2d[wp.spatial_vector],
):
    """Gradient with respect to each link's rigid motion, from the gradients of points.

    A wrench is (sum g, sum p x g): the derivative for a translation of the link and for a rotation about the
    object frame's origin. A point that is inside another link depends on their relative pose only, so that link
    feels the opposite.

    Launch: dim = (grasp, link). Points are sorted by link, so there are no atomics and equal inputs give equal bits.

    Args:
        link_begin: First point of each link and, last, the number of points, shape [link + 1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        point_gradient: Whole gradient with respect to the hand points, shape [grasp, point].
        self_gradient: The part of it that comes from being inside another link, shape [grasp, point].
        self_link: The link that each hand point is inside, or -1, shape [grasp, point].
        self_cluster_begin: First point of each cluster of hand points and, last, their number, shape [cluster + 1].
        self_group_links: Set of the links that points of a group of clusters are inside, see
            ``collision.deepest_link``, shape [grasp, group].
        self_touched: 1 where a point of the cluster is inside a link, shape [grasp, cluster].
        object_point: Object points [m], shape [grasp, object point].
        object_gradient: Gradient with respect to them, shape [grasp, object point].
        object_link: The link that each object point is inside, or -1, shape [grasp, object point].
        object_cluster_begin: Like ``self_cluster_begin``, of the object's points, shape [object cluster + 1].
        object_group_links: Like ``self_group_links``, shape [grasp, object group].
        object_touched: Like ``self_touched``, shape [grasp, object cluster].
        link_wrench_out: Gradient with respect to the links, shape [grasp, link].
    """
    grasp, link = wp.tid()
    own = sum_own_wrenches(point_position, point_gradient, grasp, link_begin[link], link_begin[link + 1])
    others = sum_wrenches_into(
        link,
        point_position,
        self_gradient,
        self_link,
        self_cluster_begin,
        self_group_links,
        self_touched,
        grasp,
    )
    objects = sum_wrenches_into(
        link,
        object_point,
        object_gradient,
        object_link,
        object_cluster_begin,
        object_group_links,
        object_touched,
        grasp,
    )
    link_wrench_out[grasp, link] = own - others - objects


@wp.kernel
def link_transforms_adjoint(
    # Model:
    joint_parent: wp.array[int],
    joint_kind: wp.array[int],
    joint_axis: wp.array[wp.vec3],
    joint_map: wp.array2d[float],
    # State:
    link_transform: wp.array2d[wp.transform],
    link_wrench: wp.array2d[wp.spatial_vector],
    # Out:
    link_wrench_out: wp.array2d[wp.spatial_vector],
    wrist_gradient_out: wp.array[wp.spatial_vector],
    free_gradient_out: wp.array2d[float],
):
    """Gradient with respect to the wrist pose and the free coordinates, from the wrenches on the links.

    From the tips to the base, each link hands the sum of its subtree to its parent; a revolute joint at o with
    axis a feels a . (t - o x f), a prismatic one a . f; dL/dx = A' dL/dq.

    Source: Featherstone 2008, section 5.3 (the backward pass of the recursive Newton-Euler algorithm).
    Launch: dim = grasp.

    Args:
        joint_parent: Parent link of each joint, shape [joint].
        joint_kind: 0 revolute, 1 prismatic, shape [joint].
        joint_axis: Unit axis in the child frame, shape [joint].
        joint_map: A, shape [joint, free].
        link_transform: Links in the object frame, shape [grasp, link].
        link_wrench: Wrench on each link alone, about the object frame's origin, shape [grasp, link].
        link_wrench_out: Wrench on each link's subtree; may be ``link_wrench`` itself, shape [grasp, link].
        wrist_gradient_out: Gradient for a translation of the base and for its rotation about its own origin, in
            the axes of the object frame, shape [grasp].
        free_gradient_out: Gradient with respect to x, shape [grasp, free].
    """
    grasp = wp.tid()
    joint_count = joint_parent.shape[0]
    for free in range(free_gradient_out.shape[1]):
        free_gradient_out[grasp, free] = 0.0
    for link in range(joint_count + 1):
        link_wrench_out[grasp, link] = link_wrench[grasp, link]

    for i in range(joint_count):
        joint = joint_count - 1 - i
        wrench = link_wrench_out[grasp, joint + 1]
        force = wp.spatial_top(wrench)
        torque = wp.spatial_bottom(wrench)
        child = link_transform[grasp, joint + 1]
        axis = wp.transform_vector(child, joint_axis[joint])
        slope = wp.dot(axis, force)
        if joint_kind[joint] != PRISMATIC:
            slope = wp.dot(axis, torque - wp.cross(wp.transform_get_translation(child), force))
        for free in range(free_gradient_out.shape[1]):
            free_gradient_out[grasp, free] += joint_map[joint, free] * slope
        link_wrench_out[grasp, joint_parent[joint]] += wrench

    base = link_wrench_out[grasp, 0]
    force = wp.spatial_top(base)
    origin = wp.transform_get_translation(link_transform[grasp, 0])
    wrist_gradient_out[grasp] = wp.spatial_vector(force, wp.spatial_bottom(base) - wp.cross(origin, force))
