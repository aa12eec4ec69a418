"""``warpgrasp generate``: what is missing of a dataset, made by an executor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..files import write_atomically
from . import plan as plans
from .config import Config, read_config
from .executors import Resources, run_here, run_local
from .make import Job, Outcome, find_maker
from .plan import SYNTHESIZE, Shard
from .store import MERGED, Store, read_json

FORMAT = "warpgrasp dataset, version 1"

EXECUTORS = ("local", "ray", "here")

LISTED_FAILURES = 20
"""Failures that a report keeps; all are in ``failures/``."""


@dataclass(kw_only=True)
class Report:
    """How far a run is."""

    planned: int
    """Shards of the configuration."""

    there: int
    """Shards that had been made before."""

    grasps: int
    """Grasps to be made in this run."""

    made: int = 0
    """Shards made in this run."""

    failed: int = 0
    """Shards that could not be made."""

    tried: int = 0
    """Grasps whose shard is made or has failed."""

    rows: int = 0

    valid: int = 0

    size: int = 0
    """Of the files of this run [byte]."""

    failures: dict[str, str] = field(default_factory=dict)
    """Why, by shard; the first few."""

    begin: float = field(default_factory=time.monotonic)

    end: float | None = None

    def add(self, outcome: Outcome, count: int) -> None:
        """Count a shard of ``count`` grasps."""
        self.tried += count
        if outcome.error:
            self.failed += 1
            if len(self.failures) < LISTED_FAILURES:
                self.failures[outcome.key] = outcome.error
            return
        self.made += 1
        self.rows += outcome.rows
        self.valid += outcome.valid
        self.size += outcome.size

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return (self.end or time.monotonic()) - self.begin

    @property
    def rate(self) -> float:
        """Grasps per second."""
        return self.rows / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def share_valid(self) -> float:
        """Valid grasps of all of this run; NaN where there are none."""
        return self.valid / self.rows if self.rows else float("nan")

    @property
    def seconds_left(self) -> float:
        """If it goes on like this; NaN before the first shard."""
        return self.seconds * (self.grasps - self.tried) / self.tried if self.tried else float("nan")


ReportCallback = Callable[[Report], None]
"""Called after every shard."""


def generate(
    config: Config | str | Path,
    out: str | Path,
    *,
    executor: str = "local",
    workers: int | None = None,
    recycle: int = Resources().recycle,
    device: str | None = None,
    part: tuple[int, int] | None = None,
    maker: str = SYNTHESIZE,
    gallery: int = 12,
    on_report: ReportCallback | None = None,
) -> Report:
    """Make the shards of a configuration that are not in the folder yet, then a card and a summary page.

    A run may be killed at any moment and started again. The same shard has the same bytes on the same kind of device.

    Args:
        config: A configuration, or the path of its YAML.
        out: The dataset's folder.
        executor: ``"local"``: processes of this machine. ``"ray"``: actors of a Ray cluster. ``"here"``: this process,
            to look for errors.
        workers: Processes or actors; one for each GPU, or for each core where there is none, where omitted.
        recycle: Shards after which a process is replaced by a fresh one.
        device: Warp device such as "cpu" or "cuda:0"; all GPUs, else the CPU, where omitted.
        part: ``(i, n)``: only every n-th shard from the i-th on, beside others that make the rest; no card, no summary.
        maker: ``module:function`` that makes the grasps instead of :func:`warpgrasp.synthesize`, for a method of your
            own: called as ``maker(hand, obj, count=, seed=, device=, config=)``, it returns ``Grasps``. Equal
            arguments must give equal grasps.
        gallery: Pictures of grasps on the summary page.
        on_report: Called after every shard.

    Returns:
        What was done. A shard that failed is recorded in ``failures/`` and tried again in the next run.

    Raises:
        OptionError: The configuration cannot work, the folder holds a dataset of another one, or another run writes
            there.
        FileFormatError: A file is missing or damaged, or the folder may not be written to.
        OSError: The disk is full.
    """
    if executor not in EXECUTORS:
        raise OptionError(f"no executor named {executor!r}; there are {', '.join(EXECUTORS)}")
    config = config if isinstance(config, Config) else read_config(config)
    find_maker(maker)
    store = Store(out)
    store.prepare()
    with store.lock(shared=part is not None):
        if part is None:
            store.sweep()
        planned = plans.plan(config, maker=maker)
        missing = claim(store, config, planned, maker)
        if part is None:
            forget_failures(store, missing)
        else:
            keys = {shard.key for shard in planned[part[0] :: part[1]]}
            missing = [shard for shard in missing if shard.key in keys]
        there, grasps = len(planned) - len(missing), sum(shard.count for shard in missing)
        report = Report(planned=len(planned), there=there, grasps=grasps)
        counts = {shard.key: shard.count for shard in missing}
        job = Job(folder=str(store.folder.absolute()), config=config, maker=maker, device=device)
        for outcome in _run(executor, job, missing, Resources(workers=workers, recycle=recycle)):
            report.add(outcome, counts[outcome.key])
            if on_report is not None:
                on_report(report)
        if part is None:
            store.sweep()
            finish(store, gallery=gallery)
    report.end = time.monotonic()
    return report


def finish(store: Store, *, gallery: int = 12) -> None:
    """Write the card and the summary page, unless they are newer than every record."""
    from .card import write_card
    from .summary import write_summary

    page, records = store.folder / "summary.html", [store.folder / name for name in ("shards", "failures")]
    if page.exists() and page.stat().st_mtime_ns > max(folder.stat().st_mtime_ns for folder in records):
        return
    write_card(store)
    write_summary(store, gallery=gallery)


def _run(executor: str, job: Job, shards: list[Shard], resources: Resources) -> Iterator[Outcome]:
    if not shards:
        return iter(())
    if executor == "ray":
        from .on_ray import run_ray

        return run_ray(job, shards, resources)
    return run_here(job, shards) if executor == "here" else run_local(job, shards, resources)


def claim(store: Store, config: Config, planned: list[Shard], maker: str) -> list[Shard]:
    """Note the configuration in the folder, and return the shards that are not there yet.

    Raises:
        OptionError: The folder holds shards that this configuration would not make.
    """
    path = store.folder / "dataset.json"
    identity = json.loads(json.dumps(plans.identity(config, maker), default=str))
    if path.exists():
        known = read_json(path).get("identity")
        if known != identity:
            raise OptionError(
                f"{store.folder} holds a dataset of another configuration ({_difference(known, identity)}); "
                "give another --out"
            )
    done = committed(store)
    strays = sorted(done - {shard.key for shard in planned})
    if strays:
        raise OptionError(
            f"{store.folder} holds {len(strays)} shards that this configuration does not list, such as {strays[0]}; "
            "hands, objects, scales and whole shards may be added to a dataset, not taken away: give another --out"
        )
    record = {"format": FORMAT, "identity": identity, "config": config.values(), "folder": str(config.folder)}
    text = json.dumps(record, indent=1, default=str) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
    return [shard for shard in planned if shard.key not in done]


def forget_failures(store: Store, missing: list[Shard]) -> None:
    """Delete what is recorded of shards that are there by now, or that the configuration does not make any more."""
    keys = {shard.key for shard in missing}
    for path in (store.folder / "failures").glob("*.json"):
        if path.stem not in keys:
            path.unlink(missing_ok=True)


def committed(store: Store) -> set[str]:
    """Keys of all shards that are there, alone or merged."""
    keys: set[str] = set()
    for name in store.names():
        keys |= set(store.part(name).shards) if name.startswith(MERGED) else {name}
    return keys


def _difference(known: Any, identity: dict[str, Any]) -> str:
    if not isinstance(known, dict):
        return "dataset.json does not say which"

    def short(value: Any) -> str:
        return str(value.get("name", "other settings")) if isinstance(value, dict) else repr(value)

    keys = [key for key in {**identity, **known} if known.get(key) != identity.get(key)]
    return ", ".join(f"{key}: {short(known.get(key))} there, {short(identity.get(key))} here" for key in keys)
