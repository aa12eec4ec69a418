"""isaac_grasp: the YAML of Isaac Sim and Isaac ROS, for people to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError
from ..pose import Pose
from .conventions import named_pose
from .gather import gather, numbers, open_hand, require
from .meshes import Writer, find_mesh
from .pickled import read_bytes
from .target import whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "metrics, info, lift, table and arm"

MAX_BYTES = 64 * 1024**2
"""Largest file that is read; YAML is slow."""

PREFIXES = {"grasp": "", "pregrasp": "pregrasp_", "squeeze": "squeeze_"}


def write(grasps: Grasps, path: Path) -> None:
    """The file, and ``<stem>.obj`` beside it."""
    import yaml

    object_file = path.with_suffix(".obj")
    frames = {"object_frame": grasps.object_name, "gripper_frame": grasps.hand.link_names[0]}
    document: dict[str, Any] = {
        "format": "isaac_grasp",
        "format_version": 1.0,
        **frames,
        # the names of the same two in Isaac Sim's grasp editor
        **{f"{key}_link": value for key, value in frames.items()},
        "created_with": "warpgrasp",
        "object_file": object_file.name,
        "object_scale": 1.0,
        "gripper_file": grasps.hand_source,
        "gripper_hash": grasps.hand_hash,
        "grasps": {f"grasp_{i}": _grasp(grasps, i) for i in range(len(grasps))},
    }
    with whole_file(path, ".yaml", ".yml") as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(document, file, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    Writer(grasps).write_mesh(object_file)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of a file, from whichever program; joints that mimic others may be missing."""
    import yaml

    content = read_bytes(path)
    if len(content) > MAX_BYTES:
        raise FileFormatError(path, f"it has {len(content)} bytes; at most {MAX_BYTES} are read")
    try:
        document = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise FileFormatError(path, f"it is not YAML, or it is cut off{line}") from error
    document = require(path, document, "format", "grasps", what="an isaac_grasp file")
    if document["format"] != "isaac_grasp" or str(document.get("format_version")) != "1.0":
        found = f"{document['format']!r}, version {document.get('format_version')!r}"
        raise FileFormatError(path, f"it says it is {found}; readable is isaac_grasp, version 1.0")
    rows = document["grasps"]
    if not isinstance(rows, dict) or not rows or not all(isinstance(row, dict) for row in rows.values()):
        raise FileFormatError(path, "its grasps should be a dictionary of dictionaries")
    ours = document.get("created_with") == "warpgrasp"
    loaded, source = open_hand(
        path, hand, str(document["gripper_file"]) if ours else "", str(document.get("gripper_hash", ""))
    )
    values = list(rows.values())
    title = str(document.get("object_frame", document.get("object_frame_link", "object"))).rpartition("/")[2]
    places = [path.absolute().parent / str(document["object_file"])] if "object_file" in document else []
    factor = float(numbers(path, document.get("object_scale", 1.0), name="object_scale"))
    confidence = [float(numbers(path, row.get("confidence", 1.0), name="confidence")) for row in values]
    return gather(
        path,
        loaded,
        source,
        {phase: _pose(path, loaded, values, prefix) for phase, prefix in PREFIXES.items()},
        mesh=find_mesh(mesh, places, factor, title),
        object_name=title,
        valid=np.array(confidence) > 0.0,
        reason=[str(row["reason"]) for row in values] if all("reason" in row for row in values) else None,
        metrics={} if ours else {"confidence": confidence},
    )


def _grasp(grasps: Grasps, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {"confidence": 1.0 if grasps.valid[i] else 0.0, "reason": str(grasps.reason[i])}
    for phase, prefix in PREFIXES.items():
        pose = grasps.phases[phase]
        w, x, y, z = pose.wrist_quaternion[i].tolist()
        row[f"{prefix}position"] = pose.wrist_position[i].tolist()
        row[f"{prefix}orientation"] = {"w": w, "xyz": [x, y, z]}
        joints = pose.joint_position[i].tolist()
        row[f"{prefix}cspace_position"] = dict(zip(grasps.joint_names, joints, strict=True))
    return row


def _pose(path: Path, hand: Hand, rows: list[dict[str, Any]], prefix: str) -> Pose | None:
    """One phase; other programs write the pregrasp's joints only, its wrist is then that of the grasp."""
    joints_key = f"{prefix}cspace_position"
    if prefix and not all(joints_key in row for row in rows):
        return None
    position, quaternion, joints = [], [], []
    for row in rows:
        own = prefix if f"{prefix}position" in row else ""
        for key in (f"{own}position", f"{own}orientation", joints_key):
            if key not in row:
                raise FileFormatError(path, f"a grasp has no {key!r}")
        turn = require(path, row[f"{own}orientation"], "w", "xyz", what="an isaac_grasp file")
        position.append(numbers(path, row[f"{own}position"], 3, name="position"))
        quaternion.append([float(numbers(path, turn["w"], name="w")), *numbers(path, turn["xyz"], 3, name="xyz")])
        joints.append(require(path, row[joints_key], what="an isaac_grasp file"))
    names = [name for name in hand.joint_names if all(name in one for one in joints)]
    found = {name: numbers(path, [one[name] for one in joints], None, name=name) for name in names}
    if not found:
        found = {str(key): np.zeros(0) for key in joints[0]}
    return named_pose(path, hand, np.array(position), np.array(quaternion), found)
