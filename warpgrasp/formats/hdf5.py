"""HDF5: the arrays of a ``.npz`` file of grasps under the same names, for programs that are not written in Python."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import result
from ..errors import FileFormatError, OptionError
from ..mesh import load_object
from .gather import open_hand
from .pickled import MAX_BYTES
from .target import whole_file

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

LOSES = "nothing"

CONVENTIONS = {
    "units": "m, rad",
    "quaternion_order": "w x y z",
    "frame": "hand base link in the object frame",
}


def write(grasps: Grasps, path: Path) -> None:
    """The file. Texts are UTF-8 of a fixed length."""
    h5py = _h5py()
    # This version of the format has checksums; the library hangs on damaged files of older ones.
    with whole_file(path, ".h5", ".hdf5") as temporary, h5py.File(temporary, "w", libver="v110") as file:
        for key, text in CONVENTIONS.items():
            file.attrs[key] = np.bytes_(text.encode())
        for name, array in grasps._arrays().items():
            data = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
            packed = {"compression": "gzip", "shuffle": True} if data.ndim and data.dtype.kind == "f" else {}
            file.create_dataset(name, data=data, **packed)


def read(
    path: Path,
    *,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """The grasps of a file that :func:`write` wrote."""
    h5py = _h5py()
    if not path.is_file():
        raise FileFormatError(path, "there is no such file")
    try:
        with h5py.File(path, "r") as file:
            if "format" not in file:
                raise FileFormatError(path, f"it is an HDF5 file of something else; readable is {result.FORMAT!r}")
            arrays = _arrays(path, file, h5py)
    except (OSError, RuntimeError) as error:
        raise FileFormatError(path, "it is not an HDF5 file, or it is damaged") from error
    grasps = result._from_arrays(path, arrays)
    loaded, source = open_hand(path, hand, grasps.hand_source, grasps.hand_hash)
    changes: dict[str, Any] = {"hand_source": source}
    if mesh is not None:
        given = load_object(mesh)
        changes |= {"object_vertices": given.vertices, "object_faces": given.faces}
    grasps = dataclasses.replace(grasps, **changes)
    grasps.hand = loaded
    return grasps


def _arrays(path: Path, file: Any, h5py: Any) -> dict[str, np.ndarray]:
    """All arrays by name; nothing that lies in other files is followed."""
    found: dict[str, np.ndarray] = {}
    total = 0
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise FileFormatError(path, f"{name} is a link to somewhere else, which is not followed")
        item = file[name]
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biufS":
            raise FileFormatError(path, f"{name} is neither numbers nor text of a fixed length")
        if item.external or item.is_virtual:
            raise FileFormatError(path, f"{name} lies in another file, which is not read")
        total += item.nbytes
        if total > MAX_BYTES:
            raise FileFormatError(path, f"it unpacks to more than {MAX_BYTES} bytes")
        array = np.asarray(item[()])
        found[name] = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    return found


def _h5py() -> Any:
    if find_spec("h5py") is None:
        raise OptionError("HDF5 needs h5py: pip install 'warpgrasp[hdf5]'")
    import h5py

    return h5py
