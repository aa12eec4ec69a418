"""Links of a hand in other links: how deep, as MuJoCo measures it, and a penalty on their exact distance."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import warp as wp

from .device import thread_count
from .errors import OptionError, ShapeError
from .hand import Hand, Shape
from .kernels import collision as collision_kernels
from .kernels import self_collision as kernels
from .model import HandModel
from .physics.engine import mujoco
from .physics.hand_model import PREFIX, add_hand
from .physics.protocols import FC6
from .state import State

FLAT = 1.0e-4
"""Flat meshes have no inside: where one has no hull of that thickness, it is made thicker by as much each way [m]."""


def self_penetration(hand: Hand, joint_position: np.ndarray) -> np.ndarray:
    """Depth of the deepest link in another that is no neighbour [m], 0 where none is, shape (N,).

    See :func:`deepest_links`.
    """
    return deepest_links(hand, joint_position)[0]


def deepest_links(hand: Hand, joint_position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which two links that are no neighbours are deepest in each other, and how deep.

    A depth is the least distance by which one of two convex shapes must move to be clear of the other. It is found in
    float64 by MuJoCo, as the deepest contact of its collision detection and once more by ``mj_geomDistance``, which
    goes deeper where a contact's own algorithm is approximate (a box against a cylinder); the larger one counts. Meshes
    are their convex hulls.

    Args:
        hand: The hand.
        joint_position: Joint vectors [rad or m], taken as they are, shape (N, J).

    Returns:
        Depths [m], shape (N,), and link indices, the lower one first, -1 where no links overlap, int, shape (N, 2).
        A depth is NaN where a joint is not finite.

    Raises:
        ShapeError: ``joint_position`` is not of shape (N, J).
    """
    joints = np.asarray(joint_position, float)
    if joints.ndim != 2 or joints.shape[1] != hand.joint_count:
        raise ShapeError("joint_position", f"(N, {hand.joint_count})", joints.shape)
    finite = np.isfinite(joints).all(axis=1)
    depth = np.where(finite, 0.0, np.nan)
    links = np.full((len(joints), 2), -1)
    if not hand.joints:
        return depth, links
    scene = _scene(_Key(hand, hand.hash))
    mj, data = mujoco(), mujoco().MjData(scene.model)
    for row in np.flatnonzero(finite):
        data.qpos[scene.joints] = joints[row]
        mj.mj_kinematics(scene.model, data)
        mj.mj_collision(scene.model, data)
        if data.ncon:
            depth[row], links[row] = _deepest(scene, data)
    return depth, links


def _deepest(scene: _Scene, data: Any) -> tuple[float, np.ndarray]:
    """Depth and links of the deepest contact of one pose."""
    geoms = np.array(data.contact.geom)
    depth = -np.array(data.contact.dist)
    for contact, (a, b) in enumerate(geoms):
        depth[contact] = max(depth[contact], -mujoco().mj_geomDistance(scene.model, data, a, b, 0.0, None))
    deepest = depth.argmax()
    return max(depth[deepest], 0.0), np.sort(scene.link[geoms[deepest]])


@dataclass(frozen=True)
class _Key:
    """Hands compare by their hash."""

    hand: Hand = field(compare=False)
    hand_hash: str


@dataclass(frozen=True, eq=False)
class _Scene:
    """The hand alone in MuJoCo; constant, so that threads may share it."""

    model: Any

    joints: np.ndarray
    """Position of each joint among MuJoCo's, shape (J,)."""

    link: np.ndarray
    """Link of each geom, shape (geom,)."""


@lru_cache(maxsize=16)
def _scene(key: _Key) -> _Scene:
    """MuJoCo leaves out links and their parents by itself; ``add_hand`` excludes the other neighbours."""
    links = tuple(replace(link, shapes=tuple(map(_solid, link.shapes))) for link in key.hand.links)
    spec = mujoco().MjSpec()
    spec.compiler.degree = False
    add_hand(spec, replace(key.hand, links=links), FC6)
    model = spec.compile()
    joints = np.array([int(model.joint(PREFIX + name).qposadr[0]) for name in key.hand.joint_names])
    link_of_body = np.zeros(model.nbody, int)
    for number, link in enumerate(links[1:], start=1):
        link_of_body[model.body(PREFIX + link.name).id] = number
    return _Scene(model, joints, link_of_body[model.geom_bodyid])


def _solid(shape: Shape) -> Shape:
    """The shape, or a mesh that is flat made thicker."""
    if shape.vertices is None:
        return shape
    centred = shape.vertices - shape.vertices.mean(axis=0)
    across = np.linalg.svd(centred, full_matrices=False)[2][-1] if len(centred) > 2 else np.zeros(3)
    if np.ptp(centred @ across) > FLAT:
        return shape
    corners = FLAT * np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(8, 3)
    return replace(shape, vertices=(shape.vertices[:, None] + corners).reshape(-1, 3))


class SelfCollision:
    """The term of the loss that keeps links apart: the sum over pairs of shapes of ``weight max(margin - s, 0)²``.

    s is the signed distance of two convex shapes of links that are no neighbours: exact between spheres, capsules,
    boxes and cylinders while they overlap or one of them is a sphere or a capsule; otherwise a lower bound, which is
    below the distance where two corners face each other. Meshes are left to the penalty on points.

    Args:
        model: The hand.
        count: Number of grasps.
        weight: Of the squared shortfall [1/m²].
        margin: Distance to keep [m].

    Raises:
        OptionError: ``weight`` or ``margin`` is negative or not finite.
    """

    modules: tuple[ModuleType, ...] = (kernels, collision_kernels)

    def __init__(self, model: HandModel, count: int, *, weight: float, margin: float) -> None:
        for name, value in {"weight": weight, "margin": margin}.items():
            if not np.isfinite(value) or value < 0.0:
                raise OptionError(f"{name} must be a number of at least 0, got {value}")
        self.model, self.weight, self.margin = model, weight, margin
        pairs = apart(model.hand)
        sides = [np.flatnonzero(pairs[:, side] == link) for link in range(len(model.hand.links)) for side in (0, 1)]
        sided = [np.concatenate([first, -1 - second]) for first, second in zip(sides[::2], sides[1::2], strict=True)]

        def integers(values: np.ndarray, dtype: Any = int) -> wp.array:
            return wp.array(values.astype(np.int32), dtype=dtype, device=model.device)

        def zeros(shape: Any, dtype: Any = float) -> wp.array:
            return wp.zeros(shape, dtype=dtype, device=model.device)

        self.pair = integers(pairs, wp.vec2i)
        self.begin = integers(np.cumsum([0, *map(len, sided)]))
        self.sided_pair = integers(np.concatenate(sided))
        self.pair_loss = zeros((count, len(pairs)))
        self.pair_wrench = zeros((count, len(pairs)), wp.spatial_vector)
        self.loss = zeros(count)

    def add_gradient(self, state: State) -> None:
        """Find the loss, and add its gradient to ``state.link_wrench``; ``state.link_sphere`` must be placed."""
        shapes, links = self.model.shapes, state.link_transform
        grasps, pairs = self.pair_loss.shape
        part_count = thread_count(pairs, self.model.device)
        wp.launch(
            kernels.pair_penalties,
            dim=(grasps, part_count),
            inputs=[
                shapes.kind,
                shapes.transform,
                shapes.size,
                shapes.sphere,
                shapes.link_begin,
                shapes.link_sphere,
                self.pair,
                links,
                state.link_sphere,
                self.weight,
                self.margin,
                part_count,
            ],
            outputs=[self.pair_loss, self.pair_wrench],
            device=self.model.device,
        )
        wp.launch(
            kernels.add_pair_wrenches,
            dim=links.shape,
            inputs=[self.begin, self.sided_pair, self.pair_loss, self.pair_wrench],
            outputs=[state.link_wrench, self.loss],
            device=self.model.device,
        )

    def restart(self) -> None:
        """Nothing is handed on to the next iteration."""


def apart(hand: Hand) -> np.ndarray:
    """Pairs of links that have shapes and are no neighbours, the lower one first, int, shape (pair, 2)."""
    shaped = [link for link, part in enumerate(hand.links) if part.shapes]
    pairs = [pair for pair in itertools.combinations(shaped, 2) if pair not in hand.neighbours]
    return np.array(pairs, int).reshape(-1, 2)
