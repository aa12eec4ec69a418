"""Balance of the forces that a hand's links could exert: the loss, its gradient, and the forces themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from .device import thread_count
from .errors import OptionError
from .kernels import balance as kernels
from .mesh import ObjectMesh
from .model import HandModel
from .options import Balance
from .state import State


@dataclass(frozen=True, eq=False)
class BalanceArrays:
    """Device arrays of one batch of grasps; what they hold is said in ``kernels.balance``."""

    position: wp.array
    arm: wp.array
    normal: wp.array
    distance: wp.array
    scale: wp.array
    weight: wp.array
    force: wp.array
    ahead: wp.array
    kink: wp.array
    residual: wp.array
    loss: wp.array
    position_gradient: wp.array
    distance_gradient: wp.array


def six_pushes(load: float) -> np.ndarray:
    """Forces of that size along and against every axis, shape (6, 6): force and torque."""
    return load * np.concatenate([np.eye(3, 6), -np.eye(3, 6)])


def pressing_links(model: HandModel, options: Balance) -> np.ndarray:
    """Indices of the links that press: all that have points, or the last such one of each finger."""
    links = np.flatnonzero(np.diff(model.link_begin.numpy()))
    if options.links == "all":
        return links
    sampled = set(links.tolist())
    fingers = [[link for link in finger.links if link in sampled] for finger in model.hand.fingers]
    tips = sorted({finger[-1] for finger in fingers if finger})
    if len(tips) < 2:
        raise OptionError(
            f"forces of fingertips balance with two fingers or more, and {model.hand.name} has {len(tips)}; "
            "choose the recipe 'default', or name the fingers in the hand's file"
        )
    return np.array(tips)


class ContactBalance:
    """One contact for each link that presses, and the forces there that resist pushes.

    Args:
        model: The hand.
        obj: The object.
        options: Friction, loads and so on.
        grasp_count: Grasps in the batch.
        push: Forces and torques to resist as a share of the grip, torques divided by the torque length, shape
            (push, 6); six forces where omitted.

    Raises:
        OptionError: Fingertips are asked for, and fewer than two fingers have points.
    """

    def __init__(
        self, model: HandModel, obj: ObjectMesh, options: Balance, grasp_count: int, *, push: np.ndarray | None = None
    ) -> None:
        self.model, self.options = model, options
        links = pressing_links(model, options)
        self.center = wp.vec3(*map(float, obj.center_of_mass))
        self.torque_length = options.torque_radii * obj.radius_of_gyration
        contact_of_link = np.full(len(model.hand.links), -1)
        contact_of_link[links] = np.arange(len(links))
        contact_of_point = contact_of_link[np.asarray(model.points.link, int)]
        self.contact_link = wp.array(links.astype(np.int32), dtype=int, device=model.device)
        self.point_contact = wp.array(contact_of_point.astype(np.int32), dtype=int, device=model.device)
        push = six_pushes(options.load) if push is None else push
        self.push = wp.array(push.astype(np.float32), dtype=wp.spatial_vector, device=model.device)
        self.arrays = self._allocate(grasp_count, len(links), len(push))

    def _allocate(self, grasps: int, contacts: int, pushes: int) -> BalanceArrays:
        def zeros(shape: tuple[int, ...], dtype: Any) -> wp.array:
            return wp.zeros(shape, dtype=dtype, device=self.model.device)

        per_contact = (grasps, contacts)
        return BalanceArrays(
            position=zeros(per_contact, wp.vec3),
            arm=zeros(per_contact, wp.vec3),
            normal=zeros(per_contact, wp.vec3),
            distance=zeros(per_contact, float),
            scale=zeros(per_contact, float),
            weight=zeros((grasps, self.point_contact.shape[0]), float),
            force=zeros((grasps, pushes, contacts), wp.vec3),
            ahead=zeros((grasps, pushes, contacts), wp.vec3),
            kink=zeros((grasps, pushes, contacts), wp.vec2),
            residual=zeros((grasps, pushes), wp.spatial_vector),
            loss=zeros(per_contact, float),
            position_gradient=zeros(per_contact, wp.vec3),
            distance_gradient=zeros(per_contact, float),
        )

    def find_contacts(self, state: State) -> None:
        """The contact that stands for each link, at the state's distances."""
        a = self.arrays
        wp.launch(
            kernels.link_contacts,
            dim=a.position.shape,
            inputs=[
                self.contact_link,
                self.model.link_begin,
                self.center,
                self.torque_length,
                state.point_position,
                state.distance,
                state.distance_gradient,
                self.options.softness,
            ],
            outputs=[a.position, a.arm, a.normal, a.distance, a.scale, a.weight],
            device=self.model.device,
        )

    def find_forces(self, steps: int) -> None:
        """Move the forces on towards the best ones at the present contacts."""
        a = self.arrays
        wp.launch(
            kernels.contact_forces,
            dim=a.residual.shape,
            inputs=[
                self.push,
                a.arm,
                a.normal,
                a.distance,
                self.options.friction,
                self.options.distance_cost,
                steps,
            ],
            outputs=[a.force, a.ahead, a.kink, a.residual],
            device=self.model.device,
        )

    def add_gradient(self, state: State, weight: float) -> None:
        """Move the forces on, and add the gradient of ``weight`` times the loss to the state's point gradients."""
        a = self.arrays
        self.find_contacts(state)
        self.find_forces(self.options.steps)
        wp.launch(
            kernels.contact_gradients,
            dim=a.position.shape,
            inputs=[
                self.torque_length,
                a.normal,
                a.distance,
                a.force,
                a.residual,
                weight,
                self.options.distance_cost,
            ],
            outputs=[a.loss, a.position_gradient, a.distance_gradient],
            device=self.model.device,
        )
        grasps, points = a.weight.shape
        part_count = thread_count(points, self.model.device)
        wp.launch(
            kernels.add_contact_gradients,
            dim=(grasps, part_count),
            inputs=[
                self.point_contact,
                a.weight,
                state.distance_gradient,
                a.scale,
                a.position_gradient,
                a.distance_gradient,
                part_count,
            ],
            outputs=[state.point_gradient],
            device=self.model.device,
        )

    def restart(self) -> None:
        """Forget the forces."""
        self.arrays.force.zero_()
