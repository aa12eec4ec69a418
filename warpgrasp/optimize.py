"""Gradient descent on a batch of grasps: one iteration, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import warp as wp

from . import kinematics
from .balance import ContactBalance
from .device import positions_and_quaternions, thread_count
from .distance import DeviceMesh, PhongMode
from .kernels import (
    adam,
    attraction,
    balance,
    collision,
    combine,
    distance,
    dynamics,
    exact_dynamics,
    gradient_descent,
    joint_loss,
)
from .kernels import kinematics as kinematics_kernels
from .model import HandModel
from .options import Stage
from .pose import Pose
from .proximity import find_proximity
from .self_collision import SelfCollision
from .stability import Stability
from .state import allocate
from .surroundings import NOTHING, Surroundings


def schedule(stage: Stage) -> np.ndarray:
    """Step scale, attraction weight, penetration weight and dilation [m] of every iteration, shape (iteration, 4)."""
    progress = np.arange(stage.iterations + 1) / max(stage.iterations, 1)
    second_half = np.clip(2.0 * progress - 1.0, 0.0, 1.0)
    step = 1.0 - (1.0 - stage.final_step) * second_half
    growth = stage.penetration_growth**second_half
    attraction = np.full_like(step, stage.attraction_weight)
    return np.stack([step, attraction, stage.penetration_weight * growth, dilation(stage, progress)], axis=1)


def dilation(stage: Stage, progress: np.ndarray) -> np.ndarray:
    """Radius of the dilation [m] at shares of the iterations: linear, or in equal steps, down to 0."""
    left = np.clip(1.0 - progress / stage.dilation_end, 0.0, 1.0) if stage.dilation_end > 0.0 else 0.0 * progress
    if stage.dilation_steps:
        left = np.ceil(left * stage.dilation_steps - 1e-9) / stage.dilation_steps
    return stage.dilation * left


def free_steps(model: HandModel, stage: Stage) -> wp.array:
    """Adam's step of each free coordinate [rad or m], shape [free]."""
    kinds = [model.hand.joints[joint].kind for joint in model.hand.free_joints]
    steps = [stage.position_step if kind == "prismatic" else stage.rotation_step for kind in kinds]
    return wp.array(np.array(steps, np.float32), dtype=float, device=model.device)


class Descent:
    """A batch of grasps on its way down the loss.

    Everything an iteration needs is allocated here, shapes are static and nothing goes to the host, so that an
    iteration can be captured once as a graph and replayed.

    Args:
        model: The hand.
        mesh: The object.
        object_point: Points on the object's surface [m], shape (object point, 3).
        start: Poses to start from.
        stage: Iterations, weights and steps.
        phong_alpha: Share of Phong smoothing in the signed distance.
        phong_mode: What the distance to the smoothed surface is.
        surroundings: What the hand must respect besides the object.
    """

    def __init__(
        self,
        model: HandModel,
        mesh: DeviceMesh,
        object_point: np.ndarray,
        start: Pose,
        stage: Stage,
        *,
        phong_alpha: float = 0.0,
        phong_mode: PhongMode = "distance",
        surroundings: Surroundings = NOTHING,
    ) -> None:
        self.model = model
        self.mesh = mesh
        self.stage = stage
        self.phong_alpha = phong_alpha
        self.phong_mode: PhongMode = phong_mode
        self.state = allocate(model, start, object_point)
        self.schedule = wp.array(schedule(stage).astype(np.float32), dtype=float, device=model.device)
        self.free_step = free_steps(model, stage)
        self.balance = (
            ContactBalance(model, mesh.object, stage.balance, len(start), push=surroundings.pushes(stage.balance.load))
            if stage.balance_weight
            else None
        )
        self.stability = (
            Stability(mesh, stage.dynamics, self.state, phong_alpha=phong_alpha, phong_mode=phong_mode)
            if stage.stability_weight
            else None
        )
        self.terms = surroundings.terms(model, start)
        if stage.pair_weight:
            pairs = SelfCollision(model, len(start), weight=stage.pair_weight, margin=stage.pair_margin)
            self.terms.append(pairs)
        self.graphs: dict[bool, wp.Graph] = {}

    def __len__(self) -> int:
        return self.state.wrist.shape[0]

    def capture(self) -> None:
        """Record one iteration with a search for the closest faces, and one without. Only one thread at a time may."""
        for kernels in self._modules():
            wp.load_module(kernels, device=self.model.device)  # a CUDA graph cannot be recorded while they compile
        self.graphs = {search: self._capture(search) for search in (True, False)}

    def _modules(self) -> list[ModuleType]:
        """Modules that an iteration launches from."""
        modules = [adam, attraction, collision, distance, gradient_descent, joint_loss, kinematics_kernels]
        if self.balance:
            modules.append(balance)
        if self.stability:
            modules += [combine, exact_dynamics if self.stage.dynamics.exact else dynamics]
        for term in self.terms:
            modules += term.modules
        return modules

    def run(self, on_iteration: Callable[[], None] = lambda: None) -> None:
        """Do all iterations of the stage; ``capture`` must have come first."""
        for iteration in range(self.stage.iterations):
            wp.capture_launch(self.graphs[iteration % self.stage.query_period == 0])
            on_iteration()

    def _capture(self, search: bool) -> wp.Graph:
        with wp.ScopedCapture(device=self.model.device) as capture:
            self.find_gradient(search=search)
            self.step()
        assert capture.graph is not None
        return capture.graph

    def find_gradient(self, *, search: bool) -> None:
        """Loss and gradient at the current poses; ``search`` looks for the closest faces anew."""
        model, state = self.model, self.state
        find_proximity(
            model,
            self.mesh,
            state,
            search=search,
            slack=self.stage.query_slack,
            reach=self.stage.reach,
            phong_alpha=self.phong_alpha,
            phong_mode=self.phong_mode,
        )
        self._find_point_gradients()
        if self.balance:
            self.balance.add_gradient(state, self.stage.balance_weight)
        if self.stability:
            self.stability.add_gradient(self.schedule, state, self.stage.stability_weight)
        wp.launch(
            kinematics_kernels.link_wrenches,
            dim=state.link_wrench.shape,
            inputs=[
                model.link_begin,
                state.point_position,
                state.point_gradient,
                state.self_gradient,
                state.self_depth.link,
                model.clusters.begin,
                state.self_depth.group_links,
                state.self_depth.touched,
                state.object_point,
                state.object_gradient,
                state.object_depth.link,
                state.object_clusters.begin,
                state.object_depth.group_links,
                state.object_depth.touched,
            ],
            outputs=[state.link_wrench],
            device=model.device,
        )
        for term in self.terms:
            term.add_gradient(state)
        kinematics.find_pose_gradients(
            model, state.link_transform, state.link_wrench, state.wrist_gradient, state.free_gradient
        )
        if self.stage.range_weight or self.stage.limit_weight:
            self._add_joint_gradients()

    def _add_joint_gradients(self) -> None:
        model, state = self.model, self.state
        wp.launch(
            joint_loss.joint_loss,
            dim=state.wrist.shape,
            inputs=[
                model.free_lower,
                model.free_upper,
                state.free_position,
                self.stage.range_weight,
                self.stage.limit_weight,
            ],
            outputs=[state.joint_loss, state.free_gradient],
            device=model.device,
        )

    def _find_point_gradients(self) -> None:
        state = self.state
        grasps, points = state.distance.shape
        part_count = thread_count(points, self.model.device)
        wp.launch(
            attraction.attraction,
            dim=(grasps, part_count),
            inputs=[
                self.schedule,
                state.iteration,
                state.distance,
                state.distance_gradient,
                state.self_depth.distance,
                state.self_depth.gradient,
                self.stage.margin,
                self.stage.reach,
                self.stage.self_weight,
                part_count,
            ],
            outputs=[state.point_loss, state.point_gradient, state.self_gradient],
            device=self.model.device,
        )
        part_count = thread_count(state.object_loss.shape[1], self.model.device)
        wp.launch(
            attraction.link_penetration,
            dim=(grasps, part_count),
            inputs=[
                self.schedule,
                state.object_clusters.begin,
                state.iteration,
                state.object_depth.touched,
                state.object_depth.distance,
                state.object_depth.gradient,
                part_count,
            ],
            outputs=[state.object_loss, state.object_gradient],
            device=self.model.device,
        )

    def step(self) -> None:
        """Move the poses by one step of the stage's optimizer."""
        model, state, stage = self.model, self.state, self.stage
        common = [
            model.free_lower,
            model.free_upper,
            self.free_step,
            model.coupling,
            model.coupling_minimum,
            self.schedule,
            state.iteration,
            state.wrist_gradient,
            state.free_gradient,
            stage.position_step,
            stage.rotation_step,
        ]
        if stage.optimizer == "adam":
            kernel, own = adam.adam, [stage.first_decay, stage.second_decay, stage.keeps_ranges]
            outputs = [state.moments, state.wrist, state.free_position]
        else:
            kernel, own = gradient_descent.gradient_descent, [stage.keeps_ranges]
            outputs = [state.wrist, state.free_position]
        wp.launch(kernel, dim=state.wrist.shape, inputs=[*common, *own], outputs=outputs, device=model.device)
        wp.launch(adam.advance, dim=1, outputs=[state.iteration], device=model.device)

    def loss_parts(self) -> tuple[wp.array, ...]:
        """What the loss is the sum of, each of shape [grasp] or [grasp, ...]."""
        state = self.state
        parts = [state.point_loss, state.object_loss, state.joint_loss]
        if self.balance:
            parts.append(self.balance.arrays.loss)
        if self.stability:
            parts.append(self.stability.loss)
        parts += [term.loss for term in self.terms]
        return tuple(parts)

    def loss(self) -> np.ndarray:
        """Of each grasp at the last gradient, shape (N,)."""
        sums = [part.numpy().reshape(len(self), -1).sum(axis=1, dtype=float) for part in self.loss_parts()]
        return np.sum(sums, axis=0)

    def restart(self) -> None:
        """Forget what iterations hand on to the next beside the poses."""
        self.state.moments.zero_()
        self.state.iteration.zero_()
        self.state.searched.fill_(wp.vec4(-1.0))
        if self.balance:
            self.balance.restart()
        for term in self.terms:
            term.restart()

    def pose(self) -> Pose:
        """The current poses; joints are within ranges and couplings in float64 too."""
        position, quaternion = positions_and_quaternions(self.state.wrist)
        hand = self.model.hand
        joints = hand.joint_position(self.state.free_position.numpy())
        return Pose(position, quaternion, hand.clamp(joints))
