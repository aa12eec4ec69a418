"""The object's motion with a search of the mesh at every predicted pose, differentiated by Warp itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import warp as wp

from .distance import FAR_DISTANCE, DeviceMesh, PhongMode, find_closest_faces, phong_mode_number
from .dynamics import Body, kernel_settings
from .errors import OptionError, ShapeError
from .kernels import exact_dynamics as kernels
from .options import Dynamics


@dataclass(frozen=True, eq=False)
class _Step:
    """What one time step of all simulations writes; nothing is overwritten before the way back."""

    predicted: wp.array
    predicted_velocity: wp.array
    local: wp.array
    face: wp.array
    outward: wp.array
    distance: wp.array
    distance_gradient: wp.array
    change: wp.array
    active_count: wp.array
    state: wp.array
    velocity: wp.array


class ExactDynamics:
    """The same loss as :func:`warpgrasp.dynamics.find_stability`, not linearised, and its gradient by ``wp.Tape``.

    An oracle for the fused path, and the slow but exact choice. Jacobi only. Everything is allocated here: per grasp,
    simulation and step 72 bytes per point and 244 besides.

    Args:
        mesh: The object.
        options: Simulations and loss; ``exact`` is not looked at.
        grasp_count: Number of grasps.
        point_count: Points on each hand.
        max_distance: Reach of the search [m].
        phong_alpha: Share of Phong smoothing in the signed distance.
        phong_mode: What is measured on the curved surface.

    Raises:
        OptionError: the solver is not "jacobi".
    """

    def __init__(
        self,
        mesh: DeviceMesh,
        options: Dynamics,
        grasp_count: int,
        point_count: int,
        *,
        max_distance: float = FAR_DISTANCE,
        phong_alpha: float = 0.0,
        phong_mode: PhongMode = "distance",
    ) -> None:
        if options.solver != "jacobi":
            raise OptionError(f"exact constraints need solver='jacobi', got {options.solver!r}")
        self.mesh = mesh
        self.options = options
        self.max_distance = max_distance
        self.phong = (phong_alpha, phong_mode_number(phong_alpha, phong_mode))
        self.settings = kernel_settings(Body.of(mesh.object), options)
        self.point = self._zeros((grasp_count, point_count), wp.vec3)
        per_simulation = (grasp_count, options.simulations)
        self.loss = self._zeros(per_simulation, float)
        """Share of each simulation in a grasp's loss, shape [grasp, simulation]."""
        self.start = (self._zeros(per_simulation, wp.spatial_vector), self._zeros(per_simulation, wp.spatial_vector))
        self.steps = [self._allocate_step(per_simulation, point_count) for _ in range(options.steps)]
        wp.launch(
            kernels.start, dim=per_simulation, inputs=[self.settings], outputs=[self.start[1]], device=mesh.device
        )

    @property
    def point_gradient(self) -> wp.array:
        """Derivative of the loss with respect to the points [1/m], vec3, shape [grasp, point]."""
        assert self.point.grad is not None
        return self.point.grad

    def find_stability(self, schedule: wp.array, iteration: wp.array, point_position: wp.array) -> None:
        """Fill ``loss`` and ``point_gradient``. Allocates nothing, so it can be recorded in a CUDA graph.

        Args:
            schedule: Quantities that change from iteration to iteration, as for ``dynamics.find_stability``.
            iteration: The current iteration, int, shape [1].
            point_position: Hand points in the object frame [m], vec3, shape [grasp, point].

        Raises:
            ShapeError: ``point_position`` has another shape than was announced.
        """
        if point_position.shape != self.point.shape:
            raise ShapeError("point_position", str(self.point.shape), point_position.shape)
        wp.copy(self.point, point_position)
        tape = wp.Tape()
        state, velocity = self.start
        for step in self.steps:
            self._advance(tape, step, schedule, iteration, state, velocity)
            state, velocity = step.state, step.velocity
        with tape:
            self._launch(kernels.measure, self.loss.shape, [velocity], [self.loss])
        for array in self._differentiated():
            array.grad.zero_()
        self.loss.grad.fill_(1.0)
        tape.backward()

    def _advance(
        self, tape: wp.Tape, step: _Step, schedule: wp.array, iteration: wp.array, state: wp.array, velocity: wp.array
    ) -> None:
        """One time step; the search stays off the tape, because the face is frozen."""
        per_simulation, per_row = self.loss.shape, step.local.shape
        per_contact = (*per_simulation, self.point.shape[1])
        step.change.zero_()
        step.active_count.zero_()
        with tape:
            self._launch(kernels.predict, per_simulation, [state, velocity], [step.predicted, step.predicted_velocity])
            self._launch(kernels.locate, per_contact, [self.point, step.predicted], [step.local])
        find_closest_faces(self.mesh, step.local, self.max_distance, step.face, step.outward)
        with tape:
            wp.launch(
                kernels.evaluate,
                dim=per_row,
                inputs=[self.mesh.id, self.mesh.corner_normals, step.local, step.face, step.outward, *self.phong],
                outputs=[step.distance, step.distance_gradient],
                device=self.mesh.device,
            )
            moved = [step.predicted, step.predicted_velocity]
            contacts = [schedule, iteration, self.point, *moved, step.distance, step.distance_gradient]
            self._launch(kernels.displace, per_contact, contacts, [step.change, step.active_count])
            sums = [*moved, step.change, step.active_count, self.point.shape[1]]
            self._launch(kernels.correct, per_simulation, sums, [step.state, step.velocity])

    def _launch(self, kernel: Any, dim: tuple[int, ...], inputs: list[Any], outputs: list[wp.array]) -> None:
        wp.launch(kernel, dim=dim, inputs=[self.settings, *inputs], outputs=outputs, device=self.mesh.device)

    def _differentiated(self) -> list[wp.array]:
        """Every array that an adjoint is added to."""
        arrays = [self.point, self.loss, *self.start]
        for step in self.steps:
            arrays += [array for array in vars(step).values() if array.requires_grad]
        return arrays

    def _allocate_step(self, per_simulation: tuple[int, int], point_count: int) -> _Step:
        per_row = (per_simulation[0] * per_simulation[1], point_count)
        state, velocity, predicted, predicted_velocity, change = (
            self._zeros(per_simulation, wp.spatial_vector) for _ in range(5)
        )
        return _Step(
            predicted=predicted,
            predicted_velocity=predicted_velocity,
            local=self._zeros(per_row, wp.vec3),
            face=wp.zeros(per_row, dtype=int, device=self.mesh.device),
            outward=wp.zeros(per_row, dtype=wp.vec3, device=self.mesh.device),
            distance=self._zeros(per_row, float),
            distance_gradient=self._zeros(per_row, wp.vec3),
            change=change,
            active_count=wp.zeros(per_simulation, dtype=int, device=self.mesh.device),
            state=state,
            velocity=velocity,
        )

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> wp.array:
        return wp.zeros(shape, dtype=dtype, device=self.mesh.device, requires_grad=True)
