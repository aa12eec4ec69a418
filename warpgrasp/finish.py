"""From poses to labelled grasps: the other phases, measurements, labels, order."""

from __future__ import annotations

import numpy as np

from . import hands
from .distance import DeviceMesh
from .hand import Hand
from .label import Limits, measure, reasons
from .mesh import ObjectMesh
from .model import HandModel, hand_model
from .phases import clear_squeeze, extrapolate, lift, pregrasp
from .pose import Pose
from .result import Grasps
from .squeeze import squeeze
from .surface import surface_points
from .surroundings import NOTHING, Surroundings

CHECK_POINTS = 4096
"""Points of the hand that the pregrasp's clearance is measured with."""


def check_model(hand: Hand, device: str) -> HandModel:
    """The hand with many points on all its links, for measuring."""
    return hand_model(hand, surface_points(hand, CHECK_POINTS, even=False, device=device), device)


def finish(
    check: HandModel,
    obj: ObjectMesh,
    mesh: DeviceMesh,
    grasp: Pose,
    loss: np.ndarray,
    *,
    balanced_squeeze: bool = True,
    limits: Limits | None = None,
    surroundings: Surroundings = NOTHING,
    info: dict[str, object] | None = None,
) -> Grasps:
    """Add the other phases to N poses, measure and label them, and put the best first.

    Args:
        check: The hand, as :func:`check_model` gives it.
        obj: The object.
        mesh: The same object on the device.
        grasp: Wrist and joints at the grasp.
        loss: What the search was left with, shape (N,).
        balanced_squeeze: Whether to press with contact forces that balance; otherwise the pregrasp is extrapolated.
        limits: What a valid grasp may not exceed.
        surroundings: What the hand must respect besides the object.
        info: How the grasps were made, kept with them.
    """
    hand = check.hand
    approach = pregrasp(check, mesh, grasp, surroundings)
    before = approach.pose
    pressed = squeeze(check, mesh, grasp) if balanced_squeeze else extrapolate(hand, grasp, before)
    share = np.ones(len(grasp))
    if surroundings.solid:
        pressed, share = clear_squeeze(check, grasp, pressed, surroundings)
    raised = lift(pressed, surroundings.up)
    metrics = measure(hand, obj, grasp, mesh) | {
        "pregrasp_clearance_m": approach.clearance,
        "pregrasp_self_penetration_depth_m": approach.self_penetration,
        "approach_penetration_m": np.maximum(-approach.way_clearance, 0.0),
        "loss": loss,
    }
    if surroundings.solid:
        free = [surroundings.clearance(check, pose) for pose in (grasp, pressed, raised)]
        metrics |= {
            "surroundings_clearance_m": np.minimum(approach.free, np.min(free, axis=0)),
            "squeeze_share": share,
        }
    reason = reasons(hand, metrics, limits or Limits())
    arm = surroundings.arm and surroundings.arm.plan(before, grasp, raised)
    if arm is not None:
        metrics |= arm.metrics
        reason = np.where(reason == "", arm.reason, reason)
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=before,
        squeeze=pressed,
        lift=raised,
        table=surroundings.table and surroundings.table.resting,
        arm=arm,
        valid=reason == "",
        reason=reason,
        metrics=metrics,
        hand_source=_source(hand),
        hand_hash=hand.hash,
        object_name=obj.name,
        object_vertices=obj.vertices,
        object_faces=obj.faces,
        info=info or {},
    )[np.lexsort((metrics["wrench_residual_mu02"], reason != ""))]
    grasps.hand, grasps.object = hand, obj
    return grasps


def _source(hand: Hand) -> str:
    """What loads this hand again: its bundled name, or the path of its file."""
    bundled = hands.folder() / hand.name / "hand.urdf"
    return hand.name if hand.path == bundled else str(hand.path)
