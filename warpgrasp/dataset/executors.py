"""Where shards are made: processes of this machine, or actors of a Ray cluster. The Slurm script is in ``slurm``.

An executor only hands out shards. Workers write to the dataset's folder themselves, and what is done is known from
there, so it does not matter if an executor or a worker is killed, or if a shard is made twice.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .make import Job, Outcome, Worker, compile_kernels
from .plan import SYNTHESIZE

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from .plan import Shard

ATTEMPTS = 3
"""How often a shard is tried whose worker dies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What an executor may use."""

    workers: int | None = None
    """Processes or actors; one for each GPU, or for each core where there is none, where omitted."""

    recycle: int = 256
    """Shards after which a process is replaced by a fresh one, so that nothing can leak for long."""


def run_local(job: Job, shards: Iterable[Shard], resources: Resources) -> Iterator[Outcome]:
    """Make shards in processes of this machine.

    A process whose parent dies ends too. A shard whose worker dies is tried again, up to ``ATTEMPTS`` times.

    Raises:
        OSError: The folder cannot be written to.
    """
    devices = slots(job.device, resources.workers)
    pending, tried = deque(shards), Counter()
    processes = [_Process(job, rank, len(devices), device) for rank, device in enumerate(devices)]
    try:
        while pending or any(process.shard for process in processes):
            for process in processes:
                if process.shard is None and pending:
                    if process.made >= resources.recycle:
                        process.kill()
                    process.give(pending.popleft())
            for process in _ready(processes):
                shard, outcome = process.take()
                if outcome is None:
                    tried[shard.key] += 1
                    if tried[shard.key] < ATTEMPTS:
                        pending.appendleft(shard)
                        continue
                    outcome = Outcome(key=shard.key, error=f"its worker died {ATTEMPTS} times ({process.death})")
                yield outcome
    finally:
        for process in processes:
            process.kill()


def run_here(job: Job, shards: Iterable[Shard]) -> Iterator[Outcome]:
    """Make shards in this process, one after the other."""
    worker = Worker(job)
    for shard in shards:
        yield worker.make(shard)


def slots(device: str | None, workers: int | None) -> list[str]:
    """The device of each process: one for each GPU, or one for each core on a CPU.

    Raises:
        DeviceError: There is no such device.
    """
    import warp as wp

    from ..device import choose

    chosen = choose(device)
    if chosen == "cpu":
        return ["cpu"] * (workers or len(os.sched_getaffinity(0)))
    gpus = [chosen] if device not in (None, "cuda") else [gpu.alias for gpu in wp.get_cuda_devices()]
    return [gpus[rank % len(gpus)] for rank in range(workers or len(gpus))]


class _Process:
    """A worker process and the shard that it has."""

    def __init__(self, job: Job, rank: int, count: int, device: str) -> None:
        self.job, self.rank, self.count = replace(job, device=device), rank, count
        self.process: SpawnProcess | None = None
        self.pipe: Any = None
        self.shard: Shard | None = None
        self.made = 0
        self.death = ""

    def give(self, shard: Shard) -> None:
        """Hand it a shard; it is started where it does not run."""
        if self.process is None or not self.process.is_alive():
            self.kill()
            context = get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=_serve, args=(other, self.job, self.rank, self.count))
            self.process.start()
            other.close()
            self.made = 0
        self.shard = shard
        try:
            self.pipe.send(shard)
        except OSError:
            pass  # it has just died; `take` finds out

    def take(self) -> tuple[Shard, Outcome | None]:
        """Its shard and what became of it; ``None`` where the process died."""
        assert self.shard is not None and self.process is not None
        shard, self.shard = self.shard, None
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            self.death = _death(self.process.exitcode)
            self.kill()
            return shard, None
        self.made += 1
        if isinstance(answer, Exception):
            raise answer
        return shard, answer

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None:
            self.pipe.close()
            self.process.kill()
            self.process.join()
            self.process.close()
        self.process = None


def _ready(processes: list[_Process]) -> list[_Process]:
    """Those that have an answer or have died; waits until there is one."""
    busy = {process.pipe: process for process in processes if process.shard is not None}
    return [busy[pipe] for pipe in connection.wait(list(busy))]


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}; too little memory is the usual cause"
    return f"exit code {code}"


def _serve(pipe: Any, job: Job, rank: int, count: int) -> None:
    """What a worker process does: answer each shard with its outcome until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker = start_worker(job, rank, count)
        while True:
            pipe.send(worker.make(pipe.recv()))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error if isinstance(error, OSError) else OptionError(f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def start_worker(job: Job, rank: int, count: int) -> Worker:
    """A worker in this process, the ``rank``-th of ``count`` on its machine, with its kernels loaded."""
    from ..commands.output import start_warp

    if job.device == "cpu":
        # A worker is worth a core: Warp, NumPy and the threads of synthesis stay on its own.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[rank % len(cores) :: max(count, 1)] or cores)
    start_warp()
    worker = Worker(job)
    if job.maker == SYNTHESIZE:
        compile_kernels(worker.device)
    return worker
