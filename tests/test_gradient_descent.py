"""Plain gradient descent and the losses of the joints, against float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import reference_grasp as reference
import warp as wp
from random_hand import unit
from reference import central_difference
from scipy.spatial.transform import Rotation

from warpgrasp.device import transforms
from warpgrasp.kernels.gradient_descent import gradient_descent
from warpgrasp.kernels.joint_loss import joint_loss

GRASPS, FREE = 18, 20
RATES = (1e-3, 1e-2, 0.03)
"""Of wrist position, wrist rotation and joints."""


def array(values, device):
    return wp.array(np.asarray(values, np.float32), dtype=float, device=device)


def step(rng, device, *, keeps_ranges, bound=0.1):
    """One step at half the rates from random poses: what was given and what came out."""
    gradient = rng.normal(size=(GRASPS, 6 + FREE))
    position, quaternion = rng.normal(size=(GRASPS, 3)), np.array([unit(rng, 4) for _ in range(GRASPS)])
    x = rng.uniform(-0.1, 0.1, (GRASPS, FREE))
    wrist, out = transforms(position, quaternion, device), array(x, device)
    wp.launch(
        gradient_descent,
        dim=GRASPS,
        inputs=[
            array(np.full(FREE, -bound), device),
            array(np.full(FREE, bound), device),
            array(np.full(FREE, RATES[2]), device),
            array(np.eye(1, FREE) - np.eye(1, FREE, 1), device),
            array([0.0], device),
            array([[1.0, 0, 0, 0], [0.5, 0, 0, 0]], device),
            wp.array([1], dtype=int, device=device),
            wp.array(gradient[:, :6].astype(np.float32), dtype=wp.spatial_vector, device=device),
            array(gradient[:, 6:], device),
            *RATES[:2],
            keeps_ranges,
        ],
        outputs=[wrist, out],
        device=device,
    )
    return gradient, position, quaternion, x, wrist.numpy(), out.numpy()


def test_a_step_matches_its_definition(rng, device):
    gradient, position, quaternion, x, wrist, moved = step(rng, device, keeps_ranges=False)
    np.testing.assert_allclose(wrist[:, :3], position - 0.5 * RATES[0] * gradient[:, :3], atol=1e-6)
    np.testing.assert_allclose(moved, x - 0.5 * RATES[2] * gradient[:, 6:], atol=1e-6)
    turned = [
        Rotation.from_rotvec(-0.5 * RATES[1] * g).as_matrix() @ reference.wxyz(q)
        for g, q in zip(gradient[:, 3:6], quaternion, strict=True)
    ]
    np.testing.assert_allclose(Rotation.from_quat(wrist[:, 3:]).as_matrix(), turned, atol=1e-6)
    assert np.abs(moved).max() > 0.1, "nothing keeps these joints in their ranges"


def test_ranges_and_couplings_are_kept_where_asked_for(rng, device):
    moved = step(rng, device, keeps_ranges=True)[-1]
    assert np.abs(moved).max() <= np.float32(0.1)
    assert (moved[:, 0] - moved[:, 1]).min() >= -1e-7


def reference_joint_loss(x, lower, upper):
    middle = np.linalg.norm(x - 0.5 * (upper + lower))
    return 0.7 * middle + 3.0 * (np.maximum(x - upper, 0.0) + np.maximum(lower - x, 0.0)).sum()


@pytest.mark.parametrize("free", [1, FREE])
def test_joint_loss_and_its_gradient(free, rng, device):
    lower, upper = rng.uniform(-2.0, -0.5, free), rng.uniform(0.5, 2.0, free)
    x = rng.uniform(1.5 * lower, 1.5 * upper, (GRASPS, free))
    before = rng.normal(size=(GRASPS, free))
    loss, gradient = wp.zeros(GRASPS, dtype=float, device=device), array(before, device)
    wp.launch(
        joint_loss,
        dim=GRASPS,
        inputs=[array(lower, device), array(upper, device), array(x, device), 0.7, 3.0],
        outputs=[loss, gradient],
        device=device,
    )
    assert ((x > upper) | (x < lower)).any(), "some joints should be out of their ranges"
    np.testing.assert_allclose(loss.numpy(), [reference_joint_loss(row, lower, upper) for row in x], rtol=1e-5)
    expected = [central_difference(lambda row: reference_joint_loss(row, lower, upper), row) for row in x]
    np.testing.assert_allclose(gradient.numpy() - before, expected, rtol=1e-4, atol=1e-5)


def test_the_middle_of_the_ranges_has_no_gradient(device):
    zero = array(np.zeros((GRASPS, FREE)), device)
    gradient = array(np.zeros((GRASPS, FREE)), device)
    ends = [array(np.full(FREE, end), device) for end in (-1.0, 1.0)]
    loss = wp.zeros(GRASPS, dtype=float, device=device)
    wp.launch(joint_loss, dim=GRASPS, inputs=[*ends, zero, 1.0, 1.0], outputs=[loss, gradient], device=device)
    assert not loss.numpy().any()
    assert not gradient.numpy().any()
