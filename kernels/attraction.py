"""The attraction loss: every hand point is drawn to the surface, and penetration is penalised."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def attraction(
    # Model:
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    link_distance: wp.array2d[float],
    link_gradient: wp.array2d[wp.vec3],
    # Options:
    margin: float,
    reach: float,
    self_weight: float,
    part_count: int,
    # Out:
    point_loss_out: wp.array2d[float],
    point_gradient_out: wp.array2d[wp.vec3],
    self_gradient_out: wp.array2d[wp.vec3],
):
    """Loss of each hand point and its gradient with respect to the point's position.

    L = w_a min(max(d, 0), reach) / N + w_p min(d, 0)^2 + w_s s^2

    with d the signed distance to the object less the margin and s <= 0 the one to the hand's other links.

    Launch: dim = (grasp, part); a part is every ``part_count``-th point.

    Args:
        schedule: Step scale, w_a [1/m] and w_p [1/m^2] of each iteration, shape [iteration, 3].
        iteration: The current iteration, shape [1].
        distance: Signed distance to the object [m], shape [grasp, point].
        distance_gradient: Its derivative with respect to the point, shape [grasp, point].
        link_distance: s [m], shape [grasp, point].
        link_gradient: Derivative of s with respect to the point, shape [grasp, point].
        margin: Distance to keep from the object [m].
        reach: Distance beyond which a point is not attracted [m].
        self_weight: w_s [1/m^2].
        part_count: Threads that share a grasp.
        point_loss_out: L, shape [grasp, point].
        point_gradient_out: Derivative of L with respect to the point, shape [grasp, point].
        self_gradient_out: The part of it that comes from s: the other link feels its opposite. Written where s < 0,
            shape [grasp, point].
    """
    grasp, part = wp.tid()
    attraction_weight = schedule[iteration[0], 1] / float(distance.shape[1])
    penetration_weight = schedule[iteration[0], 2]
    for point in range(part, distance.shape[1], part_count):
        d = distance[grasp, point] - margin
        loss = penetration_weight * d * d
        slope = 2.0 * penetration_weight * d
        if d > 0.0:
            loss = attraction_weight * wp.min(d, reach)
            slope = wp.where(d < reach, attraction_weight, 0.0)

        gradient = slope * distance_gradient[grasp, point]
        s = link_distance[grasp, point]
        if s < 0.0:
            self_gradient = 2.0 * self_weight * s * link_gradient[grasp, point]
            self_gradient_out[grasp, point] = self_gradient
            gradient += self_gradient
            loss += self_weight * s * s
        point_loss_out[grasp, point] = loss
        point_gradient_out[grasp, point] = gradient


@wp.kernel
def link_penetration(
    # Model:
    schedule: wp.array2d[float],
    cluster_begin: wp.array[int],
    # State:
    iteration: wp.array[int],
    # In:
    touched: wp.array2d[int],
    link_distance: wp.array2d[float],
    link_gradient: wp.array2d[wp.vec3],
    # Options:
    part_count: int,
    # Out:
    loss_out: wp.array2d[float],
    point_gradient_out: wp.array2d[wp.vec3],
):
    """Loss of the object points inside links, the sum of w_p s^2, and its gradient with respect to the points.

    A point is fixed; the link it is inside feels the opposite of this gradient. It catches edges and thin walls
    that pass between the hand's points.

    Launch: dim = (grasp, part); a part is every ``part_count``-th cluster.

    Args:
        schedule: Step scale, w_a [1/m] and w_p [1/m^2] of each iteration, shape [iteration, 3].
        cluster_begin: First point of each cluster and, last, the number of points, shape [cluster + 1].
        iteration: The current iteration, shape [1].
        touched: 1 where a point of the cluster is inside a link, shape [grasp, cluster].
        link_distance: s <= 0, signed distance of the object point to the hand [m], shape [grasp, point].
        link_gradient: Derivative of s with respect to the point, shape [grasp, point].
        part_count: Threads that share a grasp.
        loss_out: Sum over each cluster, shape [grasp, cluster].
        point_gradient_out: Derivative of the loss with respect to the point, written where the cluster is touched,
            shape [grasp, point].
    """
    grasp, part = wp.tid()
    weight = schedule[iteration[0], 2]
    for cluster in range(part, touched.shape[1], part_count):
        loss = float(0.0)
        if touched[grasp, cluster] == 1:
            for point in range(cluster_begin[cluster], cluster_begin[cluster + 1]):
                s = link_distance[grasp, point]
                loss += weight * s * s
                point_gradient_out[grasp, point] = 2.0 * weight * s * link_gradient[grasp, point]
        loss_out[grasp, cluster] = loss
