"""Where a batch of hands is, and how near its points are to everything else."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import collision, kinematics
from .device import batches
from .distance import DeviceMesh, PhongMode, evaluate_signed_distance, find_closest_faces
from .model import HandModel
from .pose import Pose
from .state import State, allocate

SEARCH_DISTANCE = 1.0
"""Distance beyond which no face is looked for [m]."""


def find_distances(
    model: HandModel,
    mesh: DeviceMesh,
    state: State,
    *,
    search: bool = True,
    slack: float | None = None,
    reach: float = SEARCH_DISTANCE,
    phong_alpha: float = 0.0,
    phong_mode: PhongMode = "distance",
) -> None:
    """Links and points of each hand, and the signed distances of these points to the object.

    Args:
        model: The hand.
        mesh: The object.
        state: Poses in, everything down to ``distance_gradient`` out.
        search: Look for each point's closest face anew, instead of keeping the last one.
        slack: How far a point on the surface may move until it is searched again [m]; always, where omitted.
        reach: Distance beyond which no face is looked for; such points count as far away [m].
        phong_alpha: Share of Phong smoothing in the distance to the object.
        phong_mode: What the distance to the smoothed surface is.
    """
    kinematics.find_link_transforms(model, state.wrist, state.free_position, state.joint_position, state.link_transform)
    kinematics.find_point_positions(model, state.link_transform, state.point_position)
    if search:
        searched = {} if slack is None else {"slack": slack, "searched": state.searched}
        find_closest_faces(mesh, state.point_position, reach, state.face, state.outward, **searched)
    evaluate_signed_distance(
        mesh,
        state.point_position,
        state.face,
        state.outward,
        phong_alpha=phong_alpha,
        phong_mode=phong_mode,
        distance_out=state.distance,
        gradient_out=state.distance_gradient,
    )


def find_proximity(model: HandModel, mesh: DeviceMesh, state: State, **options: Any) -> None:
    """What :func:`find_distances` finds, and which points are inside which links: the hand's and the object's.

    Args:
        model: The hand.
        mesh: The object.
        state: Poses in, everything down to ``object_depth`` out.
        options: As for :func:`find_distances`.
    """
    find_distances(model, mesh, state, **options)
    collision.place_spheres(model.shapes, state.link_transform, state.link_sphere)
    collision.find_longest_steps(model.shapes, state.link_transform, state.link_sphere, state.link_steps)
    for points, clusters, depth in (
        (state.point_position, model.clusters, state.self_depth),
        (state.object_point, state.object_clusters, state.object_depth),
    ):
        collision.find_deepest_link(
            model.shapes,
            model.may_touch,
            state.link_transform,
            state.link_sphere,
            points,
            clusters,
            depth,
            state.link_steps.step,
        )


def clearance(model: HandModel, mesh: DeviceMesh, pose: Pose, *, reach: float = SEARCH_DISTANCE) -> np.ndarray:
    """Least signed distance of the hand's points to the object, at most ``reach`` [m], shape (N,)."""
    least = []
    for rows in batches(len(pose), model.device):
        state = allocate(model, pose[rows], np.zeros((0, 3)))
        find_distances(model, mesh, state, reach=reach)
        least.append(state.distance.numpy().min(axis=1).astype(float))
    return np.minimum(np.concatenate(least), reach)
