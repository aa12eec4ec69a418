"""The stability loss of Fast-Grasp'D as a term of the descent: how fast the object leaves the hand when pushed."""

from __future__ import annotations

import warp as wp

from . import dynamics
from .distance import DeviceMesh, PhongMode, evaluate_signed_distance_adjoint
from .dynamics import Body
from .exact_dynamics import ExactDynamics
from .kernels import combine
from .options import Dynamics
from .proximity import SEARCH_DISTANCE
from .state import State


class Stability:
    """Simulations of one batch of grasps.

    By default one search of the mesh serves all simulations, which follow it linearly; ``options.exact`` searches at
    every predicted pose and lets Warp differentiate.

    Args:
        mesh: The object.
        options: Simulations and loss.
        state: The grasps.
        phong_alpha: Share of Phong smoothing in the signed distance.
        phong_mode: What the distance to the smoothed surface is.
    """

    def __init__(
        self, mesh: DeviceMesh, options: Dynamics, state: State, *, phong_alpha: float, phong_mode: PhongMode
    ) -> None:
        self.mesh, self.options = mesh, options
        self.phong_alpha = phong_alpha
        self.phong_mode: PhongMode = phong_mode
        self.body = Body.of(mesh.object)
        grasps, points = state.distance.shape
        self.through_distance = wp.zeros((grasps, points), dtype=wp.vec3, device=mesh.device)
        self.loss = wp.zeros((grasps, options.simulations), dtype=float, device=mesh.device)
        """Weighted share of each simulation, shape [grasp, simulation]."""
        self.exact = self.arrays = None
        if options.exact:
            phong = {"phong_alpha": phong_alpha, "phong_mode": phong_mode}
            self.exact = ExactDynamics(mesh, options, grasps, points, max_distance=SEARCH_DISTANCE, **phong)
        else:
            self.arrays = dynamics.allocate(grasps, points, options, mesh.device)

    def add_gradient(self, schedule: wp.array, state: State, weight: float) -> None:
        """Simulate, and add the gradient of ``weight`` times the loss to the state's point gradients."""
        if self.exact:
            self.exact.find_stability(schedule, state.iteration, state.point_position)
            loss, direct = self.exact.loss, self.exact.point_gradient
        else:
            loss, direct = self._find_linearised(schedule, state)
        device = self.mesh.device
        wp.launch(combine.weigh, dim=self.loss.shape, inputs=[loss, weight], outputs=[self.loss], device=device)
        wp.launch(
            combine.add_point_gradients,
            dim=state.distance.shape,
            inputs=[direct, self.through_distance, weight],
            outputs=[state.point_gradient],
            device=device,
        )

    def _find_linearised(self, schedule: wp.array, state: State) -> tuple[wp.array, wp.array]:
        arrays = self.arrays
        assert arrays is not None
        dynamics.find_stability(
            self.body,
            self.options,
            schedule,
            state.iteration,
            state.point_position,
            state.distance,
            state.distance_gradient,
            arrays,
        )
        evaluate_signed_distance_adjoint(
            self.mesh,
            state.point_position,
            state.face,
            state.outward,
            phong_alpha=self.phong_alpha,
            phong_mode=self.phong_mode,
            distance_adjoint=arrays.distance_adjoint,
            gradient_adjoint=arrays.gradient_adjoint,
            point_adjoint_out=self.through_distance,
        )
        return arrays.loss, arrays.arm_adjoint
