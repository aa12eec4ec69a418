"""What a robot file says, before it becomes a :class:`~warpgrasp.hand.Hand` (the readers' common output)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from .hand import Actuator, Mimic, Shape


def zeros() -> np.ndarray:
    """No translation, shape (3,)."""
    return np.zeros(3)


def identity() -> np.ndarray:
    """No rotation, w x y z, shape (4,)."""
    return np.array([1.0, 0.0, 0.0, 0.0])


@dataclass
class Body:
    """One link of the file."""

    name: str

    mass: float = 0.0
    """[kg]"""

    center_of_mass: np.ndarray = field(default_factory=zeros)
    """In the body frame [m], shape (3,)."""

    inertia: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    """About the centre of mass, in the axes of the body frame [kg m²], shape (3, 3)."""

    collisions: list[Shape] = field(default_factory=list)

    visuals: list[Shape] = field(default_factory=list)


@dataclass
class Connection:
    """One joint of the file: the pose of the child body is position, quaternion, then the motion about the axis."""

    name: str

    kind: Literal["fixed", "revolute", "prismatic"]

    parent: str

    child: str

    position: np.ndarray = field(default_factory=zeros)
    """In the parent body's frame [m], shape (3,)."""

    quaternion: np.ndarray = field(default_factory=identity)
    """w x y z, shape (4,)."""

    axis: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]))
    """Unit axis in the child frame, shape (3,)."""

    lower: float = 0.0
    """[rad or m]"""

    upper: float = 0.0
    """[rad or m]"""

    effort: float = 0.0
    """[N m or N]"""

    velocity: float = 0.0
    """[rad/s or m/s]"""


@dataclass
class Description:
    """A file's bodies and connections, by name and in file order."""

    name: str

    path: Path

    bodies: dict[str, Body]

    connections: list[Connection]

    mimics: list[Mimic] = field(default_factory=list)
    """As written: ``of`` may itself be a mimic joint."""

    actuators: list[Actuator] = field(default_factory=list)
    """Motors that pull several joints together."""

    inferred: list[str] = field(default_factory=list)
    """One sentence for everything that was assumed while reading."""
