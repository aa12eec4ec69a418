"""HDF5: everything that a ``.npz`` file of grasps holds, for programs that are not written in Python."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError, OptionError
from ..mesh import load_object
from ..result import POSE_FIELDS
from .conventions import named_pose
from .gather import gather, numbers, open_hand
from .meshes import find_mesh
from .pickled import MAX_BYTES
from .target import whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

SUMMARY = "one .h5 file with all arrays, the mesh included; needs the extra [hdf5]"
LOSES = "nothing, but table, lift and arm"

FORMAT = "warpgrasp grasps in HDF5, version 1"
ATTRIBUTES = ("format", "hand", "hand_hash", "object")
"""What is read of them."""

PHASES = ("grasp", "pregrasp", "squeeze")


def write(grasps: Grasps, path: Path) -> None:
    """The file."""
    h5py = _h5py()
    poses = dict(zip(PHASES, (grasps.pose, grasps.pregrasp, grasps.squeeze), strict=True))
    # This version of the format has checksums; older ones hang on damaged files.
    with whole_file(path, ".h5", ".hdf5") as temporary, h5py.File(temporary, "w", libver="v110") as file:
        attributes = {
            "format": FORMAT,
            "units": "m, rad",
            "quaternion_order": "w x y z",
            "frame": "hand base link in the object frame",
            "hand": grasps.hand_source,
            "hand_hash": grasps.hand_hash,
            "object": grasps.object_name,
        }
        for key, text in attributes.items():
            file.attrs[key] = _texts([text]).reshape(())
        file["info"] = _texts([json.dumps(grasps.info)])
        file["joint_names"] = _texts(grasps.joint_names)
        for phase, pose in poses.items():
            for name in POSE_FIELDS:
                file.create_dataset(f"{phase}/{name}", data=getattr(pose, name), compression="gzip", shuffle=True)
        file["valid"] = np.asarray(grasps.valid, bool)
        file["reason"] = _texts(grasps.reason)
        file.create_group("metrics")
        for key, values in grasps.metrics.items():
            file["metrics"].create_dataset(key, data=_texts(values) if values.dtype.kind in "US" else values)
        file["object/vertices"], file["object/faces"] = grasps.object_vertices, grasps.object_faces


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of a file that :func:`write` wrote."""
    import trimesh as tm

    h5py = _h5py()
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    try:
        with h5py.File(path, "r") as file:
            known = [key for key in ATTRIBUTES if key in file.attrs and file.attrs.get_id(key).dtype.kind == "S"]
            attributes = {key: _text(file.attrs[key]) for key in known}
            if attributes.get("format") != FORMAT:
                raise FileFormatError(path, f"it says it is {attributes.get('format')!r}; readable is {FORMAT!r}")
            arrays = _arrays(path, file, h5py)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(path, "it is not an HDF5 file, or it is damaged") from error
    needed = ["info", "joint_names", "valid", "reason", "object/vertices", "object/faces"]
    needed += [f"{phase}/{field}" for phase in PHASES for field in POSE_FIELDS]
    missing = [key for key in needed if key not in arrays]
    if missing:
        raise FileFormatError(path, f"{missing[0]} is missing")
    loaded, source = open_hand(path, hand, attributes.get("hand", ""), attributes.get("hand_hash", ""))
    names = [_text(one) for one in arrays["joint_names"]]
    count = len(arrays["valid"])

    def pose(phase: str) -> Any:
        position = numbers(path, arrays[f"{phase}/wrist_position"], count, 3, name=f"{phase}/wrist_position")
        quaternion = numbers(path, arrays[f"{phase}/wrist_quaternion"], count, 4, name=f"{phase}/wrist_quaternion")
        joints = numbers(path, arrays[f"{phase}/joint_position"], count, len(names), name=f"{phase}/joint_position")
        return named_pose(path, loaded, position, quaternion, dict(zip(names, joints.T, strict=True)))

    vertices, faces = arrays["object/vertices"], arrays["object/faces"]
    title = attributes.get("object", "object")
    own = load_object(tm.Trimesh(vertices, faces, process=False), name=title) if len(faces) else None
    return gather(
        path,
        loaded,
        source,
        {phase: pose(phase) for phase in PHASES},
        mesh=find_mesh(mesh, (), 1.0, title) or own,
        object_name=title,
        valid=arrays["valid"],
        reason=[_text(one) for one in arrays["reason"]],
        metrics={
            key.removeprefix("metrics/"): [_text(one) for one in values] if values.dtype.kind == "S" else values
            for key, values in arrays.items()
            if key.startswith("metrics/")
        },
        info=json.loads(_text(arrays["info"][0])),
    )


def _arrays(path: Path, file: Any, h5py: Any) -> dict[str, np.ndarray]:
    """All arrays by name; links to other files are not followed."""
    found: dict[str, np.ndarray] = {}
    total = 0
    groups = [("", file)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise FileFormatError(path, f"{prefix}{key} is a link to somewhere else, which is not followed")
            item = group[key]
            if isinstance(item, h5py.Group):
                if prefix.count("/") < 2:
                    groups.append((f"{prefix}{key}/", item))
                continue
            if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biufS":
                raise FileFormatError(path, f"{prefix}{key} is neither numbers nor text of a fixed length")
            if item.external or item.is_virtual:
                raise FileFormatError(path, f"{prefix}{key} lies in another file, which is not read")
            total += item.nbytes
            if total > MAX_BYTES:
                raise FileFormatError(path, f"it unpacks to more than {MAX_BYTES} bytes")
            found[prefix + key] = item[()]
    return found


def _texts(texts: Any) -> np.ndarray:
    """Texts in UTF-8, as long as the longest of them."""
    return np.array([str(text).encode() for text in texts], dtype=np.bytes_)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _h5py() -> Any:
    if find_spec("h5py") is None:
        raise OptionError("HDF5 needs h5py: pip install 'warpgrasp[hdf5]'")
    import h5py

    return h5py
