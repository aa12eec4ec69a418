"""Motors: their names, positions and ranges, and the joints of a hand that meets nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import linprog

from warpgrasp import hands
from warpgrasp.actuation import motor_matrix, motor_range
from warpgrasp.errors import HandError, ShapeError
from warpgrasp.hand import Actuator, Mimic
from warpgrasp.hand_file import load_hand
from warpgrasp.sampling import sample_joints

each_hand = pytest.mark.parametrize("name", hands.names())

SHADOW = """WRJ2 WRJ1 FFJ4 FFJ3 FFJ0 MFJ4 MFJ3 MFJ0 RFJ4 RFJ3 RFJ0 LFJ5 LFJ4 LFJ3 LFJ0 THJ5 THJ4 THJ3 THJ2 THJ1"""


def test_shadow_has_twenty_motors_in_the_order_of_its_joints():
    assert load_hand("shadow_wrist").actuator_names == tuple(SHADOW.split())
    assert load_hand("shadow").actuator_names == tuple(SHADOW.split()[2:])
    assert load_hand("barrett").actuator_names == ("spread", "finger_1", "finger_2", "finger_3")
    assert load_hand("allegro").actuator_names == load_hand("allegro").joint_names
    assert load_hand("panda").actuator_names == ("finger_joint1",)


def test_shadow_pulls_the_sum_of_two_joints_and_bends_the_middle_one_first():
    hand = load_hand("shadow")
    joint, motor = hand.joint_names.index, hand.actuator_names.index
    q = hand.open_position.copy()
    q[joint("FFJ1")], q[joint("FFJ2")] = 0.4, 0.9
    position = hand.actuator_position(q)
    assert position[motor("FFJ0")] == pytest.approx(1.3, abs=1e-15)
    assert position[motor("THJ4")] == q[joint("THJ4")]
    right = hand.upper[joint("FFJ2")]
    for pulled, middle, outer in [(1.3, 1.3, 0.0), (right, right, 0.0), (2.0, right, 2.0 - right), (9.0, right, right)]:
        position[motor("FFJ0")] = pulled
        back = hand.joint_position_from_actuators(position)
        np.testing.assert_allclose(back[[joint("FFJ2"), joint("FFJ1")]], [middle, outer], atol=1e-12)


DEGREE = np.pi / 180.0


@pytest.mark.parametrize(
    ("proximal", "distal", "motor"),
    [(0.0, 0.0, 0.0), (140.0, 140.0 / 3.0, 140.0), (60.0, 20.0, 60.0), (60.0, 48.0, 81.0), (0.0, 48.0, 36.0)],
    ids=["flat", "closed", "free", "proximal stopped at 60", "proximal stopped at 0"],
)
def test_barrett_motor_follows_from_the_gears(proximal, distal, motor):
    """Motor turns: 125 for one of the proximal link until it is stopped, then 93.75 for one of the distal link."""
    hand = load_hand("barrett")
    q = hand.clamp(DEGREE * np.array([proximal if name[3:] == "prox" else 0.0 for name in hand.joint_names]))
    for name in ("f1_dist", "f2_dist", "f3_dist"):
        q[hand.joint_names.index(name)] = distal * DEGREE
    q[[hand.joint_names.index(f"f{finger}_prox") for finger in (1, 2, 3)]] = proximal * DEGREE
    turns = 125.0 * proximal + 93.75 * (distal - proximal / 3.0)
    assert turns == pytest.approx(125.0 * motor)
    np.testing.assert_allclose(hand.actuator_position(q)[1:], motor * DEGREE, atol=1e-12)


def test_free_barrett_fingers_close_three_to_one_until_the_stop():
    hand = load_hand("barrett")
    proximal = hand.upper[hand.joint_names.index("f1_prox")]
    distal = hand.upper[hand.joint_names.index("f1_dist")]
    assert motor_range(hand)[1][1] == pytest.approx(0.75 * (proximal + distal), abs=1e-12)
    back = hand.joint_position_from_actuators(np.array([[0.5, 0.9, 1.2, 2.45], [4.0, 0.0, -1.0, 3.0]]))
    by_name = dict(zip(hand.joint_names, back.T, strict=True))
    np.testing.assert_allclose(by_name["f1_spread"], [0.5, hand.upper[0]], atol=1e-12)
    np.testing.assert_allclose(by_name["f2_spread"], by_name["f1_spread"], atol=1e-12)
    # The URDF writes a third with six digits.
    np.testing.assert_allclose([by_name["f1_prox"], by_name["f1_dist"]], [[0.9, 0.0], [0.3, 0.0]], atol=1e-6)
    np.testing.assert_allclose([by_name["f2_prox"], by_name["f2_dist"]], [[1.2, 0.0], [0.4, 0.0]], atol=1e-6)
    stopped = 2.45 / 0.75 - proximal
    np.testing.assert_allclose(
        [by_name["f3_prox"], by_name["f3_dist"]], [[proximal, proximal], [stopped, distal]], atol=1e-12
    )


@each_hand
def test_round_trips(name, rng):
    """Motors to joints to motors is exact; joints to motors to joints is, for joints with a motor of their own."""
    hand = load_hand(name)
    lower, upper = motor_range(hand)
    position = rng.uniform(lower, upper, (4, 50, len(lower)))
    position[0, :2] = lower, upper
    q = hand.joint_position_from_actuators(position)
    assert q.shape == (4, 50, hand.joint_count)
    np.testing.assert_allclose(hand.actuator_position(q), position, atol=1e-12)
    np.testing.assert_allclose(hand.clamp(q), q, atol=1e-12)
    np.testing.assert_allclose(hand.joint_position_from_actuators(hand.actuator_position(q)), q, atol=1e-12)

    drawn = sample_joints(hand, 200, rng, spread=0.5)
    position = hand.actuator_position(drawn)
    assert (position >= lower - 1e-12).all()
    assert (position <= upper + 1e-12).all()
    back = hand.joint_position_from_actuators(position)
    np.testing.assert_allclose(hand.actuator_position(back), position, atol=1e-12)
    alone = [hand.joint_names.index(n) for n in hand.actuator_names if n in hand.joint_names]
    np.testing.assert_allclose(back[:, alone], drawn[:, alone], atol=1e-12)


@each_hand
def test_free_closing_is_the_furthest_that_linear_programming_finds(name, rng):
    hand = load_hand(name)
    rows, offset = motor_matrix(hand)
    matrix, minimum = hand.coupling_matrix()
    position = rng.uniform(*motor_range(hand), (5, len(rows)))
    x = hand.free_position(hand.joint_position_from_actuators(position))
    box = np.stack([hand.free_lower, hand.free_upper], axis=1)
    # A coordinate counts a thousand times less than the one before it; the first and the second of a motor matter.
    weight = np.zeros(hand.free_count)
    for row in rows:
        weight[np.flatnonzero(row)] = 1e-3 ** np.arange(np.count_nonzero(row))
    for wanted, found in zip(position, x, strict=True):
        best = linprog(-weight, A_ub=-matrix, b_ub=-minimum, A_eq=rows, b_eq=wanted - offset, bounds=box)
        np.testing.assert_allclose(found, best.x, atol=1e-7)


def test_a_motor_of_three_joints_and_one_of_a_mimic():
    """Joints of 1, 2 and 1 rad by one motor close one after the other; a mimic adds what it follows by."""
    hand = load_hand("allegro")
    first = Actuator("tendon", {"joint_1": 1.0, "joint_2": 1.0, "joint_3": 2.0})
    hand = dataclasses.replace(hand, actuators=(first,), mimics=(Mimic("joint_7", "joint_6", 0.5, 0.1),))
    assert hand.actuator_names[:2] == ("joint_0", "tendon")
    assert "joint_7" not in hand.actuator_names
    index = [hand.joint_names.index(name) for name in ("joint_1", "joint_2", "joint_3")]
    lower, upper = hand.lower[index], hand.upper[index]
    position = hand.actuator_position(hand.open_position)
    begin = lower @ [1.0, 1.0, 2.0]
    travel = (upper - lower) * [1.0, 1.0, 2.0]
    position[1] = begin + travel[0] + 0.5 * travel[1]
    closed = hand.joint_position_from_actuators(position)[index]
    np.testing.assert_allclose(closed, [upper[0], 0.5 * (lower + upper)[1], lower[2]], atol=1e-12)
    position[1] = begin + travel[0] + travel[1] + 0.25 * travel[2]
    closed = hand.joint_position_from_actuators(position)[index]
    np.testing.assert_allclose(closed, [upper[0], upper[1], (0.75 * lower + 0.25 * upper)[2]], atol=1e-12)


def test_two_motors_of_one_differential():
    """Sum and difference of two joints determine both."""
    hand = load_hand("allegro")
    pair = Actuator("sum", {"joint_1": 1.0, "joint_2": 1.0}), Actuator("difference", {"joint_1": 1.0, "joint_2": -1.0})
    hand = dataclasses.replace(hand, actuators=pair)
    assert hand.actuator_names[1:3] == ("sum", "difference")
    q = hand.open_position
    np.testing.assert_allclose(hand.joint_position_from_actuators(hand.actuator_position(q)), q, atol=1e-12)


def test_a_motor_range_narrower_than_its_joints_limits_them(rng):
    hand = load_hand("shadow")
    assert len(hand.coupling_matrix()[1]) == 4, "Shadow's motors reach all that its joints can do"
    short = tuple(dataclasses.replace(a, upper=2.5) if a.name == "FFJ0" else a for a in hand.actuators)
    hand = dataclasses.replace(hand, actuators=short)
    motor = hand.actuator_names.index("FFJ0")
    assert motor_range(hand)[1][motor] == pytest.approx(2.5)
    assert hand.actuator_position(hand.clamp(hand.upper))[motor] <= 2.5 + 1e-9
    assert hand.actuator_position(sample_joints(hand, 500, rng, spread=2.0))[:, motor].max() <= 2.5
    high = np.full(len(hand.motors), 9.0)
    back = hand.joint_position_from_actuators(high)
    assert hand.actuator_position(back)[motor] == pytest.approx(2.5, abs=1e-9)


def test_bad_input_is_refused():
    hand = load_hand("shadow")
    with pytest.raises(ShapeError, match=r"actuator_position has shape \(20,\), expected \(..., 18\)"):
        hand.joint_position_from_actuators(np.zeros(20))
    with pytest.raises(ShapeError, match=r"joint_position has shape \(18,\), expected \(..., 22\)"):
        hand.actuator_position(np.zeros(18))
    with pytest.raises(HandError, match="the actuator 'idle' moves no joint"):
        _ = dataclasses.replace(hand, actuators=(Actuator("idle", {"FFJ1": 0.0}),)).motors
