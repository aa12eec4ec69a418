"""``evaluate(grasps)``: geometric and analytic metrics of every grasp."""

from __future__ import annotations

import dataclasses

import numpy as np

from . import device as devices
from .distance import DeviceMesh
from .geometry import (
    THRESHOLDS,
    Geometry,
    contact_consistency,
    finger_distance,
    measure_geometry,
)
from .hand import Hand
from .label import measure
from .mesh import ObjectMesh
from .pose import Pose
from .result import Grasps
from .volume import intersection_volume

CONTACT_REACH = 0.005
"""Distance within which a link's nearest point is a contact of the analytic metrics [m]."""

Q1_CONTACT_REACH = 0.010
"""The same for DexGraspNet's Q1 [m]."""

TIP_CONTACT_REACH = 0.005
"""Distance within which a fingertip's nearest point is a contact of DexGraspBench's Q1, inside or outside [m]."""

FRICTION_COEFFICIENT, EDGE_COUNT = 0.5, 8
"""Friction cones of the analytic metrics; part of their keys."""


def evaluate(grasps: Grasps, *, device: str | None = None) -> Grasps:
    """Measure the grasp phase of every grasp; see docs/evaluate.md for every key.

    Poses, order, ``valid`` and ``reason`` stay as they are. What synthesis labels by is measured as synthesis does it,
    so those keys come out the same; all other geometry with four times the points. A grasp whose pose is not finite
    gets NaN, and 0 for links in contact.

    Args:
        grasps: Grasps of one object by one hand; they are not changed.
        device: Warp device such as "cpu" or "cuda:0"; the first GPU, else the CPU, where omitted.

    Returns:
        The same grasps with more metrics.

    Raises:
        FileFormatError: The hand has changed since the grasps were made.
        DeviceError: There is no such device.
    """
    hand, obj = grasps.hand, grasps.object
    rows = [grasps.wrist_position, grasps.wrist_quaternion, grasps.joint_position]
    finite = np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))
    measured = _measure(hand, obj, grasps.pose[finite], device)
    metrics = grasps.metrics | {key: _spread(value, finite) for key, value in measured.items()}
    result = dataclasses.replace(grasps, metrics=metrics)
    result.hand, result.object = hand, obj
    return result


def threshold_name(threshold: float) -> str:
    """A distance [m] as it stands in a key: 0.005 is "5mm", 0.0005 is "0p5mm"."""
    return f"{1000.0 * threshold:g}mm".replace(".", "p")


def _measure(hand: Hand, obj: ObjectMesh, pose: Pose, device: str | None) -> dict[str, np.ndarray]:
    mesh = DeviceMesh(obj, devices.choose(device))
    geometry = measure_geometry(hand, obj, pose, mesh=mesh)
    metrics = measure(hand, obj, pose, mesh) | _areas(geometry) | _analytic(hand, geometry, obj, device)
    fingers = finger_distance(geometry.contact_distance, hand.fingers)
    return metrics | {
        "intersection_volume_1mm_m3": intersection_volume(hand, obj, pose, device=device),
        "hand_in_object_depth_m": geometry.hand_in_object_depth,
        "object_in_hand_depth_m": geometry.object_in_hand_depth,
        "finger_distance_mean_cap10mm_m": _mean_distance(fingers),
        "contact_consistency_cap10mm_m": contact_consistency(geometry.contact_distance, hand.fingers),
    }


def _areas(geometry: Geometry) -> dict[str, np.ndarray]:
    names = [threshold_name(threshold) for threshold in THRESHOLDS]
    band = {f"contact_area_{name}_m2": geometry.contact_area[:, i] for i, name in enumerate(names)}
    inside = geometry.contact_area_inside_counted
    return band | {f"contact_area_{name}_inside_counted_m2": inside[:, i] for i, name in enumerate(names)}


def _analytic(hand: Hand, geometry: Geometry, obj: ObjectMesh, device: str | None) -> dict[str, np.ndarray]:
    """Metrics of one contact per link that is near enough; torques about the centre of mass."""
    from . import metrics

    target = devices.choose(device)
    contacts = _contacts(geometry, CONTACT_REACH)
    scale = {"torque_length": torque_length(obj), "center": obj.center_of_mass}
    circular = {"friction_coefficient": FRICTION_COEFFICIENT, "edge_count": 0, **scale}
    cones = {"friction_coefficient": FRICTION_COEFFICIENT, "edge_count": EDGE_COUNT, **scale}
    return {
        "epsilon_l1_mu05_edges8": metrics.epsilon_l1(*contacts, device=target, **cones),
        "epsilon_l1_mu05_circular": metrics.epsilon_l1(*contacts, device=target, **circular),
        "epsilon_linf_mu05_edges8": metrics.epsilon_linf(*contacts, device=target, **cones),
        "wrench_volume_mu05_edges8": metrics.wrench_volume(*contacts, **cones),
        "min_weight_mu05_edges8": metrics.min_weight(*contacts, device=target, **cones),
        "force_closure_residual": metrics.force_closure_residual(*contacts, **scale),
        "q1_dexgraspnet": metrics.q1(
            *_contacts(geometry, Q1_CONTACT_REACH), penetration_depth=geometry.object_in_hand_depth, device=target
        ),
        "q1_dexgraspbench_tips_mu03": metrics.q1_dexgraspbench(*_tip_contacts(hand, geometry), device=target),
    }


def torque_length(obj: ObjectMesh) -> float:
    """Largest distance of a vertex from the centre of mass [m]: what GraspIt! and Dex-Net divide torques by."""
    return float(np.linalg.norm(obj.vertices - obj.center_of_mass, axis=1).max())


def _contacts(geometry: Geometry, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on the object [m] and unit normals into it, NaN for links out of reach, both of shape (N, L, 3)."""
    near = (geometry.contact_distance <= reach)[..., None]
    position, normal = geometry.contact_position, geometry.contact_normal
    length = np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return np.where(near, position, np.nan), np.where(near, normal / length, np.nan)


def _tip_contacts(hand: Hand, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The contacts of the fingers' last links, no deeper than they may be away, both of shape (N, finger, 3)."""
    tips = [finger.links[-1] for finger in hand.fingers]
    shallow = (geometry.contact_distance[:, tips] >= -TIP_CONTACT_REACH)[..., None]
    position, normal = (array[:, tips] for array in _contacts(geometry, TIP_CONTACT_REACH))
    return np.where(shallow, position, np.nan), np.where(shallow, normal, np.nan)


def _mean_distance(fingers: np.ndarray) -> np.ndarray:
    """Mean distance over the fingers, those inside the object counting as 0 [m], shape (N,); NaN without fingers."""
    if fingers.shape[1] == 0:
        return np.full(len(fingers), np.nan)
    return np.maximum(fingers, 0.0).mean(axis=1)


def _spread(value: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Values of the finite grasps among all of them; NaN, or 0 for whole numbers, in the others' places."""
    whole = np.issubdtype(value.dtype, np.integer)
    column = np.zeros(len(finite), value.dtype) if whole else np.full(len(finite), np.nan)
    column[finite] = value
    return column
