"""UniDexGrasp: one NumPy archive per grasp, with the table."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileFormatError
from . import conventions, pickled
from .dexgraspnet import at_scale, labels
from .euler import qpos, read_qpos
from .gather import gather, listed, numbers, open_hand, require
from .meshes import Writer, code, find_mesh, nearest_scale
from .target import empty_folder, matching_files

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "metrics, info, lift and arm"

CATEGORY = "warpgrasp"

PHASES = {"grasp": "qpos", "pregrasp": "qpos_pregrasp", "squeeze": "qpos_squeeze"}


def write(grasps: Grasps, path: Path) -> None:
    """One archive per grasp, and the object divided by the scale."""
    way = conventions.convention("unidexgrasp", grasps, only=True)
    name, scale = code(grasps.object_name), nearest_scale(grasps)
    folder = empty_folder(path / "datasetv4.1" / CATEGORY / name)
    Writer(grasps, scale).write_mesh(path / "meshes" / CATEGORY / name / "decomposed.obj")
    rows = {key: qpos(way, grasps.joint_names, grasps.phases[phase]) for phase, key in PHASES.items()}
    plane = table_plane(grasps)
    for i in range(len(grasps)):
        content = {key: pickled.object_bytes(values[i]) for key, values in rows.items()}
        plain = {
            # what the mesh is divided by to become metres
            "scale": np.float32(1.0 / scale),
            "plane": plane,
            "valid": np.array(bool(grasps.valid[i])),
            "reason": np.array(str(grasps.reason[i])),
        }
        with zipfile.ZipFile(folder / f"{i:05d}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in (content | {key: _plain(value) for key, value in plain.items()}).items():
                archive.writestr(f"{key}.npy", value)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of one object at one scale: an archive, or a folder of them."""
    root = path / "datasetv4.1" if (path / "datasetv4.1").is_dir() else path
    files = matching_files(root, ".npz")
    objects = sorted({file.parent.name for file in files})
    if name is not None or len(objects) > 1:
        files = [file for file in files if file.parent.name == name]
        if not files:
            wanted = f"none is called {name!r}" if name else "name one of them"
            raise FileFormatError(path, f"it holds {len(objects)} objects, {wanted}: {listed(objects)}")
    records = [require(f, pickled.read_npz(f), "qpos", "scale", what="a file of UniDexGrasp") for f in files]
    factors = [1.0 / float(numbers(file, r["scale"], name="scale")) for file, r in zip(files, records, strict=True)]
    records, factor = at_scale(path, records, factors, scale)
    loaded, source = open_hand(path, hand or "shadow")
    way = conventions.find("unidexgrasp", source, loaded.joint_names, only=True)
    title = files[0].parent.name
    return gather(
        path,
        loaded,
        source,
        {
            phase: read_qpos(path, way, loaded, [record[key] for record in records])
            for phase, key in PHASES.items()
            if all(key in record for record in records)
        },
        mesh=find_mesh(mesh, _places(files[0]), factor, title),
        object_name=title,
        info={"scale": factor} | ({"plane": records[0]["plane"].tolist()} if "plane" in records[0] else {}),
        **labels(records),
    )


def table_plane(grasps: Grasps) -> np.ndarray:
    """A, B, C, D of the table in the object frame, the object being where A x + B y + C z + D >= 0 [m], float32.

    Without a table it is the horizontal plane that the object stands on.
    """
    if grasps.table is not None:
        return np.array([*grasps.table.normal, -grasps.table.offset], np.float32)
    return np.array([0.0, 0.0, 1.0, -grasps.object_vertices[:, 2].min()], np.float32)


def _plain(value: np.ndarray | np.float32) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)
    return file.getvalue()


def _places(file: Path) -> list[Path]:
    """Where the mesh lies, from one archive of grasps."""
    name, category = file.parent.name, file.parent.parent.name
    return [parent / "meshes" / category / name / "decomposed.obj" for parent in file.absolute().parents[2:5]]
