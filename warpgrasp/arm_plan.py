"""Arm joints for a grasp's phases, the ways between them included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from . import inverse_kinematics, rotation
from .errors import ShapeError
from .hand import Shape
from .inverse_kinematics import LENGTH, POSITION_TOLERANCE, ROTATION_TOLERANCE
from .pose import Pose
from .self_collision import deepest_links

if TYPE_CHECKING:
    from .reach import MountedArm

PHASES = ("pregrasp", "grasp", "lift")

WAY_STEPS = 16
"""Steps on the straight way between two phases."""

JUMP = 0.25
"""Largest change of a joint in such a step [rad or m]; an arm that needs more comes too near a singularity."""

OVERLAP = 1.0e-3
"""Depth of the arm in itself or in the hand up to which it counts as clear [m]; its shapes are coarse."""

REASONS = (
    "the arm cannot reach the grasp",
    "the arm cannot go straight from the pregrasp to the grasp",
    "the arm cannot go straight from the grasp to the lift",
    "the arm would touch the table",
    "the arm would touch itself or the hand",
)
"""What can be wrong with a plan, in the order in which it is found."""


@dataclass(frozen=True, eq=False)
class ArmPlan:
    """What the arm does for N grasps: joints at the pregrasp, the grasp and the lift, of one branch of solutions each.

    The straight way of the flange between two phases (turning evenly) was followed in small steps, so that the arm can
    drive it without leaving its ranges or jumping. Rows without a plan are NaN and say why.
    """

    joint_names: tuple[str, ...]
    """From the base to the flange."""

    joint_position: np.ndarray
    """Arm joints [rad or m], shape (N, 3, n): pregrasp, grasp, lift."""

    reason: np.ndarray
    """One of ``REASONS``, "" where there is a plan, str, shape (N,)."""

    metrics: Mapping[str, np.ndarray]
    """Arrays of shape (N,), worst of the three phases, NaN without a plan:

    ``arm_position_error_m``, ``arm_rotation_error_rad``: of the wrist by forward kinematics;
    ``arm_singularity_margin``: smallest singular value of the flange's Jacobian, angles times 0.2 m [m/rad];
    ``arm_limit_margin``: distance of a joint from the nearer end of its range [rad or m];
    ``arm_table_clearance_m``: lowest point of the arm above the table on the whole way, infinite without a table;
    ``arm_largest_step``: of a joint on the ways, in a 16th of one [rad or m].
    """

    arm_source: str
    """Bundled name or path that the arm was loaded from."""

    arm_hash: str
    """See ``Arm.hash``."""

    base_position: np.ndarray
    """Origin of the arm's base in the world [m], shape (3,)."""

    base_quaternion: np.ndarray
    """Arm base to world, w x y z, shape (4,)."""

    mount_position: np.ndarray
    """Origin of the hand's base frame in the flange frame [m], shape (3,)."""

    mount_quaternion: np.ndarray
    """Hand base to flange, w x y z, shape (4,)."""

    world_from_object: np.ndarray
    """Object in the world, shape (4, 4)."""

    def __len__(self) -> int:
        return len(self.joint_position)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> ArmPlan:
        """The plans of the chosen grasps: a slice, indices or a boolean mask."""
        pick = np.arange(len(self))[index]
        metrics = {key: value[pick] for key, value in self.metrics.items()}
        return replace(self, joint_position=self.joint_position[pick], reason=self.reason[pick], metrics=metrics)

    @property
    def valid(self) -> np.ndarray:
        """Whether there is a plan, bool, shape (N,)."""
        return self.reason == ""


def plan(mounted: MountedArm, pregrasp: Pose, grasp: Pose, lift: Pose) -> ArmPlan:
    """Arm joints for the three phases of each grasp.

    Solutions at the grasp are tried from the one nearest to the arm's home position on. From each the arm follows the
    straight ways back to the pregrasp and on to the lift; the first that stays within ranges, does not jump, and is
    clear of the table (all the way) and of itself and the hand (in the three phases) is taken. What the arm's links do
    to the object and to obstacles is not looked at.

    Args:
        mounted: Arm, hand and object.
        pregrasp: Wrists before the grasp, in the object frame.
        grasp: Wrists at the grasp.
        lift: Wrists after the lift.

    Raises:
        ShapeError: The three do not have the same number of hands.
    """
    phases = (pregrasp, grasp, lift)
    count = len(grasp)
    for name, pose in zip(PHASES, phases, strict=True):
        if len(pose) != count:
            raise ShapeError(f"{name}.wrist_position", f"({count}, 3) like the grasp's", pose.wrist_position.shape)
    arm = mounted.arm
    targets = np.stack([mounted.flange_targets(pose) for pose in phases], axis=1)
    branches = inverse_kinematics.solutions(arm, targets[:, 1], near=arm.home)
    cost = np.nan_to_num(np.linalg.norm(branches - arm.home, axis=-1), nan=np.inf)
    order = np.argsort(cost, axis=1)
    result = _Result.empty(count, arm.joint_count)
    for rank in range(branches.shape[1]):
        theta = branches[np.arange(count), order[:, rank]]
        rows = np.flatnonzero((result.stage < len(REASONS)) & np.isfinite(theta).all(axis=1))
        if len(rows):
            result.put(rows, _tried(mounted, [pose[rows] for pose in phases], targets[rows], theta[rows]))
    return _labelled(mounted, targets, result)


@dataclass
class _Result:
    """How far each row has come."""

    stage: np.ndarray
    """Index of the reason that stopped it, ``len(REASONS)`` where nothing did."""

    theta: np.ndarray
    """Shape (N, 3, n)."""

    clearance: np.ndarray

    step: np.ndarray

    @classmethod
    def empty(cls, count: int, joints: int) -> _Result:
        return cls(np.zeros(count, int), np.full((count, 3, joints), np.nan), np.zeros(count), np.zeros(count))

    def put(self, rows: np.ndarray, tried: _Result) -> None:
        """Take what came further than before."""
        better = tried.stage > self.stage[rows]
        for item in fields(self):
            getattr(self, item.name)[rows[better]] = getattr(tried, item.name)[better]


def _tried(mounted: MountedArm, phases: list[Pose], targets: np.ndarray, theta: np.ndarray) -> _Result:
    """How far one solution at each grasp comes."""
    result = _Result.empty(len(theta), theta.shape[1])
    result.stage[:] = 1
    arm = mounted.arm
    back, back_step, back_good = _followed(mounted, targets[:, 1], targets[:, 0], theta)
    on, on_step, on_good = _followed(mounted, targets[:, 1], targets[:, 2], theta)
    result.theta = np.stack([back[:, -1], theta, on[:, -1]], axis=1)
    result.step = np.maximum(back_step, on_step)
    result.stage[back_good] = 2
    good = back_good & on_good
    result.stage[good] = 3
    result.clearance[:] = np.inf
    if mounted.table:
        way = np.concatenate([back[good], theta[good, None], on[good]], axis=1)
        result.clearance[good] = arm_clearance(mounted, way.reshape(-1, arm.joint_count)).reshape(way.shape[:2]).min(1)
        good = good & (result.clearance >= 0.0)
    result.stage[good] = 4
    rows = np.flatnonzero(good)
    joints = np.concatenate([np.column_stack([result.theta[rows, i], p.joint_position[rows]]) for i, p in
                             enumerate(phases)])  # fmt: skip
    depth = deepest_links(mounted.robot, joints)[0].reshape(3, -1).max(axis=0, initial=0.0)
    result.stage[rows[depth <= OVERLAP]] = len(REASONS)
    return result


def _followed(
    mounted: MountedArm, start: np.ndarray, end: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms that drive straight from one flange pose to another, each step starting where the last one ended.

    Returns:
        Joints after each step (N, step, n), largest change of a joint in a step (N,), whether it works (N,).
    """
    arm = mounted.arm
    first, last = (rotation.quaternion_from_matrix(pose[:, :3, :3]) for pose in (start, end))
    way, largest, good = [], np.zeros(len(theta)), np.ones(len(theta), bool)
    for share in np.arange(1, WAY_STEPS + 1) / WAY_STEPS:
        between = rotation.matrix(
            (1.0 - share) * start[:, :3, 3] + share * end[:, :3, 3],
            rotation.slerp(first, last, np.full(len(theta), share)),
        )
        moved, position_error, rotation_error = inverse_kinematics.refine(arm, between, theta, iterations=12)
        largest = np.maximum(largest, np.abs(moved - theta).max(axis=1))
        good &= (position_error < POSITION_TOLERANCE) & (rotation_error < ROTATION_TOLERANCE) & (largest <= JUMP)
        theta = moved
        way.append(theta)
    return np.stack(way, axis=1), largest, good


def arm_clearance(mounted: MountedArm, theta: np.ndarray) -> np.ndarray:
    """Height of the lowest point of the arm above the table, shape (M,), at arm joints of shape (M, n) [m].

    Of all links that move, with what is bolted to the last one, the hand's base included.
    """
    base = rotation.matrix(mounted.base_position, mounted.base_quaternion)
    links = base @ mounted.arm.tree.link_transforms(theta)
    heights = [
        _lowest(shape, links[:, number])
        for number, link in enumerate(mounted.robot.links[: mounted.arm.joint_count + 1])
        for shape in link.shapes
        if number > 0
    ]
    return np.min([np.full(len(theta), np.inf), *heights], axis=0)


def _lowest(shape: Shape, pose: np.ndarray) -> np.ndarray:
    """Least z of a shape on links at poses (M, 4, 4), shape (M,)."""
    place = pose @ rotation.matrix(shape.position, shape.quaternion)
    down, size = np.abs(place[:, 2, :3]), shape.size
    match shape.kind:
        case "box":
            depth = down @ size
        case "sphere":
            depth = size[0]
        case "capsule":
            depth = size[0] + size[1] * down[:, 2]
        case "cylinder":
            depth = size[0] * np.linalg.norm(down[:, :2], axis=1) + size[1] * down[:, 2]
        case _:
            depth = -(place[:, 2, :3] @ np.asarray(shape.vertices).T).min(axis=1)
    return place[:, 2, 3] - depth


def _labelled(mounted: MountedArm, targets: np.ndarray, result: _Result) -> ArmPlan:
    arm = mounted.arm
    planned = result.stage == len(REASONS)
    theta = np.where(planned[:, None, None], result.theta, np.nan)
    flange, jacobian = arm.flange_and_jacobian(theta[planned])
    error = inverse_kinematics.pose_error(targets[planned], flange)
    scaled = np.repeat([1.0, LENGTH], 3)[:, None] * jacobian
    columns = {
        "arm_position_error_m": np.linalg.norm(error[..., :3], axis=-1).max(axis=1),
        "arm_rotation_error_rad": np.linalg.norm(error[..., 3:], axis=-1).max(axis=1),
        "arm_singularity_margin": np.linalg.svd(scaled, compute_uv=False)[..., -1].min(axis=1),
        "arm_limit_margin": inverse_kinematics.limit_margin(arm, theta[planned]).min(axis=1),
        "arm_table_clearance_m": result.clearance[planned],
        "arm_largest_step": result.step[planned],
    }
    metrics = {key: np.full(len(theta), np.nan) for key in columns}
    for key, values in columns.items():
        metrics[key][planned] = values
    return ArmPlan(
        joint_names=arm.joint_names,
        joint_position=theta,
        reason=np.array([*REASONS, ""])[result.stage],
        metrics=metrics,
        arm_source=arm_source(mounted),
        arm_hash=arm.hash,
        base_position=mounted.base_position,
        base_quaternion=mounted.base_quaternion,
        mount_position=mounted.mount.position,
        mount_quaternion=mounted.mount.quaternion,
        world_from_object=mounted.world_from_object,
    )


def arm_source(mounted: MountedArm) -> str:
    """What :func:`load_arm` finds the arm by: the name of a bundled one, or else its path."""
    from .arms import folder

    bundled = mounted.arm.path == folder() / mounted.arm.name / "arm.urdf"
    return mounted.arm.name if bundled else str(mounted.arm.path)
