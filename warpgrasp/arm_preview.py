"""Pictures of an arm that carries a hand to an object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import rotation
from .device import choose
from .errors import OptionError
from .preview import OBJECT_COLOR, TABLE_COLOR, HandBody, Tile, check_name, write_grid
from .render import Camera, Part, Scene, Surface

if TYPE_CHECKING:
    from .mesh import ObjectMesh
    from .pose import Pose
    from .reach import MountedArm

THICKNESS = 0.02
"""Of the table [m]."""

ASIDE = np.array([0.5, -1.6, 0.6])
"""From the arm to the eye, in a frame whose x axis points from the base to the object and z up."""


def preview_arm(
    mounted: MountedArm,
    obj: ObjectMesh,
    phases: dict[str, tuple[np.ndarray, Pose]],
    path: str | Path,
    *,
    size: int = 400,
    device: str | None = None,
) -> None:
    """Draw one arm with its hand, table and object, in a picture for each phase.

    Args:
        mounted: Arm, hand and where the object is.
        obj: The object; at ``"lift"`` it goes along with the hand.
        phases: Title to arm joints (n,) and the pose of one hand; the one called ``"grasp"`` is where the object is
            taken.
        path: PNG file to write.
        size: Side of each picture in pixels.
        device: Warp device; the first GPU, else the CPU, when omitted.

    Raises:
        OptionError: There is nothing to draw, or a phase has no plan.
        FileFormatError: The name does not end in ``.png``.
    """
    check_name(path)
    if not phases or any(np.isnan(theta).any() for theta, _ in phases.values()):
        raise OptionError("there is no plan of the arm to draw")
    chosen = choose(device)
    body = HandBody(mounted.robot)
    base = rotation.matrix(mounted.base_position, mounted.base_quaternion)
    everything = np.ones(len(mounted.robot.links), bool)
    scenes = []
    for title, (theta, pose) in phases.items():
        links = base @ mounted.robot.link_transforms(np.concatenate([theta, pose.joint_position[0]]))
        moved = mounted.world_from_object @ _carried(title, pose, phases)
        parts = [Part(Surface(obj.vertices, obj.faces), OBJECT_COLOR, moved), *body.parts(links, everything)]
        if mounted.table:
            parts.append(_table(mounted))
        scenes.append(Scene(parts, device=chosen))
    towards = mounted.world_from_object[:2, 3] - mounted.base_position[:2]
    angle = np.arctan2(towards[1], towards[0])
    eye = rotation.matrix_from_axis_angle(np.array([0.0, 0.0, 1.0]), np.asarray(angle)) @ ASIDE
    camera = Camera.framing(np.concatenate([scene.outline for scene in scenes]), eye, np.array([0.0, 0.0, 1.0]))
    tiles = [Tile(scene.render(camera, size), title) for title, scene in zip(phases, scenes, strict=True)]
    write_grid(path, tiles, columns=len(tiles))


def _carried(title: str, pose: Pose, phases: dict[str, tuple[np.ndarray, Pose]]) -> np.ndarray:
    """Where the object is, in the frame that it has before it is taken, shape (4, 4)."""
    if title != "lift" or "grasp" not in phases:
        return np.eye(4)
    first, last = (rotation.matrix(p.wrist_position[0], p.wrist_quaternion[0]) for p in (phases["grasp"][1], pose))
    return last @ rotation.inverse(first)


def _table(mounted: MountedArm) -> Part:
    """A slab under base and object."""
    import trimesh

    ends = np.stack([mounted.base_position[:2], mounted.world_from_object[:2, 3]])
    low, high = ends.min(axis=0) - 0.25, ends.max(axis=0) + 0.25
    slab = trimesh.creation.box([*(high - low), THICKNESS])
    slab.apply_translation([*(0.5 * (low + high)), -0.5 * THICKNESS])
    return Part(Surface(np.asarray(slab.vertices), np.asarray(slab.faces)), TABLE_COLOR)
