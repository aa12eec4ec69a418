"""``GraspDataset``: the grasps of a dataset as batches of tensors, for ``torch.utils.data.DataLoader``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import FileFormatError, OptionError
from .schema import ROW_GROUP, SAME_AS, read_object
from .store import Part, Store, open_store

COLUMNS = ("wrist_position", "wrist_quaternion_wxyz", "joint_position", "valid")
"""What is read unless something else is asked for."""

OBJECT = "object_index"
"""Added to every batch: place of the grasp's object in :attr:`GraspDataset.objects`."""

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Group:
    """A row group of a file: what is read at once."""

    path: Path

    number: int
    """Of the row group in the file."""

    rows: int
    """Of them that are chosen."""

    taken: tuple[tuple[int, int], ...]
    """Ranges of rows in the group whose objects are of the split."""


class GraspDataset(IterableDataset[Batch]):
    """Rows of a dataset in batches, shuffled, each exactly once in an epoch over all ranks and workers.

    >>> rows = GraspDataset("grasps/", hand="allegro", split="train", batch_size=256)
    >>> loader = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=4)
    >>> for epoch in range(10):
    ...     rows.set_epoch(epoch)
    ...     for batch in loader:
    ...         batch["joint_position"]  # (256, J), float32

    Row groups come in an order of their own in every epoch, and each worker of each rank takes an equal piece of that
    sequence. Its rows go through a buffer that is shuffled again and again, so memory does not grow with the dataset.
    Equal ``seed``, epoch and numbers of ranks and workers give equal batches.

    Args:
        folder: A dataset, as ``warpgrasp generate`` and ``export(..., format="parquet")`` make them.
        hand: Name of the hand; may be omitted where the dataset has one hand only.
        split: Only objects of this split; see ``warpgrasp dataset split``.
        columns: Columns of numbers; docs/datasets.md lists them.
        valid_only: Whether to leave out grasps that failed a check.
        batch_size: Rows of a batch.
        drop_last: Whether all workers of all ranks give the same number of whole batches, as training on several GPUs
            in step needs it; fewer rows than a batch are then left out in each worker.
        shuffle: Whether rows are shuffled; otherwise they come in the order of the files.
        buffer: Rows that are shuffled together.
        seed: Of the order.
        rank: Number of this process among ``ranks``; those of ``torch.distributed`` where it is initialized.
        ranks: Number of processes.

    Raises:
        FileFormatError: There is no dataset, or a record of it is damaged.
        OptionError: There is no such hand, split or column, or an option has a value that cannot work.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        hand: str | None = None,
        split: str | None = None,
        columns: Sequence[str] = COLUMNS,
        valid_only: bool = False,
        batch_size: int = 256,
        drop_last: bool = False,
        shuffle: bool = True,
        buffer: int = 65536,
        seed: int = 0,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        super().__init__()
        if (rank is None) != (ranks is None):
            raise OptionError("rank and ranks go together")
        if rank is None or ranks is None:
            distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if distributed else 0
            ranks = torch.distributed.get_world_size() if distributed else 1
        if not 0 <= rank < ranks:
            raise OptionError(f"rank must be in 0..{ranks - 1}, got {rank}")
        if batch_size < 1 or buffer < batch_size:
            raise OptionError(f"buffer must hold a batch at least; got buffer={buffer} and batch_size={batch_size}")
        self.store = open_store(folder)
        self.hand = _only_hand(self.store, hand)
        self.columns, self.valid_only = tuple(columns), valid_only
        self.batch_size, self.drop_last = batch_size, drop_last
        self.shuffle, self.buffer, self.seed = shuffle, buffer, seed
        self.rank, self.ranks = rank, ranks
        parts = list(self.store.parts(hand=self.hand, split=split))
        self.groups = [group for part in parts for group in _groups(self.store, part, split, valid_only)]
        chosen = {
            (shard.object_hash, shard.object)
            for part in parts
            for shard in part.shards.values()
            if self.store.in_split(shard, split)
        }
        self.object_hashes = tuple(sorted({digest for digest, _ in chosen}))
        names = dict(sorted(chosen, reverse=True))
        self.objects: tuple[str, ...] = tuple(names[digest] for digest in self.object_hashes)
        """Name of each object; ``batch["object_index"]`` counts in it."""
        self.rows = sum(group.rows for group in self.groups)
        """Rows of an epoch, over all ranks."""
        if not self.rows:
            raise OptionError(f"{folder} has no grasp to read, with hand={self.hand!r} and split={split!r}")
        self.joint_names = _check_columns(self.groups[0].path, self.columns)
        # Shared memory, so that workers that live on see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; call it before each epoch, else all epochs have the same."""
        self._epoch.fill_(epoch)

    def object_points(self, count: int, *, seed: int = 0) -> torch.Tensor:
        """Points spread evenly over the surface of each object, in its frame [m], shape (object, count, 3), float32.

        Raises:
            FileFormatError: A mesh is missing or damaged.
        """
        import trimesh

        clouds = []
        for digest in self.object_hashes:
            mesh = trimesh.Trimesh(*read_object(self.store.objects_folder / f"{digest}.parquet"), process=False)
            clouds.append(trimesh.sample.sample_surface(mesh, count, seed=seed)[0])
        return torch.from_numpy(np.stack(clouds).astype(np.float32))

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        piece, pieces = self.rank * workers + number, self.ranks * workers
        epoch = int(self._epoch)
        order = np.random.default_rng((self.seed, epoch))
        groups = [self.groups[i] for i in order.permutation(len(self.groups))] if self.shuffle else self.groups
        blocks = self._piece(groups, self.rows * piece // pieces, self.rows * (piece + 1) // pieces)
        whole = self.rows // pieces // self.batch_size if self.drop_last else -1
        rng = np.random.default_rng((self.seed, epoch, piece + 1)) if self.shuffle else None
        for given, batch in enumerate(_batches(blocks, self.batch_size, self.buffer, rng)):
            if given == whole:
                return
            yield {name: torch.from_numpy(column) for name, column in batch.items()}

    def _piece(self, groups: Sequence[Group], begin: int, end: int) -> Iterator[dict[str, np.ndarray]]:
        """The rows from ``begin`` to ``end`` of the sequence of groups."""
        first = 0
        for group in groups:
            low, high = max(begin - first, 0), min(end - first, group.rows)
            if low < high:
                yield {name: column[low:high] for name, column in self._read(group).items()}
            first += group.rows

    def _read(self, group: Group) -> dict[str, np.ndarray]:
        """The chosen rows of a group."""
        names = [*self.columns, *(["valid"] if self.valid_only and "valid" not in self.columns else [])]
        try:
            with pq.ParquetFile(group.path, read_dictionary=["object_hash"], page_checksum_verification=True) as file:
                kept = {name: _kept(name, file.schema_arrow.names) for name in names}
                wanted = sorted({*kept.values(), "object_hash"})
                table = file.read_row_group(group.number, columns=wanted, use_threads=False)
            found = {name: _numbers(table[kept[name]]) for name in names}
            index = _indices(table["object_hash"], self.object_hashes)
        except (pa.ArrowException, OSError, KeyError, ValueError, IndexError) as error:
            raise FileFormatError(group.path, f"it is damaged, or not of this dataset ({error})") from error
        keep = np.concatenate([np.arange(begin, end) for begin, end in group.taken])
        if self.valid_only:
            keep = keep[found["valid"][keep]]
        if len(keep) != group.rows:
            raise FileFormatError(group.path, f"row group {group.number} has {len(keep)} rows, expected {group.rows}")
        return {name: found[name][keep] for name in self.columns} | {OBJECT: index[keep]}


def _batches(
    blocks: Iterator[dict[str, np.ndarray]], size: int, buffer: int, rng: np.random.Generator | None
) -> Iterator[dict[str, np.ndarray]]:
    """Rows of blocks in batches; half of a full buffer goes on at a time, the other half mixes with what follows."""
    pool: list[dict[str, np.ndarray]] = []
    held = 0
    for block in blocks:
        pool.append(block)
        held += len(block[OBJECT])
        if held >= buffer:
            joined = _shuffled(pool, rng)
            gone = held - buffer // 2 if rng else held
            gone -= gone % size
            for first in range(0, gone, size):
                yield {name: column[first : first + size] for name, column in joined.items()}
            pool, held = [{name: column[gone:].copy() for name, column in joined.items()}], held - gone
    if held:
        joined = _shuffled(pool, rng)
        for first in range(0, held, size):
            yield {name: column[first : first + size] for name, column in joined.items()}


def _shuffled(pool: list[dict[str, np.ndarray]], rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    order = rng.permutation(sum(len(block[OBJECT]) for block in pool)) if rng else slice(None)
    return {name: np.concatenate([block[name] for block in pool])[order] for name in pool[0]}


def _only_hand(store: Store, hand: str | None) -> str:
    hands = store.hands()
    if hand is None and len(hands) == 1:
        return hands[0]
    if hand not in hands:
        wanted = f"has no hand {hand!r}" if hand is not None else "has several hands; pass hand"
        raise OptionError(f"{store.folder} {wanted}: {', '.join(hands) or 'it is empty'}")
    return hand


def _groups(store: Store, part: Part, split: str | None, valid_only: bool) -> Iterator[Group]:
    """The row groups of a part that have rows to read."""
    bounds, first = [], 0
    for shard in part.shards.values():
        if store.in_split(shard, split):
            bounds.append((first, first + shard.rows))
        first += shard.rows
    valid = _valid(part) if valid_only and part.rows > ROW_GROUP else None
    for number, low in enumerate(range(0, part.rows, ROW_GROUP)):
        high = min(low + ROW_GROUP, part.rows)
        taken = tuple((max(a, low) - low, min(b, high) - low) for a, b in bounds if a < high and b > low)
        if not valid_only:
            rows = sum(b - a for a, b in taken)
        elif valid is None:
            rows = sum(shard.valid for shard in part.shards.values() if store.in_split(shard, split))
        else:
            rows = int(sum(valid[low + a : low + b].sum() for a, b in taken))
        if rows:
            yield Group(part.path, number, rows, taken)


def _valid(part: Part) -> np.ndarray:
    """Which grasps are valid, of a part of several row groups."""
    try:
        with pq.ParquetFile(part.path) as file:
            return _numbers(file.read(columns=["valid"], use_threads=False)["valid"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FileFormatError(part.path, f"it is damaged ({error})") from error


def _check_columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of the joints of a file; raise if a column is not there or not numbers."""
    import json

    from .schema import KEY

    try:
        schema = pq.read_schema(path)
        names = tuple(str(name) for name in json.loads((schema.metadata or {})[KEY])["joint_names"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise FileFormatError(path, f"it is damaged ({error})") from error
    known = [field.name for field in schema if not pa.types.is_string(field.type)]
    for column in columns:
        if _kept(column, schema.names) not in known:
            raise OptionError(f"there is no column of numbers {column!r}; there are {', '.join(known)}")
    return names


def _kept(name: str, names: Sequence[str]) -> str:
    """The column that has the values of another, which is left out where it would repeat it."""
    while name not in names and name in SAME_AS:
        name = SAME_AS[name]
    return name


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array; lists become the rows of a matrix."""
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return whole.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return whole.to_numpy(zero_copy_only=False)


def _indices(column: pa.ChunkedArray, hashes: tuple[str, ...]) -> np.ndarray:
    """Place of each row's object in a sorted list of hashes, int64; of other objects, that of any."""
    whole = column.unify_dictionaries().combine_chunks()
    encoded = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    place = np.searchsorted(np.array(hashes), encoded.dictionary.to_numpy(zero_copy_only=False).astype(str))
    return place[encoded.indices.to_numpy()].astype(np.int64)
