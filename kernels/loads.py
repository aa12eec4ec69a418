"""Forces on many simulated worlds as functions of their time, so that no step has to wait for the host."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def raise_loads(
    time: wp.array[float],
    ramp: float,
    raised: wp.array[int],
    force: wp.array2d[float],
    weight: wp.array[wp.vec3],
    body: int,
    ctrl_out: wp.array2d[float],
    wrench_out: wp.array2d[wp.spatial_vector],
):
    """Raise forces evenly until ``ramp``, then keep them.

    Args:
        time: Since the loads began to rise [s], shape [world].
        ramp: How long they rise [s].
        raised: 1 where the actuators push with their whole force already, shape [world].
        force: Of the actuators in the end [N], shape [world, actuator].
        weight: Of the pulled body in the end [N], world frame, shape [world].
        body: Index of that body.
        ctrl_out: Force of the actuators now [N], shape [world, actuator].
        wrench_out: Force [N] and torque [N m] on each body now, shape [world, body]; only that of ``body`` is written.
    """
    world = wp.tid()
    share = wp.min(1.0, time[world] / ramp)
    push = wp.where(raised[world] == 1, 1.0, share)
    for actuator in range(force.shape[1]):
        ctrl_out[world, actuator] = push * force[world, actuator]
    wrench_out[world, body] = wp.spatial_vector(share * weight[world], wp.vec3(0.0, 0.0, 0.0))
