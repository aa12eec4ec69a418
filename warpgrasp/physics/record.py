"""What happened in one trial, frame by frame, in a file that any viewer can be fed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, OptionError
from ..result import Grasps
from ..validation import prepare
from .object_model import ObjectShape, object_shape
from .protocols import Protocol, find_protocol
from .trial import Outcome


def record(
    grasps: Grasps,
    index: int,
    path: str | Path,
    *,
    protocol: Protocol | str = "fc6",
    shape: ObjectShape | None = None,
    frame_rate: float = 50.0,
) -> Outcome:
    """Run the trial of one grasp and write its motion to an ``.npz`` file.

    The file holds ``time_s`` (frame,), which goes back to the end of the closing at every pull; ``wrist_position``
    (frame, 3) [m], ``wrist_quaternion`` (frame, 4) w x y z and ``joint_position`` (frame, J) [rad or m] of the hand,
    and ``object_pose`` (frame, 4, 4), which takes points of the object's mesh to where they are; all in the object
    frame at the start. ``joint_names``, ``object_vertices`` and ``object_faces`` say of what.

    Args:
        grasps: Grasps with their pregrasp and squeeze.
        index: Which of them.
        path: File to write, ``.npz``.
        protocol: As in :func:`warpgrasp.validate`.
        shape: As there.
        frame_rate: Frames per simulated second [1/s].

    Raises:
        FileFormatError: The name does not end in ``.npz``, or the folder does not exist.
        OptionError: There is no such grasp, or the frame rate is not positive.
    """
    path = Path(path)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise FileFormatError(path, "a recording is a .npz file in a folder that exists")
    if not 0 <= index < len(grasps):
        raise OptionError(f"index must be from 0 to {len(grasps) - 1}, got {index}")
    if not frame_rate > 0.0:
        raise OptionError(f"frame_rate must be positive, got {frame_rate}")
    chosen = find_protocol(protocol)
    job = prepare(grasps, chosen, shape or object_shape(grasps.object))
    trial = job.trial()
    every = max(1, round(1.0 / (frame_rate * chosen.time_step)))
    frames: list[np.ndarray] = []
    steps = 0

    def on_frame(data: Any) -> None:
        nonlocal steps
        steps += 1
        if steps % every == 0:
            frames.append(np.concatenate([[data.time], data.qpos]))

    trial.on_frame = on_frame
    outcome = trial.run(*job.phases(index))
    motion = np.array(frames).reshape(-1, 1 + job.model.nq)
    root, item = trial.at.root + 1, trial.at.object + 1
    np.savez_compressed(
        path,
        time_s=motion[:, 0],
        wrist_position=motion[:, root : root + 3],
        wrist_quaternion=motion[:, root + 3 : root + 7],
        joint_position=motion[:, trial.at.joints + 1],
        object_pose=_poses(motion[:, item : item + 7], grasps.object.center_of_mass),
        joint_names=np.array(grasps.joint_names),
        object_vertices=grasps.object_vertices,
        object_faces=grasps.object_faces,
    )
    return outcome


def _poses(body: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Poses of the mesh, whose body sits at its centre of mass, shape (frame, 4, 4)."""
    from .. import rotation

    poses = rotation.matrix(body[:, :3], body[:, 3:])
    poses[:, :3, 3] -= poses[:, :3, :3] @ center
    return poses
