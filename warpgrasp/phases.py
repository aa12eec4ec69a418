"""The poses beside the grasp: the pregrasp, near it and clear of everything, and the lift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from . import rotation
from .descend import run_stage
from .distance import DeviceMesh
from .hand import Hand
from .initialize import approach
from .model import HandModel, hand_model
from .options import Stage
from .pose import Pose, concatenate
from .proximity import clearance
from .self_collision import self_penetration
from .surface import grasping_links, surface_points
from .surroundings import NOTHING, Surroundings

PREGRASP_CLEARANCE = 0.005
"""Least distance between the hand's points and the object at the pregrasp [m]; from twice as far, fingers that reach
behind the object push it off before the others arrive."""

LIFT_OFF = Stage(
    iterations=80,
    query_slack=1.0e-3,
    reach=0.03,
    attraction_weight=0.0,
    margin=0.008,
    position_step=2.0e-4,
    penetration_weight=1.0e4,
    self_weight=1.0e4,
    pair_weight=1.0e5,
)
"""Push every point a little further than the clearance; neighbouring points keep the skin between them clear too."""

PEEL_OFF = replace(LIFT_OFF, iterations=60, margin=0.004, position_step=3.0e-4, rotation_step=3.0e-3)
"""Only so far that the straight way on from the grasp is seen."""

LIFT_FACTORS = (1.0, 1.25)
"""How far the hand goes on the way to where it is lifted off; further where a little is missing."""

PEEL_FACTORS = (2.0, 2.5, 3.0, 4.0, 5.0)
"""How much further the hand goes on the way on which it peels off."""

FEW_POINTS = 512
"""Points on palm and fingers that every hand is lifted off with."""

SKIN_POINTS = 1024
"""Points that the way is looked at with, and that a hand is lifted off with where few do not do."""

PATH_SHARES = (0.1, 0.25, 0.5, 0.75)
"""Where the straight way from grasp to pregrasp is looked at."""

RETREAT_STEPS = 8
"""Candidates on the way straight back from the grasp."""

CLEARANCE_REACH = 0.02
"""Larger clearances are not told apart [m]."""

STEP_BACK = 0.02
"""Distance between two of them [m]."""

LIFT_HEIGHT = 0.1
"""How far a grasp is lifted [m]."""

SQUEEZE_HALVINGS = 6
"""How closely the largest squeeze that is clear of the surroundings is looked for."""

STEPS_TO_OPEN = 4
"""Candidates after which the hand is fully open."""


@dataclass(frozen=True, eq=False)
class Approach:
    """Where N hands come from, and how free the straight way from there to the grasp is."""

    pose: Pose
    """The pregrasp."""

    clearance: np.ndarray
    """Least distance between hand and object there, at most ``CLEARANCE_REACH`` [m], shape (N,)."""

    way_clearance: np.ndarray
    """Least signed distance between hand and object on the way, both ends left out, at most
    ``PREGRASP_CLEARANCE`` [m], shape (N,)."""

    self_penetration: np.ndarray
    """Depth of one link in another at the pregrasp [m], shape (N,)."""

    free: np.ndarray
    """Least signed distance to the surroundings there and on the way [m], shape (N,)."""


def pregrasp(model: HandModel, mesh: DeviceMesh, grasp: Pose, surroundings: Surroundings = NOTHING) -> Approach:
    """A pose near each grasp that is clear of the object and its surroundings.

    The best of several candidates for each grasp: what is short of the clearance counts against one, how deep the
    straight way between the two poses leads through the object, beyond the depth of the grasp itself, or through the
    surroundings, and how deep one link is in another at its end. Fingers that touch on the way push the object off;
    those that come from afar arrive one after the other.
    """
    hand, links = model.hand, grasping_links(model.hand)
    few, skin = (
        hand_model(hand, surface_points(hand, count, links=links, device=mesh.device), mesh.device)
        for count in (FEW_POINTS, SKIN_POINTS)
    )
    found = Approach(grasp, *np.full((4, len(grasp)), -np.inf))
    shortfall = np.full(len(grasp), np.inf)
    unavoidable = np.minimum(clearance(skin, mesh, grasp, reach=CLEARANCE_REACH), 0.0)
    for points, candidates in ((few, _lifted), (skin, _peeled), (skin, _lifted), (skin, _retreated)):
        asked = np.flatnonzero(shortfall)
        if not len(asked):
            break
        for poses in candidates(points, mesh, grasp[asked], surroundings):
            short = shortfall[asked] > 0.0
            rows, pose = asked[short], poses[short]
            if not len(rows):
                break
            # No face is looked for beyond what must be clear: with a larger reach, clearances take most of the time.
            way = concatenate([between(hand, grasp[rows], pose, share) for share in PATH_SHARES])
            new = Approach(
                pose,
                clearance(model, mesh, pose, reach=PREGRASP_CLEARANCE),
                clearance(skin, mesh, way, reach=PREGRASP_CLEARANCE).reshape(-1, len(rows)).min(axis=0),
                self_penetration(hand, pose.joint_position),
                surroundings.clearance(model, concatenate([way, pose])).reshape(-1, len(rows)).min(axis=0),
            )
            short = np.maximum(PREGRASP_CLEARANCE - new.clearance, 0.0)
            short += np.maximum(unavoidable[rows] - new.way_clearance, 0.0) + np.maximum(-new.free, 0.0)
            short += new.self_penetration
            better = short < shortfall[rows] - 1e-6
            found = _replace_rows(found, rows[better], new, better)
            shortfall[rows] = np.minimum(short, shortfall[rows])
    return replace(found, clearance=clearance(model, mesh, found.pose, reach=CLEARANCE_REACH))


def _lifted(model: HandModel, mesh: DeviceMesh, grasp: Pose, surroundings: Surroundings) -> Iterator[Pose]:
    """Moved as little as it takes for all points to be clear, and a little further."""
    clear = run_stage(model, mesh, np.zeros((0, 3)), grasp, LIFT_OFF, surroundings=surroundings)[0]
    for factor in LIFT_FACTORS:
        yield between(model.hand, grasp, clear, factor)


def _peeled(model: HandModel, mesh: DeviceMesh, grasp: Pose, surroundings: Surroundings) -> Iterator[Pose]:
    """Further and further along the way on which the hand comes off the object at first."""
    near = run_stage(model, mesh, np.zeros((0, 3)), grasp, PEEL_OFF, surroundings=surroundings)[0]
    for factor in PEEL_FACTORS:
        yield between(model.hand, grasp, near, factor)


def _retreated(model: HandModel, _mesh: DeviceMesh, grasp: Pose, _surroundings: Surroundings) -> Iterator[Pose]:
    """Back from the grasp against the palm's normal, and nearer and nearer to open."""
    for step in range(1, RETREAT_STEPS + 1):
        yield retreat(model.hand, grasp, step)


def retreat(hand: Hand, grasp: Pose, step: int) -> Pose:
    """The hand ``step`` steps back from the grasp against the palm's normal, and that much nearer to open."""
    share = min(step / STEPS_TO_OPEN, 1.0)
    joints = (1.0 - share) * grasp.joint_position + share * hand.open_position
    return Pose(grasp.wrist_position - step * STEP_BACK * approach(hand, grasp), grasp.wrist_quaternion, joints)


def between(hand: Hand, first: Pose, last: Pose, share: float | np.ndarray) -> Pose:
    """Poses on the way, or beyond its end: straight in position and joints, along the great arc in rotation.

    ``share`` is 0 at the first and 1 at the last, one for all or of shape (N,).
    """
    shares = np.broadcast_to(share, len(first))
    column = shares[:, None]
    position, joints = (
        (1.0 - column) * a + column * b
        for a, b in ((first.wrist_position, last.wrist_position), (first.joint_position, last.joint_position))
    )
    turned = rotation.slerp(first.wrist_quaternion, last.wrist_quaternion, shares)
    return Pose(position, turned, hand.clamp(joints))


def replace_rows(pose: Pose, rows: np.ndarray, new: Pose) -> Pose:
    """The poses, with those of some rows replaced."""
    fields = [field.copy() for field in vars(pose).values()]
    for field, values in zip(fields, vars(new).values(), strict=True):
        field[rows] = values
    return Pose(*fields)


def _replace_rows(found: Approach, rows: np.ndarray, new: Approach, chosen: np.ndarray) -> Approach:
    numbers = {name: values.copy() for name, values in vars(found).items() if name != "pose"}
    for name, values in numbers.items():
        values[rows] = getattr(new, name)[chosen]
    return Approach(replace_rows(found.pose, rows, new.pose[chosen]), **numbers)


def clear_squeeze(model: HandModel, grasp: Pose, squeeze: Pose, surroundings: Surroundings) -> tuple[Pose, np.ndarray]:
    """Targets that stay out of the table and obstacles, and their share of the squeeze, shape (N,).

    All joints of a grasp press less alike, so that forces which balance still do. Where the object stops the fingers
    they would not get that far, but nothing says that it stops every one of them.
    """
    least, most = np.zeros(len(grasp)), np.ones(len(grasp))
    share = most.copy()
    for _ in range(SQUEEZE_HALVINGS):
        clear = surroundings.clearance(model, between(model.hand, grasp, squeeze, share)) >= 0.0
        least, most = np.where(clear, share, least), np.where(clear, most, share)
        if clear.all():
            break
        share = np.where(least < 1.0, 0.5 * (least + most), 1.0)
    return between(model.hand, grasp, squeeze, least), least


def lift(squeeze: Pose, up: np.ndarray) -> Pose:
    """The squeezing hand raised by ``LIFT_HEIGHT``; ``up`` is a unit vector in the object frame."""
    return replace(squeeze, wrist_position=squeeze.wrist_position + LIFT_HEIGHT * up)


def extrapolate(hand: Hand, grasp: Pose, before: Pose) -> Pose:
    """The simple squeeze: ``2 grasp - pregrasp`` in the joints, kept within ranges and couplings; the wrist stays."""
    joints = hand.clamp(2.0 * grasp.joint_position - before.joint_position)
    return Pose(grasp.wrist_position, grasp.wrist_quaternion, joints)
