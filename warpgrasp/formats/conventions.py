"""Joint names, joint order and root frames of other projects: the table ``hands.yaml`` and what it does to a pose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError, OptionError
from ..pose import Pose

if TYPE_CHECKING:
    from ..hand import Hand
    from ..result import Grasps

TABLE = Path(__file__).with_name("hands.yaml")


@dataclass(frozen=True, eq=False)
class Step:
    """One transform on the way from their root frame to our base link."""

    matrix: np.ndarray
    """Where the step leads at joint zero, shape (4, 4)."""

    joint: str = ""
    """Their joint that turns the step, "" where nothing does."""

    axis: np.ndarray | None = None
    """Unit axis of the joint after ``matrix``, shape (3,)."""


@dataclass(frozen=True, eq=False)
class Convention:
    """How a format sees a hand."""

    name: str
    """What the format calls the hand."""

    joints: tuple[tuple[str, str, float], ...]
    """Their name, ours and the sign of each joint, in their order."""

    steps: tuple[Step, ...] = ()
    """From their root frame to our base link."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Their names in their order."""
        return tuple(theirs for theirs, _, _ in self.joints)

    def export_pose(self, joint_names: tuple[str, ...], pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Root positions [m] (N, 3), quaternions w x y z (N, 4) and joints in their order and signs (N, K)."""
        column = {name: j for j, name in enumerate(joint_names)}
        joints = np.zeros((len(pose), len(self.joints)))
        for k, (theirs, ours, sign) in enumerate(self.joints):
            if ours in column:
                joints[:, k] = sign * np.asarray(pose.joint_position, float)[:, column[ours]]
            elif theirs not in self._own:
                raise OptionError(f"the grasps have no joint {ours!r}, which {self.name!r} needs as {theirs!r}")
        position, quaternion = np.array(pose.wrist_position, float), np.array(pose.wrist_quaternion, float)
        if not self.steps:
            return position, quaternion, joints
        return *_split(rotation.matrix(position, quaternion) @ rotation.inverse(self._way(joints))), joints

    def import_pose(
        self, path: Path, hand: Hand, position: np.ndarray, quaternion: np.ndarray, joints: np.ndarray
    ) -> Pose:
        """The pose of our hand; arguments as :meth:`export_pose` returns them.

        Raises:
            FileFormatError: There are not as many joints as the format has for this hand, or a number is not finite.
        """
        joints = np.atleast_2d(np.asarray(joints, float))
        if joints.shape[-1] != len(self.joints):
            problem = f"it holds {joints.shape[-1]} joints, but the hand {self.name!r} has {len(self.joints)} there"
            raise FileFormatError(path, f"{problem}; name the hand that the grasps are of")
        if self.steps:
            position, quaternion = _split(rotation.matrix(position, unit(path, quaternion)) @ self._way(joints))
        named = {ours: sign * joints[:, k] for k, (_, ours, sign) in enumerate(self.joints)}
        return named_pose(path, hand, position, quaternion, named)

    @property
    def _own(self) -> set[str]:
        return {step.joint for step in self.steps if step.joint}

    def _way(self, joints: np.ndarray) -> np.ndarray:
        """From their root to our base link, shape (N, 4, 4)."""
        way = np.broadcast_to(np.eye(4), (len(joints), 4, 4))
        for step in self.steps:
            way = way @ step.matrix
            if step.axis is not None:
                turn = np.broadcast_to(np.eye(4), way.shape).copy()
                angle = joints[:, self.joint_names.index(step.joint)]
                turn[:, :3, :3] = rotation.matrix_from_axis_angle(step.axis, angle)
                way = way @ turn
        return way


def named_pose(
    path: Path, hand: Hand, position: np.ndarray, quaternion: np.ndarray, joints: dict[str, np.ndarray]
) -> Pose:
    """A pose from joints by name; joints that mimic others may be missing.

    Raises:
        FileFormatError: A joint of the hand is missing, or a number is not finite.
    """
    missing = [hand.joints[j].name for j in hand.free_joints if hand.joints[j].name not in joints]
    if missing:
        known = ", ".join(list(joints)[:8]) or "none"
        raise FileFormatError(path, f"joint {missing[0]!r} of {hand.name} is missing; it has {known}")
    free = np.stack([joints[hand.joints[j].name] for j in hand.free_joints], axis=-1)
    values = hand.joint_position(free)
    for j, name in enumerate(hand.joint_names):
        if name in joints:
            values[:, j] = joints[name]
    position = np.array(position, float).reshape(-1, 3)
    if not (np.isfinite(position).all() and np.isfinite(values).all()):
        raise FileFormatError(path, "some of its numbers are not finite")
    return Pose(position, unit(path, quaternion), values)


def unit(path: Path, quaternion: np.ndarray) -> np.ndarray:
    """Quaternions of length one; what was rounded to float32 is normalised.

    Raises:
        FileFormatError: One is far from a unit quaternion.
    """
    quaternion = np.array(quaternion, float).reshape(-1, 4)
    length = np.linalg.norm(quaternion, axis=1, keepdims=True)
    if not (np.abs(length - 1.0) < 1e-2).all():
        raise FileFormatError(path, "a quaternion does not have length one")
    return np.where(np.abs(length - 1.0) < 1e-12, quaternion, quaternion / length)


def identity(hand: str, joint_names: tuple[str, ...]) -> Convention:
    """Joints under our names in our order, root at the base link."""
    return Convention(hand, tuple((name, name, 1.0) for name in joint_names))


def convention(table: str, grasps: Grasps, *, only: bool = False) -> Convention:
    """How a format sees the hand of some grasps: as its table says, else under the hand's own names.

    Raises:
        OptionError: The format has no place for this hand (``only``).
    """
    return find(table, grasps.hand_source, grasps.joint_names, only=only)


def find(table: str, hand: str, joint_names: tuple[str, ...], *, only: bool = False) -> Convention:
    """See :func:`convention`; ``hand`` is a bundled name, or anything else."""
    if hand in hands_of(table):
        return _read_table()[table][hand]
    if only:
        raise OptionError(f"the format {table} has no hand {hand!r}; it is for {' and '.join(hands_of(table))}")
    return identity(Path(hand).stem if "/" in hand else hand, joint_names)


def hands_of(table: str) -> tuple[str, ...]:
    """Bundled hands in the table of a format."""
    return tuple(_read_table().get(table, ()))


def bundled_name(table: str, theirs: str) -> str | None:
    """Which bundled hand a format calls ``theirs``; the first where several match."""
    return next((hand for hand, one in _read_table().get(table, {}).items() if one.name == theirs), None)


def _split(transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return transform[:, :3, 3], rotation.quaternion_from_matrix(transform[:, :3, :3])


@cache
def _read_table() -> dict[str, dict[str, Convention]]:
    import yaml

    tables = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {table: {hand: _one(hand, row) for hand, row in rows.items()} for table, rows in tables.items()}


def _one(hand: str, row: dict[str, Any]) -> Convention:
    joints = row["joints"]
    pairs = (
        [(str(theirs), str(ours)) for theirs, ours in joints.items()]
        if isinstance(joints, dict)
        else zip(joints, joints, strict=True)
    )
    return Convention(
        row.get("name", hand),
        tuple((theirs, ours.lstrip("-"), -1.0 if ours.startswith("-") else 1.0) for theirs, ours in pairs),
        tuple(_step(step) for step in row.get("chain", ())),
    )


def _step(step: dict[str, Any]) -> Step:
    quaternion = np.array(step.get("quaternion", (1, 0, 0, 0)), float)
    matrix = rotation.matrix(np.array(step.get("position", (0, 0, 0)), float), quaternion / np.linalg.norm(quaternion))
    axis = np.array(step["axis"], float) if "axis" in step else None
    return Step(matrix, step.get("joint", ""), axis)
