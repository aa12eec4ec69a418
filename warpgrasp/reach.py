"""The arm that carries the hand: which wrists it reaches, and the term of the loss that draws wrists into its reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp

from . import inverse_kinematics, rotation
from .arm import Arm
from .arm_file import load_arm
from .arm_plan import ArmPlan, plan
from .device import transforms
from .errors import MountError, OptionError, ShapeError
from .hand import Hand
from .hand_file import load_hand
from .initialize import palm_transforms, starting_poses
from .kernels import reach as kernels
from .mesh import ObjectMesh
from .model import HandModel
from .mount import Mount, check_payload, check_pose, default_mount, robot
from .pose import Pose
from .sampling import truncated_normal
from .state import State
from .surface import object_points

WEIGHT = 1.0e5
"""Of the squared distance that the arm leaves over [1/m²]."""

LENGTH = 0.2
"""Length that an angle which is left over is multiplied by [m]."""

INSET = 0.02
"""How far the term keeps joints from the ends of their ranges [rad or m]; at most a tenth of the range."""

STRETCH = 1.003
"""The term asks the flange to be this many times as far from the shoulder, so that wrists end inside the true reach."""

RAISED = 0.1
"""Height above the grasp at which the term wants the wrist to be within reach too, where there is a table [m]."""

STEPS = 2
"""Steps of an arm towards its hand in one iteration."""

START_SEEDS = 6
"""Configurations that arms without a closed form start from."""

START_STEPS = 60
"""Steps from each of them."""

REACHED = 1.0e-4
"""Error of pose below which an iteration without closed form has reached a wrist [m]."""

LOOK = 256
"""Wrists around an object that are looked at to tell whether the arm reaches any."""

DRAWS = 20000
"""Arm configurations that are drawn at a time."""

ROUNDS = 100
"""Times they are drawn before giving up."""


def mount_arm(
    arm: str | Path | Arm,
    hand: str | Path | Hand,
    *,
    base_position: np.ndarray | tuple[float, float, float] = (0.0, 0.0, 0.0),
    base_quaternion: np.ndarray | tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
    mount: Mount | None = None,
    world_from_object: np.ndarray | None = None,
    table: bool = False,
) -> MountedArm:
    """Put an arm into the world and a hand on it.

    The world frame is the table's (z up, table top at z = 0) where there is a table, else the object's.

    Args:
        arm: Bundled name, path of a URDF, or an arm.
        hand: Bundled name, path, or a hand.
        base_position: Origin of the arm's base in the world [m].
        base_quaternion: Arm base to world, w x y z.
        mount: How the hand is bolted on; by default what the arm says of a bundled hand, or else the hand's base frame
            in the flange frame.
        world_from_object: Object in the world, shape (4, 4); the identity by default. A resting pose has it as
            ``matrix``.
        table: Whether there is a table at z = 0.

    Raises:
        MountError: The hand is too heavy for the arm, or a pose is none.
        WarpgraspError: Arm or hand cannot be loaded.
    """
    arm, hand = load_arm(arm), load_hand(hand)
    return MountedArm(
        arm=arm,
        hand=hand,
        base_position=np.array(base_position, float),
        base_quaternion=np.array(base_quaternion, float),
        mount=mount or default_mount(arm, hand),
        world_from_object=np.eye(4) if world_from_object is None else np.array(world_from_object, float),
        table=table,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class MountedArm:
    """An arm in the world with a hand on it, beside an object. Make one with :func:`mount_arm`."""

    arm: Arm

    hand: Hand

    base_position: np.ndarray
    """Origin of the arm's base in the world [m], shape (3,)."""

    base_quaternion: np.ndarray
    """Arm base to world, w x y z, shape (4,)."""

    mount: Mount

    world_from_object: np.ndarray = field(default_factory=lambda: np.eye(4))
    """Object in the world, shape (4, 4)."""

    table: bool = False
    """Whether there is a table at z = 0 of the world."""

    weight: float = WEIGHT
    """Of the term of the loss, times the squared error of pose [1/m²]."""

    length: float = LENGTH
    """That an error of rotation is multiplied by [m]."""

    def __post_init__(self) -> None:
        check_pose("base pose", self.base_position, self.base_quaternion)
        turn = self.world_from_object[:3, :3]
        if self.world_from_object.shape != (4, 4) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-6):
            raise MountError("world_from_object should be a rigid transform of shape (4, 4)")
        check_payload(self.arm, self.hand, self.mount)

    def beside(self, world_from_object: np.ndarray, *, table: bool | None = None) -> MountedArm:
        """The same arm with the object elsewhere, at a pose (4, 4) in the world, and a table or not."""
        pose = np.array(world_from_object, float)
        return replace(self, world_from_object=pose, table=self.table if table is None else table)

    @cached_property
    def base_from_object(self) -> np.ndarray:
        """Object in the arm's base frame, shape (4, 4)."""
        return rotation.inverse(rotation.matrix(self.base_position, self.base_quaternion)) @ self.world_from_object

    @cached_property
    def robot(self) -> Hand:
        """Arm and hand as one tree, see :func:`warpgrasp.mount.robot`."""
        return robot(self.arm, self.hand, self.mount)

    def flange_targets(self, pose: Pose) -> np.ndarray:
        """Where the flange must be for hands to be at a pose, in the arm's base frame, shape (N, 4, 4)."""
        wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
        return self.base_from_object @ wrist @ rotation.inverse(self.mount.matrix)

    def wrists(self, theta: np.ndarray) -> np.ndarray:
        """Hand base in the object frame at arm joints of shape (N, n), shape (N, 4, 4)."""
        return rotation.inverse(self.base_from_object) @ self.arm.flange_transforms(theta) @ self.mount.matrix

    def term(self, model: HandModel, start: Pose) -> ReachTerm:
        """The penalty of a batch of as many grasps as there are starts; arms begin where they reach these best."""
        return ReachTerm(self, model, start)

    def plan(self, pregrasp: Pose, grasp: Pose, lift: Pose) -> ArmPlan:
        """Arm joints for the three phases, see :func:`warpgrasp.arm_plan.plan`."""
        return plan(self, pregrasp, grasp, lift)

    def reachable(self, pose: Pose, *, device: str = "cpu") -> np.ndarray:
        """Whether the arm can put the hand at each wrist pose, ranges kept, shape (N,).

        In closed form, or else by iteration from several configurations, which may miss one that there is. What the
        arm might run into is not looked at.
        """
        targets = self.flange_targets(pose)
        near = np.linalg.norm(targets[:, :3, 3] - self.arm.shoulder, axis=1) < 1.01 * self.arm.reach
        reached = np.zeros(len(pose), bool)
        left = np.flatnonzero(near)
        closed = inverse_kinematics.ThreeParallel.of(self.arm)
        if closed:
            found = inverse_kinematics.choose_turns(self.arm, closed.solutions(targets[left]), None)
            reached[left] = np.isfinite(found).all(axis=2).sum(axis=1) > 0
            return reached
        follower = _Follower(self, device)
        for seed in _seeds(self.arm, 2 * START_SEEDS):
            if not len(left):
                break
            error = follower.run(pose[left], np.repeat(seed[None], len(left), axis=0), START_STEPS)[1]
            reached[left] = error < REACHED
            left = left[error >= REACHED]
        return reached

    def check_reach(self, obj: ObjectMesh) -> None:
        """Make sure that the arm reaches some wrist pose around the object.

        Raises:
            MountError: It stands too far away or too near; the message has the distances.
        """
        center = self.base_from_object[:3, :3] @ obj.center_of_mass + self.base_from_object[:3, 3] - self.arm.shoulder
        distance = float(np.linalg.norm(center))
        radius = float(np.linalg.norm(obj.vertices - obj.center_of_mass, axis=1).max())
        palm = (self.mount.matrix @ palm_transforms(self.hand, self.hand.open_position))[:3, 3]
        longest = self.arm.reach + float(np.linalg.norm(palm)) + radius
        where = (
            f"the object's centre is {distance:.2f} m from the shoulder of {self.arm.name}, whose flange gets "
            f"{self.arm.reach:.2f} m away from it, and the palm {np.linalg.norm(palm):.2f} m further"
        )
        if distance > longest:
            raise MountError(
                f"{where}: move the base (now at {_numbers(self.base_position)} m) at least "
                f"{np.ceil(100.0 * (distance - longest)) / 100.0:.2f} m nearer"
            )
        around = starting_poses(self.hand, obj, LOOK, distance=0.05, joint_noise=0.0, rng=np.random.default_rng(0))
        if self.table:
            wrist = rotation.matrix(around.wrist_position, around.wrist_quaternion)
            world = self.world_from_object @ wrist @ palm_transforms(self.hand, around.joint_position)
            around = around[(world[:, 2, 3] > 0.0) & ((self.world_from_object @ wrist)[:, 2, 3] > 0.0)]
        if not self.reachable(around).any():
            raise MountError(
                f"{where}, but none of {len(around)} wrists around the object can be reached: move or turn the base "
                f"(now at {_numbers(self.base_position)} m, quaternion {_numbers(self.base_quaternion)})"
            )

    def sample_wrists(
        self,
        count: int,
        near: ObjectMesh,
        rng: np.random.Generator,
        *,
        distance: float = 0.1,
        spread: float = 0.25,
    ) -> Pose:
        """Random hands that the arm reaches: arm joints are drawn, and kept where the palm faces the object closely.

        Joints have truncated normal distributions about the home position, within their ranges and half a turn to
        either side. Hands are open, and their wrists and palms above the table where there is one.

        Args:
            count: Number of hands.
            near: The object.
            rng: Random numbers.
            distance: Largest from the palm's point to the object's surface, about [m].
            spread: Standard deviation of a joint as a share of its range, before the cut.

        Raises:
            MountError: Next to no configuration brings the palm near the object.
            OptionError: ``distance`` or ``spread`` is not positive.
        """
        if not (distance > 0.0 and spread > 0.0):
            raise OptionError(f"distance and spread must be positive, got {distance} and {spread}")
        kept: list[np.ndarray] = []
        facing = self._palm_faces(near, distance)
        lower, upper = _one_turn(self.arm)
        for _ in range(ROUNDS):
            theta = truncated_normal(self.arm.home, spread * (upper - lower), lower, upper, DRAWS, rng)
            wrist = self.wrists(theta)
            kept.append(wrist[facing(wrist)])
            if sum(map(len, kept)) >= count:
                break
        else:
            raise MountError(
                f"of {ROUNDS * DRAWS} random configurations of {self.arm.name} {sum(map(len, kept))} bring the palm "
                f"within {distance:g} m of the object, and {count} were asked for: move or turn the base "
                f"(now at {_numbers(self.base_position)} m)"
            )
        wrist = np.concatenate(kept)[:count]
        joints = np.repeat(self.hand.open_position[None], count, axis=0)
        return Pose(wrist[:, :3, 3], rotation.quaternion_from_matrix(wrist[:, :3, :3]), joints)

    def _palm_faces(self, obj: ObjectMesh, distance: float) -> Callable[[np.ndarray], np.ndarray]:
        """A function that tells of wrists (N, 4, 4) whether the open hand's palm is near the object and faces it."""
        from scipy.spatial import KDTree

        surface = KDTree(object_points(obj, 2048))
        palm = palm_transforms(self.hand, self.hand.open_position)

        def facing(wrist: np.ndarray) -> np.ndarray:
            at = wrist @ palm
            near, place = surface.query(at[:, :3, 3], distance_upper_bound=distance)
            good = np.isfinite(near)
            towards = surface.data[np.where(good, place, 0)] - at[:, :3, 3]
            good &= (towards * at[:, :3, 2]).sum(axis=1) > 0.0
            if self.table:
                good &= ((self.world_from_object @ wrist)[:, 2, 3] > 0.0) & ((self.world_from_object @ at)[:, 2, 3] > 0)
            return good

        return facing


def _one_turn(arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Ranges cut to half a turn on either side of the home position."""
    half = np.where([joint.kind == "revolute" for joint in arm.tree.joints], np.pi, np.inf)
    return np.maximum(arm.lower, arm.home - half), np.minimum(arm.upper, arm.home + half)


def _seeds(arm: Arm, count: int) -> np.ndarray:
    """Configurations to iterate from: the home position and random ones, shape (count, n)."""
    lower, upper = _one_turn(arm)
    return np.concatenate([arm.home[None], np.random.default_rng(0).uniform(lower, upper, (count - 1, len(lower)))])


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"


def _zeros(shape: Any, dtype: Any, device: str) -> wp.array:
    return wp.zeros(shape, dtype=dtype, device=device)


def _transform(matrix: np.ndarray) -> wp.transform:
    quaternion = rotation.quaternion_from_matrix(matrix[:3, :3])
    return wp.transform(wp.vec3(*map(float, matrix[:3, 3])), wp.quat(*map(float, np.roll(quaternion, -1))))


class _Follower:
    """An arm on a device; joints stay ``inset`` from the ends of their ranges, targets are further out or raised."""

    def __init__(
        self, mounted: MountedArm, device: str, *, inset: float = 0.0, stretch: float = 1.0, raised: float = 0.0
    ) -> None:
        joints, arm = mounted.arm.tree.joints, mounted.arm
        self.mounted, self.device, self.stretch = mounted, device, stretch
        inset_of_joint = np.minimum(inset, 0.1 * (arm.upper - arm.lower))
        lower, upper = arm.lower + inset_of_joint, arm.upper - inset_of_joint
        self.arm = [
            wp.array(np.array([j.kind == "prismatic" for j in joints], np.int32), dtype=int, device=device),
            transforms(np.array([j.position for j in joints]), np.array([j.quaternion for j in joints]), device),
            wp.array(np.array([j.axis for j in joints], np.float32), dtype=wp.vec3, device=device),
            wp.array(lower.astype(np.float32), dtype=float, device=device),
            wp.array(upper.astype(np.float32), dtype=float, device=device),
            _transform(rotation.matrix(arm.flange_frame.position, arm.flange_frame.quaternion)),
        ]
        up = rotation.matrix_from_quaternion(mounted.base_quaternion)[2]  # of the world, in the base frame
        self.raised = wp.vec3(*map(float, raised * up))
        self.base_from_object = _transform(mounted.base_from_object)
        self.hand_from_flange = _transform(rotation.inverse(mounted.mount.matrix))

    def follow(self, wrist: wp.array, theta: wp.array, column: wp.array, error: wp.array, steps: int) -> None:
        """Launch ``kernels.reach.follow``; see there for the arrays."""
        wp.launch(
            kernels.follow,
            dim=theta.shape[0],
            inputs=[
                *self.arm,
                self.base_from_object,
                self.hand_from_flange,
                wrist,
                self.raised,
                self.mounted.length,
                self.mounted.arm.reach,
                self.stretch,
                steps,
            ],
            outputs=[theta, column, error],
            device=self.device,
        )

    def run(self, pose: Pose, theta: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, n) after some steps from ``theta``, and how large an error of pose is left [m], shape (N,)."""
        wrist = transforms(pose.wrist_position, pose.wrist_quaternion, self.device)
        joints = wp.array(theta.astype(np.float32), dtype=float, device=self.device)
        column = _zeros(theta.shape, wp.spatial_vector, self.device)
        error = _zeros(len(theta), wp.spatial_vector, self.device)
        self.follow(wrist, joints, column, error, steps)
        return joints.numpy().astype(float), np.linalg.norm(error.numpy().astype(float), axis=1)

    def start(self, pose: Pose) -> np.ndarray:
        """Arm joints from which wrists are reached, or nearly, shape (N, n)."""
        arm = self.mounted.arm
        candidates = [np.repeat(seed[None], len(pose), axis=0) for seed in _seeds(arm, START_SEEDS)]
        if inverse_kinematics.ThreeParallel.of(arm):
            target = self.mounted.flange_targets(pose)
            target[:, :3, 3] += np.array(self.raised)
            exact = inverse_kinematics.solve(arm, target, near=arm.home)
            candidates.insert(0, np.where(np.isfinite(exact), exact, arm.home))
        runs = [self.run(pose, theta, START_STEPS) for theta in candidates]
        # The first within the tolerance counts, so that an exact solution is kept.
        errors = np.maximum([error for _, error in runs], REACHED)
        best = errors.argmin(axis=0)
        return np.stack([theta for theta, _ in runs])[best, np.arange(len(pose))]


class ReachTerm:
    """Penalty of a batch of grasps for wrists that an arm does not reach; see ``warpgrasp.term.Term``.

    The loss is ``weight |e|²``, e being the distance, and the rotation vector times a length, by which the arm misses
    the flange pose that the wrist needs (moved a little further out). The arm's joints minimise it: they follow the
    wrist by a few steps an iteration. On a table the mean of that and of the same 10 cm higher counts, so that the
    object can be lifted.

    Args:
        mounted: The arm.
        model: The hand.
        start: Wrists at the start, one for each grasp.
    """

    modules = (kernels,)

    def __init__(self, mounted: MountedArm, model: HandModel, start: Pose) -> None:
        if model.hand.hash != mounted.hand.hash:
            raise OptionError(f"the arm carries {mounted.hand.name}, but the grasps are of {model.hand.name}")
        heights = (0.0, RAISED) if mounted.table else (0.0,)
        self.arms = [
            _Arms(_Follower(mounted, model.device, inset=INSET, stretch=STRETCH, raised=height), start)
            for height in heights
        ]
        self.weight = mounted.weight / len(self.arms)
        self.loss = _zeros(len(start), float, model.device)

    def add_gradient(self, state: State) -> None:
        """Move the arms on, find the loss, and add its gradient to ``state.link_wrench``."""
        if state.wrist.shape != self.loss.shape:
            raise ShapeError("state.wrist", str(self.loss.shape), state.wrist.shape)
        self.loss.zero_()
        for arms in self.arms:
            follower = arms.follower
            follower.follow(state.wrist, arms.theta, arms.column, arms.error, STEPS)
            wp.launch(
                kernels.add_reach_gradient,
                dim=self.loss.shape,
                inputs=[
                    follower.base_from_object,
                    follower.hand_from_flange,
                    state.wrist,
                    arms.error,
                    follower.mounted.length,
                    follower.stretch,
                    self.weight,
                ],
                outputs=[self.loss, state.link_wrench],
                device=follower.device,
            )

    def restart(self) -> None:
        """Put the arms back to where they started."""
        for arms in self.arms:
            wp.copy(arms.theta, arms.first)


class _Arms:
    """Arms of a batch of grasps that follow the wrists; they begin where they reach the starts best."""

    def __init__(self, follower: _Follower, start: Pose) -> None:
        theta = follower.start(start)
        self.follower = follower
        self.first = wp.array(theta.astype(np.float32), dtype=float, device=follower.device)
        self.theta = wp.clone(self.first)
        self.column = _zeros(theta.shape, wp.spatial_vector, follower.device)
        self.error = _zeros(len(theta), wp.spatial_vector, follower.device)
