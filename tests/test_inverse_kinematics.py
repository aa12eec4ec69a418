"""Inverse kinematics: every branch in closed form, iteration for other arms, ranges, and the choice among solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference_arm import flange_by_mujoco

from warpgrasp import inverse_kinematics, rotation
from warpgrasp.arm_file import load_arm
from warpgrasp.errors import ShapeError
from warpgrasp.inverse_kinematics import ThreeParallel, limit_margin, refine, solutions, solve


def misses(target: np.ndarray, flange: np.ndarray) -> tuple[float, float]:
    """Largest distance [m] and angle [rad]."""
    error = inverse_kinematics.pose_error(target, flange)
    return np.linalg.norm(error[:, :3], axis=1).max(), np.linalg.norm(error[:, 3:], axis=1).max()


@pytest.mark.parametrize(("name", "count"), [("ur10e", 500), ("panda_arm", 40)])
def test_solutions_reach_their_targets_within_ranges(name, count, rng):
    arm = load_arm(name)
    target = flange_by_mujoco(arm, rng.uniform(arm.lower, arm.upper, (count, arm.joint_count)))
    theta = solve(arm, target)
    solved = np.isfinite(theta).all(axis=1)
    assert solved.all() if name == "ur10e" else solved.mean() >= 0.95
    assert ((theta[solved] >= arm.lower) & (theta[solved] <= arm.upper)).all()
    distance, angle = misses(target[solved], flange_by_mujoco(arm, theta[solved]))
    assert distance < 1e-5
    assert angle < 1e-5


def test_all_eight_branches_are_found_and_differ(rng):
    arm = load_arm("ur10e")
    theta = rng.uniform(-np.pi, np.pi, (400, 6))
    every = solutions(arm, arm.flange_transforms(theta), near=theta)
    found = np.isfinite(every).all(axis=2)
    assert (found.sum(axis=1) == 8).mean() > 0.6
    nearest = np.nanmin(np.linalg.norm(every - theta[:, None], axis=2), axis=1)
    assert nearest.max() < 1e-5, "the configuration that the target was made with is one of them"
    for row in every[found.sum(axis=1) == 8][:50]:
        turn = np.abs(np.angle(np.exp(1j * (row[:, None] - row[None])))).max(axis=2)
        assert turn[~np.eye(8, dtype=bool)].min() > 1e-6


def test_branches_are_all_that_iteration_finds(rng):
    """From many seeds, damped least squares finds no solution of an UR10e that the closed form does not have."""
    arm = load_arm("ur10e")
    target = arm.flange_transforms(rng.uniform(-np.pi, np.pi, (10, 6)))
    every = solutions(arm, target)
    seeds = rng.uniform(-np.pi, np.pi, (10, 60, 6))
    theta, distance, angle = refine(arm, np.repeat(target, 60, axis=0), seeds.reshape(-1, 6), iterations=100)
    good = ((distance < 1e-8) & (angle < 1e-8)).reshape(10, 60)
    assert good.sum() > 100
    for row, some, branches in zip(theta.reshape(10, 60, 6), good, every, strict=True):
        apart = np.abs(np.exp(1j * row[some][:, None]) - np.exp(1j * branches[None])).max(axis=2)
        assert np.nanmin(apart, axis=1).max() < 1e-5


def test_the_closed_form_does_not_depend_on_frames(tmp_path, rng):
    """An UR with the sizes of an UR5e, its frames turned and shifted along the axes, one axis the other way round."""
    path = tmp_path / "ur.urdf"
    places = ["0 0 0.1", "0 0.05 0.0625", "0.425 -0.1 0", "0.3922 0 0", "0 0.1833 0", "0 0 -0.0997"]
    axes = ["0 0 1", "0 1 0", "0 -1 0", "0 1 0", "0 0 -1", "0 1 0"]
    turns = ["0 0 0.3", "0 0.2 0", "0 -0.4 0", "0 1 0", "0 0 0", "0 0.7 0"]
    body = "".join(
        f'<joint name="j{i}" type="revolute"><parent link="l{i}"/><child link="l{i + 1}"/>'
        f'<origin xyz="{place}" rpy="{turn}"/><axis xyz="{axis}"/>'
        '<limit lower="-6.28" upper="6.28" effort="1" velocity="1"/></joint>'
        for i, (place, axis, turn) in enumerate(zip(places, axes, turns, strict=True))
    )
    body += '<joint name="f" type="fixed"><parent link="l6"/><child link="end"/><origin xyz="0.01 0.1 0.02"/></joint>'
    links = "".join(f'<link name="{name}"/>' for name in [*(f"l{i}" for i in range(7)), "end"])
    path.write_text(f'<robot name="ur">{links}{body}</robot>')
    arm = load_arm(path)
    assert ThreeParallel.of(arm) is not None
    theta = rng.uniform(-3.0, 3.0, (200, 6))
    every = solutions(arm, arm.flange_transforms(theta), near=theta)
    assert np.nanmin(np.linalg.norm(every - theta[:, None], axis=2), axis=1).max() < 1e-5


def test_other_arms_have_no_closed_form():
    assert ThreeParallel.of(load_arm("panda_arm")) is None
    assert ThreeParallel.of(load_arm("ur10e", flange="wrist_2_link")) is None


@pytest.mark.parametrize("theta", [np.zeros(6), [0.3, -1.0, 0.0, 0.5, 0.7, 0.1], [0.2, -1.2, 1.5, -0.4, 0.0, 0.9]])
def test_singular_configurations_are_solved(theta):
    """Stretched, or with axes 4 and 6 parallel."""
    arm = load_arm("ur10e")
    target = arm.flange_transforms(np.array([theta]))
    distance, angle = misses(target, arm.flange_transforms(solve(arm, target, near=np.array(theta))))
    assert distance < 1e-5
    assert angle < 1e-5


def test_what_is_out_of_reach_has_no_solution(rng):
    for name in ("ur10e", "panda_arm"):
        arm = load_arm(name)
        target = np.tile(np.eye(4), (3, 1, 1))
        target[:, 0, 3] = arm.reach + 0.1
        assert np.isnan(solve(arm, target)).all()


def test_the_nearest_or_the_one_with_most_margin_is_taken(rng):
    arm = load_arm("ur10e")
    theta = rng.uniform(arm.lower, arm.upper, (100, 6))
    target = arm.flange_transforms(theta)
    np.testing.assert_allclose(solve(arm, target, near=theta), theta, atol=1e-5)
    margin, near_margin = limit_margin(arm, solve(arm, target)), limit_margin(arm, theta)
    assert (margin >= near_margin - 1e-6).all()


def test_refine_keeps_ranges_and_reaches_the_best_place(rng):
    """Out of reach the least squares solution is where SciPy's bounded optimiser finds it."""
    from scipy.optimize import least_squares

    arm = load_arm("panda_arm")
    target = np.tile(np.eye(4), (4, 1, 1))
    target[:, :3, 3] = [[0.9, 0.2, 0.4], [0.1, 0.1, 0.1], [-0.6, 0.5, 0.9], [0.0, 0.0, 1.4]]
    target[:, :3, :3] = rotation.matrix_from_quaternion(np.array([0.1, 0.9, 0.3, 0.3]) / 1.0)
    theta = refine(arm, target, np.tile(arm.home, (4, 1)), iterations=1000)[0]
    assert ((theta >= arm.lower) & (theta <= arm.upper)).all()
    scale = np.repeat([1.0, inverse_kinematics.LENGTH], 3)
    for goal, ours in zip(target, theta, strict=True):

        def residual(x: np.ndarray, goal: np.ndarray = goal) -> np.ndarray:
            return scale * inverse_kinematics.pose_error(goal, arm.flange_transforms(x))

        start = np.clip(ours, arm.lower + 1e-6, arm.upper - 1e-6)
        best = least_squares(residual, start, bounds=(arm.lower, arm.upper), xtol=1e-12, ftol=1e-12)
        assert (residual(ours) ** 2).sum() <= 2.0 * best.cost * (1.0 + 1e-4) + 1e-12


def test_pytorch_kinematics_has_the_same_chain(rng):
    for name in ("ur10e", "panda_arm"):
        arm = load_arm(name)
        theta = rng.uniform(arm.lower, arm.upper, (20, arm.joint_count))
        chain: Any = inverse_kinematics.chain(arm)
        flange = chain.forward_kinematics(torch.from_numpy(theta)).get_matrix().numpy()
        np.testing.assert_allclose(flange, arm.flange_transforms(theta), atol=5e-7)  # some of its numbers are float32


def test_targets_of_a_wrong_shape():
    with pytest.raises(ShapeError, match=r"target has shape \(4, 4\), expected \(N, 4, 4\)"):
        solve(load_arm("ur10e"), np.eye(4))
