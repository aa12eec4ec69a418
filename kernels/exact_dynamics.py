"""The dynamics of ``dynamics.py`` without its linearisation, for Warp's own reverse mode.

Every simulation asks for the distance at the pose that it predicts for the object. Nothing here has a hand-written
derivative but the leak, which has no other: an oracle for the kernels that do, and an order of magnitude slower.
"""

import warp as wp

from .distance import (  # noqa: TID251  a sibling, not the bare package
    FAR_DISTANCE,
    closest_point,
    flat_distance,
    phong_distance,
    point_offset,
)
from .dynamics import (  # noqa: TID251  a sibling, not the bare package
    AVERAGE_ACTIVE,
    AVERAGE_ALL,
    RADIUS_COLUMN,
    SMALLEST_SLIP,
    Settings,
    start_velocity,
)


@wp.func
def leaky_positive_part(c: float, leak: float, limit: float):
    """max(0, c); its derivative below zero is a share of the true one, and none where the adjoint exceeds a limit."""
    return wp.max(c, 0.0)


@wp.func_grad(leaky_positive_part)
def adj_leaky_positive_part(c: float, leak: float, limit: float, adj_ret: float):
    """Its adjoint; Warp finds the name ``adj_ret`` by itself."""
    if c > 0.0:
        wp.adjoint[c] += adj_ret
    else:
        wp.adjoint[c] += leak * wp.min(adj_ret, limit)


@wp.func
def object_rotation(theta: wp.vec3):
    """Rotation about ``theta`` by 2 atan(|theta| / 2): its length but for the third order, and smooth at zero."""
    return wp.normalize(wp.quat(0.5 * theta[0], 0.5 * theta[1], 0.5 * theta[2], 1.0))


@wp.func
def contact_impulse(settings: Settings, normal: wp.vec3, arm: wp.vec3, depth: float, slip: wp.vec3):
    """Positional impulse on a point that is ``depth`` deep, see ``dynamics.impulse``."""
    lever = wp.cross(arm, normal)
    along_normal = depth / (wp.dot(normal, normal) + wp.dot(lever, settings.inverse_inertia * lever))
    force = along_normal * normal
    if settings.friction > 0.0:
        unit = wp.normalize(normal)
        tangential = slip - wp.dot(slip, unit) * unit
        length = wp.length(tangential)
        if length > SMALLEST_SLIP * wp.length(slip):
            t = tangential / length
            lever_t = wp.cross(arm, t)
            stop = length / (1.0 + wp.dot(lever_t, settings.inverse_inertia * lever_t))
            force = force + wp.min(settings.friction * along_normal, stop) * t
    return force


@wp.func
def offset(y: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """From the closest point of a triangle to y; over the face along its normal, so that rounding does not turn it."""
    weight = closest_point(y, a, b, c)
    if weight[0] > 0.0 and weight[1] > 0.0 and weight[2] > 0.0:
        unit = wp.normalize(wp.cross(b - a, c - a))
        return wp.dot(y - a, unit) * unit
    return point_offset(y, a, b, c, weight)


@wp.kernel(enable_backward=False)
def start(
    # Model:
    settings: Settings,
    # Out:
    velocity_out: wp.array2d[wp.spatial_vector],
):
    """Velocities at the start of each simulation.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        velocity_out: Velocity and angular velocity [m/s, rad/s], shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    linear, angular = start_velocity(settings, simulation)
    velocity_out[grasp, simulation] = wp.spatial_vector(linear, angular)


@wp.kernel
def predict(
    # Model:
    settings: Settings,
    # In:
    state: wp.array2d[wp.spatial_vector],
    velocity: wp.array2d[wp.spatial_vector],
    # Out:
    predicted_out: wp.array2d[wp.spatial_vector],
    predicted_velocity_out: wp.array2d[wp.spatial_vector],
):
    """Symplectic Euler step of a free object.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        state: Displacement and rotation at the beginning [m, rad], shape [grasp, simulation].
        velocity: Velocities at the beginning [m/s, rad/s], shape [grasp, simulation].
        predicted_out: Displacement and rotation after the step [m, rad], shape [grasp, simulation].
        predicted_velocity_out: Velocities after the step [m/s, rad/s], shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    v = wp.spatial_top(velocity[grasp, simulation])
    w = wp.spatial_bottom(velocity[grasp, simulation])
    next_w = w - settings.time_step * (settings.inverse_inertia * wp.cross(w, settings.inertia * w))
    next_velocity = wp.spatial_vector(v, next_w)
    predicted_velocity_out[grasp, simulation] = next_velocity
    predicted_out[grasp, simulation] = state[grasp, simulation] + settings.time_step * next_velocity


@wp.kernel
def locate(
    # Model:
    settings: Settings,
    # State:
    point_position: wp.array2d[wp.vec3],
    # In:
    predicted: wp.array2d[wp.spatial_vector],
    # Out:
    local_out: wp.array2d[wp.vec3],
):
    """Hand points in the frame of the object that has moved: y = c + R' (p - c - x).

    Launch: dim = (grasp, simulation, point).

    Args:
        settings: Object and options.
        point_position: Hand points p in the object frame [m], shape [grasp, point].
        predicted: Displacement and rotation of the object [m, rad], shape [grasp, simulation].
        local_out: y [m], shape [grasp * simulation, point].
    """
    grasp, simulation, point = wp.tid()
    arm = point_position[grasp, point] - settings.center - wp.spatial_top(predicted[grasp, simulation])
    rotation = object_rotation(wp.spatial_bottom(predicted[grasp, simulation]))
    local_out[grasp * predicted.shape[1] + simulation, point] = settings.center + wp.quat_rotate_inv(rotation, arm)


@wp.kernel
def evaluate(
    # Model:
    mesh: wp.uint64,
    corner_normals: wp.array2d[wp.vec3],
    # State:
    local: wp.array2d[wp.vec3],
    face: wp.array2d[int],
    outward: wp.array2d[wp.vec3],
    # Options:
    phong_alpha: float,
    phong_mode: int,
    # Out:
    distance_out: wp.array2d[float],
    gradient_out: wp.array2d[wp.vec3],
):
    """Signed distance on the closest face and its gradient, as ``distance.signed_distance`` does.

    Launch: dim = (grasp * simulation, point).

    Args:
        mesh: Id of the Warp mesh.
        corner_normals: Unit normals at the corners of the faces, shape [face, 3].
        local: Points in the object's own frame [m], shape [grasp * simulation, point].
        face: Closest face, -1 for none, shape [grasp * simulation, point].
        outward: Unit direction from the surface to the outside, shape [grasp * simulation, point].
        phong_alpha: 0 for the flat triangles, up to 1 for the fully curved surface.
        phong_mode: ``PHONG_DISTANCE``, ``PHONG_PLANE`` or ``PHONG_PRINTED``.
        distance_out: Signed distance [m], shape [grasp * simulation, point].
        gradient_out: Its gradient in the object's own frame, shape [grasp * simulation, point].
    """
    row, point = wp.tid()
    f = face[row, point]
    if f < 0:
        distance_out[row, point] = FAR_DISTANCE
        gradient_out[row, point] = wp.vec3(0.0, 0.0, 0.0)
        return
    m = wp.mesh_get(mesh)
    a = m.points[m.indices[3 * f]]
    b = m.points[m.indices[3 * f + 1]]
    c = m.points[m.indices[3 * f + 2]]
    y = local[row, point]
    if phong_alpha > 0.0:
        normals = wp.matrix_from_rows(corner_normals[f, 0], corner_normals[f, 1], corner_normals[f, 2])
        value, gradient = phong_distance(y, a, b, c, normals, outward[row, point], phong_alpha, phong_mode)
        distance_out[row, point] = value
        gradient_out[row, point] = gradient
    else:
        flat_value, flat_gradient = flat_distance(offset(y, a, b, c), outward[row, point])
        distance_out[row, point] = flat_value
        gradient_out[row, point] = flat_gradient


@wp.kernel
def displace(
    # Model:
    settings: Settings,
    schedule: wp.array2d[float],
    # State:
    iteration: wp.array[int],
    point_position: wp.array2d[wp.vec3],
    # In:
    predicted: wp.array2d[wp.spatial_vector],
    predicted_velocity: wp.array2d[wp.spatial_vector],
    distance: wp.array2d[float],
    distance_gradient: wp.array2d[wp.vec3],
    # Out:
    change_out: wp.array2d[wp.spatial_vector],
    active_count_out: wp.array2d[int],
):
    """Sum of the displacements by all points. Adds atomically, so a GPU may round it differently from run to run.

    Launch: dim = (grasp, simulation, point).

    Args:
        settings: Object and options.
        schedule: Quantities that change from iteration to iteration, shape [iteration, column].
        iteration: The current iteration, shape [1].
        point_position: Hand points in the object frame [m], shape [grasp, point].
        predicted: Displacement and rotation of the object [m, rad], shape [grasp, simulation].
        predicted_velocity: Its velocities [m/s, rad/s], shape [grasp, simulation].
        distance: At the predicted pose [m], shape [grasp * simulation, point].
        distance_gradient: In the object's own frame, shape [grasp * simulation, point].
        change_out: Sum of displacements and rotations [m, rad], zero before, shape [grasp, simulation].
        active_count_out: Number of points that touch, zero before, shape [grasp, simulation].
    """
    grasp, simulation, point = wp.tid()
    row = grasp * predicted.shape[1] + simulation
    own_gradient = distance_gradient[row, point]
    if wp.dot(own_gradient, own_gradient) > 0.0:
        rotation = object_rotation(wp.spatial_bottom(predicted[grasp, simulation]))
        normal = wp.quat_rotate(rotation, own_gradient)
        arm = point_position[grasp, point] - settings.center - wp.spatial_top(predicted[grasp, simulation])
        c = schedule[iteration[0], RADIUS_COLUMN] - distance[row, point]
        depth = leaky_positive_part(c, settings.leak, settings.leak_limit)
        velocity = predicted_velocity[grasp, simulation]
        slip = settings.time_step * (wp.spatial_top(velocity) + wp.cross(wp.spatial_bottom(velocity), arm))
        force = contact_impulse(settings, normal, arm, depth, slip)
        turn = settings.inverse_inertia * wp.cross(arm, force)
        wp.atomic_add(change_out, grasp, simulation, wp.spatial_vector(-force, -turn))
        if c > 0.0:
            wp.atomic_add(active_count_out, grasp, simulation, 1)


@wp.kernel
def correct(
    # Model:
    settings: Settings,
    # In:
    predicted: wp.array2d[wp.spatial_vector],
    predicted_velocity: wp.array2d[wp.spatial_vector],
    change: wp.array2d[wp.spatial_vector],
    active_count: wp.array2d[int],
    point_count: int,
    # Out:
    state_out: wp.array2d[wp.spatial_vector],
    velocity_out: wp.array2d[wp.spatial_vector],
):
    """State and velocities at the end of a step.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        predicted: Predicted displacement and rotation [m, rad], shape [grasp, simulation].
        predicted_velocity: Predicted velocities [m/s, rad/s], shape [grasp, simulation].
        change: Sum of displacements and rotations by the points [m, rad], shape [grasp, simulation].
        active_count: Number of points that touch, shape [grasp, simulation].
        point_count: Number of all points.
        state_out: Displacement and rotation [m, rad], shape [grasp, simulation].
        velocity_out: Velocities [m/s, rad/s], shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    divisor = float(1.0)
    if settings.averaging == AVERAGE_ACTIVE:
        divisor = float(wp.max(active_count[grasp, simulation], 1))
    if settings.averaging == AVERAGE_ALL:
        divisor = float(point_count)
    mean = change[grasp, simulation] / divisor
    state_out[grasp, simulation] = predicted[grasp, simulation] + mean
    velocity_out[grasp, simulation] = predicted_velocity[grasp, simulation] + mean / settings.time_step


@wp.kernel
def measure(
    # Model:
    settings: Settings,
    # In:
    velocity: wp.array2d[wp.spatial_vector],
    # Out:
    loss_out: wp.array2d[float],
):
    """Share of each simulation in the loss, see ``dynamics.speed_loss``.

    Launch: dim = (grasp, simulation).

    Args:
        settings: Object and options.
        velocity: Velocities at the end [m/s, rad/s], shape [grasp, simulation].
        loss_out: Share in the loss, shape [grasp, simulation].
    """
    grasp, simulation = wp.tid()
    v = wp.spatial_top(velocity[grasp, simulation])
    w = settings.angular_length * wp.spatial_bottom(velocity[grasp, simulation])
    value = wp.length(v) + wp.length(w)
    if settings.squared != 0:
        value = wp.dot(v, v) + wp.dot(w, w)
    loss_out[grasp, simulation] = value / float(velocity.shape[1])
