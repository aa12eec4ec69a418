"""Datasets: what survives kills, and what rows, files and the pipeline cost.

Run ``python benchmarks/dataset.py [SECTION ...]``; the sections are the functions below. Results are kept in
``results/dataset.json`` section by section, and ``results/dataset.md`` is written from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "tests"))

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from dataset_runs import MAKER, Reader, content, run_and_kill, simulate, start, write_config  # noqa: E402 # pyright: ignore
from simulated_synthesis import simulated_grasps  # noqa: E402 # pyright: ignore
from test_dataset_ray import run_on_ray  # noqa: E402 # pyright: ignore

from warpgrasp import dataset  # noqa: E402
from warpgrasp.dataset import schema  # noqa: E402
from warpgrasp.dataset.make import Job, Worker  # noqa: E402
from warpgrasp.dataset.plan import plan  # noqa: E402

RESULTS = FOLDER / "results" / "dataset.json"
ROWS = 100_000
HANDS = ("barrett", "allegro", "shadow")


def kills(folder: Path) -> dict[str, Any]:
    """100 SIGKILLs at random moments of runs with three workers, half at the run and half at a worker."""
    config = write_config(folder, boxes=20, count=48)
    simulate(config, folder / "undisturbed")
    with Reader(folder / "killed", pause=0.3) as reader:
        hits = run_and_kill(config, folder / "killed", kills=100, rng=random.Random(8), seconds=0.3)
    shards = [shard for part in dataset.open_store(folder / "killed").parts() for shard in part.shards]
    return {
        "kills of the run": hits["run"],
        "kills of a worker": hits["worker"],
        "shards": len(shards),
        "shards more than once": len(shards) - len(set(shards)),
        "files that differ from an undisturbed run": differing(folder / "killed", folder / "undisturbed"),
        "tables read meanwhile": reader.reads,
        "reads that failed": len(reader.errors),
        "problems that verify --deep finds": len(dataset.verify(folder / "killed", deep=True)),
    }


def ray(folder: Path) -> dict[str, Any]:
    """Ray with three raylets, of which two are killed and replaced."""
    config = write_config(folder, boxes=8)
    simulate(config, folder / "undisturbed")
    line = run_on_ray(config, folder / "ray", nodes=3, lost=2, seconds=0.5)
    return {
        "outcome": line,
        "files that differ from an undisturbed run": differing(folder / "ray", folder / "undisturbed"),
        "problems that verify --deep finds": len(dataset.verify(folder / "ray", deep=True)),
    }


def disk(folder: Path) -> dict[str, Any]:
    """A disk that is full in the middle of a run, and larger later."""
    config = write_config(folder, boxes=10)
    simulate(config, folder / "undisturbed")
    mount = folder / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(mount)], check=True)
    try:
        process = start(config, mount / "out", seconds=0.0)
        code = process.wait()
        said = config.with_suffix(".log").read_text().strip().splitlines()[-1]
        problems = len(dataset.verify(mount / "out", deep=True))
        there = len(list((mount / "out" / "shards").glob("*.json")))
        subprocess.run(["mount", "-o", "remount,size=60m", str(mount)], check=True)
        report = simulate(config, mount / "out")
        differ = differing(mount / "out", folder / "undisturbed")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    return {
        "exit code": code,
        "it said": said,
        "shards there when it was full": there,
        "problems that verify --deep finds then": problems,
        "shards made by the next run": report.made,
        "files that differ from an undisturbed run": differ,
    }


def corruption(folder: Path) -> dict[str, Any]:
    """A flipped bit in one of 60 shards."""
    config = write_config(folder, boxes=10)
    simulate(config, folder / "made")
    before = content(folder / "made")
    path = sorted((folder / "made" / "grasps").rglob("*.parquet"))[17]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    found = dataset.verify(folder / "made")
    dataset.repair(folder / "made")
    report = simulate(config, folder / "made")
    return {
        "problems found": len(found),
        "what": found[0].what,
        "it is the right file": found[0].path.endswith(path.name),
        "shards made again": report.made,
        "files that differ from before": sum(before.get(k) != v for k, v in content(folder / "made").items()),
    }


def differing(one: Path, other: Path) -> int:
    """How many files are not the same in two datasets."""
    first, second = content(one), content(other)
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


def rates(folder: Path) -> dict[str, Any]:
    """Rows per second of one core: ``Grasps`` to a file and back, and bytes per row."""
    pa.set_cpu_count(1)
    found = {}
    for hand in HANDS:
        found[hand] = rates_of(simulated_grasps(hand, count=ROWS, seed=0), folder / f"{hand}.parquet")
    return found


def rates_of(grasps: Any, path: Path) -> dict[str, float]:
    """The same for one hand."""
    table = schema.write_table(grasps)
    schema.write_parquet(table, path)
    again = schema.read_table(path)
    to_table = fastest(lambda: schema.write_table(grasps))
    to_file = fastest(lambda: schema.write_parquet(table, path))
    from_file = fastest(lambda: schema.read_table(path))
    to_grasps = fastest(lambda: list(schema.table_grasps(again)))
    sizes = [
        field.type.list_size if "list" in str(field.type) else 1 for field in table.schema if "float" in str(field.type)
    ]
    millions = 1e-6 * len(grasps)
    return {
        "floats per row": sum(sizes),
        "bytes per row": round(path.stat().st_size / len(grasps)),
        "Grasps to file [M rows/s]": round(millions / (to_table + to_file), 2),
        "table to file": round(millions / to_file, 2),
        "file to table": round(millions / from_file, 2),
        "file to Grasps": round(millions / (from_file + to_grasps), 2),
    }


def codecs(folder: Path) -> dict[str, Any]:
    """Shadow's table written with other codecs and encodings, and without lists: a column for each number."""
    pa.set_cpu_count(1)
    grasps = simulated_grasps("shadow", count=ROWS, seed=0)
    lists = schema.write_table(grasps)
    tables = {"lists": lists, "a column for each number": flat(lists)}
    cases = {
        "zstd, bytes split": {},
        "zstd": {"use_byte_stream_split": False},
        "snappy, bytes split": {"compression": "snappy"},
        "lz4, bytes split": {"compression": "lz4"},
        "lz4": {"compression": "lz4", "use_byte_stream_split": False},
        "not compressed": {"compression": "none", "use_byte_stream_split": False},
    }
    found = {}
    path = folder / "codecs.parquet"
    for layout, table in tables.items():
        for name, change in cases.items():
            settings = schema.parquet_settings(table) | change
            pq.write_table(table, path, **settings)
            found[f"{layout}: {name}"] = {
                "bytes per row": round(path.stat().st_size / ROWS),
                "table to file [M rows/s]": round(
                    1e-6 * ROWS / fastest(partial(pq.write_table, table, path, **settings)), 2
                ),
                "file to table": round(1e-6 * ROWS / fastest(partial(schema.read_table, path)), 2),
            }
    return found


def flat(table: pa.Table) -> pa.Table:
    """A table with a column for each number of its lists."""
    columns = {}
    for field in table.schema:
        column = table[field.name].combine_chunks()
        if not pa.types.is_fixed_size_list(field.type):
            columns[field.name] = column
            continue
        numbers = column.flatten().to_numpy().reshape(len(table), -1)
        columns |= {f"{field.name}_{i}": pa.array(numbers[:, i].copy()) for i in range(numbers.shape[1])}
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata=table.schema.metadata))


def fastest(work: Callable[[], Any], repeats: int = 15) -> float:
    """CPU time of the fastest of some runs [s]: other programs on the machine only make it longer."""
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def sizes(folder: Path) -> dict[str, Any]:
    """Bytes per grasp on disk, small shards and merged, side tables and meshes apart."""
    found = {}
    for count in (64, 256):
        config = write_config(folder / str(count), boxes=8, hands=["shadow"], count=8 * count, shard_size=count)
        simulate(config, folder / str(count) / "made")
        dataset.merge([folder / str(count) / "made"], folder / str(count) / "merged")
        for name in ("made", "merged"):
            paths = list((folder / str(count) / name / "grasps").rglob("*.parquet"))
            found[f"shards of {count}, {'merged' if name == 'merged' else 'as made'}"] = round(
                sum(path.stat().st_size for path in paths) / (8 * 8 * count)
            )
    return found


def overhead(folder: Path) -> dict[str, Any]:
    """CPU time around real synthesis, 96 grasps of a mug in shards of 32: hand and object loaded, tables, files."""
    mesh = FOLDER.parents[1] / "shared" / "objects" / "ycb" / "025_mug.obj"
    path = folder / "config.yaml"
    found: dict[str, Any] = {}
    for contacts in (False, True):
        path.write_text(
            f"hands: allegro\nobjects: {mesh}\ncount: 96\nshard_size: 32\ncontacts: {str(contacts).lower()}"
        )
        config = dataset.read_config(path)
        job = Job(folder=str(folder / f"made{contacts}"), config=config, device="cpu")
        worker = Worker(job)
        worker.store.prepare()
        inside, maker = 0.0, worker.maker

        def timed(*arguments: Any, maker=maker, **options: Any) -> Any:
            nonlocal inside
            begin = time.process_time()
            grasps = maker(*arguments, **options)
            inside += time.process_time() - begin
            return grasps

        shards = plan(config)
        worker.make(shards[0])
        worker.hand.cache_clear()
        worker.object.cache_clear()
        worker.maker = timed
        begin = time.process_time()
        for shard in shards:
            (Path(job.folder) / "shards" / f"{shard.key}.json").unlink(missing_ok=True)
            worker.make(shard)
        around = time.process_time() - begin - inside
        name = "with contacts" if contacts else "without contacts"
        found[f"synthesis, {name} [core-seconds per grasp]"] = round(inside / config.count, 3)
        found[f"pipeline around it, {name} [core-seconds per grasp]"] = round(around / config.count, 5)
        found[f"overhead, {name} [%]"] = round(100.0 * around / inside, 2)
    lines = [start_of_worker(path, folder).communicate()[0] for _ in range(3)]
    found["start of a worker, once per 256 shards [core-seconds]"] = min(map(float, lines))
    return found


def start_of_worker(config: Path, folder: Path, **environment: str) -> subprocess.Popen:
    """A process that starts a worker and prints what core-seconds that took."""
    code = (
        "import sys, time; from warpgrasp import dataset; from warpgrasp.dataset.make import Job;"
        "from warpgrasp.dataset.executors import start_worker;"
        "start_worker(Job(folder=sys.argv[2], config=dataset.read_config(sys.argv[1]), device='cpu'), 0, 1);"
        "print(round(time.process_time(), 2))"
    )
    command = [sys.executable, "-c", code, str(config), str(folder)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def kernels(folder: Path) -> dict[str, Any]:
    """Three workers of a node that start together with an empty kernel cache: one compiles, the others wait for it."""
    path = write_config(folder)
    processes = [start_of_worker(path, folder, WARP_CACHE_PATH=str(folder / "cache")) for _ in range(3)]
    took = sorted(float(process.communicate()[0].splitlines()[-1]) for process in processes)
    return {"core-seconds of each": took}


def memory(folder: Path) -> dict[str, Any]:
    """Resident memory over 10,000 shards of simulated synthesis, made by one process that is not replaced."""
    config = write_config(folder, boxes=1, hands=["barrett"], count=40_000, shard_size=4)
    out, seen = folder / "out", {}
    begin = time.perf_counter()

    def look(report: dataset.Report) -> None:
        if report.made in (100, 1000, 2500, 5000, 7500, 10_000):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            seen[report.made] = [round(resident("self")), *(round(resident(pid)) for pid in workers)]

    dataset.generate(config, out, workers=1, recycle=10**9, maker=MAKER, device="cpu", gallery=0, on_report=look)
    seconds = time.perf_counter() - begin
    return {
        "run and worker after so many shards [MB]": {str(made): values for made, values in seen.items()},
        "wall time per shard [ms]": round(1e3 * seconds / 10_000, 1),
    }


def resident(pid: str) -> float:
    """Resident memory of a process [MB]."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024.0


SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    function.__name__: function
    for function in (kills, ray, disk, corruption, rates, codecs, sizes, overhead, kernels, memory)
}


@contextmanager
def scratch():
    """A folder that is deleted."""
    with tempfile.TemporaryDirectory(prefix="warpgrasp-benchmark-") as folder:
        yield Path(folder)


def main() -> None:
    """Run the sections and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    chosen = parser.parse_args().sections or list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in chosen:
        begin = time.perf_counter()
        with scratch() as folder:
            result = SECTIONS[name](folder)
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[name] = {"load": os.getloadavg()[0], "wall": round(time.perf_counter() - begin, 1), "result": result}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        print(json.dumps({name: result}, indent=1), flush=True)
        RESULTS.with_suffix(".md").write_text(page(known))


def page(known: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Datasets: what survives, and what it costs",
        "",
        f"`python benchmarks/dataset.py`, {os.cpu_count()} cores, Python {platform.python_version()}, pyarrow "
        f"{pa.__version__}. Rates are of CPU time; the load is what other programs asked of the machine.",
    ]
    for name, function in SECTIONS.items():
        if name not in known:
            continue
        entry = known[name]
        lines += ["", f"## {name}", "", str(function.__doc__), ""]
        lines += [f"Load {entry['load']:.1f}, {entry['wall']:.0f} s.", ""]
        result = entry["result"]
        if all(isinstance(value, dict) for value in result.values()):
            keys = list(next(iter(result.values())))
            lines += ["| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
            lines += [
                f"| {row} | " + " | ".join(str(value[key]) for key in keys) + " |" for row, value in result.items()
            ]
        else:
            lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in result.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
