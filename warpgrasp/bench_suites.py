"""The objects that ``warpgrasp bench`` runs over."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import FileFormatError, OptionError
from .mesh import ObjectMesh, load_object

if TYPE_CHECKING:
    import trimesh

SUITES = ("primitives", "ycb", "egad", "normalized")

EGAD_SCALE = 0.6
"""EGAD objects are 10 cm across, more than most hands can hold."""

NORMALIZED_RADII = (0.06, 0.08, 0.10, 0.12)
"""Radii of the bounding sphere that every object is scaled to [m]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One object of a suite; its mesh is read when it is needed."""

    name: str

    family: str

    load: Callable[[], ObjectMesh]
    """Reads the object, scaled, in metres."""


def suite(name: str, folder: Path | None = None) -> list[Entry]:
    """The objects of a suite.

    Args:
        name: One of ``SUITES``.
        folder: Folder with ``manifest.json`` (a list of ``name``, ``family``, ``file``) and the meshes it lists;
            ``primitives`` needs none.

    Raises:
        OptionError: There is no such suite, or it needs a folder and none is given.
        FileFormatError: The manifest is missing or damaged, or lists nothing that belongs to the suite.
    """
    if name not in SUITES:
        close = difflib.get_close_matches(name, SUITES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptionError(f"no suite named {name!r}.{hint} Suites: {', '.join(SUITES)}")
    if name == "primitives":
        return [_primitive(item, make) for item, make in PRIMITIVES.items()]
    if folder is None:
        raise OptionError(f"the suite {name!r} needs --objects FOLDER, with manifest.json and the meshes it lists")
    listed = read_manifest(folder)
    if name == "normalized":
        entries = [_normalized(folder, row, radius) for row in listed for radius in NORMALIZED_RADII]
    else:
        scale = EGAD_SCALE if name == "egad" else 1.0
        entries = [_scaled(folder, row, scale) for row in listed if row["family"] == name]
    if not entries:
        raise FileFormatError(folder / "manifest.json", f"it lists no object for the suite {name!r}")
    return entries


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """The objects listed in a folder's ``manifest.json``; those of a ``*_defective`` family are left out.

    Raises:
        FileFormatError: It is missing, is not what it should be, or a mesh that it lists is not there.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileFormatError(path, "there is no such file; --objects takes a folder that holds manifest.json")
    try:
        listed = [{key: str(row[key]) for key in ("name", "family", "file")} for row in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(path, f"it should be a list of {{name, family, file}} ({error!r})") from error
    for row in listed:
        if not (Path(folder) / row["file"]).is_file():
            raise FileFormatError(path, f"it lists {row['file']}, which is not there")
    return [row for row in listed if not row["family"].endswith("_defective")]


def bounding_radius(obj: ObjectMesh) -> float:
    """Radius of the sphere about the centre of the bounding box that holds the object [m]."""
    return float(np.linalg.norm(obj.vertices - obj.bounds.mean(axis=0), axis=1).max())


def _scaled(folder: Path, row: dict[str, str], scale: float) -> Entry:
    path = Path(folder) / row["file"]
    return Entry(name=row["name"], family=row["family"], load=lambda: load_object(path, scale=scale, name=row["name"]))


def _normalized(folder: Path, row: dict[str, str], radius: float) -> Entry:
    path, name = Path(folder) / row["file"], f"{row['name']} r{100.0 * radius:02.0f}cm"

    def load() -> ObjectMesh:
        as_it_is = load_object(path, name=name)
        return load_object(as_it_is, scale=radius / bounding_radius(as_it_is))

    return Entry(name=name, family=row["family"], load=load)


def _primitive(name: str, make: Callable[[], trimesh.Trimesh]) -> Entry:
    return Entry(name=name, family="primitives", load=lambda: load_object(make(), name=name))


def _box(*extents: float) -> trimesh.Trimesh:
    import trimesh as tm

    return tm.creation.box(extents=extents)


def _cylinder(radius: float, height: float) -> trimesh.Trimesh:
    import trimesh as tm

    return tm.creation.cylinder(radius=radius, height=height, sections=64)


def _sphere(radius: float) -> trimesh.Trimesh:
    import trimesh as tm

    return tm.creation.icosphere(subdivisions=4, radius=radius)


def _capsule() -> trimesh.Trimesh:
    import trimesh as tm

    return tm.creation.capsule(height=0.08, radius=0.022, count=[32, 32])


def _ring() -> trimesh.Trimesh:
    import trimesh as tm

    return tm.creation.torus(major_radius=0.04, minor_radius=0.012, major_sections=64, minor_sections=24)


PRIMITIVES: dict[str, Callable[[], trimesh.Trimesh]] = {
    "cube 5 cm": lambda: _box(0.05, 0.05, 0.05),
    "box 4x6x12 cm": lambda: _box(0.04, 0.06, 0.12),
    "plate 2x8x12 cm": lambda: _box(0.02, 0.08, 0.12),
    "can r3 h10 cm": lambda: _cylinder(0.03, 0.1),
    "rod r1.2 h14 cm": lambda: _cylinder(0.012, 0.14),
    "disc r4.5 h2.5 cm": lambda: _cylinder(0.045, 0.025),
    "sphere r2.5 cm": lambda: _sphere(0.025),
    "sphere r4 cm": lambda: _sphere(0.04),
    "capsule r2.2 h12.4 cm": _capsule,
    "ring r4 cm": _ring,
}
"""Sizes that a hand of human size can hold."""
