"""Which shards a configuration is made of: hands x objects x scales x count, each under a key of its own."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, OptionError, WarpgraspError
from .config import Config
from .schema import SCHEMA_VERSION

SYNTHESIZE = "warpgrasp.dataset.make:synthesize"
"""The maker of grasps, unless another is given: ``module:function``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFile:
    """A mesh to be grasped."""

    name: str

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class HandFile:
    """A hand that grasps."""

    name: str

    source: str
    """Bundled name or path."""

    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """The unit of work: some grasps of one object by one hand."""

    key: str
    """Hash of all that the grasps depend on; the name of the files."""

    hand: str

    hand_source: str

    object: str

    path: str
    """File of the object's mesh."""

    scale: float

    seed: int
    """Of every random draw, derived from the configuration's."""

    count: int


def plan(config: Config, *, maker: str = SYNTHESIZE) -> list[Shard]:
    """All shards, those of an object and a hand together.

    Raises:
        WarpgraspError: A hand or an entry of ``objects`` cannot be found.
    """
    return list(shards(config, find_hands(config), find_objects(config), maker=maker))


def shards(config: Config, hands: list[HandFile], objects: list[ObjectFile], *, maker: str) -> Iterator[Shard]:
    """The shards of some hands and objects."""
    options = identity(config, maker)
    digests = {entry.name: file_digest(entry.path) for entry in objects}
    sizes = [config.shard_size] * (config.count // config.shard_size)
    if rest := config.count % config.shard_size:
        sizes.append(rest)
    for hand in hands:
        for entry in objects:
            for scale in config.scales:
                for place, count in enumerate(sizes):
                    own = {
                        "hand": [hand.name, hand.hash],
                        "object": [entry.name, digests[entry.name]],
                        "scale": scale,
                        "seed": [config.seed, place],
                        "count": count,
                    }
                    key = digest(options | own)
                    yield Shard(
                        key=f"{hand.name}-{slug(entry.name)}-{key[:20]}",
                        hand=hand.name,
                        hand_source=hand.source,
                        object=entry.name,
                        path=str(entry.path),
                        scale=scale,
                        seed=int(digest(own)[:12], 16),
                        count=count,
                    )


def identity(config: Config, maker: str) -> dict[str, Any]:
    """Everything but hand, object, scale, seed and count that grasps depend on."""
    from .. import __version__
    from ..options import recipe
    from ..physics.protocols import find_protocol

    return {
        "schema": SCHEMA_VERSION,
        "warpgrasp": __version__,
        "maker": maker,
        "recipe": asdict(recipe(config.recipe)),
        "validate": {name: asdict(find_protocol(name)) for name in config.validate},
        **{
            name: getattr(config, name) for name in ("table", "iterations", "points", "evaluate", "recheck", "contacts")
        },
    }


def digest(value: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content; of nothing where it cannot be read, which whoever loads it will say."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def slug(name: str) -> str:
    """A name as it can stand in a file's name: letters, digits, dots, dashes and underscores, at most 60."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "object"


def find_hands(config: Config) -> list[HandFile]:
    """The hands of a configuration, loaded once to see that they work.

    Raises:
        WarpgraspError: A hand cannot be loaded, or two have the same name.
    """
    from ..hand_file import load_hand

    found: list[HandFile] = []
    for entry in config.hands:
        path = config.folder / entry
        hand = load_hand(path if path.exists() else entry)
        source = str(path.resolve()) if path.exists() else entry
        name = slug(Path(source).stem if path.exists() else entry)
        if any(name == other.name for other in found):
            raise OptionError(f"hands: two are called {name!r}; rename the file of one")
        found.append(HandFile(name=name, source=source, hash=hand.hash))
    return found


def find_objects(config: Config) -> list[ObjectFile]:
    """The objects of a configuration, by name.

    A mesh that stands for itself is called like its file, without the ending; of a folder or a glob, by its path below
    the folder, or below the part without a wildcard; of a manifest, as it says there.

    Raises:
        FileFormatError: There is no such file, or a folder or glob has no mesh.
        OptionError: Two objects have the same name.
    """
    found: dict[str, ObjectFile] = {}
    for entry in config.objects:
        for each in _objects(entry, config.folder):
            other = found.get(each.name)
            if other is not None and other.path != each.path:
                raise OptionError(
                    f"objects: {other.path} and {each.path} are both called {each.name!r}; list a folder that holds "
                    "both, so that their folders are part of their names"
                )
            found[each.name] = each
    return sorted(found.values(), key=lambda each: each.name)


def _objects(entry: str, folder: Path) -> list[ObjectFile]:
    from ..mesh import FORMATS

    path = Path(folder, Path(entry).expanduser())
    if path.suffix == ".json":
        return _listed(path)
    if path.is_dir():
        root, files = path, sorted(path.rglob("*"))
    elif glob.has_magic(entry):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        files = sorted(map(Path, glob.glob(str(path), recursive=True)))
    elif path.is_file():
        return [ObjectFile(name=path.stem, path=path)]
    else:
        raise FileFormatError(path, "there is no such mesh, folder or manifest; look at `objects`")
    meshes = [file for file in files if file.suffix[1:].lower() in FORMATS and file.is_file()]
    if not meshes:
        raise FileFormatError(path, f"there is no mesh; readable are {', '.join('.' + kind for kind in FORMATS)}")
    return [ObjectFile(name=file.relative_to(root).with_suffix("").as_posix(), path=file) for file in meshes]


def _listed(path: Path) -> list[ObjectFile]:
    """The objects of a manifest: a list of ``name`` and ``file``, or such a list under ``objects``."""
    try:
        if path.stat().st_size > 64 * 1024**2:
            raise FileFormatError(path, "a manifest is no larger than 64 MB")
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["objects"] if isinstance(content, dict) else content
        rows = [(str(row["name"]), str(row["file"]), str(row.get("family", ""))) for row in listed]
    except FileNotFoundError as error:
        raise FileFormatError(path, "there is no such manifest") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, WarpgraspError):
            raise
        raise FileFormatError(path, f"it should be a list of {{name, file}} ({error!r})") from error
    found = []
    for name, file, family in rows:
        mesh = path.parent / file
        if not mesh.resolve().is_relative_to(path.parent.resolve()):
            raise FileFormatError(path, f"it lists {file!r}, which is outside its folder")
        if not family.endswith("_defective"):
            found.append(ObjectFile(name=name, path=mesh))
    if not found:
        raise FileFormatError(path, "it lists no object")
    return found
