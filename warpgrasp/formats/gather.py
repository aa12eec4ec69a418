"""From the arrays of a foreign file to :class:`Grasps`, and the checks that every reader needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, HandError, WarpgraspError
from ..hand import Hand
from ..hand_file import load_hand
from ..mesh import ObjectMesh
from ..pose import Pose
from ..result import Grasps

MAX_COUNT = 10_000_000
"""Grasps that are read from one file at most."""

NO_MESH = (np.zeros((0, 3)), np.zeros((0, 3), np.int32))


def gather(
    path: Path,
    hand: Hand,
    source: str,
    phases: Mapping[str, Pose | None],
    *,
    mesh: ObjectMesh | None,
    object_name: str,
    valid: Sequence[Any] | np.ndarray | None = None,
    reason: Sequence[Any] | np.ndarray | None = None,
    metrics: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Grasps:
    """Grasps out of what was read; a phase that the file lacks is the grasp itself, and ``info`` says so.

    Args:
        path: File that was read.
        hand: The hand.
        source: Bundled name or path of the hand.
        phases: Pose by phase; ``grasp`` is there, ``pregrasp`` and ``squeeze`` may be missing or None.
        mesh: The object in metres, None where there is none.
        object_name: Of the object, where there is no mesh.
        valid: (N,) truth values; all true where the file does not say it.
        reason: (N,) texts.
        metrics: (N,) numbers by name.
        info: What else is known.
    """
    grasp = phases["grasp"]
    assert grasp is not None
    count = len(grasp)
    if not 0 < count <= MAX_COUNT:
        raise FileFormatError(path, f"it holds {count} grasps; between 1 and {MAX_COUNT} are read")
    missing = [phase for phase in ("pregrasp", "squeeze") if phases.get(phase) is None]
    notes = dict(info or {}) | {"read_from": path.name}
    if missing:
        notes["phases_equal_to_the_grasp"] = missing
    accepted = np.ones(count, bool) if valid is None else np.array(valid, bool)
    text = np.where(accepted, "", "not valid in the file") if reason is None else np.array(reason, str)
    grasps = Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=phases.get("pregrasp") or grasp,
        squeeze=phases.get("squeeze") or grasp,
        valid=accepted,
        reason=text,
        metrics={str(key): np.array(value) for key, value in (metrics or {}).items()},
        hand_source=source,
        hand_hash=hand.hash,
        object_name=mesh.name if mesh else object_name,
        object_vertices=mesh.vertices if mesh else NO_MESH[0],
        object_faces=mesh.faces if mesh else NO_MESH[1],
        info=notes,
    )
    grasps.hand = hand
    if mesh is not None:
        grasps.object = mesh
    return grasps


def open_hand(
    path: Path, given: str | Path | Hand | None, recorded: str = "", recorded_hash: str = ""
) -> tuple[Hand, str]:
    """The hand that grasps are of, and where it comes from.

    Args:
        path: File of grasps.
        given: What the caller says.
        recorded: What the file says, "" where it says nothing.
        recorded_hash: Hash of the hand in the file, "" where it has none.

    Raises:
        FileFormatError: Neither says it.
        HandError: The hand is not the one that the grasps were made with.
    """
    chosen = given if given is not None else recorded
    if not chosen:
        raise FileFormatError(
            path, "it does not say which hand it is of; pass hand, a bundled name or the path of a file"
        )
    try:
        hand = load_hand(chosen)
    except WarpgraspError as error:
        if given is not None:
            raise
        problem = f"its grasps are of the hand {recorded!r}, which is not here ({error}); pass hand"
        raise FileFormatError(path, problem) from error
    if recorded_hash and recorded_hash != hand.hash:
        raise HandError(
            chosen if not isinstance(chosen, Hand) else hand.path,
            f"is not the hand that the grasps in {path} were made with",
        )
    return hand, source_of(hand)


def source_of(hand: Hand) -> str:
    """Bundled name of a hand, or the path of its file."""
    from ..hands import folder

    return hand.name if hand.path == folder() / hand.name / "hand.urdf" else str(hand.path)


def require(path: Path, value: Any, *keys: str, what: str) -> dict[str, Any]:
    """The dictionary that a format starts with.

    Raises:
        FileFormatError: It is none, or a key is missing: it is a file of something else.
    """
    if not isinstance(value, dict):
        raise FileFormatError(path, f"it is not {what}: expected a dictionary, found {type(value).__name__}")
    missing = [key for key in keys if key not in value]
    if missing:
        raise FileFormatError(path, f"it is not {what}: it has no {missing[0]!r}, but {listed(value)}")
    return value


def listed(names: Iterable[Any], count: int = 6) -> str:
    """The first few names."""
    names = [str(name) for name in names]
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "") or "nothing"


def numbers(path: Path, value: Any, *shape: int | None, name: str) -> np.ndarray:
    """An array of numbers of a shape; None stands for any length.

    Raises:
        FileFormatError: It is not.
    """
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise FileFormatError(path, f"{name} should be numbers") from error
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("N" if want is None else str(want) for want in shape)
        raise FileFormatError(path, f"{name} has shape {array.shape}, expected ({wanted})")
    return array
