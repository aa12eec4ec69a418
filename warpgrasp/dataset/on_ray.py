"""Making shards by actors of a Ray cluster."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .executors import ATTEMPTS, Resources, start_worker
from .make import Job, Outcome

if TYPE_CHECKING:
    from .plan import Shard

WINDOW = 2
"""Shards that an actor has at a time: one that it makes and one that waits."""


def run_ray(job: Job, shards: Iterable[Shard], resources: Resources) -> Iterator[Outcome]:
    """Make shards by actors: one for each GPU of the cluster, or for each core where there is none.

    The cluster that runs is used (``RAY_ADDRESS``, or one that was started on this machine), else one is started here.
    An actor that dies, with its node or without, is replaced wherever there is room, and its shards are made again.
    The folder must be the same on all nodes, and warpgrasp installed there.

    Raises:
        OptionError: Ray is not installed.
        OSError: The folder cannot be written to.
    """
    try:
        import ray
    except ImportError as error:
        raise OptionError("the executor 'ray' needs Ray: pip install 'warpgrasp[ray]'") from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, configure_logging=False)
    try:
        yield from _run(ray, job, shards, resources)
    finally:
        if started:
            ray.shutdown()


def _run(ray: Any, job: Job, shards: Iterable[Shard], resources: Resources) -> Iterator[Outcome]:
    gpus = int(ray.cluster_resources().get("GPU", 0)) if job.device != "cpu" else 0
    count = resources.workers or gpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    job = replace(job, device=job.device or ("cuda:0" if gpus else "cpu"))
    needs = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    remote = ray.remote(**needs)(_Actor)
    slots = [_Slot(remote, job, rank, count) for rank in range(count)]
    pending, tried = deque(shards), Counter()
    flying: dict[Any, tuple[_Slot, Any, Shard]] = {}
    try:
        while pending or flying:
            for slot in slots:
                if slot.made >= resources.recycle and not slot.flying:
                    slot.replace(ray)
                while pending and slot.flying < WINDOW and slot.made + slot.flying < resources.recycle:
                    shard = pending.popleft()
                    flying[slot.actor.make.remote(shard)] = (slot, slot.actor, shard)
                    slot.flying += 1
            for answer in ray.wait(list(flying))[0]:
                slot, actor, shard = flying.pop(answer)
                outcome = _outcome(ray, answer)
                if slot.actor is actor:
                    slot.flying -= 1
                    slot.made += 1
                if outcome is not None:
                    yield outcome
                    continue
                # The actor or its node is gone: of its shards, the one that it was at may be the cause.
                if slot.actor is actor:
                    slot.replace(ray)
                    tried[shard.key] += 1
                if tried[shard.key] < ATTEMPTS:
                    pending.appendleft(shard)
                else:
                    yield Outcome(key=shard.key, error=f"its worker died {ATTEMPTS} times")
    finally:
        for slot in slots:
            ray.kill(slot.actor)


def _outcome(ray: Any, answer: Any) -> Outcome | None:
    """What became of a shard; ``None`` where its actor is gone."""
    try:
        return ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return None


class _Actor:
    """A worker in a process of the cluster."""

    def __init__(self, job: Job, rank: int, count: int) -> None:
        self.worker = start_worker(job, rank, count)

    def make(self, shard: Shard) -> Outcome:
        """Make a shard."""
        return self.worker.make(shard)


@dataclass
class _Slot:
    """An actor, how many shards it has, and how many it has made."""

    remote: Any
    job: Job
    rank: int
    count: int
    flying: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        self.actor = self.remote.remote(self.job, self.rank, self.count)

    def replace(self, ray: Any) -> None:
        """Put a fresh actor in its place."""
        ray.kill(self.actor)
        self.made = self.flying = 0
        self.__post_init__()
