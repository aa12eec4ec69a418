"""What happened in one trial, frame by frame: numbers that any viewer can be fed from, a film, a strip of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError, OptionError
from ..files import save_arrays
from ..result import Grasps
from ..validation import prepare
from .object_model import ObjectShape, object_shape
from .protocols import DIRECTIONS, Protocol, find_protocol
from .trial import Outcome
from .workers import ProgressCallback

FORMATS = (".gif", ".png", ".npz")
"""A film, a strip of pictures, numbers."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The trial of one grasp. Poses are in the object frame at the start."""

    grasps: Grasps

    index: int
    """Which of the grasps."""

    protocol: Protocol

    outcome: Outcome

    time_s: np.ndarray
    """Simulated time, which goes back to the end of the closing at every pull, shape (frame,)."""

    stage: np.ndarray
    """What is done: one of :func:`stages`, str, shape (frame,)."""

    force_N: np.ndarray
    """Pulls the object at its centre of mass, shape (frame, 3)."""

    wrist_position: np.ndarray
    """[m], shape (frame, 3)."""

    wrist_quaternion: np.ndarray
    """w x y z, shape (frame, 4)."""

    joint_position: np.ndarray
    """[rad or m], shape (frame, J)."""

    object_pose: np.ndarray
    """Takes points of the object's mesh to where they are, shape (frame, 4, 4)."""

    def save(self, path: str | Path) -> None:
        """Write all arrays, ``joint_names``, ``object_vertices`` and ``object_faces`` to an ``.npz`` file."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        arrays["joint_names"] = np.array(self.grasps.joint_names)
        arrays |= {name: getattr(self.grasps, name) for name in ("object_vertices", "object_faces")}
        save_arrays(Path(path), arrays)


def record(
    grasps: Grasps,
    index: int,
    path: str | Path,
    *,
    protocol: Protocol | str = "fc6",
    hand_mjcf: str | Path | None = None,
    couple_actuators: bool = False,
    shape: ObjectShape | None = None,
    frame_rate: float = 50.0,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> Outcome:
    """Run the trial of one grasp and write what happened.

    The name says what: ``.gif`` is a film, slowed down where much moves; ``.png`` a strip of pictures, one for the end
    of each stage; ``.npz`` the arrays of :class:`Recording`.

    Args:
        grasps: Grasps with their pregrasp and squeeze.
        index: Which of them.
        path: File to write.
        protocol: As in :func:`warpgrasp.validate`, like the next three.
        hand_mjcf: The hand is drawn as the ``Hand`` describes it all the same.
        couple_actuators: See there.
        shape: See there.
        frame_rate: Frames per simulated second [1/s].
        device: Warp device that draws; the first GPU, else the CPU, where omitted.
        on_progress: Called with the pictures done and the pictures in all.

    Returns:
        What :func:`warpgrasp.validate` finds for this grasp too.

    Raises:
        FileFormatError: The name ends in something else, or the folder does not exist.
        OptionError: There is no such grasp or protocol, or the frame rate is not positive.
        HandError: As in :func:`warpgrasp.validate`.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS or not path.parent.is_dir():
        raise FileFormatError(path, f"a recording is a {', '.join(FORMATS)} file in a folder that exists")
    recording = run_trial(
        grasps,
        index,
        protocol=protocol,
        hand_mjcf=hand_mjcf,
        couple_actuators=couple_actuators,
        shape=shape,
        frame_rate=frame_rate,
    )
    if path.suffix.lower() == ".npz":
        recording.save(path)
    else:
        from .. import film

        draw = film.write_film if path.suffix.lower() == ".gif" else film.write_strip
        draw(recording, path, device=device, on_progress=on_progress)
    return recording.outcome


def run_trial(
    grasps: Grasps,
    index: int,
    *,
    protocol: Protocol | str = "fc6",
    hand_mjcf: str | Path | None = None,
    couple_actuators: bool = False,
    shape: ObjectShape | None = None,
    frame_rate: float = 50.0,
) -> Recording:
    """Run the trial of one grasp; see :func:`record` for the arguments.

    A grasp that the protocol refuses to begin with has one frame.
    """
    if not 0 <= index < len(grasps):
        raise OptionError(f"index must be from 0 to {len(grasps) - 1}, got {index}")
    if not frame_rate > 0.0:
        raise OptionError(f"frame_rate must be positive, got {frame_rate}")
    chosen = find_protocol(protocol)
    shape = shape or object_shape(grasps.object)
    job = prepare(grasps, chosen, shape, hand_mjcf=hand_mjcf, couple_actuators=couple_actuators)
    trial, phases = job.trial(), job.phases(index)
    every = max(1, round(1.0 / (frame_rate * chosen.time_step)))
    frames: list[np.ndarray] = []
    steps = 0

    def keep(data: Any) -> None:
        frames.append(np.concatenate([[data.time], data.xfrc_applied[trial.at.object_body, :3], data.qpos]))

    def on_frame(data: Any) -> None:
        nonlocal steps
        steps += 1
        if steps % every == 0:
            keep(data)

    trial.on_frame = on_frame
    outcome = trial.run(*phases)
    if not frames:
        trial.reset(phases[0] if chosen.close else phases[1])
        keep(trial.data)
    time, force, motion = np.split(np.array(frames), [1, 4], axis=1)
    root, item = trial.at.root, trial.at.object
    return Recording(
        grasps=grasps,
        index=index,
        protocol=chosen,
        outcome=outcome,
        time_s=time[:, 0],
        stage=np.array([_stage(chosen, t, f) for t, f in zip(time[:, 0], force, strict=True)]),
        force_N=force,
        wrist_position=motion[:, root : root + 3],
        wrist_quaternion=motion[:, root + 3 : root + 7],
        joint_position=motion[:, trial.at.joints],
        object_pose=_poses(motion[:, item : item + 7], grasps.object.center_of_mass),
    )


def stages(protocol: Protocol) -> tuple[str, ...]:
    """What a protocol does, in order."""
    if protocol.lift_height:
        shakes = ("shake x", "shake y", "shake z") if protocol.shake_amplitude else ()
        return ("close", "lift", "hold", *shakes)
    return (*(("close",) if protocol.close else ()), *protocol.directions)


def _stage(protocol: Protocol, time: float, force: np.ndarray) -> str:
    """What is done at a time [s] while a force [N] (3,) pulls the object."""
    if protocol.close and not force.any():
        return "close"
    if not protocol.lift_height:
        return max(protocol.directions, key=lambda name: float(force @ DIRECTIONS[name]))
    time -= 2.0 * protocol.close_time
    ends = np.cumsum([protocol.lift_time, protocol.pull_time, *[protocol.shake_time] * 3])
    names = stages(protocol)[1:]
    return names[min(int(np.searchsorted(ends + 1e-9, time)), len(names) - 1)]


def _poses(body: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Poses of the mesh, whose body sits at its centre of mass, shape (frame, 4, 4)."""
    poses = rotation.matrix(body[:, :3], body[:, 3:])
    poses[:, :3, 3] -= poses[:, :3, :3] @ center
    return poses
