"""All grasps at once on a GPU: the same scene, one world of mujoco-warp per grasp, in single precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import OptionError, WarpgraspError
from .engine import mujoco, mujoco_warp
from .protocols import DIRECTIONS, Protocol
from .trial import AWAY, DIVERGED, HandPose, Outcome, Trial
from .workers import Job, ProgressCallback

BATCH = 1024
"""Grasps that are simulated together."""

CONTACTS, ROWS = 96, 512
"""Room for contacts, on average, and for rows of constraints, in every world."""

STATE = ("qpos", "qvel", "qacc_warmstart")
"""What the next step depends on beside targets and pulls."""


def engine(device: str) -> str:
    """What simulates on that device, in words."""
    return f"mujoco-warp {mujoco_warp().__version__} on {device}"


def check(protocol: Protocol) -> None:
    """Raise if this protocol cannot run on a device, or mujoco-warp is not installed; see :func:`judge_batch`."""
    if protocol.criterion != "pose" or protocol.lift_height:
        raise OptionError(f"{protocol.name} does not run on a device, only pulls judged by the object's pose do")
    mujoco_warp()


def judge_batch(job: Job, *, device: str, on_progress: ProgressCallback | None = None) -> list[Outcome]:
    """Outcomes in the order of the grasps, as :func:`warpgrasp.physics.workers.judge`; the grip force is left out.

    Penetration, contacts and the pre-filter are MuJoCo's; mujoco-warp closes the hands and pulls.

    Args:
        job: Scene and grasps; the protocol must judge by the object's pose, and have no table.
        device: Warp device.
        on_progress: Called after every batch with the grasps done and the grasps in all.

    Raises:
        OptionError: The protocol cannot run here.
        WarpgraspError: mujoco-warp is not installed, or has no room for the contacts.
    """
    check(job.protocol)
    trial = job.trial()
    outcomes = [trial.inspect(*job.phases(row)[:2]) for row in range(len(job))]
    rows = [row for row, outcome in enumerate(outcomes) if not outcome.failure]
    for begin in range(0, len(rows), BATCH):
        batch = rows[begin : begin + BATCH]
        worlds = _Worlds(trial, len(batch), device)
        judged = worlds.run([job.phases(row) for row in batch], [outcomes[row] for row in batch])
        for row, outcome in zip(batch, judged, strict=True):
            outcomes[row] = outcome
        if on_progress:
            on_progress(begin + len(batch) + len(job) - len(rows), len(job))
    return outcomes


class _Worlds:
    """One world per grasp, that close, are settled once, and are pulled six times from there."""

    def __init__(self, trial: Trial, count: int, device: str) -> None:
        import warp as wp

        self.trial, self.protocol, self.count = trial, trial.protocol, count
        self.device = wp.get_device(device)
        model = copy.copy(trial.model)
        # It never begins a diverged world anew, and does not know the flag that says so.
        model.opt.disableflags &= ~int(mujoco().mjtDisableBit.mjDSBL_AUTORESET)
        with wp.ScopedDevice(self.device):
            self.model = mujoco_warp().put_model(model)
            self.data = mujoco_warp().make_data(model, nworld=count, nconmax=CONTACTS, njmax=ROWS)
        self.graph: Any = None

    def run(self, phases: Sequence[tuple[HandPose, HandPose, HandPose]], outcomes: list[Outcome]) -> list[Outcome]:
        """Judge one grasp per world."""
        protocol = self.protocol
        begin = self._settle(*zip(*phases, strict=True))
        displacement, rotation = self._displacement()
        outcomes = [
            replace(
                outcome,
                squeeze_displacement_m=d,
                squeeze_rotation_rad=r,
                displacement_m=d,
                rotation_rad=r,
                failure=_lost(self.trial, d, r, AWAY, AWAY, " while the hand closed") if begin else "",
            )
            for outcome, d, r in zip(outcomes, displacement.tolist(), rotation.tolist(), strict=True)
        ]
        state = {name: getattr(self.data, name).numpy() for name in STATE}
        steps = protocol.steps(protocol.pull_time / protocol.checks)
        for name in protocol.directions:
            for field, values in state.items():
                getattr(self.data, field).assign(values)
            self._push(np.array(DIRECTIONS[name]))
            for check in range(1, protocol.checks + 1):
                if all(outcome.failure for outcome in outcomes):
                    break
                self._step(steps)
                seconds = check * steps * protocol.time_step
                measured = zip(outcomes, *self._displacement(), strict=True)
                outcomes = [self._look(outcome, name, seconds, float(d), float(r)) for outcome, d, r in measured]
        return [replace(outcome, success=not outcome.failure) for outcome in outcomes]

    def _look(self, outcome: Outcome, pull: str, seconds: float, displacement: float, rotation: float) -> Outcome:
        if outcome.failure:
            return outcome
        lost = _lost(self.trial, displacement, rotation, "moved too far", "turned too far")
        if lost:
            return replace(
                outcome,
                displacement_m=displacement,
                rotation_rad=rotation,
                failure=f"pull {pull}: {lost}",
                failed_pull=pull,
                failure_time_s=seconds,
            )
        return replace(
            outcome,
            displacement_m=max(outcome.displacement_m, displacement),
            rotation_rad=max(outcome.rotation_rad, rotation),
        )

    def _settle(self, pregrasp: Sequence[HandPose], grasp: Sequence[HandPose], squeeze: Sequence[HandPose]) -> bool:
        """Put the hands where the trial begins, and close them; whether the protocol closes them."""
        protocol = self.protocol
        start = pregrasp if protocol.close else grasp
        position = np.tile(self.trial.model.qpos0, (self.count, 1))
        root = self.trial.at.root
        position[:, root : root + 3] = [pose.position for pose in start]
        position[:, root + 3 : root + 7] = [pose.quaternion for pose in start]
        position[:, self.trial.at.joints] = [pose.joints for pose in start]
        self.data.qpos.assign(position.astype(np.float32))
        if not protocol.close:
            self._target([replace(a, joints=b.joints) for a, b in zip(grasp, squeeze, strict=True)])
            return False
        for first, last in ((pregrasp, grasp), (grasp, squeeze)):
            for number in range(1, protocol.close_targets + 1):
                share = number / protocol.close_targets
                self._target([a.towards(b, share) for a, b in zip(first, last, strict=True)])
                self._step(protocol.steps(protocol.close_time / protocol.close_targets))
        return True

    def _target(self, poses: Sequence[HandPose]) -> None:
        self.data.mocap_pos.assign(np.array([[pose.position] for pose in poses], np.float32))
        self.data.mocap_quat.assign(np.array([[pose.quaternion] for pose in poses], np.float32))
        self.data.ctrl.assign(np.array([self.trial.controls(pose.joints) for pose in poses], np.float32))

    def _push(self, direction: np.ndarray) -> None:
        force = np.zeros((self.count, self.trial.model.nbody, 6), np.float32)
        force[:, self.trial.at.object_body, :3] = self.trial.mass * self.protocol.acceleration * direction
        self.data.xfrc_applied.assign(force)

    def _step(self, count: int) -> None:
        import warp as wp

        with wp.ScopedDevice(self.device):
            if self.device.is_cuda and self.graph is None:
                # Compile before the capture, which allows no module to load, and take the step back.
                before = {name: getattr(self.data, name).numpy() for name in STATE}
                mujoco_warp().step(self.model, self.data)
                for name, values in before.items():
                    getattr(self.data, name).assign(values)
                with wp.ScopedCapture() as capture:
                    mujoco_warp().step(self.model, self.data)
                self.graph = capture.graph
            for _ in range(count):
                if self.graph is None:
                    mujoco_warp().step(self.model, self.data)
                else:
                    wp.capture_launch(self.graph)
        if int(self.data.nacon.numpy()[0]) > self.data.naconmax or self.data.nefc.numpy().max() > self.data.njmax:
            raise WarpgraspError(
                f"more than {CONTACTS} contacts or {ROWS} constraints in a world: simulate on the CPU, or cut the "
                "object into fewer pieces"
            )

    def _displacement(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance [m] and angle [rad] of every object from where it was at the start."""
        at = self.trial.at.object
        here = self.data.qpos.numpy()[:, at : at + 7].astype(float)
        start = self.trial.start
        # By the half angle's sine, for the cosine of a small angle is 1 in single precision.
        sine = np.linalg.norm(_relative(start[3:], here[:, 3:] / np.linalg.norm(here[:, 3:], axis=1)[:, None]), axis=1)
        return np.linalg.norm(here[:, :3] - start[:3], axis=1), 2.0 * np.arcsin(np.clip(sine, 0.0, 1.0))


def _relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector part of the rotation from one unit quaternion (4,) to others (N, 4), shape (N, 3)."""
    return a[0] * b[:, 1:] - b[:, :1] * a[1:] - np.cross(a[1:], b[:, 1:])


def _lost(trial: Trial, displacement: float, rotation: float, moved: str, turned: str, when: str = "") -> str:
    """How the object was lost, "" if it was not."""
    if trial.in_place(displacement, rotation):
        return ""
    if not np.isfinite(displacement + rotation):
        return DIVERGED + when
    return (moved if displacement >= trial.protocol.largest_displacement else turned) + when
