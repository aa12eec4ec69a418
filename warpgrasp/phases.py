"""Pregrasp and squeeze, in their simple form."""

from __future__ import annotations

import numpy as np

from .distance import DeviceMesh
from .hand import Hand
from .initialize import approach
from .model import HandModel
from .pose import Pose
from .proximity import clearance

PREGRASP_CLEARANCE = 0.01
"""Least distance between the hand's points and the object at the pregrasp [m]."""

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


def pregrasp(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> tuple[Pose, np.ndarray]:
    """The nearest candidate on the way back that is clear of the object, and its clearance [m], shape (N,).

    The clearance is cut off at ``CLEARANCE_REACH``. Where no candidate is clear, it is the one with the largest.
    """
    count = len(grasp)
    best = Pose(grasp.wrist_position.copy(), grasp.wrist_quaternion.copy(), grasp.joint_position.copy())
    best_distance = np.full(count, -np.inf)
    for step in range(1, PREGRASP_STEPS + 1):
        open_cases = np.flatnonzero(best_distance < PREGRASP_CLEARANCE)
        if not len(open_cases):
            break
        candidate = retreat(model.hand, grasp[open_cases], step)
        distance = clearance(model, mesh, candidate, reach=CLEARANCE_REACH)
        better = distance > best_distance[open_cases]
        chosen = open_cases[better]
        best_distance[chosen] = distance[better]
        best.wrist_position[chosen] = candidate.wrist_position[better]
        best.joint_position[chosen] = candidate.joint_position[better]
    return best, best_distance


def squeeze(hand: Hand, grasp: Pose, before: Pose) -> Pose:
    """``2 grasp - pregrasp`` in the joints, kept within ranges and couplings; the wrist stays."""
    joints = hand.clamp(2.0 * grasp.joint_position - before.joint_position)
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, joints)
