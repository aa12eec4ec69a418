"""The object beside the grasps: written as other projects lay it out, and found again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MeshError
from ..mesh import ObjectMesh, load_object

if TYPE_CHECKING:
    import trimesh

    from ..result import Grasps

SCALES = (0.06, 0.08, 0.1, 0.12, 0.15)
"""Factors from a normalised mesh to metres that DexGraspNet and UniDexGrasp have."""


def code(name: str) -> str:
    """The name of an object as the name of a file or folder."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-.") or "object"


class Writer:
    """The object of some grasps, divided by a factor, as files.

    Args:
        grasps: Of which the object is written.
        scale: Factor that makes the written mesh metres again.
    """

    def __init__(self, grasps: Grasps, scale: float = 1.0) -> None:
        self.grasps = grasps
        self.scale = scale

    @property
    def object(self) -> ObjectMesh:
        """In metres."""
        return self.grasps.object

    def write_mesh(self, path: Path) -> None:
        """The surface, in the format of the suffix; nothing where the grasps have no mesh."""
        if not len(self.grasps.object_faces):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mesh = self.object.trimesh()
        mesh.vertices = mesh.vertices / self.scale
        if path.suffix == ".obj":
            mesh.export(path, digits=12)
        else:
            mesh.export(path)

    @cached_property
    def pieces(self) -> list[trimesh.Trimesh]:
        """Convex pieces for a physics engine."""
        import trimesh as tm

        from ..physics.object_model import object_shape

        corners = object_shape(self.object).pieces or (self.object.vertices,)
        return [tm.convex.convex_hull(points / self.scale) for points in corners]

    def write_pieces(self, folder: Path, name: str) -> list[str]:
        """Each piece as ``name`` with its number in it; the names are returned."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [name.format(number) for number in range(len(self.pieces))]
        for file, piece in zip(names, self.pieces, strict=True):
            piece.export(folder / file, digits=12)
        return names

    def write_urdf(self, path: Path, meshes: Iterable[str]) -> None:
        """One link that holds all pieces."""
        rows = [
            f'    <{kind}><origin xyz="0 0 0"/><geometry><mesh filename="{mesh}"/></geometry></{kind}>'
            for mesh in meshes
            for kind in ("visual", "collision")
        ]
        inertia = '<inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/>'
        inertial = f'    <inertial><mass value="0.1"/>{inertia}</inertial>'
        lines = ['<robot name="object">', '  <link name="object">', inertial, *rows, "  </link>", "</robot>", ""]
        path.write_text("\n".join(lines))

    def write_facts(self, path: Path) -> None:
        """Mass at water's density, centre and box, as DexGraspBench wants them before it sets the mass itself."""
        path.parent.mkdir(parents=True, exist_ok=True)
        density = 1000.0
        box = self.object.trimesh().bounding_box_oriented.primitive.extents / self.scale
        facts = {
            "mass": density * float(sum(piece.volume for piece in self.pieces)),
            "density": density,
            "scale": 1.0,
            "gravity_center": (self.object.center_of_mass / self.scale).tolist(),
            "obb": np.asarray(box).tolist(),
        }
        path.write_text(json.dumps(facts, indent=1) + "\n")


def nearest_scale(grasps: Grasps) -> float:
    """The one of ``SCALES`` for which the object comes closest to a normalised one, of radius 1."""
    radius = float(np.linalg.norm(grasps.object_vertices, axis=1).max())
    return min(SCALES, key=lambda scale: abs(np.log(radius / scale)))


def find_mesh(
    given: str | Path | trimesh.Trimesh | ObjectMesh | None, places: Iterable[Path], scale: float, name: str
) -> ObjectMesh | None:
    """The object that the caller gives, else the first mesh that lies where the format keeps it, else None."""
    if given is not None:
        return load_object(given)
    for place in places:
        if place.is_file():
            try:
                return load_object(place, scale=scale, name=name)
            except MeshError:
                continue
    return None
