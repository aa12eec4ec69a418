"""Synthesis that only draws random numbers: for tests of what is done with grasps."""

from __future__ import annotations

import functools
import os
import signal
import time

import numpy as np
import trimesh

import warpgrasp
from warpgrasp.pose import Pose

REASONS = np.array(["", "penetration", "not balanced"])


@functools.cache
def hand_named(name: str) -> warpgrasp.Hand:
    """A bundled hand, loaded once."""
    return warpgrasp.load_hand(name)


@functools.cache
def box() -> warpgrasp.ObjectMesh:
    """A box of 4 cm."""
    return warpgrasp.load_object(trimesh.creation.box(extents=[0.04, 0.05, 0.06]), name="box")


def simulated_grasps(
    hand: str | warpgrasp.Hand, obj: warpgrasp.ObjectMesh | None = None, *, count: int, seed: int
) -> warpgrasp.Grasps:
    """Grasps like those of ``synthesize``, but random, with metrics of every kind."""
    hand = hand_named(hand) if isinstance(hand, str) else hand
    obj = obj or box()
    rng = np.random.default_rng(seed)

    def pose(spread: float) -> Pose:
        quaternion = rng.normal(size=(count, 4))
        joints = hand.lower + (hand.upper - hand.lower) * rng.random((count, hand.joint_count))
        position = spread * rng.normal(size=(count, 3))
        return Pose(position, quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True), joints)

    # As in synthesis, the wrist stays in the squeeze, and the lift only raises it.
    grasp, joints = pose(0.05), pose(0.0).joint_position
    squeeze = Pose(grasp.wrist_position, grasp.wrist_quaternion, joints)
    lift = Pose(grasp.wrist_position + np.array([0.0, 0.0, 0.1]), grasp.wrist_quaternion, joints)
    reason = REASONS[np.sort(rng.integers(0, len(REASONS), count))]
    return warpgrasp.Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=pose(0.1),
        squeeze=squeeze,
        lift=lift,
        valid=reason == "",
        reason=reason,
        metrics={
            "penetration_depth_m": np.abs(1e-3 * rng.normal(size=count)),
            "self_penetration_depth_m": np.abs(1e-4 * rng.normal(size=count)),
            "links_in_contact_2mm": rng.integers(0, 10, count),
            "wrench_residual_mu02": rng.random(count),
            "pregrasp_clearance_m": rng.random(count),
            "loss": rng.random(count),
            "fc6_failure": REASONS[rng.integers(0, len(REASONS), count)],
        },
        hand_source=hand.name,
        hand_hash=hand.hash,
        object_name=obj.name,
        object_vertices=obj.vertices,
        object_faces=obj.faces,
        info={"recipe": {"name": "simulated", "stages": [1, 2]}, "seed": seed, "device": "cpu", "seconds": 1.5},
    )


def make(hand, obj, *, count, seed, device, config) -> warpgrasp.Grasps:
    """A maker for ``warpgrasp.dataset.generate``: random grasps, late, and some objects are deadly."""
    if os.environ.get("WARPGRASP_TEST_DEADLY") == obj.name:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("WARPGRASP_TEST_SECONDS", "0")))
    return simulated_grasps(hand, obj, count=count, seed=seed)
