"""Ranges and couplings on the device, against exact projections in float64, and in every phase of real grasps."""

# pyright: reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
import warp as wp

from warpgrasp import hand as hand_module
from warpgrasp import hands
from warpgrasp.errors import HandError
from warpgrasp.hand import Coupling, Hand, Mimic
from warpgrasp.hand_file import load_hand
from warpgrasp.kernels import adam as adam_kernels
from warpgrasp.kernels import ranges as kernels
from warpgrasp.kernels.ranges import Frees, keep_ranges, staying
from warpgrasp.phases import between, extrapolate, retreat
from warpgrasp.pose import Pose
from warpgrasp.projection import project
from warpgrasp.sampling import sample_joints
from warpgrasp.synthesis import synthesize

CASES = 40
SHARED = Path(__file__).resolve().parents[2] / "shared" / "hands"


@wp.kernel(enable_backward=False)
def keep(
    lower: wp.array[float],
    upper: wp.array[float],
    coupling: wp.array2d[float],
    minimum: wp.array[float],
    x_out: wp.array2d[float],
):
    keep_ranges(lower, upper, coupling, minimum, wp.tid(), x_out)


@wp.kernel(enable_backward=False)
def stay(
    lower: wp.array[float],
    upper: wp.array[float],
    coupling: wp.array2d[float],
    minimum: wp.array[float],
    x: wp.array2d[float],
    direction_out: wp.array2d[float],
):
    grasp = wp.tid()
    direction = Frees()
    for free in range(lower.shape[0]):
        direction[free] = direction_out[grasp, free]
    direction = staying(lower, upper, coupling, minimum, grasp, x, direction)
    for free in range(lower.shape[0]):
        direction_out[grasp, free] = direction[free]


def array(values, device):
    return wp.array(np.asarray(values, np.float32), dtype=float, device=device)


def box_and_couplings(rng, free, rows, shared):
    """A box, and half-spaces of few joints that all hold somewhere in it; they share joints or do not."""
    lower = rng.uniform(-1.0, -0.2, free)
    upper = rng.uniform(0.2, 1.0, free)
    inside = rng.uniform(0.8 * lower, 0.8 * upper)
    matrix = np.zeros((rows, free))
    for row in range(rows):
        columns = rng.choice(free, 3, replace=False) if shared else [2 * row, 2 * row + 1]
        matrix[row, columns] = rng.uniform(0.3, 1.5, len(columns)) * rng.choice([-1.0, 1.0], len(columns))
    minimum = matrix @ inside - rng.uniform(0.0, 0.1, rows)
    return [np.float32(a).astype(float) for a in (lower, upper, matrix, minimum)]


@pytest.mark.parametrize(("free", "rows", "shared"), [(1, 0, False), (18, 9, False), (6, 3, True), (20, 8, True)])
def test_kept_joints_are_the_nearest(free, rows, shared, rng, device):
    lower, upper, matrix, minimum = box_and_couplings(rng, free, rows, shared)
    point = np.float32(rng.normal(scale=1.0, size=(CASES, free))).astype(float)
    x = array(point, device)
    constraints = [array(a, device) for a in (lower, upper, matrix, minimum)]
    wp.launch(keep, dim=CASES, inputs=constraints, outputs=[x], device=device)
    exact = project(point, weight=np.ones(free), lower=lower, upper=upper, matrix=matrix, minimum=minimum)
    if rows:
        assert ((exact @ matrix.T - minimum) < 1e-9).sum() > CASES // 2, "the case should reach its couplings"
    found = x.numpy().astype(float)
    np.testing.assert_allclose(found, exact, atol=5e-6 if shared else 1e-6)
    assert (found >= lower).all()
    assert (found <= upper).all()
    assert rows == 0 or (found @ matrix.T - minimum).min() > -1e-6


@pytest.mark.parametrize(("free", "rows", "shared"), [(1, 0, False), (18, 9, False), (6, 3, True), (20, 8, True)])
def test_staying_directions_are_the_projection_onto_the_tangent_cone(free, rows, shared, rng, device):
    """The cone of what holds with equality at x; computed by least squares in float64, and by a short step."""
    lower, upper, matrix, minimum = box_and_couplings(rng, free, rows, shared)
    constraints = [array(a, device) for a in (lower, upper, matrix, minimum)]
    x = array(rng.normal(scale=1.0, size=(CASES, free)), device)
    wp.launch(keep, dim=CASES, inputs=constraints, outputs=[x], device=device)
    direction = np.float32(rng.normal(size=(CASES, free))).astype(float)
    out = array(direction, device)
    wp.launch(stay, dim=CASES, inputs=[*constraints, x], outputs=[out], device=device)
    active_rows = 0
    for place, wanted, found in zip(x.numpy().astype(float), direction, out.numpy().astype(float), strict=True):
        held = (matrix @ place - minimum) < 2e-6
        active_rows += held.sum()
        exact = project(
            wanted,
            weight=np.ones(free),
            lower=np.where(place <= lower + 2e-6, 0.0, -1e9),
            upper=np.where(place >= upper - 2e-6, 0.0, 1e9),
            matrix=matrix[held],
            minimum=np.zeros(held.sum()),
        )
        np.testing.assert_allclose(found, exact, atol=2e-5)
        # Moreau: what is taken away is orthogonal to what is left.
        assert abs((wanted - found) @ found) < 1e-4
    assert rows == 0 or active_rows > CASES // 2, "the case should reach its couplings"


class Descent:
    """Adam on the joints alone of one hand with x0 in [0, 1], x1 in [0, 1] and x1 <= x0."""

    def __init__(self, device, start):
        self.device = device
        self.x, self.moments = array([start], device), wp.zeros((2, 1, 8), dtype=float, device=device)
        self.iteration = wp.zeros(1, dtype=int, device=device)
        self.wrist = wp.array([wp.transform_identity()], dtype=wp.transform, device=device)
        constants = [[0.0, 0.0], [1.0, 1.0], [0.01, 0.01], [[1.0, -1.0]], [0.0], np.ones((200, 3))]
        self.constants = [array(c, device) for c in constants]

    def step(self, gradient):
        """Joints after one step against a gradient."""
        still = wp.zeros(1, dtype=wp.spatial_vector, device=self.device)
        inputs = [*self.constants, self.iteration, still, array([gradient], self.device), 0.0, 0.0, 0.9, 0.98, True]
        wp.launch(adam_kernels.adam, 1, inputs=inputs, outputs=[self.moments, self.wrist, self.x], device=self.device)
        wp.launch(adam_kernels.advance, dim=1, outputs=[self.iteration], device=self.device)
        return self.x.numpy()[0].astype(float)


@pytest.mark.parametrize(
    ("start", "outward", "back"),
    [
        ((0.5, 0.0), (0.0, 3.0), (0.0, -1.0)),
        ((1.0, 0.5), (-3.0, 0.0), (1.0, 0.0)),
        ((0.5, 0.5), (3.0, -3.0), (0.0, 1.0)),
    ],
    ids=["lower end", "upper end", "coupling"],
)
def test_a_joint_leaves_its_limit_as_soon_as_it_is_let_go(start, outward, back, device):
    descent = Descent(device, start)
    before = [descent.step(outward) for _ in range(40)][-1]
    np.testing.assert_array_equal(before, start)
    assert not descent.moments.numpy()[:, 0, 6:].any(), "what pushes outward leaves no trace"
    joint = int(np.argmax(np.abs(back)))
    moved = (descent.step(back) - before)[joint] * -np.sign(back[joint])
    assert moved > 0.005, "at once, by most of a step"


def test_a_coupling_shares_a_push_along_it(device):
    descent = Descent(device, (0.5, 0.5))
    after = descent.step((0.0, -3.0))
    assert after[0] == pytest.approx(after[1], abs=1e-6)
    assert after[0] > 0.505
    np.testing.assert_allclose(descent.moments.numpy()[0, 0, 6:], [-0.15, -0.15], rtol=1e-5)


def test_momentum_into_a_limit_is_forgotten(device):
    descent = Descent(device, (0.5, 0.05))
    assert [descent.step((0.0, 1.0)) for _ in range(30)][-1][1] == 0.0
    assert descent.step((0.0, -1.0))[1] > 0.002


# ---- every phase of real grasps


def violation(hand: Hand, q: np.ndarray) -> float:
    """By how much joint vectors break ranges, mimics and couplings at most, straight from their definitions."""
    names = hand.joint_names.index
    column = {joint.name: q[:, names(joint.name)] for joint in hand.joints}
    excess = [max((j.lower - column[j.name]).max(), (column[j.name] - j.upper).max()) for j in hand.joints]
    excess += [np.abs(column[m.joint] - m.multiplier * column[m.of] - m.offset).max() for m in hand.mimics]
    excess += [
        (c.minimum - np.sum([f * column[n] for n, f in c.coefficients.items()], axis=0)).max() for c in hand.couplings
    ]
    for actuator in hand.actuators:
        position = np.sum([f * column[n] for n, f in actuator.joints.items()], axis=0)
        excess += [] if actuator.lower is None else [(actuator.lower - position).max()]
        excess += [] if actuator.upper is None else [(position - actuator.upper).max()]
    return float(max(excess))


def with_offset_mimic() -> Hand:
    """Allegro with a joint that follows another one at minus half its angle and an offset."""
    hand = load_hand("allegro")
    mimic = Mimic("joint_3", "joint_2", -0.5, 0.6)
    hand = dataclasses.replace(hand, mimics=(mimic,))
    return dataclasses.replace(hand, open_position=hand.clamp(hand.open_position))


def real(folder: str, pattern: str) -> Hand:
    files = sorted((SHARED / folder).rglob(pattern)) if SHARED.is_dir() else []
    if not files:
        pytest.skip(f"no {folder} in {SHARED}")
    return load_hand(files[0])


HANDS: dict[str, Callable[[], Hand]] = {name: lambda name=name: load_hand(name) for name in hands.names()}
HANDS |= {
    "shadow_wrist with the model's ranges": lambda: load_hand("shadow_wrist", ranges="model"),
    "allegro with a mimic and an offset": with_offset_mimic,
    "real shadow": lambda: real("shadow_mjcf", "right_hand.xml"),
    "real barrett": lambda: real("barrett_mimic_urdf", "*.urdf"),
}
GRASPS = 4


@pytest.mark.parametrize("name", HANDS)
def test_every_phase_keeps_ranges_and_couplings(name, rng):
    hand = HANDS[name]()
    can = trimesh.creation.cylinder(radius=0.03, height=0.08, sections=24)
    grasps = synthesize(hand, can, count=GRASPS, seed=0, device="cpu", iterations=12, points=128)
    phases = {"pregrasp": grasps.pregrasp, "grasp": grasps.pose, "squeeze": grasps.squeeze}
    open_hand = Pose(grasps.wrist_position, grasps.wrist_quaternion, np.array([hand.open_position] * GRASPS))
    wild = Pose(grasps.wrist_position, grasps.wrist_quaternion, sample_joints(hand, GRASPS, rng, spread=1.0))
    for share in (0.3, 1.7, 5.0):
        phases[f"between {share}"] = between(hand, wild, open_hand, share)
        phases[f"beyond {share}"] = between(hand, open_hand, wild, share)
    phases |= {f"retreat {step}": retreat(hand, wild, step) for step in (1, 5, 20)}
    phases["extrapolate"] = extrapolate(hand, wild, open_hand)
    for phase, pose in phases.items():
        assert violation(hand, pose.joint_position) < 1e-9, phase


def test_hands_too_large_for_the_kernels_are_refused():
    assert (hand_module.MOST_FREE, hand_module.MOST_COUPLINGS) == (kernels.MOST_FREE, kernels.MOST_COUPLINGS)
    assert Frees._length_ == kernels.MOST_FREE
    hand = load_hand("allegro")
    many = tuple(Coupling({"joint_1": 1.0, "joint_2": -1.0 - k}, -9.0) for k in range(33))
    with pytest.raises(HandError, match="it has 33 couplings; at most 32 work"):
        dataclasses.replace(hand, couplings=many)
