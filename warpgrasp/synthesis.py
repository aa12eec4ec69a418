"""``synthesize(hand, mesh)``: the whole chain on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import warp as wp

from . import device as devices
from .descend import ProgressCallback, descend, least_of_each, smooth_mesh
from .distance import DeviceMesh
from .errors import OptionError
from .finish import check_model, finish
from .hand import Hand
from .hand_file import load_hand
from .initialize import back_off, starting_poses
from .label import Limits
from .mesh import ObjectMesh, load_object
from .model import HandModel
from .options import Recipe
from .options import recipe as find_recipe
from .pose import Pose
from .result import Grasps
from .sampling import sample_joints
from .surroundings import NOTHING, Surroundings

if TYPE_CHECKING:
    import trimesh

    from .obstacles import Obstacles
    from .reach import MountedArm
    from .resting import RestingPose

START_CANDIDATES = 8
"""Starting poses that each start is chosen from where there are surroundings."""


def synthesize(
    hand: Hand | str | Path,
    mesh: ObjectMesh | trimesh.Trimesh | str | Path,
    *,
    count: int = 64,
    seed: int = 0,
    scale: float = 1.0,
    device: str | None = None,
    recipe: Recipe | str = "default",
    iterations: int | None = None,
    points: int = 512,
    valid_only: bool = False,
    limits: Limits | None = None,
    table: bool | RestingPose = False,
    obstacles: Obstacles | Sequence[ObjectMesh | trimesh.Trimesh | str | Path] = (),
    arm: MountedArm | None = None,
    recheck: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Find grasps of an object by a hand.

    Initialize around the object, descend, add the pregrasp and squeeze phases, measure, label and sort.

    Args:
        hand: A hand, the name of a bundled one, or the path of a URDF or MJCF file.
        mesh: An object, a trimesh, or the path of a mesh file; metres.
        count: Number of grasps to attempt; all are returned, labelled, unless ``valid_only``.
        seed: Seed of every random draw; equal seed, device and version give equal grasps.
        scale: Factor on the mesh's coordinates.
        device: Warp device such as "cpu" or "cuda:0"; the first GPU, else the CPU, where omitted.
        recipe: Name of a recipe, or one of your own.
        iterations: Gradient steps in all; the recipe's where omitted.
        points: Points on the hand's skin that the loss is summed over.
        valid_only: Return only grasps that pass every check; there may be fewer than ``count``.
        limits: What a valid grasp may not exceed.
        table: Keep the whole hand above the table that the object rests on: in its most probable resting pose, or in
            one of those that :func:`settle` gives.
        obstacles: What every link must keep clear of, in the frame of the mesh.
        arm: The arm that must reach the wrist in every phase, see :func:`mount_arm`. On a table, the object is where
            its resting pose puts it.
        recheck: Check every grasp again with soft fingertips and the q-score, see :func:`warpgrasp.recheck`.
        on_progress: Called with the work done and the work in all; from several threads on a CPU.

    Returns:
        The grasps, best first: valid ones by rising wrench residual, then the others.

    Raises:
        WarpgraspError: The hand, the mesh, the device or an option cannot be used; the message says why.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if iterations is not None:
        _require_whole(1, iterations=iterations)
        chosen = chosen.shortened(iterations)
    _require_whole(1, count=count, points=points)
    _require_whole(0, seed=seed)
    target = devices.choose(device)
    hand = load_hand(hand)
    obj = load_object(mesh, scale=scale)
    begin = time.perf_counter()

    if arm is not None and arm.hand.hash != hand.hash:
        raise OptionError(f"the arm carries {arm.hand.name!r}, and grasps of {hand.name!r} were asked for")
    around = _surroundings(obj, table, obstacles, arm, target)
    device_mesh, check = DeviceMesh(obj, target), check_model(hand, target)
    start = _starts(check, obj, chosen, around, count * chosen.restarts, np.random.default_rng(seed))
    start = back_off(hand, device_mesh, start)
    # What is descended on may be smoothed; what is measured and labelled is not.
    smooth = smooth_mesh(obj, chosen, target) if chosen.phong_alpha else device_mesh
    pose, loss = descend(hand, obj, smooth, start, chosen, points, on_progress, around)
    grasps = finish(
        check,
        obj,
        device_mesh,
        pose,
        loss,
        balanced_squeeze=chosen.squeeze == "forces",
        limits=limits,
        surroundings=around,
        info=_info(chosen, seed, points, target),
    )
    if recheck:
        from .rechecking import recheck as check_again

        grasps = check_again(grasps, device=target)
    grasps.info["seconds"] = round(time.perf_counter() - begin, 3)
    return grasps[grasps.valid] if valid_only else grasps


def _starts(
    model: HandModel, obj: ObjectMesh, recipe: Recipe, around: Surroundings, count: int, rng: np.random.Generator
) -> Pose:
    """Where hands start; each is the one of several that gets on best with its surroundings."""
    hand, candidates = model.hand, count * (1 if around is NOTHING else START_CANDIDATES)
    if recipe.start == "joints" and around.arm is not None:
        wrist = around.arm.sample_wrists(candidates, obj, rng)
        joints = sample_joints(hand, candidates, rng, spread=recipe.joint_noise)
        start = Pose(wrist.wrist_position, wrist.wrist_quaternion, joints)
    else:
        start = starting_poses(
            hand,
            obj,
            candidates,
            distance=recipe.start_distance,
            joint_noise=recipe.joint_noise,
            rng=rng,
            start=recipe.start,
        )
    return start if candidates == count else start[least_of_each(around.loss(model, start), count)]


def _surroundings(
    obj: ObjectMesh,
    table: bool | RestingPose,
    obstacles: Obstacles | Sequence[ObjectMesh | trimesh.Trimesh | str | Path],
    arm: MountedArm | None,
    device: str,
) -> Surroundings:
    if not table and not obstacles and arm is None:
        return NOTHING
    from .obstacles import Obstacles
    from .resting import settle
    from .table import Table

    resting = settle(obj)[0] if table is True else table or None
    avoid = None
    if obstacles:
        avoid = obstacles if isinstance(obstacles, Obstacles) else Obstacles(meshes=obstacles)
        avoid.check(obj, device=device)
    if arm is not None:
        arm = arm.beside(resting.matrix, table=True) if resting else arm
        arm.check_reach(obj)
    return Surroundings(table=Table(resting) if resting else None, obstacles=avoid, arm=arm)


def _require_whole(least: int, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _info(recipe: Recipe, seed: int, points: int, device: str) -> dict[str, object]:
    from . import __version__

    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "points": points,
        "device": device,
        "warpgrasp": __version__,
        "warp": wp.__version__,
    }
