"""Everything the optimizer changes, allocated once per run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from .clusters import PointClusters, cluster_points, compact_order
from .collision import LinkDepth, LinkSteps, no_depth, no_steps
from .device import transforms
from .model import HandModel
from .pose import Pose


@dataclass(frozen=True, eq=False)
class State:
    """Device arrays of one batch of grasps; everything is in the object frame."""

    wrist: wp.array
    """Base link, transform, shape [grasp]."""

    free_position: wp.array
    """Free joint coordinates x [rad or m], shape [grasp, free]."""

    joint_position: wp.array
    """All joints q [rad or m], shape [grasp, joint]."""

    link_transform: wp.array
    """Transform, shape [grasp, link]."""

    link_sphere: wp.array
    """Bounding sphere of each link, centre [m] and squared radius [m²], vec4, shape [grasp, link]."""

    link_steps: LinkSteps
    """How far the links have moved since points were last searched for inside them."""

    point_position: wp.array
    """Hand surface points [m], vec3, shape [grasp, point]."""

    face: wp.array
    """Closest face of the object, -1 where it is too far, shape [grasp, point]."""

    outward: wp.array
    """Unit direction out of the object at the time of the search, vec3, shape [grasp, point]."""

    searched: wp.array
    """Where each point was when its face was searched, and its distance then [m], vec4, shape [grasp, point]."""

    distance: wp.array
    """Signed distance of the points to the object [m], shape [grasp, point]."""

    distance_gradient: wp.array
    """Its derivative with respect to the points, vec3, shape [grasp, point]."""

    self_depth: LinkDepth
    """Hand points inside other links, arrays of shape [grasp, point]."""

    object_point: wp.array
    """Points on the object's surface [m], vec3, shape [grasp, object point]."""

    object_clusters: PointClusters
    """Clusters of these points."""

    object_depth: LinkDepth
    """Object points inside links, arrays of shape [grasp, object point]."""

    point_loss: wp.array
    """Loss of each hand point, shape [grasp, point]."""

    point_gradient: wp.array
    """Derivative of the loss with respect to the hand points, vec3, shape [grasp, point]."""

    self_gradient: wp.array
    """The part of it that comes from other links, for points inside one, vec3, shape [grasp, point]."""

    object_loss: wp.array
    """Loss of each cluster of object points, shape [grasp, object cluster]."""

    object_gradient: wp.array
    """Derivative of the loss with respect to object points in touched clusters, vec3, shape [grasp, object point]."""

    joint_loss: wp.array
    """Loss of each grasp's joints, shape [grasp]."""

    link_wrench: wp.array
    """Derivative of the loss with respect to the links' motions, spatial vector, shape [grasp, link]."""

    wrist_gradient: wp.array
    """Derivative of the loss with respect to the wrist's motion, spatial vector, shape [grasp]."""

    free_gradient: wp.array
    """Derivative of the loss with respect to x, shape [grasp, free]."""

    moments: wp.array
    """Adam's moments, shape [2, grasp, 6 + free]."""

    iteration: wp.array
    """Current iteration, shape [1]."""


def allocate(model: HandModel, pose: Pose, object_point: np.ndarray) -> State:
    """A state whose grasps are at the given poses; everything else is zero.

    Args:
        model: The hand.
        pose: Wrist and joints of each grasp.
        object_point: Points on the object's surface [m], shape (object point, 3).
    """
    grasp_count = len(pose)
    free_count = model.free_lower.shape[0]
    joint_count = model.joint_parent.shape[0]
    per_link = (grasp_count, joint_count + 1)
    per_point = (grasp_count, model.point_link.shape[0])
    per_object_point = (grasp_count, len(object_point))

    free = np.clip(
        pose.joint_position[:, list(model.hand.free_joints)], model.free_lower.numpy(), model.free_upper.numpy()
    )
    object_point = object_point[compact_order(object_point)]
    clusters = cluster_points(object_point, np.full(len(object_point), joint_count + 1), model.device)

    def zeros(shape: int | tuple[int, ...], dtype: Any) -> wp.array:
        return wp.zeros(shape, dtype=dtype, device=model.device)

    return State(
        wrist=transforms(pose.wrist_position, pose.wrist_quaternion, model.device),
        free_position=wp.array(free.astype(np.float32), dtype=float, device=model.device),
        joint_position=zeros((grasp_count, joint_count), float),
        link_transform=zeros(per_link, wp.transform),
        link_sphere=zeros(per_link, wp.vec4),
        link_steps=no_steps(*per_link, model.device),
        point_position=zeros(per_point, wp.vec3),
        face=zeros(per_point, int),
        outward=zeros(per_point, wp.vec3),
        searched=wp.full(per_point, wp.vec4(-1.0), dtype=wp.vec4, device=model.device),
        distance=zeros(per_point, float),
        distance_gradient=zeros(per_point, wp.vec3),
        self_depth=no_depth(*per_point, model.clusters),
        object_point=wp.array(
            np.broadcast_to(object_point.astype(np.float32), (*per_object_point, 3)), dtype=wp.vec3, device=model.device
        ),
        object_clusters=clusters,
        object_depth=no_depth(*per_object_point, clusters),
        point_loss=zeros(per_point, float),
        point_gradient=zeros(per_point, wp.vec3),
        self_gradient=zeros(per_point, wp.vec3),
        object_loss=zeros((grasp_count, len(clusters)), float),
        object_gradient=zeros(per_object_point, wp.vec3),
        joint_loss=zeros(grasp_count, float),
        link_wrench=zeros(per_link, wp.spatial_vector),
        wrist_gradient=zeros(grasp_count, wp.spatial_vector),
        free_gradient=zeros((grasp_count, free_count), float),
        moments=zeros((2, grasp_count, 6 + free_count), float),
        iteration=zeros(1, int),
    )
