"""DexGraspBench and BODex: one NumPy file per grasp, and a folder per object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError
from ..pose import Pose, concatenate
from . import conventions, pickled
from .conventions import Convention
from .gather import gather, numbers, open_hand, require
from .meshes import Writer, code, find_mesh
from .target import empty_folder, matching_files

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "info, lift, table and arm"

PHASES = ("pregrasp", "grasp", "squeeze")


def write(grasps: Grasps, path: Path) -> None:
    """A folder that is ``output/<experiment>_<hand>`` to DexGraspBench."""
    way = conventions.convention("dexgraspbench", grasps)
    name = code(grasps.object_name)
    target = empty_folder(path / "graspdata" / name / "scale100_pose000")
    folder = path.absolute() / "object" / name
    writer = Writer(grasps)
    writer.write_mesh(folder / "mesh" / "simplified.obj")
    pieces = writer.write_pieces(folder / "urdf" / "meshes", "convex_piece_{:03d}.obj")
    writer.write_urdf(folder / "urdf" / "coacd.urdf", [f"meshes/{piece}" for piece in pieces])
    writer.write_facts(folder / "info" / "simplified.json")
    qpos = {
        phase: np.concatenate(way.export_pose(grasps.joint_names, grasps.phases[phase]), axis=1) for phase in PHASES
    }
    for i in range(len(grasps)):
        record: dict[str, Any] = {
            "obj_path": str(folder),
            "obj_scale": 1.0,
            "obj_pose": np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
            **{f"{phase}_qpos": values[i] for phase, values in qpos.items()},
            "joint_names": list(way.joint_names),
            "hand": grasps.hand_source,
            "hand_hash": grasps.hand_hash,
            "object_name": grasps.object_name,
            "valid": bool(grasps.valid[i]),
            "reason": str(grasps.reason[i]),
            "metrics": {key: values[i].item() for key, values in grasps.metrics.items()},
        }
        pickled.write_object(target / f"{i}.npy", record)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of one object: a file, or a folder of them; also what BODex writes before its conversion."""
    files = matching_files(path / "graspdata" if (path / "graspdata").is_dir() else path, ".npy")
    records = [require(file, pickled.read_npy(file), what="a file of DexGraspBench") for file in files]
    first = records[0]
    raw = "robot_pose" in first
    if not raw:
        require(files[0], first, "grasp_qpos", what="a file of DexGraspBench")
    loaded, source = open_hand(files[0], hand, str(first.get("hand", "")), str(first.get("hand_hash", "")))
    way = conventions.find("bodex" if raw else "dexgraspbench", source, loaded.joint_names)
    read_phases = _raw_phases if raw else _phases
    phases: dict[str, list[Pose]] = {phase: [] for phase in PHASES}
    for file, record in zip(files, records, strict=True):
        if _object(record) != _object(first):
            problem = f"it holds grasps of {_object(first)} and of {_object(record)}; give the folder of one of them"
            raise FileFormatError(path, problem)
        for phase, (position, quaternion, joints) in read_phases(file, record).items():
            phases[phase].append(way.import_pose(file, loaded, position, quaternion, _ordered(way, record, joints)))
    size = float(np.asarray(first.get("obj_scale", 1.0)).ravel()[0])
    title = str(first.get("object_name", Path(str(first.get("obj_path", "object"))).name))
    found = find_mesh(mesh, _places(files[0], str(first.get("obj_path", ""))), size, title)
    whole = {phase: concatenate(poses) if len(poses) == len(files) else None for phase, poses in phases.items()}
    labelled = all("valid" in record for record in records)
    shared = set.intersection(*(set(record.get("metrics", {})) for record in records))
    return gather(
        path,
        loaded,
        source,
        whole,
        mesh=found,
        object_name=title,
        valid=[record["valid"] for record in records] if labelled else None,
        reason=[record["reason"] for record in records] if labelled else None,
        metrics={
            key: [record["metrics"][key] for record in records] for key in first.get("metrics", {}) if key in shared
        },
    )


def _ordered(way: Convention, record: dict[str, Any], joints: np.ndarray) -> np.ndarray:
    """Joints in the order of the table, where the file has the same names in another order."""
    names = [str(name) for name in record.get("joint_names", ())]
    if sorted(names) != sorted(way.joint_names) or len(names) != joints.shape[1]:
        return joints
    return joints[:, [names.index(name) for name in way.joint_names]]


def _phases(file: Path, record: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Root and joints of each phase in the object's frame; older files keep the root apart, Dexonomy's hold many."""
    require(file, record, "grasp_qpos", what="a file of DexGraspBench")
    if "obj_pose" not in record:
        raise FileFormatError(file, "it has no obj_pose, so the hand's pose relative to the object is not known")
    phases = {}
    for phase in PHASES:
        if f"{phase}_qpos" in record:
            qpos = np.atleast_2d(numbers_of(file, record[f"{phase}_qpos"], f"{phase}_qpos"))
            if f"{phase}_pose" in record:
                qpos = np.concatenate([np.atleast_2d(numbers_of(file, record[f"{phase}_pose"], phase)), qpos], axis=1)
            phases[phase] = _in_object(file, record["obj_pose"], qpos)
    return phases


def _raw_phases(file: Path, record: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """BODex: ``robot_pose`` of shape (1, N, 3, 7 + n), the phases in order."""
    poses = numbers(file, record["robot_pose"], 1, None, 3, None, name="robot_pose")[0]
    where = numbers_of(file, record.get("obj_pose", [[0, 0, 0, 1, 0, 0, 0]]), "obj_pose").reshape(-1, 7)[0]
    return {phase: _in_object(file, where, poses[:, k]) for k, phase in enumerate(PHASES)}


def numbers_of(file: Path, value: Any, name: str) -> np.ndarray:
    """An array of numbers of one or two dimensions."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise FileFormatError(file, f"{name} should be one or several rows of numbers")
    return array.astype(float)


def _in_object(file: Path, where: Any, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    where = numbers(file, where, 7, name="obj_pose")
    if qpos.shape[1] < 8:
        raise FileFormatError(file, f"a pose has {qpos.shape[1]} numbers; expected 7 for the root and the joints")
    position, quaternion, joints = qpos[:, :3], qpos[:, 3:7], qpos[:, 7:]
    if np.array_equal(where, [0, 0, 0, 1, 0, 0, 0]):
        return position, quaternion, joints
    frame = rotation.inverse(rotation.matrix(where[:3], conventions.unit(file, where[3:])[0]))
    hands = frame @ rotation.matrix(position, conventions.unit(file, quaternion))
    return hands[:, :3, 3], rotation.quaternion_from_matrix(hands[:, :3, :3]), joints


def _object(record: dict[str, Any]) -> str:
    size = np.asarray(record.get("obj_scale", 1.0), float).ravel()
    return f"{Path(str(record.get('obj_path', 'an object'))).name} at scale {size[0] if size.size else 1.0:g}"


def _places(file: Path, folder: str) -> list[Path]:
    """Where the mesh may lie: where the file says, or where an exported folder has been moved to."""
    name = Path(folder).name
    moved = [parent / "object" / name for parent in file.absolute().parents[:5]]
    return [place / "mesh" / "simplified.obj" for place in (*([Path(folder)] if folder else ()), *moved)]
