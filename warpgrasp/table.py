"""The table that the object rests on: the term of the loss that keeps the hand above it, and the hand's height."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import warp as wp

from . import rotation
from .device import transforms_from_matrices
from .hand import Hand
from .kernels import combine
from .kernels import table as kernels
from .model import HandModel
from .pose import Pose
from .resting import RestingPose
from .state import State

MARGIN = 0.002
"""Height above the table that the loss asks for [m], so that what the rest of it presses down is not below."""

WEIGHT = 1.0e6
"""Of the squared lack of height of each shape [1/m²]."""

GRAVITY = 2.0
"""How much larger the push along gravity is than the five others."""


@dataclass(frozen=True, eq=False)
class Table:
    """A horizontal plane under the object, endless and rigid, in the object's frame."""

    resting: RestingPose
    """How the object rests on it."""

    @property
    def normal(self) -> np.ndarray:
        """Unit vector up, shape (3,)."""
        return self.resting.normal

    @property
    def offset(self) -> float:
        """The plane is normal . x = offset [m]."""
        return self.resting.offset

    def term(self, model: HandModel, start: Pose) -> TableTerm:
        """The penalty of a batch of as many grasps as there are starts."""
        return TableTerm(self, model, len(start))

    def clearance(self, model: HandModel, pose: Pose) -> np.ndarray:
        """Height of the lowest point of any link above the table [m], below 0 in it, shape (N,).

        Exact for the hand's convex shapes; a mesh counts as its convex hull, as in MuJoCo.
        """
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        links = wrist[:, None] @ model.hand.link_transforms(pose.joint_position)
        transform = transforms_from_matrices(links, model.device)
        height = wp.empty(transform.shape, dtype=float, device=model.device)
        shapes, corners = model.shapes, hand_corners(model.hand, model.device)
        wp.launch(
            kernels.link_heights,
            dim=height.shape,
            inputs=[
                shapes.kind,
                shapes.transform,
                shapes.size,
                corners.begin,
                corners.vertex,
                shapes.link_begin,
                transform,
                *self._plane(),
            ],
            outputs=[height],
            device=model.device,
        )
        return height.numpy().astype(float).min(axis=1)

    def pushes(self, load: float, *, gravity: float = GRAVITY) -> np.ndarray:
        """What the balance of forces resists when the object stands on a table, shape (6, 6): force and torque.

        Six forces at the centre of mass along the table's axes, in the object frame. The one along gravity is
        ``gravity`` times as large: once lifted, the object's weight is always there and always points the same way,
        and what comes on top of it, accelerations of the arm, points anywhere and is smaller.

        Args:
            load: The other five as a share of the grip.
            gravity: See above.
        """
        axes = self.resting.matrix[:3, :3]
        size = np.full(6, load)
        size[5] *= gravity
        return size[:, None] * np.concatenate([np.concatenate([axes, -axes]), np.zeros((6, 3))], axis=1)

    def _plane(self) -> tuple[wp.vec3, float]:
        return wp.vec3(*map(float, self.normal)), self.offset


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners of the convex hulls of a hand's meshes on a device. Fields as in ``kernels.table``."""

    begin: wp.array
    vertex: wp.array


@lru_cache(maxsize=4)
def hand_corners(hand: Hand, device: str) -> Corners:
    """Those of all shapes, in the order of ``CollisionShapes``; other shapes than meshes have none."""
    shapes = [shape for link in hand.links for shape in link.shapes]
    corners = [np.zeros((0, 3)) if shape.vertices is None else hull_corners(shape.vertices) for shape in shapes]
    begin = np.cumsum([0] + [len(one) for one in corners])
    return Corners(
        begin=wp.array(begin.astype(np.int32), dtype=int, device=device),
        vertex=wp.array(np.concatenate([*corners, np.zeros((0, 3))]), dtype=wp.vec3, device=device),
    )


def hull_corners(points: np.ndarray) -> np.ndarray:
    """The points that are corners of their convex hull, shape (corner, 3); all of them where they lie in a plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points


class TableTerm:
    """Penalty of a batch of grasps for shapes that are not ``MARGIN`` above a table; see ``warpgrasp.term.Term``.

    Args:
        table: The table.
        model: The hand; all its links count, the palm and those without a pad too.
        grasp_count: Grasps in the batch.
        margin: Height that is asked for [m].
        weight: [1/m²]
    """

    modules = (kernels, combine)

    def __init__(
        self, table: Table, model: HandModel, grasp_count: int, *, margin: float = MARGIN, weight: float = WEIGHT
    ) -> None:
        self.model = model
        self.corners = hand_corners(model.hand, model.device)
        self.plane = table._plane()
        self.margin, self.weight = margin, weight
        self.loss = wp.zeros(grasp_count, dtype=float, device=model.device)
        self.link_loss = wp.zeros((grasp_count, len(model.hand.links)), dtype=float, device=model.device)

    def add_gradient(self, state: State) -> None:
        """Find the loss, and add its gradient to ``state.link_wrench``."""
        shapes = self.model.shapes
        wp.launch(
            kernels.table_wrenches,
            dim=self.link_loss.shape,
            inputs=[
                shapes.kind,
                shapes.transform,
                shapes.size,
                self.corners.begin,
                self.corners.vertex,
                shapes.link_begin,
                shapes.link_sphere,
                state.link_transform,
                *self.plane,
                self.margin,
                self.weight,
            ],
            outputs=[self.link_loss, state.link_wrench],
            device=self.model.device,
        )
        wp.launch(
            combine.sum_links,
            dim=self.loss.shape,
            inputs=[self.link_loss],
            outputs=[self.loss],
            device=self.model.device,
        )

    def restart(self) -> None:
        """Nothing is handed on from one iteration to the next."""
