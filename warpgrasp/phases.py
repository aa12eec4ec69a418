"""Pregrasp: near the grasp and clear of the object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from . import rotation
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

PEEL_OFF = replace(LIFT_OFF, iterations=100, margin=0.004, position_step=3.0e-4, rotation_step=3.0e-3)
"""Only so far that the straight way on from the grasp is seen."""

PEEL_FACTORS = (2.0, 2.5, 3.0, 4.0, 5.0)
"""How much further the hand goes on that way."""

LIFT_OFF_POINTS = 1024

PATH_SHARES = (0.1, 0.25, 0.5, 0.75)
"""Where the straight way from grasp to pregrasp is looked at."""

RETREAT_STEPS = 16
"""Candidates on the way straight back from the grasp."""

CLEARANCE_REACH = 0.02
"""Larger clearances are not told apart [m]."""

STEP_BACK = 0.01
"""Distance between two of them [m]."""

STEPS_TO_OPEN = 8
"""Candidates after which the hand is fully open."""


def pregrasp(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> tuple[Pose, np.ndarray]:
    """A pose near the grasp that is clear of the object, and its clearance [m], shape (N,).

    The best of several candidates for each grasp: what is short of the clearance counts against one, and how deep the
    straight way between the two poses leads through the object, beyond the depth of the grasp itself. Fingers that
    touch on the way push the object off; those that come from afar arrive one after the other. Clearances are cut off
    at ``CLEARANCE_REACH``.
    """
    hand = model.hand
    skin = surface_points(hand, LIFT_OFF_POINTS, links=grasping_links(hand), device=mesh.device)
    coarse = hand_model(hand, skin, mesh.device)
    best = grasp
    distance = clearance(model, mesh, grasp, reach=CLEARANCE_REACH)
    shortfall = np.full(len(grasp), np.inf)
    unavoidable = np.minimum(clearance(coarse, mesh, grasp, reach=CLEARANCE_REACH), 0.0)
    for candidates in (_peeled, _lifted, _retreated):
        rows = np.flatnonzero(shortfall)
        if not len(rows):
            break
        for candidate in candidates(coarse, mesh, grasp[rows]):
            clear = clearance(model, mesh, candidate, reach=CLEARANCE_REACH)
            short = np.maximum(PREGRASP_CLEARANCE - clear, 0.0)
            short += np.maximum(unavoidable[rows] - path_clearance(coarse, mesh, grasp[rows], candidate), 0.0)
            better = short < shortfall[rows] - 1e-6
            best = replace_rows(best, rows[better], candidate[better])
            distance[rows[better]] = clear[better]
            shortfall[rows] = np.minimum(short, shortfall[rows])
    return best, distance


def _peeled(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> Iterator[Pose]:
    """Further and further along the way on which the hand comes off the object at first."""
    near = run_stage(model, mesh, np.zeros((0, 3)), grasp, PEEL_OFF)[0]
    for factor in PEEL_FACTORS:
        yield between(model.hand, grasp, near, factor)


def _lifted(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> Iterator[Pose]:
    """Moved as little as it takes for all points to be clear."""
    yield run_stage(model, mesh, np.zeros((0, 3)), grasp, LIFT_OFF)[0]


def _retreated(model: HandModel, mesh: DeviceMesh, grasp: Pose) -> Iterator[Pose]:
    """Back from the grasp against the palm's normal, and nearer and nearer to open."""
    for step in range(1, RETREAT_STEPS + 1):
        yield retreat(model.hand, grasp, step)


def retreat(hand: Hand, grasp: Pose, step: int) -> Pose:
    """The hand ``step`` steps back from the grasp against the palm's normal, and that much nearer to open."""
    share = min(step / STEPS_TO_OPEN, 1.0)
    joints = (1.0 - share) * grasp.joint_position + share * hand.open_position
    return Pose(grasp.wrist_position - step * STEP_BACK * approach(hand, grasp), grasp.wrist_quaternion, joints)


def path_clearance(model: HandModel, mesh: DeviceMesh, grasp: Pose, before: Pose) -> np.ndarray:
    """Least signed distance between hand and object on the straight way, the grasp itself left out [m], shape (N,)."""
    ways = [between(model.hand, grasp, before, share) for share in PATH_SHARES]
    return np.min([clearance(model, mesh, pose, reach=CLEARANCE_REACH) for pose in ways], axis=0)


def between(hand: Hand, first: Pose, last: Pose, share: float) -> Pose:
    """Poses on the way, or beyond its end: straight in position and joints, along the great arc in rotation."""
    position, joints = (
        (1.0 - share) * a + share * b
        for a, b in ((first.wrist_position, last.wrist_position), (first.joint_position, last.joint_position))
    )
    turned = rotation.slerp(first.wrist_quaternion, last.wrist_quaternion, np.full(len(first), share))
    return Pose(position, turned, hand.clamp(joints))


def replace_rows(pose: Pose, rows: np.ndarray, new: Pose) -> Pose:
    """The poses, with those of some rows replaced."""
    fields = [field.copy() for field in vars(pose).values()]
    for field, values in zip(fields, vars(new).values(), strict=True):
        field[rows] = values
    return Pose(*fields)


def extrapolate(hand: Hand, grasp: Pose, before: Pose) -> Pose:
    """The simple squeeze: ``2 grasp - pregrasp`` in the joints, kept within ranges and couplings; the wrist stays."""
    joints = hand.clamp(2.0 * grasp.joint_position - before.joint_position)
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, joints)
