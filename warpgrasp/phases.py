"""Pregrasp: near the grasp and clear of the object."""

from __future__ import annotations

import numpy as np

from .descend import run_stage
from .distance import DeviceMesh
from .hand import Hand
from .initialize import approach
from .model import HandModel, hand_model
from .options import Stage
from .pose import Pose
from .proximity import clearance
from .surface import grasping_links, surface_points

PREGRASP_CLEARANCE = 0.01
"""Least distance between the hand's points and the object at the pregrasp [m]."""

LIFT_OFF = Stage(
    iterations=200,
    attraction_weight=0.0,
    margin=0.013,
    penetration_weight=1.0e4,
    self_weight=1.0e4,
)
"""Push every point a little further than the clearance; neighbouring points keep the skin between them clear too."""

LIFT_OFF_POINTS = 1024

PREGRASP_STEPS = 16
"""Candidates on the way back from the grasp."""

CLEARANCE_REACH = 0.02
"""Larger clearances are not told apart [m]."""

STEP_BACK = 0.01
"""Distance between two candidates [m]."""

STEPS_TO_OPEN = 8
"""Candidates after which the hand is fully open."""


def retreat(hand: Hand, grasp: Pose, step: int) -> Pose:
    """The hand ``step`` steps back from the grasp against the palm's normal, and that much nearer to open."""
    share = min(step / STEPS_TO_OPEN, 1.0)
    joints = (1.0 - share) * grasp.joint_position + share * hand.open_position
    return Pose(grasp.wrist_position - step * STEP_BACK * approach(hand, grasp), grasp.wrist_quaternion, joints)


def lift_off(hand: Hand, mesh: DeviceMesh, grasp: Pose) -> Pose:
    """The hand moved as little as it takes for its points to be clear of the object.

    A short way back matters: fingers that come from afar arrive one after the other and push the object away.
    """
    skin = surface_points(hand, LIFT_OFF_POINTS, links=grasping_links(hand), device=mesh.device)
    model = hand_model(hand, skin, mesh.device)
    return run_stage(model, mesh, np.zeros((0, 3)), grasp, LIFT_OFF)[0]


def pregrasp(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> tuple[Pose, np.ndarray]:
    """A pose near the grasp that is clear of the object, and its clearance [m], shape (N,).

    The hand lifts off; where that does not clear it, it is the nearest clear candidate on the straight way back, and
    where none is clear the one with the largest clearance. Clearances are cut off at ``CLEARANCE_REACH``.
    """
    best = lift_off(model.hand, mesh, grasp)
    best_distance = clearance(model, mesh, best, reach=CLEARANCE_REACH)
    for step in range(1, PREGRASP_STEPS + 1):
        open_cases = np.flatnonzero(best_distance < PREGRASP_CLEARANCE)
        if not len(open_cases):
            break
        candidate = retreat(model.hand, grasp[open_cases], step)
        distance = clearance(model, mesh, candidate, reach=CLEARANCE_REACH)
        better = distance > best_distance[open_cases]
        chosen = open_cases[better]
        best_distance[chosen] = distance[better]
        for name in ("wrist_position", "wrist_quaternion", "joint_position"):
            getattr(best, name)[chosen] = getattr(candidate, name)[better]
    return best, best_distance


def extrapolate(hand: Hand, grasp: Pose, before: Pose) -> Pose:
    """The simple squeeze: ``2 grasp - pregrasp`` in the joints, kept within ranges and couplings; the wrist stays."""
    joints = hand.clamp(2.0 * grasp.joint_position - before.joint_position)
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, joints)
