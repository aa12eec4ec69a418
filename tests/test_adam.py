"""Adam against float64 NumPy, and the promise that ranges and couplings hold after every step."""

from __future__ import annotations

import numpy as np
import pytest
import reference_grasp as reference
import warp as wp
from random_hand import unit
from scipy.spatial.transform import Rotation

from warpgrasp.device import transforms
from warpgrasp.kernels import adam as kernels

DECAYS = (0.9, 0.98)
GRASPS = 3


class Run:
    """Adam on random gradients, on the device."""

    def __init__(self, rng, device, free, coupling=None, minimum=None, bound=10.0, step=0.02):
        self.device, self.free = device, free
        self.position = rng.uniform(-0.1, 0.1, (GRASPS, 3))
        self.quaternion = np.array([unit(rng, 4) for _ in range(GRASPS)])
        self.x0 = np.zeros((GRASPS, free))
        self.wrist = transforms(self.position, self.quaternion, device)
        self.x = wp.array(self.x0.astype(np.float32), dtype=float, device=device)
        self.moments = wp.zeros((2, GRASPS, 6 + free), dtype=float, device=device)
        self.iteration = wp.zeros(1, dtype=int, device=device)
        self.scale = np.array([[1.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]] + [[0.2, 0, 0]] * 60)
        coupling = np.zeros((0, free)) if coupling is None else coupling
        minimum = np.zeros(0) if minimum is None else minimum
        self.bound, self.step_size = bound, step
        self.fixed = [
            self._array(np.full(free, -bound)),
            self._array(np.full(free, bound)),
            self._array(np.full(free, step)),
            self._array(coupling),
            self._array(minimum),
            self._array(self.scale),
        ]

    def _array(self, values):
        return wp.array(np.asarray(values, np.float32), dtype=float, device=self.device)

    def step(self, gradient):
        """One launch of Adam and of the counter."""
        wp.launch(
            kernels.adam,
            dim=GRASPS,
            inputs=[
                *self.fixed,
                self.iteration,
                wp.array(gradient[:, :6].astype(np.float32), dtype=wp.spatial_vector, device=self.device),
                self._array(gradient[:, 6:]),
                1e-3,
                1e-2,
                *DECAYS,
                True,
            ],
            outputs=[self.moments, self.wrist, self.x],
            device=self.device,
        )
        wp.launch(kernels.advance, dim=1, outputs=[self.iteration], device=self.device)


@pytest.mark.parametrize("free", [1, 17, 40])
def test_three_steps_match_reference(free, rng, device):
    run = Run(rng, device, free)
    moments = np.zeros((GRASPS, 2, 6 + free))
    position, x = run.position.copy(), run.x0.copy()
    rotation = [reference.wxyz(q) for q in run.quaternion]
    for time in (1, 2, 3):
        gradient = rng.normal(size=(GRASPS, 6 + free)).astype(np.float32).astype(float)
        run.step(gradient)
        for g in range(GRASPS):
            moments[g], step = reference.adam_step(moments[g], gradient[g], DECAYS, time)
            step = step * run.scale[time - 1, 0]
            position[g] += 1e-3 * step[:3]
            rotation[g] = Rotation.from_rotvec(1e-2 * step[3:6]).as_matrix() @ rotation[g]
            x[g] += run.step_size * step[6:]
    wrist = run.wrist.numpy()
    np.testing.assert_allclose(wrist[:, :3], position, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(Rotation.from_quat(wrist[:, 3:]).as_matrix(), rotation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.x.numpy(), x, rtol=1e-5, atol=1e-7)


def test_ranges_and_couplings_hold_after_every_step(rng, device):
    """Pairs with x0 >= x1, x2 >= x3 ..., pushed against them and against their ranges."""
    free = 18
    coupling = np.zeros((9, free))
    coupling[np.arange(9), 2 * np.arange(9)] = 1.0
    coupling[np.arange(9), 2 * np.arange(9) + 1] = -1.0
    run = Run(rng, device, free, coupling, np.zeros(9), bound=0.1, step=0.05)
    x = run.x.numpy()
    for _ in range(50):
        run.step(rng.normal(size=(GRASPS, 6 + free)))
        x = run.x.numpy()
        assert np.abs(x).max() <= np.float32(0.1), "a range is kept exactly"
        assert (x @ coupling.T).min() >= -1e-7, "a coupling is kept up to float32 rounding"
    assert np.isclose(x @ coupling.T, 0.0, atol=1e-6).any(), "the case should reach the couplings"


def test_zero_gradient_moves_nothing(rng, device):
    run = Run(rng, device, 20)
    before = run.wrist.numpy().copy()
    run.step(np.zeros((GRASPS, 26)))
    np.testing.assert_allclose(run.wrist.numpy(), before, atol=1e-7)
    assert not run.x.numpy().any()


def test_advance_counts(device):
    iteration = wp.zeros(1, dtype=int, device=device)
    for _ in range(3):
        wp.launch(kernels.advance, dim=1, outputs=[iteration], device=device)
    assert iteration.numpy().tolist() == [3]
