"""The many small files of some datasets, put into few large ones of a new one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileFormatError, OptionError
from ..files import write_atomically
from .card import write_card
from .schema import KEY, merge_tables, read_metadata, read_object, read_table
from .store import MERGED, TABLES, Part, ShardSummary, Store, open_store
from .verifying import file_problem

if TYPE_CHECKING:
    import pyarrow as pa

PART_BYTES = 128 * 1024**2
"""Size that files are filled to [byte]."""

OnDone = Callable[[int, int], None]
"""Called with the files done and the files in all."""


def merge(folders: Iterable[str | Path], out: str | Path, *, on_done: OnDone | None = None) -> Store:
    """Put the shards of some datasets into few large files of a new one, those of an object together.

    Shards that are in several datasets are taken from the first. A file has objects of one split only. A merge that was
    killed goes on where it was.

    Args:
        folders: Datasets to read.
        out: Folder of the new one.
        on_done: Told how far it is.

    Returns:
        The new dataset.

    Raises:
        OptionError: ``out`` is one of them or holds something else, or their splits contradict each other.
        FileFormatError: A dataset is missing or damaged; ``verify`` says more.
    """
    sources = [open_store(folder) for folder in folders]
    store = Store(out)
    if any(source.folder.resolve() == store.folder.resolve() for source in sources):
        raise OptionError(f"{out} is one of the datasets that are merged; give another --out")
    store.prepare()
    with store.lock():
        store.sweep()
        bins = list(_bins(sources))
        strays = set(store.names()) - {name for name, _ in bins}
        if strays:
            raise OptionError(f"{out} holds another dataset, with {min(strays)}; give another --out")
        _take_over(sources, store)
        for done, (name, pieces) in enumerate(bins, start=1):
            if not (store.folder / "shards" / f"{name}.json").exists():
                _write_bin(store, name, pieces)
            if on_done is not None:
                on_done(done, len(bins))
        write_card(store)
    return store


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A shard in a part of a dataset."""

    store: Store
    part: Part
    key: str
    shard: ShardSummary

    @property
    def size(self) -> float:
        """Its share of the part's file [byte]."""
        whole = self.part.files[f"{TABLES[0]}/{self.part.hand}/{self.part.name}.parquet"][0]
        return whole * self.shard.rows / max(self.part.rows, 1)


def _take_over(sources: list[Store], store: Store) -> None:
    """The configuration, where all have the same, and the splits, where none contradicts."""
    splits = [source for source in sources if source.splits]
    if any(source.splits != splits[0].splits for source in splits):
        raise OptionError("the datasets have been split differently; delete their splits.json, merge, then split")
    configs = [source.folder / "dataset.json" for source in sources]
    same = all(path.exists() and path.read_bytes() == configs[0].read_bytes() for path in configs)
    for path in [*configs[: int(same)], *(source.folder / "splits.json" for source in splits[:1])]:
        write_atomically(store.folder / path.name, path.read_bytes())


def _bins(sources: list[Store]) -> Iterator[tuple[str, list[Piece]]]:
    """Which shards go into which file: those of a hand, a split and equal tables, object by object."""
    pieces: dict[str, Piece] = {}
    for source in sources:
        for part in source.parts():
            for key, shard in part.shards.items():
                pieces.setdefault(key, Piece(store=source, part=part, key=key, shard=shard))
    split_of = {name: split for source in sources for name, split in source.split_of.items()}
    groups: dict[tuple[str, str, str], list[Piece]] = {}
    for piece in pieces.values():
        tables = " ".join(sorted(path.split("/")[0] for path in piece.part.files))
        groups.setdefault((piece.part.hand, split_of.get(piece.shard.object, ""), tables), []).append(piece)
    for group in sorted(groups):
        gathered: list[Piece] = []
        size = 0.0
        for piece in sorted(groups[group], key=lambda piece: (piece.shard.object, piece.shard.scale, piece.key)):
            if gathered and size + piece.size > PART_BYTES:
                yield _bin_name(gathered), gathered
                gathered, size = [], 0.0
            gathered.append(piece)
            size += piece.size
        yield _bin_name(gathered), gathered


def _bin_name(pieces: list[Piece]) -> str:
    digest = hashlib.sha256("\n".join(piece.key for piece in pieces).encode()).hexdigest()
    return f"{MERGED}{pieces[0].part.hand}-{digest[:20]}"


def _write_bin(store: Store, name: str, pieces: list[Piece]) -> None:
    """Write the shards of one file, and their meshes."""
    gathered: dict[str, list[pa.Table]] = {}
    part: Part | None = None
    tables: dict[str, dict[str, pa.Table]] = {}
    for piece in pieces:
        if piece.part is not part:
            part = piece.part
            tables = _read_part(piece.store, part)
        for table, by_shard in tables.items():
            gathered.setdefault(table, []).append(by_shard[piece.key])
        mesh = store.objects_folder / f"{piece.shard.object_hash}.parquet"
        if not mesh.exists():
            source = piece.store.objects_folder / mesh.name
            read_object(source)
            write_atomically(mesh, source.read_bytes())
    merged = {table: merge_tables(several, store.folder / table / name) for table, several in gathered.items()}
    store.commit(name, pieces[0].part.hand, merged, {piece.key: piece.shard for piece in pieces})


def _read_part(store: Store, part: Part) -> dict[str, dict[str, pa.Table]]:
    """The tables of a part, each by shard."""
    for name, (size, digest) in part.files.items():
        if problem := file_problem(store.folder / name, size, digest):
            raise FileFormatError(store.folder / name, f"{problem}; run `warpgrasp dataset repair` first")
    return {name.split("/")[0]: _by_shard(store.folder / name, part) for name in part.files}


def _by_shard(path: Path, part: Part) -> dict[str, pa.Table]:
    """The rows of a part's table by shard; a shard may have no contact."""
    table = read_table(path)
    if len(part.shards) == 1:
        return dict.fromkeys(part.shards, table)
    metadata = read_metadata(table, path)
    order = {key: place for place, key in enumerate(part.shards)}
    column = table["shard"].unify_dictionaries().combine_chunks()
    place = np.array([order[key] for key in column.dictionary.to_pylist()] or [0])[column.indices.to_numpy()]
    if (np.diff(place) < 0).any():
        raise FileFormatError(path, "its shards are not in the order of its record")
    edges = np.searchsorted(place, np.arange(len(order) + 1))
    found = {}
    for key, begin, end in zip(part.shards, edges, edges[1:], strict=False):
        own = metadata | {"shards": {key: metadata["shards"][key]}} if "shards" in metadata else metadata
        found[key] = table[begin:end].replace_schema_metadata({KEY: json.dumps(own)})
    return found
