"""The object's motion against the static hand, by position-based dynamics, and the adjoint of it.

The hand does not move and the object is free. Each hand point must stay outside the object; where it does not, the
object is displaced. The distance to each point is known at the start and linear in the object's displacement x and
small rotation theta about its centre of mass, so one search of the mesh serves all simulations and steps:

C = radius - phi + n . x + (l x n) . theta   (penetration)

with phi and n the distance and its gradient, l the arm from the centre of mass to the point. The object displaces by
D = -(f, G (l x f)), f the positional impulse of ``impulse`` and G the inverse of the inertia per unit mass.

Source: Turpin et al. 2023, Fast-Grasp'D, sections III-C and IV-A; Deul, Charrier & Bender 2016, Position-based
rigid-body dynamics, for friction.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

RADIUS_COLUMN = wp.constant(3)
"""Column of the schedule with the dilation of the object's surface [m]."""

AVERAGE_ACTIVE = wp.constant(0)
"""Averaging: a Jacobi step divides the sum of displacements by the number of points that touch."""

AVERAGE_ALL = wp.constant(1)
"""Averaging: by the number of points."""

AVERAGE_SUM = wp.constant(2)
"""Averaging: by one."""

SMALLEST_SLIP = wp.constant(1.0e-5)
"""Share of the slip below which its tangential part is rounding noise and meets no friction."""


@wp.struct
class Settings:
    """The object and the options, constant during a run."""

    center: wp.vec3
    """Centre of mass [m]."""
    inertia: wp.mat33
    """K, per unit mass about the centre of mass [m^2]."""
    inverse_inertia: wp.mat33
    """G [1/m^2]."""
    speed: float
    """At the start of a translating simulation [m/s]."""
    spin: float
    """At the start of a rotating simulation [rad/s]."""
    time_step: float
    """[s]"""
    angular_length: float
    """Length that angular speeds are multiplied by in the loss [m]."""
    friction: float
    """Coulomb's coefficient."""
    leak: float
    """Share of the derivative of max(0, C) that is left where C <= 0."""
    leak_limit: float
    """Largest derivative of the loss with respect to max(0, C) that leaks; 0 where only attraction does [1/m]."""
    averaging: int
    """``AVERAGE_ACTIVE``, ``AVERAGE_ALL`` or ``AVERAGE_SUM``; Jacobi only."""
    squared: int
    """Whether the loss adds squared speeds."""


@wp.struct
class FrictionAdjoint:
    """Derivatives of the loss with respect to what the friction at one point depends on."""

    along_normal: float
    """a, the size of the normal impulse."""
    normal: wp.vec3
    """n, at constant a."""
    arm: wp.vec3
    """l, at constant a and slip."""
    slip: wp.vec3
    """Displacement of the object at the point since the step began."""


@wp.func
def start_velocity(settings: Settings, simulation: int):
    """Velocity and angular velocity of a simulation at its start: none, +x, -x, +y, ..., -z, then about +x, ..., -z."""
    linear = wp.vec3(0.0, 0.0, 0.0)
    angular = wp.vec3(0.0, 0.0, 0.0)
    if simulation > 0:
        half_axis = (simulation - 1) % 6
        sign = wp.where(half_axis % 2 == 0, 1.0, -1.0)
        if simulation <= 6:
            linear[half_axis // 2] = sign * settings.speed
        else:
            angular[half_axis // 2] = sign * settings.spin
    return linear, angular


@wp.func
def turning_rate(settings: Settings, angular: wp.vec3):
    """Rate of change of the angular velocity w of a free body, -G (w x K w) [rad/s^2]."""
    return -(settings.inverse_inertia * wp.cross(angular, settings.inertia * angular))


@wp.func
def before_prediction(
    settings: Settings, angular: wp.vec3, state_adjoint: wp.spatial_vector, velocity_adjoint: wp.spatial_vector
):
    """Adjoint of the velocities before the prediction of a step, from those after it; w is ``angular`` before it.

    The state's adjoint is the same before and after: x~ = x + dt v~, theta~ = theta + dt w~, w~ = w + dt rate(w).
    """
    adjoint = velocity_adjoint + settings.time_step * state_adjoint
    w_adjoint = wp.spatial_bottom(adjoint)
    y = settings.inverse_inertia * w_adjoint
    slope = wp.cross(y, settings.inertia * angular) - settings.inertia * wp.cross(y, angular)
    return wp.spatial_vector(wp.spatial_top(adjoint), w_adjoint + settings.time_step * slope)


@wp.func
def tangential_slip(normal: wp.vec3, slip: wp.vec3):
    """Part of the slip along the surface [m]; zero where it is rounding noise."""
    tangential = slip - (wp.dot(slip, normal) / wp.length_sq(normal)) * normal
    if wp.length_sq(tangential) > SMALLEST_SLIP * SMALLEST_SLIP * wp.length_sq(slip):
        return tangential
    return wp.vec3(0.0, 0.0, 0.0)


@wp.func
def compliance(settings: Settings, arm: wp.vec3, direction: wp.vec3):
    """How far the object displaces at a point along a direction d per unit of impulse: |d|^2 + (l x d) . G (l x d)."""
    turn = wp.cross(arm, direction)
    return wp.length_sq(direction) + wp.dot(turn, settings.inverse_inertia * turn)


@wp.func
def impulse(settings: Settings, normal: wp.vec3, arm: wp.vec3, penetration: float, slip: wp.vec3):
    """Positional impulse of the object on a point that penetrates it, per unit mass [m].

    f = a n + b t,   a = C / w(n),   b = min(friction a, |s| / w(t)),   t = s / |s|

    with w ``compliance``, s ``tangential_slip``. The first of the two values of b is sliding, the second sticking.

    Source: Turpin et al. 2023, Fast-Grasp'D, eq. (1): J M^-1 J^T = w / mass, so the mass cancels.
    """
    along_normal = penetration / compliance(settings, arm, normal)
    force = along_normal * normal
    if settings.friction > 0.0:
        tangential = tangential_slip(normal, slip)
        length = wp.length(tangential)
        if length > 0.0:
            t = tangential / length
            force += wp.min(settings.friction * along_normal, length / compliance(settings, arm, t)) * t
    return force


@wp.func
def leaky(settings: Settings, penetration: float, gain: float):
    """Derivative of the loss with respect to C from that with respect to max(0, C)."""
    return wp.where(penetration > 0.0, gain, settings.leak * wp.min(gain, settings.leak_limit))


@wp.func
def friction_adjoint(
    settings: Settings,
    normal: wp.vec3,
    arm: wp.vec3,
    along_normal: float,
    slip: wp.vec3,
    push: wp.vec3,
    twist: wp.vec3,
):
    """Adjoint of the displacement by the friction b t of ``impulse`` at one point.

    Args:
        settings: Object and options.
        normal: n.
        arm: l [m].
        along_normal: a, zero where nothing touches [m].
        slip: Displacement of the object at the point since the step began [m].
        push: Adjoint of the first half of the displacement.
        twist: G times the adjoint of the second half.
    """
    out = FrictionAdjoint()
    tangential = tangential_slip(normal, slip)
    length = wp.length(tangential)
    if length == 0.0:
        return out
    t = tangential / length
    force_adjoint = -push - wp.cross(twist, arm)
    along_t_adjoint = wp.dot(force_adjoint, t)
    if along_normal == 0.0:
        out.along_normal = settings.friction * along_t_adjoint
        return out

    turn = wp.cross(arm, t)
    lift = settings.inverse_inertia * turn
    weight = 1.0 + wp.dot(turn, lift)
    along_t = settings.friction * along_normal
    length_adjoint = float(0.0)
    turn_adjoint = wp.vec3(0.0, 0.0, 0.0)
    if along_t < length / weight:
        out.along_normal = settings.friction * along_t_adjoint
    else:
        along_t = length / weight
        length_adjoint = along_t_adjoint / weight
        turn_adjoint = (-2.0 * along_t * length_adjoint) * lift
    t_adjoint = along_t * force_adjoint + wp.cross(turn_adjoint, arm)
    out.arm = wp.cross(t, turn_adjoint - along_t * twist)

    # s = u - (u . n) n / |n|^2
    s_adjoint = (t_adjoint - wp.dot(t, t_adjoint) * t) / length + length_adjoint * t
    inverse = 1.0 / wp.length_sq(normal)
    slope = wp.dot(s_adjoint, normal) * inverse
    share = wp.dot(slip, normal) * inverse
    out.slip = s_adjoint - slope * normal
    out.normal = (2.0 * slope * share) * normal - share * s_adjoint - slope * slip
    return out


@wp.func
def speed_loss(settings: Settings, linear: wp.vec3, angular: wp.vec3):
    """Loss of the velocities at the end of one simulation, before it is divided by the number of simulations.

    Source: Turpin et al. 2023, Fast-Grasp'D, eq. (2).
    """
    length = settings.angular_length
    if settings.squared != 0:
        return wp.length_sq(linear) + length * length * wp.length_sq(angular)
    return wp.length(linear) + length * wp.length(angular)


@wp.func
def speed_loss_adjoint(settings: Settings, velocity: wp.spatial_vector, simulation_count: int):
    """Derivative of the mean over the simulations of ``speed_loss``; zero for a speed of zero."""
    linear = wp.spatial_top(velocity)
    angular = wp.spatial_bottom(velocity)
    share = 1.0 / float(simulation_count)
    length = settings.angular_length
    if settings.squared != 0:
        return wp.spatial_vector((2.0 * share) * linear, (2.0 * share * length * length) * angular)
    return wp.spatial_vector(share * wp.normalize(linear), (share * length) * wp.normalize(angular))


@wp.func
def average_share(settings: Settings, active_count: int, point_count: int):
    """What a Jacobi step multiplies the sum of the displacements by."""
    if settings.averaging == AVERAGE_ACTIVE:
        return 1.0 / float(wp.max(active_count, 1))
    if settings.averaging == AVERAGE_ALL:
        return 1.0 / float(point_count)
    return 1.0


@wp.kernel
def simulate_jacobi(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    # Out:
    predicted_out: wp.array3d[wp.spatial_vector],
    velocity_out: wp.array3d[wp.spatial_vector],
    spin_out: wp.array3d[wp.vec3],
    share_out: wp.array3d[float],
    end_velocity_out: wp.array2d[wp.spatial_vector],
    loss_out: wp.array2d[float],
):
    """Motion of the object in one simulation; all points displace it from the predicted state.

    Launch: dim = (grasp, simulation). One thread sums one simulation, so equal inputs give equal bits.

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: phi [m], shape [grasp, point].
        distance_gradient: n, zero for a point that is out of reach, shape [grasp, point].
        predicted_out: Predicted displacement and rotation [m, rad], shape [grasp, simulation, step].
        velocity_out: Predicted velocities [m/s, rad/s], shape [grasp, simulation, step].
        spin_out: Angular velocity at the beginning [rad/s], shape [grasp, simulation, step].
        share_out: What the sum of displacements was multiplied by, shape [grasp, simulation, step].
        end_velocity_out: Velocities at the end [m/s, rad/s], shape [grasp, simulation].
        loss_out: Share of the simulation in the loss, shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    point_count = point_position.shape[1]
    radius = schedule[iteration[0], RADIUS_COLUMN]
    dt = settings.time_step
    linear, angular = start_velocity(settings, simulation)
    x = wp.vec3(0.0, 0.0, 0.0)
    theta = wp.vec3(0.0, 0.0, 0.0)
    for step in range(predicted_out.shape[2]):
        spin_out[grasp, simulation, step] = angular
        angular = angular + dt * turning_rate(settings, angular)
        x = x + dt * linear
        theta = theta + dt * angular
        predicted_out[grasp, simulation, step] = wp.spatial_vector(x, theta)
        velocity_out[grasp, simulation, step] = wp.spatial_vector(linear, angular)
        force = wp.vec3(0.0, 0.0, 0.0)
        torque = wp.vec3(0.0, 0.0, 0.0)
        active_count = int(0)
        turned = wp.length_sq(theta) > 0.0
        for point in range(point_count):
            normal = distance_gradient[grasp, point]
            arm = point_position[grasp, point] - settings.center
            moved = wp.dot(normal, x)
            if turned:
                moved += wp.dot(wp.cross(arm, normal), theta)
            penetration = radius - distance[grasp, point] + moved
            if penetration > 0.0:
                slip = dt * (linear + wp.cross(angular, arm))
                f = impulse(settings, normal, arm, penetration, slip)
                force += f
                torque += wp.cross(arm, f)
                active_count += 1
        share = average_share(settings, active_count, point_count)
        share_out[grasp, simulation, step] = share
        change = -share * force
        turn = -share * (settings.inverse_inertia * torque)
        x = x + change
        theta = theta + turn
        linear = linear + change / dt
        angular = angular + turn / dt
    end_velocity_out[grasp, simulation] = wp.spatial_vector(linear, angular)
    loss_out[grasp, simulation] = speed_loss(settings, linear, angular) / float(predicted_out.shape[1])


@wp.kernel
def trace_jacobi(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    predicted: wp.array3d[wp.spatial_vector],
    velocity: wp.array3d[wp.spatial_vector],
    spin: wp.array3d[wp.vec3],
    share: wp.array3d[float],
    end_velocity: wp.array2d[wp.spatial_vector],
    # Out:
    displacement_adjoint_out: wp.array3d[wp.spatial_vector],
):
    """Adjoint of the object's state, back over the steps of ``simulate_jacobi``.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: phi [m], shape [grasp, point].
        distance_gradient: n, shape [grasp, point].
        predicted: Predicted displacement and rotation [m, rad], shape [grasp, simulation, step].
        velocity: Predicted velocities [m/s, rad/s], shape [grasp, simulation, step].
        spin: Angular velocity at the beginning [rad/s], shape [grasp, simulation, step].
        share: What the sum of displacements was multiplied by, shape [grasp, simulation, step].
        end_velocity: Velocities at the end [m/s, rad/s], shape [grasp, simulation].
        displacement_adjoint_out: Derivative of the loss with respect to the displacement D by any one point, the
            second half times G, shape [grasp, simulation, step].
    """
    grasp, simulation = wp.tid()
    point_count = point_position.shape[1]
    step_count = predicted.shape[2]
    radius = schedule[iteration[0], RADIUS_COLUMN]
    dt = settings.time_step
    velocity_adjoint = speed_loss_adjoint(settings, end_velocity[grasp, simulation], predicted.shape[1])
    state_adjoint = wp.spatial_vector(wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0))
    for later in range(step_count):
        step = step_count - 1 - later
        change_adjoint = share[grasp, simulation, step] * (state_adjoint + velocity_adjoint / dt)
        push = wp.spatial_top(change_adjoint)
        twist = settings.inverse_inertia * wp.spatial_bottom(change_adjoint)
        displacement_adjoint_out[grasp, simulation, step] = wp.spatial_vector(push, twist)
        if step > 0:
            state = predicted[grasp, simulation, step]
            slid = dt * velocity[grasp, simulation, step]
            for point in range(point_count):
                normal = distance_gradient[grasp, point]
                arm = point_position[grasp, point] - settings.center
                jacobian = wp.spatial_vector(normal, wp.cross(arm, normal))
                penetration = radius - distance[grasp, point] + wp.dot(jacobian, state)
                if wp.length_sq(normal) > 0.0 and (penetration > 0.0 or settings.leak > 0.0):
                    inverse_weight = 1.0 / compliance(settings, arm, normal)
                    gain = -wp.dot(jacobian, wp.spatial_vector(push, twist))
                    if settings.friction > 0.0:
                        slip = wp.spatial_top(slid) + wp.cross(wp.spatial_bottom(slid), arm)
                        along_normal = wp.max(penetration, 0.0) * inverse_weight
                        friction = friction_adjoint(settings, normal, arm, along_normal, slip, push, twist)
                        gain += friction.along_normal
                        velocity_adjoint += dt * wp.spatial_vector(friction.slip, wp.cross(arm, friction.slip))
                    state_adjoint += leaky(settings, penetration, gain * inverse_weight) * jacobian
            velocity_adjoint = before_prediction(
                settings, spin[grasp, simulation, step], state_adjoint, velocity_adjoint
            )


@wp.kernel
def point_adjoint_jacobi(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    predicted: wp.array2d[wp.spatial_vector],
    velocity: wp.array2d[wp.spatial_vector],
    displacement_adjoint: wp.array2d[wp.spatial_vector],
    # Out:
    distance_adjoint_out: wp.array2d[float],
    gradient_adjoint_out: wp.array2d[wp.vec3],
    arm_adjoint_out: wp.array2d[wp.vec3],
):
    """Derivative of the loss of ``simulate_jacobi`` with respect to one point, over all simulations and steps.

    Launch: dim = (grasp, point). Needs no atomics. Simulations and their steps count as one dimension: they add up
    alike, and nested loops are slower.

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: phi [m], shape [grasp, point].
        distance_gradient: n, shape [grasp, point].
        predicted: Predicted displacement and rotation [m, rad], shape [grasp, simulation * step].
        velocity: Predicted velocities [m/s, rad/s], shape [grasp, simulation * step].
        displacement_adjoint: From ``trace_jacobi``, shape [grasp, simulation * step].
        distance_adjoint_out: Derivative with respect to phi, shape [grasp, point].
        gradient_adjoint_out: Derivative with respect to n, shape [grasp, point].
        arm_adjoint_out: Derivative with respect to the point's position at constant phi and n, shape [grasp, point].
    """
    grasp, point = wp.tid()
    normal = distance_gradient[grasp, point]
    penetration_sum = float(0.0)
    normal_sum = wp.vec3(0.0, 0.0, 0.0)
    arm_sum = wp.vec3(0.0, 0.0, 0.0)
    if wp.length_sq(normal) > 0.0:
        gap = schedule[iteration[0], RADIUS_COLUMN] - distance[grasp, point]
        arm = point_position[grasp, point] - settings.center
        turn = wp.cross(arm, normal)
        lift = settings.inverse_inertia * turn
        inverse_weight = 1.0 / (wp.length_sq(normal) + wp.dot(turn, lift))
        weight_sum = float(0.0)
        shift = wp.vec3(0.0, 0.0, 0.0)
        swing = wp.vec3(0.0, 0.0, 0.0)
        for step in range(predicted.shape[1]):
            x = wp.spatial_top(predicted[grasp, step])
            theta = wp.spatial_bottom(predicted[grasp, step])
            push = wp.spatial_top(displacement_adjoint[grasp, step])
            twist = wp.spatial_bottom(displacement_adjoint[grasp, step])
            penetration = gap + (wp.dot(normal, x) + wp.dot(turn, theta))
            along_normal = wp.max(penetration, 0.0) * inverse_weight
            gain = -(wp.dot(normal, push) + wp.dot(turn, twist))
            if settings.friction > 0.0:
                linear = wp.spatial_top(velocity[grasp, step])
                angular = wp.spatial_bottom(velocity[grasp, step])
                slip = settings.time_step * (linear + wp.cross(angular, arm))
                friction = friction_adjoint(settings, normal, arm, along_normal, slip, push, twist)
                gain += friction.along_normal
                normal_sum += friction.normal
                arm_sum += friction.arm + settings.time_step * wp.cross(friction.slip, angular)
            gain = leaky(settings, penetration, gain * inverse_weight)
            penetration_sum += gain
            # both n . x + (l x n) . theta and the displacement are linear in n and in l x n
            shift += gain * x
            swing += gain * theta
            if penetration > 0.0:
                weight_sum += along_normal * gain
                shift -= along_normal * push
                swing -= along_normal * twist
        # w(n) = n . n + (l x n) . G (l x n)
        swing -= (2.0 * weight_sum) * lift
        normal_sum += shift - (2.0 * weight_sum) * normal + wp.cross(swing, arm)
        arm_sum += wp.cross(normal, swing)
    distance_adjoint_out[grasp, point] = -penetration_sum
    gradient_adjoint_out[grasp, point] = normal_sum
    arm_adjoint_out[grasp, point] = arm_sum


@wp.kernel
def simulate_gauss_seidel(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    # Out:
    predicted_out: wp.array3d[wp.spatial_vector],
    velocity_out: wp.array3d[wp.spatial_vector],
    spin_out: wp.array3d[wp.vec3],
    correction_out: wp.array4d[wp.spatial_vector],
    end_velocity_out: wp.array2d[wp.spatial_vector],
    loss_out: wp.array2d[float],
):
    """Motion of the object in one simulation; each point displaces it from where the one before has left it.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: phi [m], shape [grasp, point].
        distance_gradient: n, zero for a point that is out of reach, shape [grasp, point].
        predicted_out: Predicted displacement and rotation [m, rad], shape [grasp, simulation, step].
        velocity_out: Predicted velocities [m/s, rad/s], shape [grasp, simulation, step].
        spin_out: Angular velocity at the beginning [rad/s], shape [grasp, simulation, step].
        correction_out: What the points before this one have added to the predicted state [m, rad], shape
            [grasp, simulation, step, point].
        end_velocity_out: Velocities at the end [m/s, rad/s], shape [grasp, simulation].
        loss_out: Share of the simulation in the loss, shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    radius = schedule[iteration[0], RADIUS_COLUMN]
    dt = settings.time_step
    linear, angular = start_velocity(settings, simulation)
    x = wp.vec3(0.0, 0.0, 0.0)
    theta = wp.vec3(0.0, 0.0, 0.0)
    for step in range(predicted_out.shape[2]):
        spin_out[grasp, simulation, step] = angular
        angular = angular + dt * turning_rate(settings, angular)
        x = x + dt * linear
        theta = theta + dt * angular
        predicted_out[grasp, simulation, step] = wp.spatial_vector(x, theta)
        velocity_out[grasp, simulation, step] = wp.spatial_vector(linear, angular)
        change = wp.vec3(0.0, 0.0, 0.0)
        turn = wp.vec3(0.0, 0.0, 0.0)
        for point in range(point_position.shape[1]):
            correction_out[grasp, simulation, step, point] = wp.spatial_vector(change, turn)
            normal = distance_gradient[grasp, point]
            arm = point_position[grasp, point] - settings.center
            moved = wp.dot(normal, x + change) + wp.dot(wp.cross(arm, normal), theta + turn)
            penetration = radius - distance[grasp, point] + moved
            if penetration > 0.0:
                slip = dt * linear + change + wp.cross(dt * angular + turn, arm)
                f = impulse(settings, normal, arm, penetration, slip)
                change -= f
                turn -= settings.inverse_inertia * wp.cross(arm, f)
        x = x + change
        theta = theta + turn
        linear = linear + change / dt
        angular = angular + turn / dt
    end_velocity_out[grasp, simulation] = wp.spatial_vector(linear, angular)
    loss_out[grasp, simulation] = speed_loss(settings, linear, angular) / float(predicted_out.shape[1])


@wp.kernel
def trace_gauss_seidel(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    predicted: wp.array3d[wp.spatial_vector],
    velocity: wp.array3d[wp.spatial_vector],
    spin: wp.array3d[wp.vec3],
    correction: wp.array4d[wp.spatial_vector],
    end_velocity: wp.array2d[wp.spatial_vector],
    # Out:
    penetration_adjoint_out: wp.array3d[float],
    normal_adjoint_out: wp.array3d[wp.vec3],
    arm_adjoint_out: wp.array3d[wp.vec3],
):
    """Adjoint of the state, back over the steps and points of ``simulate_gauss_seidel``, and of the points on the way.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        distance: phi [m], shape [grasp, point].
        distance_gradient: n, shape [grasp, point].
        predicted: Predicted displacement and rotation [m, rad], shape [grasp, simulation, step].
        velocity: Predicted velocities [m/s, rad/s], shape [grasp, simulation, step].
        spin: Angular velocity at the beginning [rad/s], shape [grasp, simulation, step].
        correction: What the points before this one have added to the predicted state [m, rad], shape
            [grasp, simulation, step, point].
        end_velocity: Velocities at the end [m/s, rad/s], shape [grasp, simulation].
        penetration_adjoint_out: Derivative with respect to C, summed over the steps, shape [grasp, simulation, point].
        normal_adjoint_out: Derivative with respect to n, shape [grasp, simulation, point].
        arm_adjoint_out: Derivative with respect to the point's position at constant phi and n, shape
            [grasp, simulation, point].
    """
    grasp, simulation = wp.tid()
    velocity_adjoint = speed_loss_adjoint(settings, end_velocity[grasp, simulation], predicted.shape[1])
    state_adjoint = wp.spatial_vector(wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0))
    for later in range(predicted.shape[2]):
        step = predicted.shape[2] - 1 - later
        # what a point has added enters through the state, the velocity, and the points that follow
        change_adjoint = state_adjoint + velocity_adjoint / settings.time_step
        for before in range(point_position.shape[1]):
            point = point_position.shape[1] - 1 - before
            penetration_sum = float(0.0)
            normal_sum = wp.vec3(0.0, 0.0, 0.0)
            arm_sum = wp.vec3(0.0, 0.0, 0.0)
            if later > 0:
                penetration_sum = penetration_adjoint_out[grasp, simulation, point]
                normal_sum = normal_adjoint_out[grasp, simulation, point]
                arm_sum = arm_adjoint_out[grasp, simulation, point]
            added = correction[grasp, simulation, step, point]
            state = predicted[grasp, simulation, step] + added
            normal = distance_gradient[grasp, point]
            arm = point_position[grasp, point] - settings.center
            jacobian = wp.spatial_vector(normal, wp.cross(arm, normal))
            penetration = schedule[iteration[0], RADIUS_COLUMN] - distance[grasp, point] + wp.dot(jacobian, state)
            if wp.length_sq(normal) > 0.0 and (penetration > 0.0 or settings.leak > 0.0):
                push = wp.spatial_top(change_adjoint)
                twist = settings.inverse_inertia * wp.spatial_bottom(change_adjoint)
                inverse_weight = 1.0 / compliance(settings, arm, normal)
                along_normal = wp.max(penetration, 0.0) * inverse_weight
                gain = -wp.dot(jacobian, wp.spatial_vector(push, twist))
                if settings.friction > 0.0:
                    slid = settings.time_step * velocity[grasp, simulation, step] + added
                    slip = wp.spatial_top(slid) + wp.cross(wp.spatial_bottom(slid), arm)
                    friction = friction_adjoint(settings, normal, arm, along_normal, slip, push, twist)
                    gain += friction.along_normal
                    normal_sum += friction.normal
                    arm_sum += friction.arm + wp.cross(friction.slip, wp.spatial_bottom(slid))
                    slid_adjoint = wp.spatial_vector(friction.slip, wp.cross(arm, friction.slip))
                    velocity_adjoint += settings.time_step * slid_adjoint
                    change_adjoint += slid_adjoint
                gain = leaky(settings, penetration, gain * inverse_weight)
                penetration_sum += gain
                state_adjoint += gain * jacobian
                change_adjoint += gain * jacobian
                weight_adjoint = -2.0 * along_normal * gain
                lift = settings.inverse_inertia * wp.spatial_bottom(jacobian)
                swing = gain * wp.spatial_bottom(state) - along_normal * twist + weight_adjoint * lift
                shift = gain * wp.spatial_top(state) - along_normal * push + weight_adjoint * normal
                normal_sum += shift + wp.cross(swing, arm)
                arm_sum += wp.cross(normal, swing)
            penetration_adjoint_out[grasp, simulation, point] = penetration_sum
            normal_adjoint_out[grasp, simulation, point] = normal_sum
            arm_adjoint_out[grasp, simulation, point] = arm_sum
        velocity_adjoint = before_prediction(settings, spin[grasp, simulation, step], state_adjoint, velocity_adjoint)


@wp.kernel
def sum_simulations(
    # In:
    penetration_adjoint: wp.array3d[float],
    normal_adjoint: wp.array3d[wp.vec3],
    arm_adjoint: wp.array3d[wp.vec3],
    # Out:
    distance_adjoint_out: wp.array2d[float],
    gradient_adjoint_out: wp.array2d[wp.vec3],
    arm_adjoint_out: wp.array2d[wp.vec3],
):
    """Derivative of the loss of ``simulate_gauss_seidel`` with respect to one point.

    Launch: dim = (grasp, point).

    Args:
        penetration_adjoint: Derivative with respect to C, shape [grasp, simulation, point].
        normal_adjoint: Derivative with respect to n, shape [grasp, simulation, point].
        arm_adjoint: Derivative with respect to the point's position, shape [grasp, simulation, point].
        distance_adjoint_out: Derivative with respect to phi, shape [grasp, point].
        gradient_adjoint_out: Derivative with respect to n, shape [grasp, point].
        arm_adjoint_out: Derivative with respect to the point's position at constant phi and n, shape [grasp, point].
    """
    grasp, point = wp.tid()
    penetration_sum = float(0.0)
    normal_sum = wp.vec3(0.0, 0.0, 0.0)
    arm_sum = wp.vec3(0.0, 0.0, 0.0)
    for simulation in range(penetration_adjoint.shape[1]):
        penetration_sum += penetration_adjoint[grasp, simulation, point]
        normal_sum += normal_adjoint[grasp, simulation, point]
        arm_sum += arm_adjoint[grasp, simulation, point]
    distance_adjoint_out[grasp, point] = -penetration_sum
    gradient_adjoint_out[grasp, point] = normal_sum
    arm_adjoint_out[grasp, point] = arm_sum
