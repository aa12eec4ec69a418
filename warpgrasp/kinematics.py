"""Forward kinematics on the device, and its adjoint."""

from __future__ import annotations

import warp as wp

from .device import thread_count
from .kernels import kinematics as kernels
from .model import HandModel


def find_link_transforms(
    model: HandModel,
    wrist: wp.array,
    free_position: wp.array,
    joint_position_out: wp.array,
    link_transform_out: wp.array,
) -> None:
    """Launch ``kernels.kinematics.link_transforms``; see there for the arrays."""
    wp.launch(
        kernels.link_transforms,
        dim=wrist.shape[0],
        inputs=[
            model.joint_parent,
            model.joint_kind,
            model.joint_origin,
            model.joint_axis,
            model.joint_map,
            model.joint_offset,
            wrist,
            free_position,
        ],
        outputs=[joint_position_out, link_transform_out],
        device=model.device,
    )


def find_point_positions(model: HandModel, link_transform: wp.array, point_position_out: wp.array) -> None:
    """Place the model's points, see :func:`place_points`."""
    place_points(model.point_link, model.point_local, link_transform, point_position_out)


def place_points(
    point_link: wp.array, point_local: wp.array, link_transform: wp.array, point_position_out: wp.array
) -> None:
    """Launch ``kernels.kinematics.point_positions``; see there for the arrays."""
    grasps, points = point_position_out.shape
    part_count = thread_count(points, point_position_out.device)
    wp.launch(
        kernels.point_positions,
        dim=(grasps, part_count),
        inputs=[point_link, point_local, link_transform, part_count],
        outputs=[point_position_out],
        device=point_position_out.device,
    )


def find_pose_gradients(
    model: HandModel,
    link_transform: wp.array,
    link_wrench: wp.array,
    wrist_gradient_out: wp.array,
    free_gradient_out: wp.array,
) -> None:
    """Launch ``kernels.kinematics.link_transforms_adjoint``; ``link_wrench`` becomes that of the subtrees."""
    wp.launch(
        kernels.link_transforms_adjoint,
        dim=link_transform.shape[0],
        inputs=[
            model.joint_parent,
            model.joint_kind,
            model.joint_axis,
            model.joint_map,
            link_transform,
            link_wrench,
        ],
        outputs=[link_wrench, wrist_gradient_out, free_gradient_out],
        device=model.device,
    )
