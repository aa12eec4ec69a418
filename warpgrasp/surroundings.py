"""What a hand must respect besides the object: a table, obstacles, the arm that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import kinematics
from .device import batches
from .model import HandModel
from .pose import Pose
from .state import allocate
from .term import Term

if TYPE_CHECKING:
    from .obstacles import Obstacles
    from .reach import MountedArm
    from .table import Table


HIDDEN = 1.0e-3
"""Depth up to which an edge of the hand across an edge of an obstacle may go unseen [m]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """All of it in the object's frame; what is not there is ``None``."""

    table: Table | None = None

    obstacles: Obstacles | None = None

    arm: MountedArm | None = None

    def terms(self, model: HandModel, start: Pose) -> list[Term]:
        """A term of the loss for each of them, for as many grasps as there are starts."""
        return [around.term(model, start) for around in (self.table, self.obstacles, self.arm) if around is not None]

    def clearance(self, model: HandModel, pose: Pose) -> np.ndarray:
        """Least signed distance of any link to the table and the obstacles [m], infinite without them, shape (N,).

        What may be hidden between an obstacle's points is taken off.
        """
        distance = np.full(len(pose), np.inf)
        if self.obstacles is not None:
            distance = self.obstacles.clearance(model, pose) - HIDDEN
        if self.table is not None:
            distance = np.minimum(distance, self.table.clearance(model, pose))
        return distance

    def pushes(self, load: float) -> np.ndarray | None:
        """What the balance of forces should resist: see ``Table.pushes``; ``None``: from all sides alike."""
        return None if self.table is None else self.table.pushes(load)

    @property
    def solid(self) -> bool:
        """Whether there is something to run into."""
        return self.table is not None or self.obstacles is not None

    @property
    def up(self) -> np.ndarray:
        """Against gravity, in the object frame, shape (3,): the table's normal, or z where there is no table."""
        return np.array([0.0, 0.0, 1.0]) if self.table is None else self.table.normal

    def loss(self, model: HandModel, pose: Pose) -> np.ndarray:
        """What the terms say of some poses, shape (N,)."""
        total = np.zeros(len(pose))
        for rows in batches(len(pose), model.device):
            state = allocate(model, pose[rows], np.zeros((0, 3)))
            kinematics.find_link_transforms(
                model, state.wrist, state.free_position, state.joint_position, state.link_transform
            )
            for term in self.terms(model, pose[rows]):
                term.add_gradient(state)
                total[rows] += term.loss.numpy()
        return total


NOTHING = Surroundings()
"""The object floats freely, and so does the hand."""
