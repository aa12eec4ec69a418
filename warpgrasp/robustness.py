"""Grasps as a robot would reach them that does not know exactly where the object is, and how slippery or heavy."""

from __future__ import annotations

from dataclasses import replace
from math import radians

import numpy as np

from . import rotation
from .errors import OptionError
from .physics.protocols import FC6, Protocol
from .pose import Pose
from .result import Grasps


def perturbed(
    grasps: Grasps, *, position: float = 0.002, angle: float = radians(3.0), copies: int = 1, seed: int = 0
) -> Grasps:
    """Copies of grasps that miss the object by a little, to be judged by :func:`warpgrasp.validate`.

    Each copy has all its phases moved by one rigid motion: a turn of exactly ``angle`` about a random axis through the
    object's centre of mass, then a shift by exactly ``position`` in a random direction, both uniform on the sphere.
    It is what happens where the object is not where the robot takes it to be.

    Args:
        grasps: Grasps of one object.
        position: Length of the shift [m].
        angle: Of the turn [rad].
        copies: Of each grasp, one after the other.
        seed: Of the directions; the same number of copies and seed give the same motions.

    Returns:
        Grasps of length ``copies * len(grasps)`` with the labels and metrics of the originals, which describe those and
        not the copies; without a plan of an arm.

    Raises:
        OptionError: A length or angle is negative or not finite, or ``copies`` is less than one.
    """
    for name, value in (("position", position), ("angle", angle)):
        if not 0.0 <= value < np.inf:
            raise OptionError(f"{name} must be a finite number of at least 0, got {value}")
    if copies < 1:
        raise OptionError(f"copies must be at least 1, got {copies}")
    result = grasps[np.repeat(np.arange(len(grasps)), copies)]
    rng = np.random.default_rng(seed)
    shift = position * _directions(rng, len(result))
    half = 0.5 * angle
    turn = np.hstack([np.full((len(result), 1), np.cos(half)), np.sin(half) * _directions(rng, len(result))])
    center = grasps.object.center_of_mass

    def moved(pose: Pose) -> Pose:
        arm = (rotation.matrix_from_quaternion(turn) @ (pose.wrist_position - center)[..., None])[..., 0]
        quaternion = rotation.multiply(turn, pose.wrist_quaternion)
        return Pose(center + arm + shift, quaternion, pose.joint_position)

    phases = {name: moved(pose) for name, pose in result.phases.items()}
    grasp = phases.pop("grasp")
    whole = replace(
        result, wrist_position=grasp.wrist_position, wrist_quaternion=grasp.wrist_quaternion, arm=None, **phases
    )
    whole.hand, whole.object = grasps.hand, grasps.object
    return whole


def variants(protocol: Protocol = FC6, *, friction: float = 0.4, mass: float = 2.0) -> dict[str, Protocol]:
    """A protocol with less friction, with a heavier object, and with both.

    Args:
        protocol: What they are variants of; one that gives the object's mass.
        friction: Sliding friction instead of the protocol's.
        mass: Factor on the object's mass. Pulls are accelerations, so they grow by as much.

    Raises:
        OptionError: The protocol gives a density, or a number is not positive.
    """
    if protocol.mass is None:
        raise OptionError(f"{protocol.name!r} gives the object's density; variants need a protocol that gives its mass")
    if not (friction > 0.0 and mass > 0.0):
        raise OptionError(f"friction and mass must be positive, got {friction} and {mass}")
    slippery = {"friction": (friction, *protocol.friction[1:])}
    heavy = {"mass": mass * protocol.mass}
    changes = {"slippery": slippery, "heavy": heavy, "slippery_heavy": slippery | heavy}
    return {name: replace(protocol, name=f"{protocol.name}_{name}", **change) for name, change in changes.items()}


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors, uniform on the sphere, shape (count, 3)."""
    vectors = rng.standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
