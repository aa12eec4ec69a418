"""Many grasps on many cores: processes that read a compiled scene, and give back numbers; no pickles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WarpgraspError
from ..pose import Pose
from .engine import mujoco
from .object_model import child_environment
from .protocols import Protocol
from .scene import Addresses
from .trial import HandPose, Outcome, Trial

PHASES = ("pregrasp", "grasp", "squeeze")

LEAST_SHARE = 4
"""Grasps that are worth a process of their own."""

ProgressCallback = Callable[[int, int], None]
"""Called with the grasps done and the grasps in all."""


@dataclass(frozen=True, eq=False)
class Job:
    """A compiled scene and the grasps to judge in it."""

    model: Any
    """``mujoco.MjModel``."""

    joint_names: tuple[str, ...]

    finger_of_body: np.ndarray
    """See :func:`warpgrasp.physics.scene.finger_of_body`."""

    protocol: Protocol

    poses: dict[str, Pose]
    """By phase: pregrasp, grasp, squeeze."""

    def __len__(self) -> int:
        return len(self.poses["grasp"])

    def trial(self) -> Trial:
        """What judges the grasps."""
        return Trial(self.model, Addresses.find(self.model, self.joint_names), self.finger_of_body, self.protocol)

    def phases(self, row: int) -> tuple[HandPose, HandPose, HandPose]:
        """The three poses of a grasp."""
        pick = [self.poses[name] for name in PHASES]
        first, second, third = (
            HandPose(pose.wrist_position[row], pose.wrist_quaternion[row], pose.joint_position[row]) for pose in pick
        )
        return first, second, third


def judge(job: Job, *, workers: int | None = None, on_progress: ProgressCallback | None = None) -> list[Outcome]:
    """Outcomes in the order of the grasps; they do not depend on the number of workers.

    Args:
        job: Scene and grasps.
        workers: Processes; as many as there are cores to use, where omitted. With one, all runs here.
        on_progress: Called after every grasp here, and now and then where processes work.
    """
    useful = max(1, len(job) // LEAST_SHARE)
    count = min(workers or cores(), useful if workers is None else max(1, len(job)))
    if count == 1:
        trial, outcomes = job.trial(), []
        for row in range(len(job)):
            outcomes.append(trial.run(*job.phases(row)))
            if on_progress:
                on_progress(row + 1, len(job))
        return outcomes
    with tempfile.TemporaryDirectory(prefix="warpgrasp-") as folder:
        save(job, Path(folder))
        _run(Path(folder), count, lambda done: on_progress(done, len(job)) if on_progress else None)
        return load_outcomes(Path(folder), count, len(job))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def save(job: Job, folder: Path) -> None:
    """Write a job for the processes that share it."""
    mujoco().mj_saveModel(job.model, str(folder / "scene.mjb"))
    arrays: dict[str, Any] = {"joint_names": np.array(job.joint_names), "finger_of_body": job.finger_of_body}
    for phase, pose in job.poses.items():
        for field in fields(Pose):
            arrays[f"{phase}_{field.name}"] = getattr(pose, field.name)
    np.savez(folder / "job.npz", **arrays, protocol=json.dumps(asdict(job.protocol)))


def load(folder: Path) -> Job:
    """Read what :func:`save` wrote."""
    with np.load(folder / "job.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    settings = {
        name: _tuples(value) if isinstance(value, list) else value
        for name, value in json.loads(str(arrays["protocol"])).items()
    }
    poses = {phase: Pose(*(arrays[f"{phase}_{field.name}"] for field in fields(Pose))) for phase in PHASES}
    return Job(
        mujoco().MjModel.from_binary_path(str(folder / "scene.mjb")),
        tuple(str(name) for name in arrays["joint_names"]),
        arrays["finger_of_body"],
        Protocol(**settings),
        poses,
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _run(folder: Path, count: int, on_done: Callable[[int], None]) -> None:
    """Start the processes and wait; whatever happens, none is left behind."""
    command = [sys.executable, "-m", "warpgrasp.physics.workers", str(folder), str(count)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for worker in range(count):
            with (folder / f"{worker}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen([*command, str(worker)], env=child_environment(), stdout=log, stderr=log)
                )
        working = True
        while working:
            working = any(process.poll() is None for process in processes)
            on_done(sum(len(file.read_text().splitlines()) for file in folder.glob("*.jsonl")))
            for worker, process in enumerate(processes):
                if process.poll() == -signal.SIGINT:
                    raise KeyboardInterrupt  # Ctrl-C reaches all processes, and a worker may be the first to stop
                if process.poll():
                    raise WarpgraspError(f"a physics process stopped: {_last_words(folder, worker, process)}")
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _last_words(folder: Path, worker: int, process: subprocess.Popen[bytes]) -> str:
    if process.returncode < 0:
        return f"it was ended by {signal.Signals(-process.returncode).name}, perhaps for lack of memory"
    message = (folder / f"{worker}.log").read_text(errors="replace").strip().splitlines()
    return message[-1] if message else f"exit code {process.returncode}"


def load_outcomes(folder: Path, count: int, total: int) -> list[Outcome]:
    """What the processes wrote, in the order of the grasps."""
    outcomes: dict[int, Outcome] = {}
    for worker in range(count):
        rows = range(worker, total, count)
        lines = (folder / f"{worker}.jsonl").read_text().splitlines()
        outcomes |= {row: Outcome(**json.loads(line)) for row, line in zip(rows, lines, strict=True)}
    return [outcomes[row] for row in range(total)]


def main(folder: Path, count: int, worker: int) -> None:
    """Judge every ``count``-th grasp from ``worker`` on, one line each."""
    # Ctrl-C reaches the whole group: go quietly, the parent says what happened.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = load(folder)
    trial = job.trial()
    with (folder / f"{worker}.jsonl").open("w") as file:
        for row in range(worker, len(job), count):
            file.write(json.dumps(asdict(trial.run(*job.phases(row)))) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
