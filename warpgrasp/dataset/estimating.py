"""``warpgrasp generate --dry-run``: what a run would make, and what it would take."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import FileFormatError
from . import plan as plans
from .config import Config, read_config
from .executors import Resources, run_local, slots
from .generating import committed
from .make import Job
from .plan import SYNTHESIZE, Shard
from .store import Store

PROBE_COUNT = 16
"""Grasps that the cost of a hand is measured with."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run is expected to take."""

    shards: int

    there: int
    """Shards that are there already."""

    grasps: int
    """To be made."""

    workers: int

    core_seconds: float
    """Of all workers together."""

    size: float
    """[byte]"""

    hands: dict[str, tuple[int, float, float]]
    """By hand: grasps to be made, seconds and bytes for each."""

    @property
    def seconds(self) -> float:
        """From the start to the end."""
        return self.core_seconds / self.workers


def estimate(
    config: Config | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    device: str | None = None,
    maker: str = SYNTHESIZE,
) -> Estimate:
    """What :func:`generate` would do, and what it would take; nothing is written to the folder.

    The cost of each hand is measured with small shards of the first object that works, in a folder that is deleted. All
    workers make one at the same time: cores that share caches, memory and clock are slower together than one is alone.
    """
    config = config if isinstance(config, Config) else read_config(config)
    planned = plans.plan(config, maker=maker)
    done = committed(Store(out)) if (Path(out) / "shards").is_dir() else set()
    missing = [shard for shard in planned if shard.key not in done]
    busy = len(slots(device, workers))
    hands, size, seconds = {}, 0.0, 0.0
    for hand in dict.fromkeys(shard.hand for shard in missing):
        own = [shard for shard in missing if shard.hand == hand]
        count = sum(shard.count for shard in own)
        each, fixed, bytes_each = probe(config, own, workers=busy, device=device, maker=maker)
        hands[hand] = (count, each, bytes_each + fixed * len(own) / count)
        seconds += each * count
        size += bytes_each * count + fixed * len(own)
    return Estimate(
        shards=len(planned),
        there=len(planned) - len(missing),
        grasps=sum(shard.count for shard in missing),
        workers=busy,
        core_seconds=seconds,
        size=size,
        hands=hands,
    )


def probe(
    config: Config, shards: Iterable[Shard], *, workers: int, device: str | None, maker: str
) -> tuple[float, float, float]:
    """Seconds per grasp, bytes per shard and bytes per grasp, from the first shards of a hand that can be made.

    Raises:
        FileFormatError: None of the first objects works.
    """
    error = ""
    for shard in list({shard.object: shard for shard in shards}.values())[:5]:
        with tempfile.TemporaryDirectory(prefix="warpgrasp-") as folder:
            store = Store(folder)
            store.prepare()
            job = Job(folder=folder, config=config, maker=maker, device=device)
            many = min(PROBE_COUNT, shard.count)
            few = max(1, many // 4)  # they also load the kernels
            tried = [
                replace(shard, key=f"{shard.key}-{count}-{worker}", count=count)
                for count in (few, many)
                for worker in range(workers)
            ]
            made = {outcome.key: outcome for outcome in run_local(job, tried, Resources(workers=workers))}
            error = next((outcome.error for outcome in made.values() if outcome.error), "")
            if not error:
                small, full = made[tried[0].key], made[tried[-1].key]
                each = max(0.0, (full.size - small.size) / max(many - few, 1))
                seconds = sum(made[one.key].seconds for one in tried[workers:]) / workers
                return seconds / many, max(0.0, full.size - each * many), each
    raise FileFormatError("objects", f"none of the first ones can be grasped ({error})")
