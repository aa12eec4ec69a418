"""The stability loss in the descent: against float64, against the exact path, and the recipe that is built on it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import reference_grasp as reference
import trimesh
from random_hand import random_hand, unit

from warpgrasp import rotation
from warpgrasp.distance import DeviceMesh
from warpgrasp.errors import OptionError
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import starting_poses
from warpgrasp.mesh import load_object
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import RECIPES, Dynamics, Stage
from warpgrasp.pose import Pose
from warpgrasp.surface import SurfacePoints, surface_points
from warpgrasp.synthesis import synthesize

TINY = Dynamics(speed=1.0e-4, leak=0.0, steps=1, squared=True, friction=0.4)
"""So slow that linearising changes nothing; without leak the gradient is that of the loss."""

ALONE = Stage(
    iterations=4, attraction_weight=0.0, penetration_weight=0.0, self_weight=0.0, object_points=0, dynamics=TINY
)


PRINTED = dataclasses.replace(
    RECIPES["paper"].stages[0],
    object_points=0,
    dilation=0.004,
    dynamics=dataclasses.replace(RECIPES["paper"].stages[0].dynamics, leak=0.0),
)
"""As printed, without leak so that there is something to difference, and less dilated so that some points are free."""


def one_descent(rng, device, stage, grasps=2, joints=18, **phong):
    """Random hands, half of their points inside a ball whose distance is smooth."""
    hand = random_hand(rng, joints)
    link = np.repeat(np.arange(len(hand.links)), 2)
    points = SurfacePoints(link, rng.uniform(-0.01, 0.01, (len(link), 3)), np.zeros((len(link), 3)), np.ones(len(link)))
    obj = load_object(trimesh.creation.icosphere(subdivisions=1, radius=0.06))
    pose = Pose(
        rng.uniform(-0.04, 0.04, (grasps, 3)).astype(np.float32).astype(float),
        np.array([unit(rng, 4) for _ in range(grasps)]),
        hand.clamp(rng.uniform(hand.lower, hand.upper, (grasps, len(hand.joints)))),
    )
    descent = Descent(hand_model(hand, points, device), DeviceMesh(obj, device), np.zeros((0, 3)), pose, stage, **phong)
    return descent, pose


@pytest.mark.parametrize("case", ["jacobi", "printed"])
def test_gradient_of_the_whole_chain_matches_differences(case, rng, device):
    """Through simulation, signed distance and kinematics, by differences of the loss itself."""
    dynamics = dataclasses.replace(TINY, speed=0.1, averaging="all")
    stage, phong = dataclasses.replace(ALONE, stability_weight=3.0, dynamics=dynamics), {}
    if case == "printed":
        stage, phong = PRINTED, {"phong_alpha": 0.75, "phong_mode": "printed"}
    descent, pose = one_descent(rng, device, stage, **phong)
    descent.find_gradient(search=True)
    analytic = np.concatenate([descent.state.wrist_gradient.numpy(), descent.state.free_gradient.numpy()], axis=1)
    touches = descent.state.distance.numpy() < stage.dilation
    assert touches.any() and not touches.all(), "the case should have contact, and points without"
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    hand = descent.model.hand
    free = hand.free_position(pose.joint_position)

    def value(motion, x):
        moved = np.array([reference.moved(w, motion) for w in wrist])
        at = Pose(moved[:, :3, 3], rotation.quaternion_from_matrix(moved[:, :3, :3]), hand.joint_position(x))
        other = Descent(descent.model, descent.mesh, np.zeros((0, 3)), at, stage, **phong)
        other.find_gradient(search=True)
        return other.loss()

    step = 2e-5 if case == "jacobi" else 2e-6  # the printed direction d / |d| turns fast where d is short
    for row in range(analytic.shape[1]):
        motion, x = np.zeros(6), np.zeros(free.shape[1])
        (motion if row < 6 else x)[row if row < 6 else row - 6] = step
        slope = (value(motion, free + x) - value(-motion, free - x)) / (2.0 * step)
        scale = np.abs(analytic).max(axis=1)
        np.testing.assert_allclose(analytic[:, row], slope, rtol=0.03, atol=0.02 * scale.max())


def test_exact_and_linearised_agree_where_steps_are_tiny(rng, device):
    gradients = []
    for exact in (False, True):
        stage = dataclasses.replace(ALONE, stability_weight=1.0, dynamics=dataclasses.replace(TINY, exact=exact))
        descent, _ = one_descent(np.random.default_rng(3), device, stage)
        descent.find_gradient(search=True)
        gradients.append(descent.state.wrist_gradient.numpy())
    scale = np.abs(gradients[0]).max()
    assert scale > 0.0
    assert np.median(np.abs(gradients[0] - gradients[1])) < 1e-3 * scale


@pytest.mark.parametrize("exact", [False, True])
def test_a_captured_iteration_equals_a_launched_one(exact, rng, device):
    dynamics = Dynamics(friction=0.5, exact=exact)
    stage = dataclasses.replace(ALONE, stability_weight=1.0, dynamics=dynamics, dilation=0.01)
    captured, pose = one_descent(rng, device, stage)
    plain = Descent(captured.model, captured.mesh, np.zeros((0, 3)), pose, stage)
    captured.capture()
    captured.run()
    for iteration in range(stage.iterations):
        plain.find_gradient(search=iteration % stage.query_period == 0)
        plain.step()
    np.testing.assert_allclose(captured.state.wrist.numpy(), plain.state.wrist.numpy(), atol=1e-6 if exact else 0.0)


def test_the_printed_leak_cancels_where_nothing_touches(device):
    """Opposite pushes cancel, so a hand off the object gets no gradient from it; the one-sided leak draws it near."""
    hand, obj = load_hand("barrett"), load_object(trimesh.creation.box((0.05, 0.05, 0.08)))
    start = starting_poses(hand, obj, 20, distance=0.03, joint_noise=0.1, rng=np.random.default_rng(0))
    model, mesh = hand_model(hand, surface_points(hand, 100), device), DeviceMesh(obj, device)
    slopes = {}
    for only in (True, False):
        stage = dataclasses.replace(ALONE, stability_weight=1.0, dynamics=Dynamics(leak_attracts_only=only))
        descent = Descent(model, mesh, np.zeros((0, 3)), start, stage)
        descent.find_gradient(search=True)
        free = descent.state.distance.numpy().min(axis=1) > 1e-3
        slopes[only] = np.linalg.norm(descent.state.wrist_gradient.numpy()[free, :3], axis=1)
    assert len(slopes[True]) > 10
    assert slopes[True].min() > 0.0
    assert slopes[False].max() < 1e-4 * slopes[True].min()


def test_stability_alone_brings_hands_into_contact():
    box = trimesh.creation.box((0.05, 0.05, 0.08))
    stage = dataclasses.replace(
        ALONE, iterations=200, stability_weight=1.0, dynamics=Dynamics(), penetration_weight=1e5, object_points=256
    )
    recipe = dataclasses.replace(RECIPES["attraction"], stages=(stage,))
    grasps = synthesize("barrett", box, count=6, recipe=recipe, points=256, device="cpu")
    assert np.median(grasps.metrics["links_in_contact_2mm"]) >= 2.0


def test_the_printed_recipe_runs_and_says_what_it_found():
    hand = load_hand("barrett")
    grasps = synthesize(hand, trimesh.creation.icosphere(radius=0.04), count=2, recipe="paper", iterations=5, points=64)
    assert len(grasps) == 2
    assert np.isfinite(grasps.metrics["loss"]).all()
    assert (grasps.joint_position >= hand.lower).all()
    assert (grasps.joint_position <= hand.upper).all()


def test_hands_that_are_lost_are_said_to_be():
    """Steps so large that nothing finite is left are no reason to fall over."""
    lost = dataclasses.replace(RECIPES["paper"].stages[0], iterations=20, position_step=1e20, rotation_step=1e20)
    stages = (lost, dataclasses.replace(RECIPES["attraction"].stages[0], iterations=2))
    recipe = dataclasses.replace(RECIPES["paper"], stages=stages)
    grasps = synthesize("barrett", trimesh.creation.icosphere(radius=0.04), count=2, recipe=recipe, points=64)
    assert (grasps.reason == "not finite").all()
    assert not grasps.valid.any()
    assert np.isfinite(grasps.wrist_position).all() and np.isfinite(grasps.joint_position).all()


def test_a_search_at_every_pose_needs_jacobi():
    with pytest.raises(OptionError, match="jacobi"):
        Dynamics(exact=True, solver="gauss-seidel")
