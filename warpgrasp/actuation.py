"""From joints to motors and back: what to send to the robot (NumPy only)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .errors import HandError
from .hand import Actuator
from .projection import coupled_rows

if TYPE_CHECKING:
    from .hand import Hand

TOLERANCE = 1e-12
"""By which a joint may miss its range before it counts [rad or m]."""


def motors(hand: Hand) -> tuple[Actuator, ...]:
    """Every motor of a hand, in the order of the first joint that each moves.

    Those that the description lists, and one for every free joint that none of them moves. Mimic joints have none.

    Raises:
        HandError: An actuator moves no joint.
    """
    listed = {}
    for actuator in hand.actuators:
        moved = np.flatnonzero(_row(hand, actuator) @ hand.joint_map)
        if not len(moved):
            raise HandError(hand.path, f"the actuator {actuator.name!r} moves no joint; check its coefficients")
        for k in moved:
            listed.setdefault(int(k), []).append(actuator)
    found: dict[int, Actuator] = {}
    for k, j in enumerate(hand.free_joints):
        joint = hand.joints[j]
        own = Actuator(joint.name, {joint.name: 1.0}, hand.free_lower[k], hand.free_upper[k], joint.effort)
        found |= {id(actuator): actuator for actuator in listed.get(k, [own])}
    return tuple(found.values())


def motor_matrix(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """D of shape (M, K) and d of shape (M,): motors stand at ``D @ x + d`` where the free joints are x."""
    rows = np.array([_row(hand, motor) for motor in hand.motors]).reshape(len(hand.motors), hand.joint_count)
    return rows @ hand.joint_map, rows @ hand.joint_offset


def _row(hand: Hand, actuator: Actuator) -> np.ndarray:
    return np.array([actuator.joints.get(name, 0.0) for name in hand.joint_names])


def motor_range(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest position of every motor over all that the joints can do [rad or m], each of shape (M,)."""
    from scipy.optimize import linprog

    rows, offset = motor_matrix(hand)
    matrix, minimum = hand.coupling_matrix()
    box = np.stack([hand.free_lower, hand.free_upper], axis=1)
    ends = []
    for sign in (1.0, -1.0):
        best = [linprog(sign * row, A_ub=-matrix, b_ub=-minimum, bounds=box, method="highs") for row in rows]
        if not all(solution.success for solution in best):
            raise HandError(hand.path, "its couplings and joint ranges exclude each other")
        ends.append(offset + [sign * solution.fun for solution in best])
    return ends[0], ends[1]


def free_closing(hand: Hand, actuator_position: np.ndarray) -> np.ndarray:
    """Joint vectors that a hand takes that meets nothing, its motors being at some positions.

    Of all joint vectors that the motors' positions allow, the one in which the joint nearest to the palm is moved
    furthest the way its motor pulls, then the next one, and so on, as far as ranges and couplings let them.

    Args:
        hand: The hand.
        actuator_position: Motor positions [rad or m], shape (N, M); those out of range are put into it.

    Returns:
        Joint vectors, shape (N, J).
    """
    rows, offset = motor_matrix(hand)
    wanted = np.clip(actuator_position, *motor_range(hand)) - offset
    matrix, minimum = hand.coupling_matrix()
    x = np.zeros((len(wanted), hand.free_count))
    for motor in coupled_rows(rows):
        columns = (rows[motor] != 0.0).any(axis=0)
        inside = (matrix != 0.0).any(axis=1) & ~(matrix[:, ~columns] != 0.0).any(axis=1)
        identity = np.eye(columns.sum())
        x[:, columns] = _furthest(
            rows[np.ix_(motor, columns)],
            wanted[:, motor],
            np.concatenate([identity, -identity, matrix[np.ix_(inside, columns)]]),
            np.concatenate([hand.free_lower[columns], -hand.free_upper[columns], minimum[inside]]),
        )
    return hand.clamp(hand.joint_position(x))


def _furthest(motor: np.ndarray, wanted: np.ndarray, matrix: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """Of ``motor @ x = wanted`` with ``matrix @ x >= minimum``, the x whose first coordinate is furthest, and so on.

    That is a corner, where as many inequalities hold with equality as the motors leave freedoms, so all are looked at.

    Args:
        motor: Shape (M, n).
        wanted: Shape (N, M).
        matrix: Shape (m, n).
        minimum: Shape (m,).

    Returns:
        Shape (N, n).
    """
    count, joints = motor.shape
    pull = np.sign(motor.sum(axis=0))
    best, best_key = np.zeros((len(wanted), joints)), np.full((len(wanted), joints + 1), -np.inf)
    for held in combinations(range(len(matrix)), max(joints - count, 0)):
        system = np.concatenate([motor, matrix[list(held)]])
        if np.linalg.matrix_rank(system, tol=1e-9) < joints:
            continue
        right = np.concatenate([wanted, np.broadcast_to(minimum[list(held)], (len(wanted), len(held)))], axis=1)
        x = right @ np.linalg.pinv(system).T
        excess = np.maximum(minimum - x @ matrix.T - TOLERANCE, 0.0).max(axis=1)
        key = np.concatenate([-excess[:, None], pull * x], axis=1)
        difference = key - best_key
        first = np.argmax(np.abs(difference) > TOLERANCE, axis=1)
        better = difference[np.arange(len(x)), first] > TOLERANCE
        best[better], best_key[better] = x[better], key[better]
    return best
