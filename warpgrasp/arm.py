"""The robot arm that carries a hand: a chain of joints from its base to its flange (NumPy only)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import rotation
from .hand import Frame, Hand

REACH_STARTS = 64
"""Random configurations from which the farthest place of the flange is looked for."""

REACH_SWEEPS = 4
"""Times that every joint in turn goes to its best position."""

REACH_GRID = 33
"""Positions of a joint that are tried."""


@dataclass(frozen=True, eq=False)
class Arm:
    """A serial arm. Make one with :func:`load_arm`.

    Joint vectors theta hold its n joints from the base to the flange; link j + 1 is moved by joint j.
    """

    name: str

    tree: Hand
    """Links, shapes and joints of the arm alone; what hung on other joints of its file is left out."""

    flange: str
    """Name of the frame that hands are bolted to."""

    payload: float | None
    """What it may carry [kg]; ``None`` where nothing says it."""

    home: np.ndarray
    """A comfortable joint vector [rad or m], shape (n,)."""

    mounts: Mapping[str, Any] = field(default_factory=dict)
    """How bundled hands are bolted on, by name, as its arm.yaml says it."""

    description: str = ""

    @property
    def path(self) -> Path:
        """File that it was read from."""
        return self.tree.path

    @property
    def joint_names(self) -> tuple[str, ...]:
        """From the base to the flange."""
        return self.tree.joint_names

    @property
    def joint_count(self) -> int:
        """How many joints there are."""
        return self.tree.joint_count

    @property
    def lower(self) -> np.ndarray:
        """Lower ends of the joints' ranges [rad or m], shape (n,)."""
        return self.tree.lower

    @property
    def upper(self) -> np.ndarray:
        """Upper ends of the joints' ranges [rad or m], shape (n,)."""
        return self.tree.upper

    @property
    def flange_frame(self) -> Frame:
        """The flange in the last link's frame."""
        return self.tree.frame(self.flange)

    def flange_transforms(self, theta: np.ndarray) -> np.ndarray:
        """Forward kinematics in float64: the flange in the arm's base frame, shape (..., 4, 4).

        Args:
            theta: Joint vectors [rad or m], shape (..., n). Ranges are not enforced.
        """
        return self.tree.link_transforms(theta)[..., -1, :, :] @ self._flange_in_link

    def flange_and_jacobian(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The flange in the base frame, shape (..., 4, 4), and its Jacobian in the axes of the base, shape (..., 6, n).

        Rows of the Jacobian are the flange's velocity and its angular velocity.
        """
        links = self.tree.link_transforms(theta)
        flange = links[..., -1, :, :] @ self._flange_in_link
        axis = np.einsum("...jab,jb->...ja", links[..., 1:, :3, :3], self._axes)
        turned = np.cross(axis, flange[..., None, :3, 3] - links[..., 1:, :3, 3])
        slides = self._slides[:, None]
        rows = np.concatenate([np.where(slides, axis, turned), np.where(slides, 0.0, axis)], axis=-1)
        return flange, np.swapaxes(rows, -1, -2)

    @cached_property
    def _flange_in_link(self) -> np.ndarray:
        return rotation.matrix(self.flange_frame.position, self.flange_frame.quaternion)

    @cached_property
    def _axes(self) -> np.ndarray:
        return np.array([joint.axis for joint in self.tree.joints])

    @cached_property
    def _slides(self) -> np.ndarray:
        return np.array([joint.kind == "prismatic" for joint in self.tree.joints])

    @property
    def shoulder(self) -> np.ndarray:
        """Origin of the first joint in the base frame [m], shape (3,)."""
        return self.tree.joints[0].position

    @cached_property
    def reach(self) -> float:
        """The farthest that the flange gets from the shoulder, joints within their ranges [m]."""
        lower, upper = self.lower, self.upper
        theta = np.random.default_rng(0).uniform(lower, upper, (REACH_STARTS, self.joint_count))
        grid = np.linspace(lower, upper, REACH_GRID)
        distance = np.zeros(REACH_STARTS)
        for _ in range(REACH_SWEEPS):
            for joint in range(self.joint_count):
                tried = np.repeat(theta[:, None], REACH_GRID, axis=1)
                tried[:, :, joint] = grid[:, joint]
                far = np.linalg.norm(self.flange_transforms(tried)[..., :3, 3] - self.shoulder, axis=-1)
                best = far.argmax(axis=1)
                theta[:, joint], distance = grid[best, joint], far.max(axis=1)
        return float(distance.max())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that plans depend on: joints, ranges, shapes, the flange and the home position."""
        parts = [self.tree.hash, self.flange, self.home.astype("<f8").tobytes().hex()]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()
