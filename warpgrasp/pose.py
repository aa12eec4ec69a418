"""Wrist and joints of a batch of hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pose:
    """Wrist and joints of N hands."""

    wrist_position: np.ndarray
    """Hand base frame in the object frame [m], shape (N, 3)."""

    wrist_quaternion: np.ndarray
    """Unit quaternion w x y z of the same, shape (N, 4)."""

    joint_position: np.ndarray
    """All movable joints [rad or m], shape (N, J)."""

    def __len__(self) -> int:
        return len(self.wrist_position)

    def __getitem__(self, index: slice | np.ndarray) -> Pose:
        return Pose(self.wrist_position[index], self.wrist_quaternion[index], self.joint_position[index])


def concatenate(poses: list[Pose]) -> Pose:
    """All poses in one batch, in order."""
    return Pose(
        np.concatenate([pose.wrist_position for pose in poses]),
        np.concatenate([pose.wrist_quaternion for pose in poses]),
        np.concatenate([pose.joint_position for pose in poses]),
    )
