"""Adding up what several terms of the loss say about the same points, and parts of one term."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def add_point_gradients(
    # In:
    direct: wp.array2d[wp.vec3],
    through_distance: wp.array2d[wp.vec3],
    # Options:
    weight: float,
    # Out:
    point_gradient_out: wp.array2d[wp.vec3],
):
    """Add weight * (direct + through_distance) to the gradient of each point.

    Launch: dim = (grasp, point).

    Args:
        direct: Derivative of a term with respect to the points [1/m], shape [grasp, point].
        through_distance: The part of it that comes through the signed distance [1/m], shape [grasp, point].
        weight: Of the term.
        point_gradient_out: Increased, shape [grasp, point].
    """
    grasp, point = wp.tid()
    point_gradient_out[grasp, point] += weight * (direct[grasp, point] + through_distance[grasp, point])


@wp.kernel
def weigh(
    # In:
    loss: wp.array2d[float],
    # Options:
    weight: float,
    # Out:
    loss_out: wp.array2d[float],
):
    """Weight times a term.

    Launch: dim = (grasp, part).

    Args:
        loss: Parts of a term, shape [grasp, part].
        weight: Of the term.
        loss_out: Overwritten, shape [grasp, part].
    """
    grasp, part = wp.tid()
    loss_out[grasp, part] = weight * loss[grasp, part]


@wp.kernel
def sum_links(
    # In:
    link_loss: wp.array2d[float],
    # Out:
    loss_out: wp.array[float],
):
    """Loss of each grasp from that of its links.

    Launch: dim = grasp.

    Args:
        link_loss: Shape [grasp, link].
        loss_out: Shape [grasp].
    """
    grasp = wp.tid()
    loss = float(0.0)
    for link in range(link_loss.shape[1]):
        loss += link_loss[grasp, link]
    loss_out[grasp] = loss
