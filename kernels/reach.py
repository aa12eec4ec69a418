"""An arm that follows its hand: damped least squares, and the pose error that is left."""

import warp as wp

from .kinematics import PRISMATIC, joint_motion  # noqa: TID251  a sibling, not the bare package

wp.set_module_options({"enable_backward": False})

LEAST_DAMPING = wp.constant(1.0e-8)
"""Added to the squared singular values [m^2]."""

LARGEST_STEP = wp.constant(0.3)
"""Of a joint [rad or m]."""


@wp.func
def rotation_vector(turn: wp.quat):
    """Axis times angle [rad] of a rotation, the shorter way round."""
    sign = wp.where(turn[3] < 0.0, -1.0, 1.0)
    axis = wp.vec3(turn[0], turn[1], turn[2]) * sign
    sine = wp.length(axis)
    if sine < 1.0e-9:
        return 2.0 * axis
    return axis * (2.0 * wp.atan2(sine, turn[3] * sign) / sine)


@wp.func
def solve_positive(matrix: wp.spatial_matrix, right: wp.spatial_vector):
    """Solution of a symmetric positive definite system by Cholesky's decomposition."""
    factor = wp.spatial_matrix()
    for i in range(6):
        for j in range(i + 1):
            left = matrix[i, j]
            for k in range(j):
                left -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = wp.sqrt(wp.max(left, 1.0e-12))
            else:
                factor[i, j] = left / factor[j, j]
    solution = wp.spatial_vector()
    for i in range(6):
        left = right[i]
        for k in range(i):
            left -= factor[i, k] * solution[k]
        solution[i] = left / factor[i, i]
    for down in range(6):
        i = 5 - down
        left = solution[i]
        for k in range(i + 1, 6):
            left -= factor[k, i] * solution[k]
        solution[i] = left / factor[i, i]
    return solution


@wp.func
def place_joints(
    kind: wp.array[int],
    origin: wp.array[wp.transform],
    axis: wp.array[wp.vec3],
    theta: wp.array2d[float],
    row: int,
    axis_out: wp.array2d[wp.spatial_vector],
):
    """Pose of the last link in the base frame; axes and places of the joints on the way are stored."""
    pose = wp.transform_identity()
    for joint in range(kind.shape[0]):
        pose = pose * origin[joint] * joint_motion(kind[joint], axis[joint], theta[row, joint])
        axis_out[row, joint] = wp.spatial_vector(
            wp.transform_vector(pose, axis[joint]), wp.transform_get_translation(pose)
        )
    return pose


@wp.func
def pose_error(target: wp.transform, flange: wp.transform, length: float):
    """From flange to target: distance and rotation vector times a length [m], in the axes of the base."""
    turn = wp.transform_get_rotation(target) * wp.quat_inverse(wp.transform_get_rotation(flange))
    away = wp.transform_get_translation(target) - wp.transform_get_translation(flange)
    return wp.spatial_vector(away, rotation_vector(turn) * length)


@wp.kernel
def follow(
    # Model:
    joint_kind: wp.array[int],
    joint_origin: wp.array[wp.transform],
    joint_axis: wp.array[wp.vec3],
    lower: wp.array[float],
    upper: wp.array[float],
    flange: wp.transform,
    base_from_object: wp.transform,
    hand_from_flange: wp.transform,
    # State:
    wrist: wp.array[wp.transform],
    # Options:
    raised: wp.vec3,
    length: float,
    extent: float,
    stretch: float,
    steps: int,
    # Out:
    theta_out: wp.array2d[float],
    column_out: wp.array2d[wp.spatial_vector],
    error_out: wp.array[wp.spatial_vector],
):
    """Move arms on towards the flange poses that their hands need, and say how far they are from them.

    A step is J' (J J' + d I)^-1 e, joints kept in range; a joint at the end of its range that the gradient or the step
    would lead out of it has no column in J. With d = extent |e| / 2 the step stays a descent where e cannot vanish: the
    part of the Hessian that J' J leaves out is at most extent |e|. Where e can vanish, d does so too.

    Source: Levenberg-Marquardt with damping in proportion to the error, Fan & Yuan 2005 (On the quadratic convergence
    of the Levenberg-Marquardt method without nonsingularity assumption, Computing 74).
    Launch: dim = arm; rows of arms are grasps, or seeds of grasps.

    Args:
        joint_kind: 0 revolute, 1 prismatic, shape [joint].
        joint_origin: Child frame in the parent frame at zero, shape [joint].
        joint_axis: Unit axis in the child frame, shape [joint].
        lower: Lower ends of the ranges [rad or m], shape [joint].
        upper: Upper ends, shape [joint].
        flange: Flange in the last link's frame.
        base_from_object: Object frame in the arm's base frame.
        hand_from_flange: Flange in the hand's base frame.
        wrist: Hand base in the object frame, shape [arm].
        raised: Added to the flange's targets, in the base frame [m].
        length: Length that angles are multiplied by [m].
        extent: Longest lever of a joint, about [m].
        stretch: Factor by which the flange's targets are moved away from the origin of the first joint.
        steps: Steps to make.
        theta_out: Arm joints, moved on [rad or m], shape [arm, joint].
        column_out: Scratch, shape [arm, joint].
        error_out: What is left: distance and rotation vector times the length, axes of the base [m], shape [arm].
    """
    row = wp.tid()
    target = base_from_object * wrist[row] * hand_from_flange
    shoulder = wp.transform_get_translation(joint_origin[0])
    away = wp.transform_get_translation(target) + raised - shoulder
    target = wp.transform(shoulder + stretch * away, wp.transform_get_rotation(target))
    joint_count = joint_kind.shape[0]
    for _ in range(steps):
        reached = place_joints(joint_kind, joint_origin, joint_axis, theta_out, row, column_out) * flange
        error = pose_error(target, reached, length)
        damping = 0.5 * extent * wp.length(error) + LEAST_DAMPING
        for joint in range(joint_count):
            placed = column_out[row, joint]
            axis = wp.spatial_top(placed)
            lever = wp.transform_get_translation(reached) - wp.spatial_bottom(placed)
            column = wp.spatial_vector(wp.cross(axis, lever), axis * length)
            if joint_kind[joint] == PRISMATIC:
                column = wp.spatial_vector(axis, wp.vec3())
            column_out[row, joint] = column
        # First without the joints whose slope leads out of the range, then also without those whose step does.
        solution = error
        for _pass in range(2):
            square = wp.identity(n=6, dtype=float) * damping
            for joint in range(joint_count):
                column = column_out[row, joint]
                way = wp.dot(column, solution)
                low = theta_out[row, joint] <= lower[joint] and way < 0.0
                high = theta_out[row, joint] >= upper[joint] and way > 0.0
                if low or high:
                    column = wp.spatial_vector()
                    column_out[row, joint] = column
                square += wp.outer(column, column)
            solution = solve_positive(square, error)
        for joint in range(joint_count):
            step = wp.clamp(wp.dot(column_out[row, joint], solution), -LARGEST_STEP, LARGEST_STEP)
            theta_out[row, joint] = wp.clamp(theta_out[row, joint] + step, lower[joint], upper[joint])
    reached = place_joints(joint_kind, joint_origin, joint_axis, theta_out, row, column_out) * flange
    error_out[row] = pose_error(target, reached, length)


@wp.kernel
def add_reach_gradient(
    # Model:
    base_from_object: wp.transform,
    hand_from_flange: wp.transform,
    # State:
    wrist: wp.array[wp.transform],
    error: wp.array[wp.spatial_vector],
    # Options:
    length: float,
    stretch: float,
    weight: float,
    # Out:
    loss_out: wp.array[float],
    link_wrench_out: wp.array2d[wp.spatial_vector],
):
    """The loss weight * |e|^2 of what the arm leaves over, and its gradient on the wrist.

    The arm's joints minimise |e|^2 within their ranges, so they are held fixed (the envelope theorem): the flange's
    target feels the force 2 weight stretch e_p and the torque 2 weight length e_r.

    Launch: dim = grasp.

    Args:
        base_from_object: Object frame in the arm's base frame.
        hand_from_flange: Flange in the hand's base frame.
        wrist: Hand base in the object frame, shape [grasp].
        error: See ``follow``, shape [grasp].
        length: Length that angles were multiplied by [m].
        stretch: See ``follow``.
        weight: Weight of the loss [1/m^2].
        loss_out: weight * |e|^2 is added to it, shape [grasp].
        link_wrench_out: Gradient with respect to the links' motions, about the object frame's origin; that of link 0
            is added to, shape [grasp, link].
    """
    grasp = wp.tid()
    left = error[grasp]
    loss_out[grasp] += weight * wp.dot(left, left)
    object_from_base = wp.transform_inverse(base_from_object)
    force = wp.transform_vector(object_from_base, 2.0 * weight * stretch * wp.spatial_top(left))
    torque = wp.transform_vector(object_from_base, 2.0 * weight * length * wp.spatial_bottom(left))
    place = wp.transform_get_translation(wrist[grasp] * hand_from_flange)
    link_wrench_out[grasp, 0] += wp.spatial_vector(force, torque + wp.cross(place, force))
