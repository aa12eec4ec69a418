"""GraspGen: JSON with one 4 x 4 matrix per grasp, failures included; made for grippers without joints worth keeping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError
from ..pose import Pose
from . import conventions
from .gather import gather, numbers, open_hand, require
from .meshes import Writer, find_mesh
from .pickled import read_bytes
from .target import whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "metrics, info, lift, table and arm; other programs see no joints and one phase"

PHASES = ("grasp", "pregrasp", "squeeze")


def write(grasps: Grasps, path: Path) -> None:
    """The file, and ``<stem>.obj`` beside it."""
    way = conventions.convention("graspgen", grasps)
    object_file = path.with_suffix(".obj")
    rows = {phase: way.export_pose(grasps.joint_names, grasps.phases[phase]) for phase in PHASES}
    document = {
        "object": {"file": object_file.name, "scale": 1.0},
        "grasps": {"transforms": _matrices(rows["grasp"]), "object_in_gripper": _holds(grasps).tolist()},
        "gripper": {"name": way.name},
        "warpgrasp": {
            "object_name": grasps.object_name,
            "hand": grasps.hand_source,
            "hand_hash": grasps.hand_hash,
            "valid": grasps.valid.tolist(),
            "reason": grasps.reason.tolist(),
            "joint_names": list(way.joint_names),
            "joint_position": {phase: joints.tolist() for phase, (_, _, joints) in rows.items()},
            "transforms": {phase: _matrices(rows[phase]) for phase in PHASES[1:]},
        },
    }
    with whole_file(path, ".json") as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False))
    Writer(grasps).write_mesh(object_file)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of a file; where it has no joints, they are those of the open hand, and ``info`` says so."""
    content = read_bytes(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, "it is not JSON, or it is cut off") from error
    document = require(path, document, "object", "grasps", what="a file of GraspGen")
    object_ = require(path, document["object"], "file", what="a file of GraspGen")
    grasps = require(path, document["grasps"], "transforms", "object_in_gripper", what="a file of GraspGen")
    own: dict[str, Any] = require(path, document.get("warpgrasp", {}), what="a file of GraspGen")
    gripper = str(require(path, document.get("gripper", {}), what="a file of GraspGen").get("name", ""))
    recorded = str(own.get("hand", "") or conventions.bundled_name("graspgen", gripper) or "")
    loaded, source = open_hand(path, hand, recorded, str(own.get("hand_hash", "")))
    way = conventions.find("graspgen", source, loaded.joint_names)
    joints = own.get("joint_position", {})
    transforms = {"grasp": grasps["transforms"]} | dict(own.get("transforms", {}))
    count = len(transforms["grasp"])
    still = Pose(np.zeros((count, 3)), np.tile([1.0, 0, 0, 0], (count, 1)), np.tile(loaded.open_position, (count, 1)))
    opened = way.export_pose(loaded.joint_names, still)[2]

    def pose(phase: str) -> Pose:
        values = numbers(path, joints[phase], None, None, name="joint_position") if phase in joints else opened
        matrices = numbers(path, transforms[phase], len(values), 4, 4, name="transforms")
        turns = matrices[:, :3, :3]
        if not np.allclose(turns @ np.swapaxes(turns, 1, 2), np.eye(3), atol=1e-3) or not np.isfinite(matrices).all():
            raise FileFormatError(path, "a transform is not a rotation and a translation")
        return way.import_pose(path, loaded, matrices[:, :3, 3], rotation.quaternion_from_matrix(turns), values)

    title = str(own.get("object_name", Path(str(object_["file"])).stem))
    factor = float(numbers(path, object_.get("scale", 1.0), name="scale"))
    return gather(
        path,
        loaded,
        source,
        {phase: pose(phase) for phase in PHASES if phase in transforms},
        mesh=find_mesh(mesh, [path.absolute().parent / str(object_["file"])], factor, title),
        object_name=title,
        valid=own.get("valid", grasps["object_in_gripper"]),
        reason=own.get("reason"),
        info={} if joints else {"joints": "those of the open hand; the file has none"},
    )


def _holds(grasps: Grasps) -> np.ndarray:
    """Whether the object stays in the hand: judged by physics where that was done, else by geometry."""
    judged = next((values for key, values in grasps.metrics.items() if key.startswith("success_")), None)
    return grasps.valid if judged is None else np.asarray(judged, bool)


def _matrices(row: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[Any]:
    return rotation.matrix(row[0], row[1]).tolist()
