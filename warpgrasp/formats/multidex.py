"""MultiDex: one torch file per hand."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import rotation
from ..errors import FileFormatError
from ..pose import Pose
from . import conventions
from .conventions import Convention
from .gather import gather, listed, open_hand, require
from .meshes import Writer, code, find_mesh
from .pickled import MAX_BYTES
from .target import matching_files, whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "digits beyond float32; metrics, info, lift, table and arm"

COLLECTION = "warpgrasp"
"""Objects are called COLLECTION+NAME."""


def write(grasps: Grasps, path: Path) -> None:
    """The file of one hand, and the object as an STL file."""
    import torch

    way = conventions.convention("multidex", grasps)
    name = code(grasps.object_name)
    title = f"{COLLECTION}+{name}"
    robot = code(way.name)
    folder = path / robot
    folder.mkdir(parents=True, exist_ok=True)
    poses = (grasps.pose, grasps.pregrasp, grasps.squeeze)
    grasp, pregrasp, squeeze = (torch.from_numpy(_rows(way, grasps, pose)) for pose in poses)
    content = {
        "info": {
            robot: {"num_total": len(grasps), "num_per_object": {title: len(grasps)}},
            "joint_names": list(way.joint_names),
            "hand": grasps.hand_source,
            "hand_hash": grasps.hand_hash,
        },
        "metadata": [(row.clone(), title, robot) for row in grasp],
        "pregrasp": pregrasp,
        "squeeze": squeeze,
        "valid": torch.from_numpy(np.asarray(grasps.valid, bool)),
        "reason": [str(text) for text in grasps.reason],
    }
    with whole_file(folder / f"{robot}.pt", ".pt") as temporary:
        torch.save(content, temporary)
    Writer(grasps).write_mesh(path / "object" / COLLECTION / name / f"{name}.stl")


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of one object; ``name`` chooses where the file holds several."""
    files = matching_files(path, ".pt")
    if len(files) > 1:
        raise FileFormatError(path, f"it holds {len(files)} files; give one of them: {listed(f.name for f in files)}")
    file = files[0]
    content = require(file, load(file), "metadata", what="a file of MultiDex")
    rows, objects, robots = _columns(file, content["metadata"])
    counts = Counter(objects)
    title = name or objects[0]
    if title not in counts or (name is None and len(counts) > 1):
        wanted = f"none is called {name!r}" if name else "name one of them"
        raise FileFormatError(file, f"it holds {len(counts)} objects, {wanted}: {listed(counts)}")
    chosen = [i for i, one in enumerate(objects) if one == title]
    info = content.get("info") if isinstance(content.get("info"), dict) else {}
    recorded = str(info.get("hand", "") or conventions.bundled_name("multidex", robots[chosen[0]]) or "")
    loaded, source = open_hand(file, hand, recorded, str(info.get("hand_hash", "")))
    way = conventions.find("multidex", source, loaded.joint_names)

    def pose(values: Any) -> Pose:
        table = _floats(file, values)[chosen]
        return way.import_pose(file, loaded, table[:, :3], _quaternions(file, table[:, 3:9]), table[:, 9:])

    same = [key for key in ("pregrasp", "squeeze", "valid", "reason") if len(content.get(key, ())) == len(rows)]
    short = title.rpartition("+")[2]
    return gather(
        file,
        loaded,
        source,
        {"grasp": pose(rows)} | {phase: pose(content[phase]) for phase in ("pregrasp", "squeeze") if phase in same},
        mesh=find_mesh(mesh, _places(file, title), 1.0, short),
        object_name=short,
        valid=[bool(content["valid"][i]) for i in chosen] if "valid" in same else None,
        reason=[str(content["reason"][i]) for i in chosen] if "reason" in same else None,
    )


def load(path: Path) -> Any:
    """The content of a torch file: tensors, numbers, text and containers, and nothing that runs.

    Raises:
        FileFormatError: It holds anything else, it is damaged or too large.
    """
    import torch

    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
        if size > MAX_BYTES:
            raise FileFormatError(path, f"it has {size} bytes; at most {MAX_BYTES} are read")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileFormatError:
        raise
    except Exception as error:
        if "Unsupported" in str(error) or "weights_only" in str(error):
            problem = "it is refused: it holds something other than tensors, numbers, text and containers"
        else:
            problem = f"it is not a torch file, or it is damaged ({type(error).__name__})"
        raise FileFormatError(path, problem) from error


def _rows(way: Convention, grasps: Grasps, pose: Pose) -> np.ndarray:
    """Position, the first two columns of the rotation, joints, float32, shape (N, 9 + K)."""
    position, quaternion, joints = way.export_pose(grasps.joint_names, pose)
    columns = np.swapaxes(rotation.matrix_from_quaternion(quaternion)[:, :, :2], 1, 2).reshape(-1, 6)
    return np.concatenate([position, columns, joints], axis=1).astype(np.float32)


def _quaternions(path: Path, columns: np.ndarray) -> np.ndarray:
    """Quaternions w x y z of two columns that need not be orthogonal to the last bit."""
    x, y = columns[:, :3], columns[:, 3:]
    length = np.linalg.norm(np.cross(x, y), axis=1)
    if not (length > 1e-6).all():
        raise FileFormatError(path, "a rotation has two columns that are parallel or zero")
    # Halfway between the two and half across, so that neither is preferred.
    x, y = _unit(x), _unit(y)
    middle, across = _unit(x + y), _unit(x - y)
    x, y = (middle + across) / np.sqrt(2.0), (middle - across) / np.sqrt(2.0)
    return rotation.quaternion_from_matrix(np.stack([x, y, np.cross(x, y)], axis=-1))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _columns(path: Path, metadata: Any) -> tuple[list[Any], list[str], list[str]]:
    if (
        not isinstance(metadata, list)
        or not metadata
        or not all(isinstance(row, tuple | list) and len(row) == 3 for row in metadata)
        or not all(isinstance(text, str) for row in metadata for text in row[1:])
    ):
        raise FileFormatError(path, "its metadata should be a list of (numbers, object, robot)")
    rows, objects, robots = zip(*metadata, strict=True)
    return list(rows), list(objects), list(robots)


def _floats(path: Path, values: Any) -> np.ndarray:
    try:
        table = np.array([np.asarray(row, float) for row in values])
    except (TypeError, ValueError) as error:
        raise FileFormatError(path, "its grasps should be rows of numbers of one length") from error
    if table.ndim != 2 or table.shape[1] < 10:
        raise FileFormatError(path, f"a grasp has {table.shape[-1]} numbers; expected 9 for the root, and the joints")
    return table


def _places(file: Path, title: str) -> list[Path]:
    collection, _, name = title.rpartition("+")
    return [
        parent / folder / collection / name / f"{name}.stl"
        for parent in file.absolute().parents[:3]
        for folder in ("object", "data/object")
    ]
