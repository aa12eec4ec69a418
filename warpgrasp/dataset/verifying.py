"""Is a dataset whole? And if not, make it so; and what is in it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, OptionError, WarpgraspError
from ..files import TEMPORARY
from .config import Config, make_config
from .generating import Report, ReportCallback, generate
from .plan import SYNTHESIZE
from .schema import read_object, read_table
from .store import TABLES, Part, Store, open_store, read_json

OnDone = Callable[[int, int], None]
"""Called with the parts done and the parts in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is wrong with a dataset."""

    path: str
    """Below the dataset's folder."""

    what: str

    part: str = ""
    """Name of the part that has to be made again, where one has."""


def verify(folder: str | Path, *, deep: bool = False, on_done: OnDone | None = None) -> list[Problem]:
    """Compare every file with its record.

    Args:
        folder: The dataset's folder.
        deep: Whether to read every row too: columns, keys, and side tables against their grasps.
        on_done: Told how far it is.

    Returns:
        What is wrong; nothing if all is well.

    Raises:
        FileFormatError: There is no dataset.
    """
    store = open_store(folder)
    problems: list[Problem] = []
    known: set[str] = set()
    seen: Counter[str] = Counter()
    names = store.names()
    for done, name in enumerate(names, start=1):
        try:
            part = store.part(name)
        except FileFormatError as error:
            problems.append(Problem(path=f"shards/{name}.json", what=str(error), part=name))
            continue
        known |= set(part.files)
        seen.update(part.shards.keys())
        problems += [Problem(path=path, what=what, part=name) for path, what in _differences(store, part, deep)]
        if on_done is not None:
            on_done(done, len(names))
    for key, count in seen.items():
        if count > 1:
            problems.append(Problem(path=f"shards/{key}.json", what=f"its shard is there {count} times", part=key))
    return problems + list(_strangers(store, known, {problem.part for problem in problems}))


def _strangers(store: Store, known: set[str], damaged: set[str]) -> Iterator[Problem]:
    """Files that no record lists."""
    for path in sorted(store.folder.rglob("*")):
        name = path.relative_to(store.folder).as_posix()
        if path.name.endswith(TEMPORARY) and path.is_file():
            yield Problem(path=name, what="left half written by a process that was killed")
        elif path.suffix == ".parquet" and name.split("/")[0] in TABLES and name not in known:
            if path.stem not in damaged:
                yield Problem(path=name, what="has no record")


def _differences(store: Store, part: Part, deep: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of a part and the meshes of its objects."""
    whole = True
    for name, (size, digest) in part.files.items():
        what = file_problem(store.folder / name, size, digest)
        if what:
            whole = False
            yield name, what
    for digest in {shard.object_hash for shard in part.shards.values()}:
        path = store.objects_folder / f"{digest}.parquet"
        try:
            read_object(path)
        except FileFormatError as error:
            yield path.relative_to(store.folder).as_posix(), str(error)
    if deep and whole:
        try:
            _check_rows(store, part)
        except WarpgraspError as error:
            yield part.path.relative_to(store.folder).as_posix(), str(error)


def file_problem(path: Path, size: int, digest: str) -> str:
    """What is wrong with a file that should have this size and SHA-256; nothing where all is well."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes, not {size}"
    with path.open("rb") as file:
        return "" if hashlib.file_digest(file, "sha256").hexdigest() == digest else "its content has changed"


def _check_rows(store: Store, part: Part) -> None:
    """Raise unless the rows are those that the record says, and side tables are of the same grasps."""
    for grasps, (key, shard) in zip(store.read(part, mesh=False), part.shards.items(), strict=True):
        if (len(grasps), int(grasps.valid.sum()), grasps.object_name) != (shard.rows, shard.valid, shard.object):
            raise FileFormatError(part.path, f"shard {key} is not what its record says")
    for name in part.files:
        table = read_table(store.folder / name)
        for key, index in zip(table["shard"].to_pylist(), table["index"].to_pylist(), strict=True):
            if key not in part.shards or not 0 <= index < part.shards[key].rows:
                raise FileFormatError(name, f"it has a row of a grasp that is not there: {key}, {index}")


def repair(
    folder: str | Path,
    *,
    workers: int | None = None,
    device: str | None = None,
    on_report: ReportCallback | None = None,
) -> tuple[list[Problem], Report | None]:
    """Delete what is damaged, and make it again.

    Returns:
        What was wrong, and the run that made it again; ``None`` where nothing had to be made, or where the dataset was
        not made by :func:`warpgrasp.synthesize`, so that whoever made it has to do so again.

    Raises:
        OptionError: Another run writes there.
        FileFormatError: There is no dataset, or its configuration is damaged.
    """
    store = open_store(folder)
    store.prepare()
    with store.lock():
        problems = verify(folder, deep=True)
        for problem in problems:
            # The record goes first: without it, nothing of the part counts.
            if problem.part:
                (store.folder / "shards" / f"{problem.part}.json").unlink(missing_ok=True)
                for table in TABLES:
                    for path in (store.folder / table).glob(f"*/{problem.part}.parquet"):
                        path.unlink()
            (store.folder / problem.path).unlink(missing_ok=True)
    path = store.folder / "dataset.json"
    if not any(problem.part for problem in problems) or not path.exists():
        return problems, None
    if read_json(path).get("identity", {}).get("maker") != SYNTHESIZE:
        return problems, None
    return problems, generate(stored_config(path), folder, workers=workers, device=device, on_report=on_report)


def stored_config(path: Path) -> Config:
    """The configuration that a dataset was made with.

    Raises:
        FileFormatError: It is damaged.
    """
    content = read_json(path)
    try:
        return make_config(content["config"], Path(content["folder"]))
    except (KeyError, TypeError, AttributeError, OptionError) as error:
        raise FileFormatError(path, f"its configuration cannot be used ({error})") from error


def stats(folder: str | Path) -> dict[str, Any]:
    """Counts of a dataset from its records: rows, validity, reasons, sizes and times, by hand and by object.

    Raises:
        FileFormatError: There is no dataset, or a record is damaged.
    """
    store = open_store(folder)
    took = timings(store)
    hands: dict[str, dict[str, Any]] = {}
    objects: dict[str, dict[str, Any]] = {}
    for part in store.parts():
        hand = hands.setdefault(part.hand, _empty() | {"bytes": 0, "seconds": 0.0, "reasons": Counter()})
        hand["bytes"] += sum(size for size, _ in part.files.values())
        for key, shard in part.shards.items():
            hand["seconds"] += took.get(key, 0.0)
            hand["reasons"].update(shard.reasons)
            for counts in (hand, objects.setdefault(shard.object, _empty())):
                counts["shards"] += 1
                counts["rows"] += shard.rows
                counts["valid"] += shard.valid
    return {
        "folder": str(store.folder),
        "hands": {
            name: hand | {"reasons": dict(hand["reasons"].most_common())} for name, hand in sorted(hands.items())
        },
        "objects": {name: objects[name] for name in sorted(objects)},
        "splits": {name: len(entries) for name, entries in store.splits.items()},
        "failed_shards": len(list((store.folder / "failures").glob("*.json"))),
    }


def _empty() -> dict[str, Any]:
    return {"shards": 0, "rows": 0, "valid": 0}


def timings(store: Store) -> dict[str, float]:
    """What each shard took [s], the last time that it was made; a line that a kill cut off is left out."""
    found = {}
    for path in sorted((store.folder / "timings").glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    found[str(row["shard"])] = float(row["seconds"])
                except (ValueError, KeyError, TypeError):
                    continue
    return found
