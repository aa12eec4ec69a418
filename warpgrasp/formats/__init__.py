"""Grasps in the files of other projects, both ways.

A format is a module here: ``write(grasps, path)``, ``read(path, ...)``, and ``LOSES``, what is not kept. It is imported
when it is used. Joint names and root frames of other projects are in ``hands.yaml``.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import FileFormatError, OptionError, WarpgraspError

if TYPE_CHECKING:
    import trimesh

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

NAMES = (
    "parquet",
    "dexgraspbench",
    "dexgraspnet",
    "unidexgrasp",
    "multidex",
    "isaac_grasp",
    "graspgen",
    "usd",
    "hdf5",
)
"""Every format."""

SUFFIXES = {
    ".parquet": "parquet",
    ".pt": "multidex",
    ".yaml": "isaac_grasp",
    ".yml": "isaac_grasp",
    ".json": "graspgen",
    ".usd": "usd",
    ".usda": "usd",
    ".usdc": "usd",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
"""What the suffix of a file says; ``.npy`` and ``.npz`` say nothing."""


MESH_NEEDED = ("dexgraspbench", "dexgraspnet", "unidexgrasp")
"""Formats that mean nothing without the object."""

FINITE_NEEDED = tuple(name for name in NAMES if name not in ("parquet", "hdf5"))
"""Formats without a place for a grasp that has no pose, since its search diverged."""


def find(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        OptionError: There is no such format.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(str(name).lower(), NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"there is no format {name!r}.{hint} Formats: {', '.join(NAMES)}.")
    return import_module(f".{name}", __name__)


def guess(path: str | Path) -> str:
    """The format of a file by its suffix.

    Raises:
        OptionError: The suffix does not say it.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(
            f"the name {Path(path).name!r} does not say which format it is; pass format, one of {', '.join(NAMES)}"
        )
    return SUFFIXES[suffix]


def export(grasps: Grasps, path: str | Path, *, format: str | None = None) -> Path:
    """Write grasps in the format of another project.

    All grasps are written, invalid ones with their reason, but for those whose search diverged, so that they have no
    pose at all. ``grasps[grasps.valid]`` are the valid ones. FORMATS.md says what each format keeps.

    Args:
        grasps: Of one object by one hand.
        path: File or folder to write, as the format has it; folders are made.
        format: One of :data:`NAMES`; what the suffix of ``path`` says when omitted.

    Returns:
        The path.

    Raises:
        OptionError: There is no such format, it needs a package that is not there, or it is not made for this hand.
        FileFormatError: The name has the wrong suffix, or something is in the way.
    """
    path = Path(path)
    name = format if format is not None else guess(path)
    module = find(name)
    kept = exportable(grasps, name)
    if not len(kept):
        raise OptionError("there is no grasp to export")
    if name in MESH_NEEDED and not len(kept.object_faces):
        raise OptionError(f"{name} needs the object, and these grasps have no mesh; read them with mesh=")
    module.write(kept, path)
    return path


def exportable(grasps: Grasps, format: str) -> Grasps:
    """The grasps that a format has a place for: all, or those whose numbers are finite."""
    if format not in FINITE_NEEDED:
        return grasps
    import numpy as np

    poses = (grasps.pregrasp, grasps.pose, grasps.squeeze)
    finite = np.all([np.isfinite(values).all(axis=1) for pose in poses for values in vars(pose).values()], axis=0)
    if finite.all():
        return grasps
    kept = grasps[finite]
    kept.hand = grasps.hand
    return kept


def read(
    path: str | Path,
    *,
    format: str | None = None,
    hand: str | Path | Hand | None = None,
    mesh: str | Path | trimesh.Trimesh | ObjectMesh | None = None,
    name: str | None = None,
    scale: float | None = None,
) -> Grasps:
    """Read grasps from a file of another project, or one that :func:`export` wrote.

    Nothing in the file is executed: pickles may hold arrays, numbers, text and plain containers only. Where the file
    has no pregrasp or squeeze, they equal the grasp, and ``info`` says so.

    Args:
        path: File, or folder of files where the format is one.
        format: One of :data:`NAMES`; what the suffix of ``path`` says when omitted.
        hand: The hand, where the file does not say it: bundled name or path of its URDF or MJCF.
        mesh: The object in metres, where it does not lie beside the file. Without any mesh the poses are still read.
        name: The object to read, where there are several.
        scale: Of the object, where there are grasps at several.

    Raises:
        OptionError: There is no such format, or it needs a package that is not there.
        FileFormatError: The file is missing, damaged, too large, of another format, or not plain data; it does not say
            its hand; a joint is missing.
        HandError: The hand is not the one that the grasps were made with.
    """
    import numpy as np

    path = Path(path)
    module = find(format if format is not None else guess(path))
    try:
        with np.errstate(all="ignore"):
            return module.read(path, hand=hand, mesh=mesh, name=name, scale=scale)
    except WarpgraspError:
        raise
    except Exception as error:
        # Others' files can be wrong in more ways than there are checks.
        problem = f"its content is not as {module.__name__.rpartition('.')[2]} has it ({error!r:.200})"
        raise FileFormatError(path, problem) from error
