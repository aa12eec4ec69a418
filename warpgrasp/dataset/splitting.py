"""Splits of a dataset by object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import OptionError
from ..files import write_atomically
from .card import write_card
from .schema import read_object
from .store import Store, open_store

SAME_SHAPE = 1.0e-3
"""Two meshes with the same faces are one object where their vertices differ by less than this share of its size."""


def split(folder: str | Path, *, fractions: Mapping[str, float] | None = None, seed: int = 0) -> dict[str, list[str]]:
    """Divide the objects of a dataset, so that no object is in two splits.

    Objects are one if they have the same name, or meshes that are equal but for size and place. Writes ``splits.json``
    and the card, and nothing into the tables: whoever reads goes by the objects' names.

    Args:
        folder: The dataset's folder.
        fractions: Share of the objects by split; 80, 10 and 10 % in train, validation and test where omitted.
        seed: Another seed gives another division.

    Returns:
        Names of objects by split.

    Raises:
        OptionError: The fractions do not sum to one, or there are fewer objects than splits.
        FileFormatError: There is no dataset, or a file is damaged.
    """
    shares = dict(fractions or {"train": 0.8, "validation": 0.1, "test": 0.1})
    if not shares or min(shares.values()) <= 0.0 or abs(sum(shares.values()) - 1.0) > 1e-6:
        raise OptionError(f"fractions must be positive and sum to 1, got {', '.join(map(str, shares.values()))}")
    store = open_store(folder)
    groups = object_groups(store)
    if len(groups) < len(shares):
        raise OptionError(f"{folder} has {len(groups)} objects, too few for {len(shares)} splits")
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {min(group)}".encode()).digest())
    ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
    # Every split has an object, however small its share.
    place = np.arange(1, len(ends) + 1)
    ends = np.minimum(np.maximum(ends, place), len(order) - len(ends) + place)
    found = {
        name: sorted(entry for group in order[begin:end] for entry in group)
        for name, begin, end in zip(shares, [0, *ends[:-1]], ends, strict=True)
    }
    content = {"format": "warpgrasp splits, version 1", "seed": seed, "fractions": shares, "objects": found}
    store.prepare()
    with store.lock():
        write_atomically(store.folder / "splits.json", json.dumps(content, indent=1) + "\n")
        write_card(Store(folder))
    return found


def object_groups(store: Store) -> list[set[str]]:
    """Names of the dataset's objects, those of one object together."""
    names: dict[str, set[str]] = {}
    for part in store.parts():
        for shard in part.shards.values():
            names.setdefault(shard.object_hash, set()).add(shard.object)
    alike: dict[bytes, list[tuple[np.ndarray, set[str]]]] = {}
    groups: list[set[str]] = []
    for digest in sorted(names):
        vertices, faces = read_object(store.objects_folder / f"{digest}.parquet")
        shape = (vertices - vertices.mean(axis=0)) / max(float(np.ptp(vertices, axis=0).max()), 1e-12)
        known = alike.setdefault(hashlib.sha256(faces.tobytes()).digest(), [])
        same = next((group for other, group in known if _equal(shape, other)), None)
        if same is None:
            same = set()
            known.append((shape, same))
            groups.append(same)
        same |= names[digest]
    return _joined(groups)


def _equal(shape: np.ndarray, other: np.ndarray) -> bool:
    return shape.shape == other.shape and bool(np.abs(shape - other).max() < SAME_SHAPE)


def _joined(groups: Iterable[set[str]]) -> list[set[str]]:
    """The groups, those that have a name in common made one."""
    joined: list[set[str]] = []
    for group in groups:
        apart = [other for other in joined if not other & group]
        joined = [*apart, group.union(*(other for other in joined if other & group))]
    return joined
