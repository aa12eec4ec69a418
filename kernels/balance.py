"""Balance of contact forces: can the links, at the contacts they have or could have, resist pushes from every side?

Every link stands for one contact, the soft minimum of its points. For each push, forces within the friction cones are
found that resist it with a given sum of normal parts; what is left over, and the distance at which forces would act,
are the loss. The forces follow the poses by a few warm-started steps per iteration; the gradient holds them fixed.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

LARGEST_EXPONENT = wp.constant(12.0)
"""Weights below exp(-12) count as zero."""

FAR_DISTANCE = wp.constant(10.0)
"""Distance that stands for points without a face [m]; the constant of the same name in ``kernels.distance``."""

MULTIPLIER_STEPS = wp.constant(12)
"""Newton steps for the multiplier of the sum of normal parts: it is piecewise linear and convex, so few are needed."""

FAR_KINK = wp.constant(1.0e6)
"""Beyond any multiplier."""

LEAST_FRICTION = wp.constant(1.0e-6)
"""Friction that stands for none where slides are divided by it."""


@wp.func
def cone_kinks(force: wp.vec3, normal: wp.vec3, friction: float):
    """Multipliers beyond which force + multiplier * normal leaves the polar of the friction cone, and is in the cone.

    Between them it is projected onto the cone's surface. With the kinks k and s = 1 / (1 + friction^2), the projection
    has the normal part s max(multiplier - k_0, 0) + (1 - s) max(multiplier - k_1, 0).
    """
    if wp.length_sq(normal) < 0.5:
        return wp.vec2(wp.inf, wp.inf)
    along = wp.dot(force, normal)
    slide = wp.length(force - along * normal)
    return wp.vec2(-along - friction * slide, slide / wp.max(friction, LEAST_FRICTION) - along)


@wp.func
def kink_shares(friction: float):
    """The factors s and 1 - s of ``cone_kinks``."""
    square = friction * friction
    return wp.vec2(1.0 / (1.0 + square), square / (1.0 + square))


@wp.func
def cone_part(force: wp.vec3, normal: wp.vec3, kink: wp.vec2, share: wp.vec2, multiplier: float):
    """Projection of force + multiplier * normal onto the friction cone about the normal; zero without a normal."""
    past = multiplier - kink[0]
    if past <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    if multiplier >= kink[1]:
        return force + multiplier * normal
    along = -wp.dot(share, kink)
    kept = past / (kink[1] - kink[0])
    return kept * force + (share[0] * past - kept * along) * normal


@wp.func
def sum_multiplier(kink: wp.array[wp.vec2], share: wp.vec2, start: float):
    """The multiplier with which the normal parts of all projected forces sum to one."""
    multiplier = start
    searching = int(1)
    for _newton in range(MULTIPLIER_STEPS):
        if searching == 1:
            excess = float(-1.0)
            growth = float(0.0)
            before = float(-FAR_KINK)
            after = float(FAR_KINK)
            for c in range(kink.shape[0]):
                low = kink[c][0]
                high = kink[c][1]
                excess += share[0] * wp.max(multiplier - low, 0.0) + share[1] * wp.max(multiplier - high, 0.0)
                if high < multiplier:
                    growth += 1.0
                    before = wp.max(before, high)
                elif low < multiplier:
                    growth += share[0]
                    before = wp.max(before, low)
                    after = wp.min(after, high)
                else:
                    after = wp.min(after, low)
            if growth > 0.0:
                multiplier -= excess / growth
                if multiplier >= before and multiplier <= after:
                    searching = 0  # no kink was passed
            else:
                multiplier = after + 1.0  # all parts are zero: go where the first is not
    return multiplier


@wp.func
def left_over(push: wp.spatial_vector, arm: wp.array[wp.vec3], force: wp.array[wp.vec3]):
    """Force and torque / L of all contacts together, less the push."""
    total_force = wp.vec3(0.0, 0.0, 0.0)
    total_torque = wp.vec3(0.0, 0.0, 0.0)
    for c in range(arm.shape[0]):
        f = force[c]
        total_force += f
        total_torque += wp.cross(arm[c], f)
    return wp.spatial_vector(total_force, total_torque) - push


@wp.func
def largest_eigenvalue(arm: wp.array[wp.vec3]):
    """Bound of the largest eigenvalue of G G': that of [[C, |sum a|], [|sum a|, sum |a|^2]]."""
    count = float(arm.shape[0])
    square = float(0.0)
    total = wp.vec3(0.0, 0.0, 0.0)
    for c in range(arm.shape[0]):
        square += wp.length_sq(arm[c])
        total += arm[c]
    half = 0.5 * (count - square)
    return 0.5 * (count + square) + wp.sqrt(half * half + wp.length_sq(total))


@wp.kernel
def link_contacts(
    # Model:
    contact_link: wp.array[int],
    link_begin: wp.array[int],
    center: wp.vec3,
    torque_length: float,
    # In:
    point_position: wp.array2d[wp.vec3],
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    # Options:
    softness: float,
    # Out:
    position_out: wp.array2d[wp.vec3],
    arm_out: wp.array2d[wp.vec3],
    normal_out: wp.array2d[wp.vec3],
    distance_out: wp.array2d[float],
    scale_out: wp.array2d[float],
    weight_out: wp.array2d[float],
):
    """The contact that stands for a link: the soft minimum of its points.

    w_i = exp((min d - d_i) / softness) / sum;  p = sum w_i p_i, d = sum w_i d_i, n = -sum w_i grad d_i / |...|

    Launch: dim = (grasp, contact).

    Args:
        contact_link: Link of each contact, shape [contact].
        link_begin: First point of each link and, last, the number of points, shape [link + 1].
        center: Centre of mass [m].
        torque_length: L [m].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: Their signed distance to the object [m], shape [grasp, point].
        distance_gradient: Its gradient, shape [grasp, point].
        softness: Difference in distance at which a point's weight falls to 1/e [m].
        position_out: p [m], shape [grasp, contact].
        arm_out: (p - center) / L, shape [grasp, contact].
        normal_out: n, unit, into the object, zero where no point has a face, shape [grasp, contact].
        distance_out: d [m], shape [grasp, contact].
        scale_out: What makes ``weight_out`` into w_i, shape [grasp, contact].
        weight_out: exp((min d - d_i) / softness), shape [grasp, point].
    """
    grasp, contact = wp.tid()
    begin = link_begin[contact_link[contact]]
    end = link_begin[contact_link[contact] + 1]
    nearest = float(FAR_DISTANCE)
    for i in range(begin, end):
        nearest = wp.min(nearest, distance[grasp, i])
    total = float(0.0)
    position = wp.vec3(0.0, 0.0, 0.0)
    blend = wp.vec3(0.0, 0.0, 0.0)
    mean = float(0.0)
    sharpness = 1.0 / softness
    for i in range(begin, end):
        behind = (distance[grasp, i] - nearest) * sharpness
        weight = float(0.0)
        if behind < LARGEST_EXPONENT:
            weight = wp.exp(-behind)
            total += weight
            position += weight * point_position[grasp, i]
            blend -= weight * distance_gradient[grasp, i]
            mean += weight * distance[grasp, i]
        weight_out[grasp, i] = weight
    position_out[grasp, contact] = position / total
    arm_out[grasp, contact] = (position / total - center) / torque_length
    normal_out[grasp, contact] = wp.normalize(blend)
    distance_out[grasp, contact] = mean / total
    scale_out[grasp, contact] = 1.0 / total


@wp.kernel
def contact_forces(
    # Model:
    push: wp.array[wp.spatial_vector],
    # In:
    arm: wp.array2d[wp.vec3],
    normal: wp.array2d[wp.vec3],
    distance: wp.array2d[float],
    # Options:
    friction: float,
    distance_cost: float,
    steps: int,
    # State:
    force_out: wp.array3d[wp.vec3],
    # Out:
    ahead_out: wp.array3d[wp.vec3],
    kink_out: wp.array3d[wp.vec2],
    residual_out: wp.array2d[wp.spatial_vector],
):
    """Forces that resist one push best, after a few more steps from where they were.

    min over F_c in the friction cones, sum_c F_c . n_c = 1, of |sum_c (F_c, (p_c - center) x F_c / L) - w|^2
    + cost sum_c max(d_c, 0) F_c . n_c

    Accelerated projected gradient. The projection onto the cones and the sum is exact: one multiplier, found by
    Newton's method, shifts all normal parts.

    Source: Beck & Teboulle 2009 (FISTA).
    Launch: dim = (grasp, push).

    Args:
        push: w, force and torque / L, as a share of the summed normal parts, shape [push].
        arm: (p - center) / L, shape [grasp, contact].
        normal: n, unit, into the object, shape [grasp, contact].
        distance: d [m], shape [grasp, contact].
        friction: Coulomb's coefficient.
        distance_cost: Cost of a force that acts at a distance [1/m].
        steps: Steps to do.
        force_out: F, updated, shape [grasp, push, contact].
        ahead_out: Scratch: where the gradient is taken, shape [grasp, push, contact].
        kink_out: Scratch: see ``cone_kinks``, shape [grasp, push, contact].
        residual_out: sum_c (F_c, ...) - w, shape [grasp, push].
    """
    grasp, row = wp.tid()
    arms = arm[grasp]
    normals = normal[grasp]
    gaps = distance[grasp]
    forces = force_out[grasp, row]
    ahead = ahead_out[grasp, row]
    kinks = kink_out[grasp, row]
    share = kink_shares(friction)
    rate = 0.5 / largest_eigenvalue(arms)

    for c in range(forces.shape[0]):
        ahead[c] = forces[c]
    multiplier = float(0.0)
    pace = float(1.0)
    for _step in range(steps):
        left = 2.0 * rate * left_over(push[row], arms, ahead)
        for c in range(forces.shape[0]):
            n = normals[c]
            cost = rate * distance_cost * wp.max(gaps[c], 0.0)
            moved = ahead[c] - wp.spatial_top(left) - wp.cross(wp.spatial_bottom(left), arms[c]) - cost * n
            ahead[c] = moved
            kinks[c] = cone_kinks(moved, n, friction)
        multiplier = sum_multiplier(kinks, share, multiplier)
        next_pace = 0.5 * (1.0 + wp.sqrt(1.0 + 4.0 * pace * pace))
        momentum = (pace - 1.0) / next_pace
        pace = next_pace
        for c in range(forces.shape[0]):
            old = forces[c]
            new = cone_part(ahead[c], normals[c], kinks[c], share, multiplier)
            forces[c] = new
            ahead[c] = new + momentum * (new - old)

    residual_out[grasp, row] = left_over(push[row], arms, forces)


@wp.kernel
def contact_gradients(
    # Model:
    torque_length: float,
    # In:
    normal: wp.array2d[wp.vec3],
    distance: wp.array2d[float],
    force: wp.array3d[wp.vec3],
    residual: wp.array2d[wp.spatial_vector],
    # Options:
    weight: float,
    distance_cost: float,
    # Out:
    loss_out: wp.array2d[float],
    position_gradient_out: wp.array2d[wp.vec3],
    distance_gradient_out: wp.array2d[float],
):
    """A contact's share of the loss, and the gradient of the loss with the forces held fixed.

    L = weight / K sum_k (|r_k|^2 + cost sum_c max(d_c, 0) F_kc . n_c), r_k the residual of push k out of K; each of the
    C contacts reports the C-th part of the first term. With the best forces this is the gradient of the least loss
    (the envelope theorem); with nearly best ones, nearly. Normals count as constant: on a mesh they turn nowhere but
    at edges, where their derivative is noise.

    Launch: dim = (grasp, contact).

    Args:
        torque_length: L [m].
        normal: n, unit, into the object, shape [grasp, contact].
        distance: d [m], shape [grasp, contact].
        force: F, shape [grasp, push, contact].
        residual: r, shape [grasp, push].
        weight: Of the loss.
        distance_cost: Cost of a force that acts at a distance [1/m].
        loss_out: Its share of L, shape [grasp, contact].
        position_gradient_out: dL/dp, shape [grasp, contact].
        distance_gradient_out: dL/dd, shape [grasp, contact].
    """
    grasp, contact = wp.tid()
    scale = weight / float(force.shape[1])
    n = normal[grasp, contact]
    square = float(0.0)
    pressed = float(0.0)
    by_position = wp.vec3(0.0, 0.0, 0.0)
    for k in range(force.shape[1]):
        f = force[grasp, k, contact]
        left = residual[grasp, k]
        square += wp.dot(left, left)
        pressed += wp.dot(f, n)
        by_position += wp.cross(f, wp.spatial_bottom(left))
    gap = wp.max(distance[grasp, contact], 0.0)
    loss_out[grasp, contact] = scale * (square / float(normal.shape[1]) + distance_cost * gap * pressed)
    position_gradient_out[grasp, contact] = 2.0 * scale / torque_length * by_position
    distance_gradient_out[grasp, contact] = wp.where(gap > 0.0, scale * distance_cost * pressed, 0.0)


@wp.kernel
def add_contact_gradients(
    # Model:
    point_contact: wp.array[int],
    # In:
    weight: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    contact_scale: wp.array2d[float],
    position_gradient: wp.array2d[wp.vec3],
    contact_distance_gradient: wp.array2d[float],
    # Options:
    part_count: int,
    # Out:
    point_gradient_out: wp.array2d[wp.vec3],
):
    """Add the gradients of the contacts to those of the points that they are made of, weights held fixed.

    dL/dp_i = w_i (dL/dp + dL/dd grad d_i). What the weights would add is left out on purpose: it tilts links until
    another point is nearest, and costs contact; with it fewer grasps balance than without any of this loss.

    Launch: dim = (grasp, part); a part is every ``part_count``-th point.

    Args:
        point_contact: Contact that each point belongs to, shape [point].
        weight: See ``link_contacts``, shape [grasp, point].
        distance_gradient: Gradient of the points' signed distance, shape [grasp, point].
        contact_scale: See ``link_contacts``, shape [grasp, contact].
        position_gradient: dL/dp, shape [grasp, contact].
        contact_distance_gradient: dL/dd, shape [grasp, contact].
        part_count: Threads that share a grasp.
        point_gradient_out: Increased, shape [grasp, point].
    """
    grasp, part = wp.tid()
    for point in range(part, point_contact.shape[0], part_count):
        if weight[grasp, point] > 0.0:
            c = point_contact[point]
            along = contact_distance_gradient[grasp, c] * distance_gradient[grasp, point]
            share = contact_scale[grasp, c] * weight[grasp, point]
            point_gradient_out[grasp, point] += share * (position_gradient[grasp, c] + along)
