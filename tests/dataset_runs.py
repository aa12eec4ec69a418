"""Runs of ``warpgrasp.dataset.generate`` with simulated synthesis, in this process or in one that can be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import trimesh
import yaml

from warpgrasp import dataset

MAKER = "simulated_synthesis:make"
SCRIPT = (
    "import sys; from warpgrasp import dataset;"
    f"dataset.generate(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), maker={MAKER!r}, device='cpu', gallery=0)"
)
NOT_HASHED = ("timings", ".lock", "summary.html")
"""What may differ between two runs of one configuration."""


def write_config(folder: Path, *, boxes: int = 3, **keys) -> Path:
    """A configuration with boxes of different sizes."""
    meshes = folder / "meshes"
    meshes.mkdir(parents=True, exist_ok=True)
    for number in range(boxes):
        box = trimesh.creation.box(extents=[0.03, 0.04, 0.05 + 0.002 * number])
        box.export(meshes / f"box{number}.stl")
    hands = ["allegro", "barrett"]
    keys = {"hands": hands, "objects": ["meshes"], "count": 10, "shard_size": 4, "contacts": False} | keys
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def simulate(config: Path, out: Path, **options: Any) -> dataset.Report:
    """A run in this process, unless it has ``workers``."""
    executor = "local" if "workers" in options else "here"
    return dataset.generate(
        config, out, **{"executor": executor, "maker": MAKER, "device": "cpu", "gallery": 0} | options
    )


def content(out: Path) -> dict[str, bytes]:
    """All files of a dataset that two runs of a configuration have in common, by path."""
    files = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(NOT_HASHED)}


def start(config: Path, out: Path, *, workers: int = 3, seconds: float = 0.05) -> subprocess.Popen:
    """A run in a process of its own, whose shards take ``seconds`` at least."""
    environment = os.environ | {
        "WARPGRASP_TEST_SECONDS": str(seconds),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", SCRIPT, str(config), str(out), str(workers)]
    with config.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, env=environment, start_new_session=True, stderr=log)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Reader(threading.Thread):
    """Reads everything that appears in a dataset, over and over, as somebody would who trains on it meanwhile."""

    def __init__(self, out: Path, *, pause: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.pause = pause
        self.out, self.stopped = out, threading.Event()
        self.reads, self.errors = 0, []

    def run(self) -> None:
        """Read until it is stopped."""
        while not self.stopped.wait(self.pause):
            self.read_all()

    def read_all(self) -> None:
        """Every table that a glob finds, and every record with its files."""
        try:
            for path in self.out.glob("*/*/*.parquet"):
                pq.read_table(path, use_threads=False)
                self.reads += 1
            if (self.out / "shards").is_dir():
                for part in dataset.open_store(self.out).parts():
                    assert pq.read_metadata(part.path).num_rows == part.rows
        except Exception as error:  # reported by the test
            self.errors.append(repr(error))

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()
        self.read_all()


def wait_for_work(process: subprocess.Popen, out: Path) -> None:
    """Wait until a run has committed another shard, since it takes a second to start."""
    before = len(list(out.glob("shards/*")))
    while process.poll() is None and len(list(out.glob("shards/*"))) == before:
        time.sleep(0.005)


def run_and_kill(config: Path, out: Path, *, kills: int, rng: random.Random, seconds: float = 0.05) -> dict[str, int]:
    """Start runs and kill them with SIGKILL until there have been so many kills, then let one end.

    Half of the kills hit the run itself, half one of its workers, which the run survives.

    Returns:
        How many hit which.
    """
    hits = {"run": 0, "worker": 0}
    process = None
    while sum(hits.values()) < kills:
        if process is None or process.poll() is not None:
            assert process is None or process.returncode in (0, -signal.SIGKILL), config.with_suffix(".log").read_text()
            process = start(config, out, seconds=seconds)
            if rng.random() < 0.8:
                wait_for_work(process, out)
        time.sleep(rng.uniform(0.0, 0.3))
        workers = children(process.pid)
        target = rng.choice(workers) if workers and rng.random() < 0.5 else process.pid
        if process.poll() is None:
            try:
                os.kill(target, signal.SIGKILL)
            except ProcessLookupError:
                continue
            hits["run" if target == process.pid else "worker"] += 1
            if target == process.pid:
                process.wait()
    if process.poll() is not None:
        process = start(config, out, seconds=0.0)
    assert process.wait(timeout=120) == 0, config.with_suffix(".log").read_text()
    return hits
