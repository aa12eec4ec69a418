"""Making a shard: load, synthesize, measure, commit."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OptionError, WarpgraspError
from ..files import write_atomically
from .config import Config
from .plan import SYNTHESIZE, Shard
from .store import ShardSummary, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from ..hand import Hand
    from ..mesh import ObjectMesh
    from ..result import Grasps

CONTACT_REACH = 0.005
"""Distance within which a link's nearest point is a contact in the side table [m]."""

FAILURE_FORMAT = "warpgrasp failed shard, version 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a worker must know besides the shards."""

    folder: str

    config: Config

    maker: str = SYNTHESIZE
    """``module:function`` that is called as ``maker(hand, obj, count=, seed=, device=, config=)`` for ``Grasps``."""

    device: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a shard."""

    key: str
    rows: int = 0
    valid: int = 0
    seconds: float = 0.0
    size: int = 0
    """Of its files [byte]."""

    error: str = ""
    """Why there are no grasps."""


def synthesize(hand: Hand, obj: ObjectMesh, *, count: int, seed: int, device: str | None, config: Config) -> Grasps:
    """The maker of grasps that is used unless another is given."""
    from .. import synthesis
    from ..evaluation import evaluate
    from ..validation import validate

    grasps = synthesis.synthesize(
        hand,
        obj,
        count=count,
        seed=seed,
        device=device,
        recipe=config.recipe,
        iterations=config.iterations,
        points=config.points,
        table=config.table,
    )
    if config.evaluate:
        grasps = evaluate(grasps, device=device)
    for protocol in config.validate:
        grasps = validate(grasps, protocol)
    if config.recheck:
        from ..rechecking import recheck

        grasps = recheck(grasps, device=device)
    return grasps


def find_maker(name: str) -> Callable[..., Grasps]:
    """The function of that name, ``module:function``.

    Raises:
        OptionError: There is none.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"maker {name!r} cannot be imported ({error}); name it as module:function") from error


class Worker:
    """Makes the shards of a job, one after the other, in this process."""

    def __init__(self, job: Job) -> None:
        from ..device import choose

        self.job, self.store = job, Store(job.folder)
        self.maker = find_maker(job.maker)
        self.device = choose(job.device)
        self.hand = lru_cache(1)(_load_hand)
        self.object = lru_cache(1)(_load_object)
        self.timings = self.store.folder / "timings" / f"{os.uname().nodename}-{os.getpid()}.jsonl"

    def make(self, shard: Shard) -> Outcome:
        """Make and commit a shard. What goes wrong with it is recorded; only a folder that fails raises.

        Raises:
            OSError: The folder cannot be written to.
        """
        begin, cores = time.perf_counter(), time.process_time()
        failure = self.store.folder / "failures" / f"{shard.key}.json"
        try:
            grasps, tables = self.tables(shard)
        except Exception as error:  # one object must not end a night's run
            text = str(error) if isinstance(error, WarpgraspError) else f"{type(error).__name__}: {error}"
            record = {"format": FAILURE_FORMAT, "error": text, **asdict(shard)}
            write_atomically(failure, json.dumps(record, indent=1) + "\n")
            return Outcome(key=shard.key, error=text, seconds=time.perf_counter() - begin)
        object_hash = self.store.keep_object(grasps.object_vertices, grasps.object_faces)
        summary = summarize(grasps, object_hash=object_hash, scale=shard.scale)
        size = self.store.commit(shard.key, shard.hand, tables, {shard.key: summary})
        failure.unlink(missing_ok=True)
        seconds = time.perf_counter() - begin
        self.note(shard, seconds, time.process_time() - cores)
        return Outcome(key=shard.key, rows=summary.rows, valid=summary.valid, seconds=seconds, size=size)

    def tables(self, shard: Shard) -> tuple[Grasps, dict[str, pa.Table]]:
        """The grasps of a shard and the tables that keep them."""
        from .schema import side_table, write_table

        hand = self.hand(shard.hand_source)
        obj = self.object(shard.path, shard.scale, shard.object)
        grasps = self.maker(hand, obj, count=shard.count, seed=shard.seed, device=self.device, config=self.job.config)
        # Which of the GPUs it was must not make equal shards differ.
        grasps.info["device"] = self.device.partition(":")[0]
        tables = {
            "grasps": write_table(grasps, shard=shard.key, hand=shard.hand, scale=shard.scale, seed=shard.seed),
            "tactile": side_table(grasps, shard=shard.key),
            "contacts": contacts(grasps, shard.key, self.device) if self.job.config.contacts else None,
        }
        return grasps, {name: table for name, table in tables.items() if table is not None}

    def note(self, shard: Shard, seconds: float, core_seconds: float) -> None:
        """Add a line to what shards took; a line that a kill cuts off is not read."""
        line = {
            "shard": shard.key,
            "hand": shard.hand,
            "count": shard.count,
            "seconds": round(seconds, 4),
            "core_seconds": round(core_seconds, 4),
            "device": self.device,
            "at": round(time.time(), 3),
        }
        with self.timings.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def summarize(grasps: Grasps, *, object_hash: str, scale: float) -> ShardSummary:
    """What a record says of a shard."""
    reasons = Counter(str(reason) for reason in grasps.reason if reason)
    return ShardSummary(
        object=grasps.object_name,
        object_hash=object_hash,
        scale=scale,
        rows=len(grasps),
        valid=int(grasps.valid.sum()),
        reasons=dict(sorted(reasons.items())),
    )


def contacts(grasps: Grasps, shard: str, device: str) -> pa.Table:
    """Where the links of each grasp touch, at the grasp itself; a grasp that is not finite has no contact."""
    import numpy as np

    from .schema import contact_table
    from .touching import nearest_points

    hand, pose = grasps.hand, grasps.pose
    values = np.hstack([pose.wrist_position, pose.wrist_quaternion, pose.joint_position])
    finite = np.flatnonzero(np.isfinite(values.sum(axis=1)))
    distance = np.full((len(grasps), len(hand.links)), np.inf)
    position, normal = np.zeros((2, *distance.shape, 3))
    distance[finite], position[finite], normal[finite] = nearest_points(
        hand, grasps.object, pose[finite], reach=CONTACT_REACH, device=device
    )
    return contact_table(hand.link_names, distance, position, normal, reach=CONTACT_REACH, shard=shard)


def compile_kernels(device: str) -> None:
    """Load all kernels; of the processes of a node, one compiles what is not in Warp's cache and the others wait."""
    import warp as wp

    from .. import evaluation, synthesis  # noqa: F401 - importing them makes the kernels known

    wp.init()  # says where the cache is
    cache = Path(str(wp.config.kernel_cache_dir))
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "warpgrasp.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        wp.load_module("warpgrasp.kernels", device=device, recursive=True)


def _load_hand(source: str) -> Hand:
    from ..hand_file import load_hand

    return load_hand(source)


def _load_object(path: str, scale: float, name: str) -> ObjectMesh:
    from ..mesh import load_object

    return load_object(path, scale=scale, name=name)
