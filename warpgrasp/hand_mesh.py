"""Meshes that a hand's file refers to: where they lie, and reading them."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from .errors import HandError

FORMATS = (".obj", ".stl", ".dae", ".glb", ".ply")
LARGEST_FILE = 200_000_000
"""[bytes]"""

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices [m], shape (vertex, 3), and vertex indices, shape (face, 3)."""


class MeshFolder:
    """Finds and reads the meshes of one robot file, each file once.

    Files are only read below ``root``, which is by default the highest folder that a description may reasonably
    reach: the package folder (it holds ``package.xml``), or else the parent of the file's folder.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self.given_root = root.resolve() if root else None
        self._meshes: dict[Path, Mesh] = {}

    @cached_property
    def root(self) -> Path:
        """Folder below which relative and absolute paths may lie."""
        if self.given_root:
            return self.given_root
        for folder in (self.folder, *self.folder.parents):
            if (folder / "package.xml").is_file():
                return folder
        return self.folder.parent

    def read(self, reference: str, scale: np.ndarray) -> Mesh:
        """Vertices and faces of the mesh that a file calls ``reference``, times ``scale`` of shape (3,).

        Raises:
            HandError: The mesh is missing, out of bounds or unreadable; the message names the path tried.
        """
        path = self.find(reference)
        if path not in self._meshes:
            self._meshes[path] = self._load(path)
        vertices, faces = self._meshes[path]
        # A mirroring scale turns faces inside out.
        return vertices * scale, faces if np.prod(scale) > 0 else faces[:, ::-1]

    def find(self, reference: str) -> Path:
        """Path of an existing mesh file.

        Raises:
            HandError: There is none, or it lies outside the permitted folder.
        """
        candidates = self._candidates(reference)
        for candidate, limit in candidates:
            found = _existing(candidate)
            if found is None:
                continue
            if not found.resolve().is_relative_to(limit):
                raise HandError(
                    self.path,
                    f"mesh {reference!r} lies outside {limit}, so it is not read; "
                    "if that is meant, pass load_hand(..., root=FOLDER) with a folder that holds both",
                )
            return found.resolve()
        tried = ", ".join(str(candidate) for candidate, _ in candidates[:3])
        raise HandError(self.path, f"mesh {reference!r} not found; tried {tried}. Pass root=FOLDER if it is elsewhere")

    def _candidates(self, reference: str) -> list[tuple[Path, Path]]:
        """Places to look at, each with the folder that it must not leave."""
        for scheme in ("package://", "model://"):
            if reference.startswith(scheme):
                return self._package_candidates(unquote(reference.removeprefix(scheme)))
        name = unquote(reference.removeprefix("file://")) if reference.startswith("file://") else reference
        name = name.replace("\\", "/")
        return [(self.folder / name, self.root)]

    def _package_candidates(self, name: str) -> list[tuple[Path, Path]]:
        package, _, rest = name.partition("/")
        # The file system's root is no package folder: package://etc/... must not find /etc.
        above = [folder for folder in (self.folder, *self.folder.parents) if folder != folder.parent]
        roots = [self.given_root] if self.given_root else above
        inside = [(folder / name, folder / package) for folder in roots]
        itself = [(folder / rest, folder) for folder in roots if folder.name == package]
        renamed = [(self.root / rest, self.root)]
        return [(place, limit.resolve()) for place, limit in itself + inside + renamed]

    def _load(self, path: Path) -> Mesh:
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise HandError(self.path, f"mesh {path.name} is {suffix or 'of no format'}; {', '.join(FORMATS)} work")
        if path.stat().st_size > LARGEST_FILE:
            raise HandError(self.path, f"mesh {path} is larger than {LARGEST_FILE // 1_000_000} MB; simplify it first")
        content = path.read_bytes()
        if suffix == ".dae" and (b"<!ENTITY" in content or b"<!DOCTYPE" in content):
            raise HandError(self.path, f"mesh {path} declares a document type or XML entities; remove them")
        try:
            vertices, faces = _parse(content, suffix)
        except ImportError as error:
            raise HandError(
                self.path, f"reading {path.name} needs `pip install {error.name}`; or convert it to .obj or .stl"
            ) from error
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise HandError(self.path, f"mesh {path} cannot be read: {reason}") from error
        if len(faces) == 0 or not np.isfinite(vertices).all():
            raise HandError(self.path, f"mesh {path} has {'no faces' if len(faces) == 0 else 'vertices that are NaN'}")
        return vertices, faces


def _existing(path: Path) -> Path | None:
    """The path, or the one file beside it that differs in case only (descriptions are written on Windows too)."""
    if path.is_file():
        return path
    if not path.parent.is_dir():
        return None
    same = [other for other in path.parent.iterdir() if other.name.lower() == path.name.lower() and other.is_file()]
    return same[0] if len(same) == 1 else None


def _parse(content: bytes, suffix: str) -> Mesh:
    import trimesh

    # A stream instead of a path: the loader then cannot follow references to further files.
    mesh = trimesh.load_mesh(io.BytesIO(content), file_type=suffix[1:], process=False, skip_materials=True)
    if not isinstance(mesh, trimesh.Trimesh):
        mesh = mesh.to_mesh()
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return np.asarray(mesh.vertices, float) * _unit(mesh.metadata), np.asarray(mesh.faces, np.int64)


def _unit(metadata: dict) -> float:
    """Metres per unit: COLLADA files say it, and ROS's tools apply it."""
    units = str(metadata.get("units", ""))
    return float(units.removesuffix("* meters")) if units.endswith("* meters") else 1.0
