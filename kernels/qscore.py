"""The q-score: the least friction that balances given normal forces, by an interior point method.

Per grasp, with forces divided by their sum and torques by a length:

    V = min sum_i omega_i |x_i| / mu_i + rho |s|  such that  b + sum_i A_i x_i + s = 0  and  |x_i| <= mu_i

Three second-order cones {(t, x): t >= |x|} hold the unknowns, and three more their multipliers:

    spent    (t_i, x_i)     with  spent_dual    (omega_i / mu_i, .)
    capped   (mu_i, x_i)    with  capped_dual   (., .)
    slack    (tau, s)       with  slack_dual    (rho, lambda)

The tails of the first two multipliers sum to A_i' lambda. Every iterate satisfies all equations, so it proves bounds of
V. A step solves six equations for lambda; everything else belongs to one contact and is eliminated in closed form.

Source: the scaling is that of Nesterov & Todd 1998 in the form of Vandenberghe, The CVXOPT linear and quadratic cone
program solvers (2010), section 4.
"""

import warp as wp

from .gauge import Mat66, Vec6  # noqa: TID251

wp.set_module_options({"enable_backward": False})

Vec7 = wp.types.vector(7, wp.float64)
Mat62 = wp.types.matrix((6, 2), wp.float64)

ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))

INSIDE = wp.constant(wp.float64(1.0e-15))
"""Least relative distance from a cone's boundary; rounding may not take a point out of the cone."""

TINY = wp.constant(wp.float64(1.0e-300))

STUCK = wp.constant(wp.float64(1.0e-4))
"""A step shorter than this comes from rounding; the grasp is then as exact as it gets."""


@wp.struct
class Contacts:
    """The contacts of all grasps, those present first."""

    arm: wp.array2d[wp.vec3d]
    """From the centre, over the torque length, shape [grasp, contact]."""

    normal: wp.array2d[wp.vec3d]
    """Unit, into the object, shape [grasp, contact]."""

    share: wp.array2d[wp.float64]
    """Of the summed normal force, shape [grasp, contact]."""

    friction: wp.array2d[wp.float64]
    """mu, > 0, shape [grasp, contact]."""

    price: wp.array2d[wp.float64]
    """omega / mu, > 0 also where the share is 0, shape [grasp, contact]."""

    count: wp.array[int]
    """Contacts that are present, shape [grasp]."""

    external: wp.array[Vec6]
    """External wrench over the summed normal force, torque over the torque length, shape [grasp]."""


@wp.struct
class Elimination:
    """The Newton equations of one contact without t: dx = inverse (right - A' dlambda), and the rest from dx."""

    inverse: wp.mat22d
    right: wp.vec2d
    head: wp.float64
    ratio: wp.vec2d
    spent_right: wp.vec2d
    spent_metric: wp.mat22d
    capped_head: wp.float64
    capped_cross: wp.vec2d
    spent_det: wp.float64
    spent_dual_det: wp.float64
    capped_det: wp.float64
    capped_dual_det: wp.float64


@wp.struct
class Iterate:
    """Scratch: the present point of all contacts, the step from it, and what a step is computed from."""

    matrix: wp.array2d[Mat62]
    """A, shape [grasp, contact]."""

    elimination: wp.array2d[Elimination]
    spent: wp.array2d[wp.vec3d]
    spent_dual: wp.array2d[wp.vec3d]
    capped_dual: wp.array2d[wp.vec3d]
    spent_step: wp.array2d[wp.vec3d]
    spent_dual_step: wp.array2d[wp.vec3d]
    capped_dual_step: wp.array2d[wp.vec3d]


@wp.func
def tail(s: wp.vec3d):
    """The tail x of a contact's (t, x)."""
    return wp.vec2d(s[1], s[2])


@wp.func
def slack_tail(s: Vec7):
    """The tail x of the slack's (t, x)."""
    return Vec6(s[1], s[2], s[3], s[4], s[5], s[6])


@wp.func
def slack_cone(t: wp.float64, x: Vec6):
    """(t, x)."""
    return Vec7(t, x[0], x[1], x[2], x[3], x[4], x[5])


@wp.func
def determinant(t: wp.float64, length: wp.float64):
    """t^2 - |x|^2, positive inside the cone."""
    return wp.max(t - length, INSIDE * t) * (t + length)


@wp.func
def contact_determinant(s: wp.vec3d):
    """That of a contact."""
    return determinant(s[0], wp.length(tail(s)))


@wp.func
def slack_determinant(s: Vec7):
    """That of the slack."""
    return determinant(s[0], wp.length(slack_tail(s)))


@wp.func
def urgency(a: wp.float64, b: wp.float64, c: wp.float64):
    """One over the least positive root of a r^2 + 2 b r + c with c > 0; 0 without one.

    With the determinants a of a step, c of a point and b between them, that is how soon the step leaves the cone.
    """
    square = b * b - a * c
    if square < ZERO:
        return ZERO
    root = wp.sqrt(square)
    if b < ZERO:
        return (root - b) / c
    return wp.max(-a, ZERO) / wp.max(root + b, TINY)


@wp.func
def contact_urgency(s: wp.vec3d, d: wp.vec3d, det: wp.float64):
    """One over the largest a for which s + a d is in the cone; 0 where all are."""
    return urgency(TWO * d[0] * d[0] - wp.dot(d, d), TWO * s[0] * d[0] - wp.dot(s, d), det)


@wp.func
def slack_urgency(s: Vec7, d: Vec7):
    """The same for the slack."""
    return urgency(TWO * d[0] * d[0] - wp.dot(d, d), TWO * s[0] * d[0] - wp.dot(s, d), slack_determinant(s))


@wp.func
def contact_scaling(s: wp.vec3d, z: wp.vec3d, det: wp.float64, dual_det: wp.float64):
    """Nesterov and Todd's scaling W z = W^-1 s, as w and e in W^2 = e (2 w w' - J), J = diag(1, -1, ...)."""
    size = wp.sqrt(det)
    dual_size = wp.sqrt(dual_det)
    middle = TWO * wp.sqrt(HALF * (ONE + wp.dot(s, z) / (size * dual_size)))
    part = ONE / (middle * size)
    dual_part = ONE / (middle * dual_size)
    w = part * s - dual_part * z
    w[0] = part * s[0] + dual_part * z[0]
    return w, size / dual_size


@wp.func
def slack_scaling(s: Vec7, z: Vec7):
    """The same for the slack."""
    size = wp.sqrt(slack_determinant(s))
    dual_size = wp.sqrt(slack_determinant(z))
    middle = TWO * wp.sqrt(HALF * (ONE + wp.dot(s, z) / (size * dual_size)))
    w = s / size - z / dual_size
    w[0] = s[0] / size + z[0] / dual_size
    return w / middle, size / dual_size


@wp.func
def contact_aim(s: wp.vec3d, z: wp.vec3d, part: wp.float64):
    """How z must change for s and z to be on the central path: target (t, -x) / det s - z, part = target / det."""
    return wp.vec3d(part * s[0] - z[0], -part * s[1] - z[1], -part * s[2] - z[2])


@wp.func
def slack_aim(s: Vec7, z: Vec7, target: wp.float64):
    """The same for the slack."""
    part = target / slack_determinant(s)
    return slack_cone(part * s[0], -part * slack_tail(s)) - z


@wp.func
def eliminate(spent: wp.vec3d, spent_dual: wp.vec3d, capped: wp.vec3d, capped_dual: wp.vec3d, target: wp.float64):
    """The Newton equations dz = aim - W^-2 ds of both cones of a contact, in which spent_dual keeps its head."""
    out = Elimination()
    out.spent_det = contact_determinant(spent)
    out.spent_dual_det = contact_determinant(spent_dual)
    w, size = contact_scaling(spent, spent_dual, out.spent_det, out.spent_dual_det)
    point = tail(w)
    per_norm = ONE / (ONE + TWO * wp.length_sq(point))
    per_size = ONE / size
    out.ratio = (-TWO * w[0] * per_norm) * point
    out.spent_metric = per_size * (wp.identity(n=2, dtype=wp.float64) - (TWO * per_norm) * wp.outer(point, point))
    right = contact_aim(spent, spent_dual, target / out.spent_det)
    out.head = right[0] * size * per_norm
    out.spent_right = tail(right) - right[0] * out.ratio

    out.capped_det = contact_determinant(capped)
    out.capped_dual_det = contact_determinant(capped_dual)
    w, size = contact_scaling(capped, capped_dual, out.capped_det, out.capped_dual_det)
    point = tail(w)
    per_size = ONE / size
    capped_metric = per_size * (wp.identity(n=2, dtype=wp.float64) + TWO * wp.outer(point, point))
    out.capped_cross = (-TWO * w[0] * per_size) * point
    right = contact_aim(capped, capped_dual, target / out.capped_det)
    out.capped_head = right[0]
    out.right = out.spent_right + tail(right)
    metric = out.spent_metric + capped_metric
    det = wp.max(metric[0, 0] * metric[1, 1] - metric[0, 1] * metric[0, 1], TINY)
    out.inverse = (ONE / det) * wp.mat22d(metric[1, 1], -metric[0, 1], -metric[0, 1], metric[0, 0])
    return out


@wp.func
def solve(matrix: Mat66, right: Vec6):
    """Solution of symmetric positive definite equations, by Cholesky's method."""
    lower = Mat66()
    x = right
    for j in range(6):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= lower[j, k] * lower[j, k]
        lower[j, j] = wp.sqrt(wp.max(pivot, INSIDE * matrix[j, j]))
        for i in range(j + 1, 6):
            entry = matrix[i, j]
            for k in range(j):
                entry -= lower[i, k] * lower[j, k]
            lower[i, j] = entry / lower[j, j]
        for k in range(j):
            x[j] -= lower[j, k] * x[k]
        x[j] = x[j] / lower[j, j]
    for i in range(6):
        j = 5 - i
        for k in range(j + 1, 6):
            x[j] -= lower[k, j] * x[k]
        x[j] = x[j] / lower[j, j]
    return x


@wp.func
def wrench(arm: wp.vec3d, force: wp.vec3d):
    """Force and torque of a force at the end of an arm."""
    torque = wp.cross(arm, force)
    return Vec6(force[0], force[1], force[2], torque[0], torque[1], torque[2])


@wp.func
def tangents(normal: wp.vec3d):
    """Two unit vectors across a unit normal, in columns; source: Duff et al. 2017."""
    sign = wp.where(normal[2] >= ZERO, ONE, -ONE)
    a = -ONE / (sign + normal[2])
    b = normal[0] * normal[1] * a
    first = wp.vec3d(ONE + sign * normal[0] * normal[0] * a, sign * b, -sign * normal[0])
    return first, wp.vec3d(b, sign + normal[1] * normal[1] * a, -normal[1])


@wp.func
def net_wrench(contacts: Contacts, grasp: int):
    """b: what the normal forces and the external wrench leave to friction."""
    net = contacts.external[grasp]
    for i in range(contacts.count[grasp]):
        net += contacts.share[grasp, i] * wrench(contacts.arm[grasp, i], contacts.normal[grasp, i])
    return net


@wp.func
def start(contacts: Contacts, point: Iterate, grasp: int, level: wp.float64):
    """No friction at any contact, and multipliers with which each pair of cones has the product ``level``."""
    for i in range(contacts.count[grasp]):
        first, second = tangents(contacts.normal[grasp, i])
        share = contacts.share[grasp, i]
        price = contacts.price[grasp, i]
        one = share * wrench(contacts.arm[grasp, i], first)
        two = share * wrench(contacts.arm[grasp, i], second)
        point.matrix[grasp, i] = wp.matrix_from_cols(one, two)
        point.spent[grasp, i] = wp.vec3d(level / price, ZERO, ZERO)
        point.spent_dual[grasp, i] = wp.vec3d(price, ZERO, ZERO)
        point.capped_dual[grasp, i] = wp.vec3d(level / contacts.friction[grasp, i], ZERO, ZERO)


@wp.func
def contact_gap(contacts: Contacts, point: Iterate, grasp: int, step: wp.float64):
    """Take the last step with the given length; returns the contacts' part of the difference of the bounds."""
    gap = ZERO
    for i in range(contacts.count[grasp]):
        spent = point.spent[grasp, i]
        spent_dual = point.spent_dual[grasp, i]
        capped_dual = point.capped_dual[grasp, i]
        if step > ZERO:
            spent += step * point.spent_step[grasp, i]
            spent_dual += step * point.spent_dual_step[grasp, i]
            capped_dual += step * point.capped_dual_step[grasp, i]
            point.spent[grasp, i] = spent
            point.spent_dual[grasp, i] = spent_dual
            point.capped_dual[grasp, i] = capped_dual
        gap += wp.dot(spent, spent_dual)
        gap += wp.dot(wp.vec3d(contacts.friction[grasp, i], spent[1], spent[2]), capped_dual)
    return gap


@wp.func
def contact_equations(contacts: Contacts, point: Iterate, grasp: int, target: wp.float64):
    """The contacts' part of the six equations for the step of the multipliers: matrix and right side."""
    matrix = Mat66()
    right = Vec6()
    for i in range(contacts.count[grasp]):
        spent = point.spent[grasp, i]
        capped = wp.vec3d(contacts.friction[grasp, i], spent[1], spent[2])
        part = eliminate(spent, point.spent_dual[grasp, i], capped, point.capped_dual[grasp, i], target)
        point.elimination[grasp, i] = part
        a = point.matrix[grasp, i]
        gain = a @ part.inverse
        matrix += gain @ wp.transpose(a)
        right += gain @ part.right
    return matrix, right


@wp.func
def contact_steps(contacts: Contacts, point: Iterate, grasp: int, multiplier_step: Vec6):
    """The contacts' steps for a step of the multipliers; returns the greatest urgency of their cones."""
    pressing = ZERO
    for i in range(contacts.count[grasp]):
        part = point.elimination[grasp, i]
        pull = multiplier_step @ point.matrix[grasp, i]
        x = part.inverse @ (part.right - pull)
        along = part.spent_right - part.spent_metric @ x
        beyond = pull - along
        spent_step = wp.vec3d(part.head - wp.dot(part.ratio, x), x[0], x[1])
        spent_dual_step = wp.vec3d(ZERO, along[0], along[1])
        capped_dual_step = wp.vec3d(part.capped_head - wp.dot(part.capped_cross, x), beyond[0], beyond[1])
        spent = point.spent[grasp, i]
        capped = wp.vec3d(contacts.friction[grasp, i], spent[1], spent[2])
        pressing = wp.max(pressing, contact_urgency(spent, spent_step, part.spent_det))
        pressing = wp.max(pressing, contact_urgency(point.spent_dual[grasp, i], spent_dual_step, part.spent_dual_det))
        pressing = wp.max(pressing, contact_urgency(capped, wp.vec3d(ZERO, x[0], x[1]), part.capped_det))
        pressing = wp.max(
            pressing, contact_urgency(point.capped_dual[grasp, i], capped_dual_step, part.capped_dual_det)
        )
        point.spent_step[grasp, i] = spent_step
        point.spent_dual_step[grasp, i] = spent_dual_step
        point.capped_dual_step[grasp, i] = capped_dual_step
    return pressing


@wp.func
def next_centering(step: wp.float64):
    """Share of the present gap to aim at after a step: a long step came from near the central path, a short one not."""
    if step > wp.float64(0.85):
        return wp.float64(0.1)
    if step > HALF:
        return wp.float64(0.2)
    return wp.where(step > wp.float64(0.2), HALF, wp.float64(0.9))


@wp.func
def minimize(
    contacts: Contacts,
    point: Iterate,
    grasp: int,
    net: Vec6,
    slack_weight: wp.float64,
    tolerance: wp.float64,
    iterations: int,
):
    """Follow the central path until the bounds meet or rounding stops it; returns the multipliers."""
    count = wp.float64(2 * contacts.count[grasp] + 1)
    distance = wp.length(net)
    level = wp.max(slack_weight * wp.max(distance, wp.float64(0.05)), ONE) / count
    start(contacts, point, grasp, level)
    reach = level / slack_weight
    slack = slack_cone(wp.sqrt(reach * reach + distance * distance) + reach, -net)
    slack_dual = slack_cone(slack_weight, Vec6())
    step = wp.float64(0.0)
    centering = wp.float64(0.2)
    for _iteration in range(iterations):
        gap = contact_gap(contacts, point, grasp, step) + wp.dot(slack, slack_dual)
        if gap <= tolerance * wp.max(ONE, slack_weight * slack[0]):
            break
        target = centering * gap / count
        matrix, right = contact_equations(contacts, point, grasp, target)
        w, size = slack_scaling(slack, slack_dual)
        point6 = slack_tail(w)
        toward = slack_aim(slack, slack_dual, target)
        along = TWO * wp.dot(w, toward)
        matrix += size * (TWO * wp.outer(point6, point6) + wp.identity(n=6, dtype=wp.float64))
        right += size * (along * point6 + slack_tail(toward))
        multiplier_step = solve(matrix, right)
        toward = toward - slack_cone(ZERO, multiplier_step)
        slack_step = size * (TWO * wp.dot(w, toward) * w - slack_cone(toward[0], -slack_tail(toward)))
        slack_dual_step = slack_cone(ZERO, multiplier_step)
        pressing = contact_steps(contacts, point, grasp, multiplier_step)
        pressing = wp.max(
            pressing, wp.max(slack_urgency(slack, slack_step), slack_urgency(slack_dual, slack_dual_step))
        )
        step = wp.float64(0.95) / wp.max(pressing, wp.float64(0.95))
        if not (step > STUCK and wp.isfinite(wp.length_sq(multiplier_step))):
            break
        slack += step * slack_step
        slack_dual += step * slack_dual_step
        centering = next_centering(step)
    return slack_tail(slack_dual)


@wp.kernel
def least_friction(
    # In:
    contacts: Contacts,
    # Options:
    slack_weight: wp.float64,
    tolerance: wp.float64,
    iterations: int,
    # Out:
    scratch_out: Iterate,
    friction_out: wp.array2d[wp.vec3d],
    multiplier_out: wp.array[Vec6],
    residual_out: wp.array[wp.float64],
    lower_out: wp.array[wp.float64],
    upper_out: wp.array[wp.float64],
):
    """Solve the problem above for each grasp.

    The bounds are computed from the friction and the multipliers themselves, so they hold wherever the iteration
    stopped:

        upper = sum omega |x| / mu + rho |b + A x|,   lower = lambda . b - sum max(0, mu |A' lambda| - omega)

    Launch: dim = grasp.

    Args:
        contacts: The contacts.
        slack_weight: rho.
        tolerance: Difference of the bounds, relative to the larger of V and one, to stop at.
        iterations: Most steps.
        scratch_out: Scratch.
        friction_out: Friction as a share of the normal force, shape [grasp, contact].
        multiplier_out: lambda: derivative of V with respect to b, shape [grasp].
        residual_out: |s|, shape [grasp].
        lower_out: Lower bound of V, shape [grasp].
        upper_out: V of the friction that was found, shape [grasp].
    """
    grasp = wp.tid()
    net = net_wrench(contacts, grasp)
    multiplier = minimize(contacts, scratch_out, grasp, net, slack_weight, tolerance, iterations)
    multiplier = multiplier * wp.min(ONE, slack_weight / wp.max(wp.length(multiplier), TINY))
    lower = wp.dot(multiplier, net)
    used = wp.float64(0.0)
    left = net
    for i in range(contacts.count[grasp]):
        friction = contacts.friction[grasp, i]
        price = contacts.price[grasp, i]
        x = tail(scratch_out.spent[grasp, i])
        size = wp.length(x)
        x = x * wp.min(ONE, friction / wp.max(size, TINY))
        used += price * wp.min(size, friction)
        left += scratch_out.matrix[grasp, i] @ x
        pull = wp.length(multiplier @ scratch_out.matrix[grasp, i])
        lower -= wp.max(ZERO, friction * (pull - price))
        first, second = tangents(contacts.normal[grasp, i])
        friction_out[grasp, i] = x[0] * first + x[1] * second
    multiplier_out[grasp] = multiplier
    residual_out[grasp] = wp.length(left)
    lower_out[grasp] = lower
    upper_out[grasp] = used + slack_weight * wp.length(left)


@wp.func
def sum_force_slopes(
    contacts: Contacts,
    friction: wp.array2d[wp.vec3d],
    multiplier: Vec6,
    force_weighted: int,
    grasp: int,
    slope_out: wp.array2d[wp.float64],
):
    """Store the derivative of V for each share; returns their mean, weighted by the shares."""
    mean = wp.dot(multiplier, contacts.external[grasp])
    for i in range(contacts.count[grasp]):
        normal = contacts.normal[grasp, i]
        share = contacts.share[grasp, i]
        push = normal + friction[grasp, i]
        velocity = point_velocity(contacts, multiplier, grasp, i)
        slope = wp.dot(push, velocity)
        if force_weighted == 1:
            if share > ZERO:
                slope += wp.length(friction[grasp, i]) / contacts.friction[grasp, i]
            else:
                slide = wp.length(velocity - wp.dot(velocity, normal) * normal)
                slope -= wp.max(ZERO, contacts.friction[grasp, i] * slide - ONE)
        slope_out[grasp, i] = slope
        mean += share * slope
    return mean


@wp.func
def point_velocity(contacts: Contacts, multiplier: Vec6, grasp: int, contact: int):
    """Derivative of lambda . wrench with respect to the force at a contact."""
    turn = wp.vec3d(multiplier[3], multiplier[4], multiplier[5])
    return wp.vec3d(multiplier[0], multiplier[1], multiplier[2]) + wp.cross(turn, contacts.arm[grasp, contact])


@wp.kernel
def value_gradient(
    # In:
    contacts: Contacts,
    friction: wp.array2d[wp.vec3d],
    multiplier: wp.array[Vec6],
    # Options:
    force_weighted: int,
    # Out:
    arm_gradient_out: wp.array2d[wp.vec3d],
    normal_gradient_out: wp.array2d[wp.vec3d],
    force_gradient_out: wp.array2d[wp.float64],
    friction_gradient_out: wp.array2d[wp.float64],
):
    """Derivatives of V by the envelope theorem: friction x and multipliers lambda are held fixed.

    With u = lambda_f + lambda_t x a the velocity that the multipliers give to the end of arm a, y the friction as a
    share of the normal force, and h the contact's share of it:

        dV/da = h (n + y) x lambda_t
        dV/dn = h (u - (u . n) (n + y)), across n; the friction turns with the normal
        dV/dh = (n + y) . u + |y| / mu, the last with force weights; idle contacts have the friction that they would use
        dV/dmu = -h |u across n| |y| / mu

    and the shares sum to one whatever the forces are, which takes the mean of dV/dh away.

    Launch: dim = grasp.

    Args:
        contacts: The contacts.
        friction: y, shape [grasp, contact].
        multiplier: lambda, shape [grasp].
        force_weighted: 1: omega is the share; 0: omega does not depend on the forces.
        arm_gradient_out: dV/da, shape [grasp, contact].
        normal_gradient_out: dV/dn, shape [grasp, contact].
        force_gradient_out: dV/df times the summed normal force, shape [grasp, contact].
        friction_gradient_out: dV/dmu, shape [grasp, contact].
    """
    grasp = wp.tid()
    pull = multiplier[grasp]
    turn = wp.vec3d(pull[3], pull[4], pull[5])
    mean = sum_force_slopes(contacts, friction, pull, force_weighted, grasp, force_gradient_out)
    for i in range(contacts.count[grasp]):
        normal = contacts.normal[grasp, i]
        share = contacts.share[grasp, i]
        push = normal + friction[grasp, i]
        velocity = point_velocity(contacts, pull, grasp, i)
        along = wp.dot(velocity, normal)
        arm_gradient_out[grasp, i] = share * wp.cross(push, turn)
        normal_gradient_out[grasp, i] = share * (velocity - along * push)
        force_gradient_out[grasp, i] = force_gradient_out[grasp, i] - mean
        slide = wp.length(velocity - along * normal)
        used = wp.length(friction[grasp, i]) / contacts.friction[grasp, i]
        friction_gradient_out[grasp, i] = -share * slide * used
