"""The folder of a dataset: its files, how they are committed, and who may write to it.

    DIR/dataset.json                      the configuration
    DIR/grasps/HAND/NAME.parquet          grasps; also contacts/ and tactile/, alike
    DIR/objects/HASH.parquet              meshes
    DIR/shards/NAME.json                  record of a committed file: rows, sizes and checksums
    DIR/failures/KEY.json                 shards that could not be made, and why
    DIR/timings/WORKER.jsonl              what shards took
    DIR/splits.json, README.md, summary.html

A file is part of the dataset when its record is there, and records are written last. Every file appears whole or not at
all. State is only in these files, so that any number of processes may fill the folder, and be killed at any moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, OptionError
from ..files import TEMPORARY, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

    from ..result import Grasps

RECORD_FORMAT = "warpgrasp shard, version 1"
MAX_JSON_BYTES = 64 * 1024**2
"""Largest record, configuration or list of splits that is read."""

TABLES = ("grasps", "contacts", "tactile")
"""Folders of tables that a record may list; the first holds the grasps."""

MERGED = "part-"
"""What the names of merged parts begin with."""

FILE = re.compile(rf"({'|'.join(TABLES)})/([A-Za-z0-9_][A-Za-z0-9_.+-]*)/([A-Za-z0-9_][A-Za-z0-9_.+-]*)\.parquet")
HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSummary:
    """What a record says of a shard."""

    object: str
    object_hash: str
    scale: float
    rows: int
    valid: int
    reasons: dict[str, int]
    """Failed checks and how many grasps failed them first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A committed file of grasps, with its side tables: one shard, or several that were merged."""

    name: str

    hand: str

    path: Path
    """The Parquet file of the grasps."""

    rows: int

    shards: dict[str, ShardSummary]
    """By key, in the order of the rows."""

    files: dict[str, tuple[int, str]]
    """Path below the dataset's folder to size [byte] and SHA-256, side tables included."""

    @property
    def objects(self) -> list[str]:
        """Names of its objects, each once."""
        return list(dict.fromkeys(shard.object for shard in self.shards.values()))


class Store:
    """A dataset's folder; see the module for its layout."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def objects_folder(self) -> Path:
        """Where the meshes are."""
        return self.folder / "objects"

    def names(self) -> list[str]:
        """Names of all committed parts, sorted."""
        return sorted(path.stem for path in (self.folder / "shards").glob("*.json"))

    def part(self, name: str) -> Part:
        """The committed part of that name.

        Raises:
            FileFormatError: Its record is missing or damaged.
        """
        return read_record(self.folder, self.folder / "shards" / f"{name}.json")

    def parts(self, *, hand: str | None = None, split: str | None = None) -> Iterator[Part]:
        """Committed parts in the order of their names.

        Args:
            hand: Only those of this hand.
            split: Only those with an object of this split.

        Raises:
            FileFormatError: A record is damaged.
            OptionError: There is no such split.
        """
        for name in self.names():
            part = self.part(name)
            if hand in (None, part.hand) and any(self.in_split(shard, split) for shard in part.shards.values()):
                yield part

    def grasps(self, *, hand: str | None = None, split: str | None = None, mesh: bool = True) -> Iterator[Grasps]:
        """The grasps, shard by shard; see :meth:`parts` and :func:`warpgrasp.dataset.read_grasps`."""
        for part in self.parts(hand=hand, split=split):
            yield from self.read(part, split=split, mesh=mesh)

    def read(self, part: Part, *, split: str | None = None, mesh: bool = True) -> Iterator[Grasps]:
        """The grasps of a part, shard by shard; of one split only, where given."""
        from .schema import iterate_grasps

        found = iterate_grasps(part.path, objects=self.objects_folder, mesh=mesh)
        for grasps, shard in zip(found, part.shards.values(), strict=True):
            if self.in_split(shard, split):
                yield grasps

    def hands(self) -> list[str]:
        """Names of the hands that there are grasps of."""
        return sorted({part.hand for part in self.parts()})

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Names of objects by split; empty where the dataset has not been split.

        Raises:
            FileFormatError: ``splits.json`` is damaged.
        """
        path = self.folder / "splits.json"
        if not path.exists():
            return {}
        content = read_json(path)
        try:
            return {str(name): [str(entry) for entry in content["objects"][name]] for name in content["objects"]}
        except (KeyError, TypeError) as error:
            raise FileFormatError(path, f"it is not a list of splits ({error!r})") from error

    @cached_property
    def split_of(self) -> dict[str, str]:
        """Split of each object, by name."""
        return {entry: split for split, entries in self.splits.items() for entry in entries}

    def in_split(self, shard: ShardSummary, split: str | None) -> bool:
        """Whether a shard's object is of a split; every object is where none is asked for."""
        if split is None:
            return True
        if split not in self.splits:
            known = f"there are {', '.join(self.splits)}" if self.splits else "run `warpgrasp dataset split` first"
            raise OptionError(f"{self.folder} has no split {split!r}; {known}")
        return self.split_of.get(shard.object) == split

    def prepare(self) -> None:
        """Make the folders that are written to.

        Raises:
            FileFormatError: The folder is a file or may not be written to.
        """
        try:
            for name in ("shards", "objects", "failures", "timings"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("a"):
                pass
        except (FileExistsError, NotADirectoryError) as error:
            raise FileFormatError(self.folder, f"{error.filename} is a file, not a folder") from error
        except PermissionError as error:
            raise FileFormatError(self.folder, "no permission to write there") from error
        except OSError as error:
            raise FileFormatError(self.folder, f"it cannot be written to ({error.strerror})") from error

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Keep other runs out; the system takes the lock away from a process that ends, however it ends.

        Args:
            shared: Whether others that share may write at the same time, such as the tasks of a Slurm array.

        Raises:
            OptionError: Another run has it.
        """
        with (self.folder / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise OptionError(
                    f"another run is writing to {self.folder} ({file.read(200).strip() or 'of another machine'}); "
                    "wait for it, or give another --out"
                ) from error
            if not shared:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {os.uname().nodename}")
                file.flush()
            yield

    def sweep(self) -> int:
        """Delete what killed processes left half written; only under an exclusive lock. Returns how many files."""
        left = [path for path in self.folder.rglob(f".*{TEMPORARY}") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def commit(self, name: str, hand: str, tables: Mapping[str, pa.Table], shards: Mapping[str, ShardSummary]) -> int:
        """Write the tables of a part, and its record last.

        Args:
            name: Name of its files.
            hand: Name of the hand.
            tables: Tables by folder, ``grasps`` among them.
            shards: What the record says of each shard.

        Returns:
            Size of the tables' files [byte].
        """
        files: dict[str, tuple[int, str]] = {}
        for folder in reversed([folder for folder in TABLES if folder in tables]):
            path = self.folder / folder / hand / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = parquet_bytes(tables[folder])
            files[path.relative_to(self.folder).as_posix()] = (len(content), hashlib.sha256(content).hexdigest())
            write_atomically(path, content)
        record = {
            "format": RECORD_FORMAT,
            "name": name,
            "hand": hand,
            "rows": tables["grasps"].num_rows,
            "shards": {
                key: {field: getattr(shard, field) for field in shard.__slots__} for key, shard in shards.items()
            },
            "files": {path: {"bytes": size, "sha256": digest} for path, (size, digest) in files.items()},
        }
        write_atomically(self.folder / "shards" / f"{name}.json", json.dumps(record, indent=1) + "\n")
        return sum(size for size, _ in files.values())

    def keep_object(self, vertices: Any, faces: Any) -> str:
        """Write a mesh unless it is there, and return its hash."""
        from .schema import mesh_hash, object_table

        digest = mesh_hash(vertices, faces)
        path = self.objects_folder / f"{digest}.parquet"
        if not path.exists():
            write_atomically(path, parquet_bytes(object_table(vertices, faces)))
        return digest


def open_store(folder: str | Path) -> Store:
    """A dataset to read from.

    Raises:
        FileFormatError: There is no dataset in the folder.
    """
    if not (Path(folder) / "shards").is_dir():
        raise FileFormatError(folder, "there is no dataset; `warpgrasp generate` makes one")
    return Store(folder)


def parquet_bytes(table: pa.Table) -> bytes:
    """The file that holds a table."""
    from .schema import write_parquet

    sink = io.BytesIO()
    write_parquet(table, sink)
    return sink.getvalue()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileFormatError: The file is missing, too large or damaged.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FileFormatError(path, f"it is larger than {MAX_JSON_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(path, "there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(path, f"it is damaged ({error})") from error
    if not isinstance(content, dict):
        raise FileFormatError(path, "it is not a JSON object")
    return content


def read_record(folder: Path, path: Path) -> Part:
    """A part from its record.

    Raises:
        FileFormatError: It is missing or damaged, or lists a file that cannot be the dataset's.
    """
    content = read_json(path)
    try:
        name, hand = str(content["name"]), str(content["hand"])
        grasps = f"{TABLES[0]}/{hand}/{name}.parquet"
        files = {str(key): (int(entry["bytes"]), str(entry["sha256"])) for key, entry in content["files"].items()}
        shards = {
            str(key): ShardSummary(
                object=str(entry["object"]),
                object_hash=str(entry["object_hash"]),
                scale=float(entry["scale"]),
                rows=int(entry["rows"]),
                valid=int(entry["valid"]),
                reasons={str(reason): int(count) for reason, count in entry["reasons"].items()},
            )
            for key, entry in content["shards"].items()
        }
        rows = int(content["rows"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(path, f"it is not the record of a shard ({error!r})") from error
    if content.get("format") != RECORD_FORMAT:
        raise FileFormatError(path, f"it says it is {content.get('format')!r}; this version reads {RECORD_FORMAT!r}")
    if name != path.stem or grasps not in files or rows != sum(shard.rows for shard in shards.values()):
        raise FileFormatError(path, "it contradicts itself")
    for key in files:
        match = FILE.fullmatch(key)
        if match is None or match.groups()[1:] != (hand, name):
            raise FileFormatError(path, f"it lists {key!r}, which cannot be a file of {name}")
    for shard in shards.values():
        if HASH.fullmatch(shard.object_hash) is None:
            raise FileFormatError(path, f"it names an object {shard.object_hash!r}, which is no hash")
    return Part(name=name, hand=hand, path=folder / grasps, rows=rows, shards=shards, files=files)
