"""DexGraspNet: one NumPy file per object, a list of dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError
from . import conventions, pickled
from .euler import qpos, read_qpos
from .gather import gather, listed, numbers, open_hand, require
from .meshes import Writer, code, find_mesh, nearest_scale
from .target import empty_folder, matching_files

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "info, lift, table and arm"

PHASES = {"grasp": "qpos", "pregrasp": "qpos_pregrasp", "squeeze": "qpos_squeeze"}


def write(grasps: Grasps, path: Path) -> None:
    """Grasps, and the object divided by the nearest of the scales that DexGraspNet knows."""
    way = conventions.convention("dexgraspnet", grasps, only=True)
    name, scale = code(grasps.object_name), nearest_scale(grasps)
    folder = empty_folder(path / "meshdata" / name / "coacd")
    writer = Writer(grasps, scale)
    writer.write_mesh(folder / "decomposed.obj")
    writer.write_urdf(folder / "coacd.urdf", writer.write_pieces(folder, "coacd_convex_piece_{}.obj"))
    rows = {key: qpos(way, grasps.joint_names, grasps.phases[phase]) for phase, key in PHASES.items()}
    records = [
        {
            "scale": scale,
            **{key: values[i] for key, values in rows.items()},
            "valid": bool(grasps.valid[i]),
            "reason": str(grasps.reason[i]),
            "metrics": {key: values[i].item() for key, values in grasps.metrics.items()},
        }
        for i in range(len(grasps))
    ]
    (path / "dataset").mkdir(exist_ok=True)
    pickled.write_object(path / "dataset" / f"{name}.npy", records)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of one object at one scale; ``scale`` chooses where the file holds several."""
    files = matching_files(path / "dataset" if (path / "dataset").is_dir() else path, ".npy")
    file = choose(path, files, name)
    content = pickled.read_npy(file)
    if not isinstance(content, list) or not content:
        raise FileFormatError(file, "it is not a file of DexGraspNet: expected a list of dictionaries")
    records = [require(file, record, "qpos", "scale", what="a file of DexGraspNet") for record in content]
    records, factor = at_scale(
        file, records, [float(numbers(file, one["scale"], name="scale")) for one in records], scale
    )
    loaded, source = open_hand(file, hand or _hand(records[0]["qpos"]))
    way = conventions.find("dexgraspnet", source, loaded.joint_names, only=True)
    found = find_mesh(mesh, places(file), factor, file.stem)
    return gather(
        file,
        loaded,
        source,
        {
            phase: read_qpos(file, way, loaded, [record[key] for record in records])
            for phase, key in PHASES.items()
            if all(key in record for record in records)
        },
        mesh=found,
        object_name=file.stem,
        info={"scale": factor},
        **labels(records),
    )


def _hand(row: Any) -> str:
    """The hand whose joints a dictionary has; the Shadow hand where it is none's."""
    hands = conventions.hands_of("dexgraspnet")
    fitting = (
        hand for hand in hands if all(name in row for name in conventions.find("dexgraspnet", hand, ()).joint_names)
    )
    return next(fitting, "shadow")


def labels(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Validity, reasons and metrics, where every record has them."""
    found: dict[str, Any] = {
        key: [record[key] for record in records]
        for key in ("valid", "reason")
        if all(key in record for record in records)
    }
    keys = [key for key in records[0].get("metrics", {}) if all(key in record.get("metrics", {}) for record in records)]
    return found | {"metrics": {key: [record["metrics"][key] for record in records] for key in keys}}


def choose(path: Path, files: list[Path], name: str | None) -> Path:
    """The file of the object called ``name``, or the only one.

    Raises:
        FileFormatError: There are several and none was named, or none of them has the name.
    """
    if name is None and len(files) == 1:
        return files[0]
    chosen = [file for file in files if file.stem == name]
    if len(chosen) != 1:
        wanted = f"none is called {name!r}" if name else "name one of them"
        raise FileFormatError(path, f"it holds {len(files)} objects, {wanted}: {listed(file.stem for file in files)}")
    return chosen[0]


def at_scale(
    path: Path, records: list[dict[str, Any]], scales: list[float], wanted: float | None
) -> tuple[list[dict[str, Any]], float]:
    """The records of one scale, since one object has one size.

    Raises:
        FileFormatError: There are several scales and none was asked for, or none is the wanted one.
    """
    found = sorted({round(scale, 6) for scale in scales})
    if wanted is None and len(found) > 1:
        raise FileFormatError(path, f"it holds grasps at several scales; pass scale, one of {listed(found)}")
    chosen = found[0] if wanted is None else wanted
    kept = [record for record, scale in zip(records, scales, strict=True) if np.isclose(scale, chosen, rtol=1e-4)]
    if not kept:
        raise FileFormatError(path, f"it has no grasp at scale {chosen:g}, but at {listed(found)}")
    return kept, float(np.mean([scale for scale in scales if np.isclose(scale, chosen, rtol=1e-4)]))


def places(file: Path) -> list[Path]:
    """Where the mesh of an object lies, from its file of grasps."""
    return [
        parent / folder / file.stem / "coacd" / "decomposed.obj"
        for parent in file.absolute().parents[:3]
        for folder in ("meshdata", "meshdata_smallversion")
    ]
