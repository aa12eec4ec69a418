"""Where the time of ``synthesize`` goes: by step, by kernel, how far kernels are from bounds, and by number of grasps.

Run ``python benchmarks/profile_synthesis.py``; it needs no files and writes ``results/profile_synthesis.md`` beside it.
More grasps: ``--counts 1 10 100 1000 10000``; on a GPU: ``--device cuda:0 --batch 4096``.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp

import warpgrasp
from warpgrasp import descend
from warpgrasp.bench import core_seconds
from warpgrasp.bench_report import environment, markdown, processor, script_command, show
from warpgrasp.bench_suites import suite
from warpgrasp.device import choose
from warpgrasp.mesh import ObjectMesh
from warpgrasp.optimize import Descent
from warpgrasp.proximity import SEARCH_DISTANCE

COPIED_BYTES = 256 * 2**20
"""Size of the arrays that the bandwidth is measured with, more than caches hold."""

PARTS = ("synthesis.synthesize", "descend.descend", "finish.finish")
"""Functions whose own calls are listed."""

REST, ALL = "the rest", "all of it"

LEAST_SHARE = 0.005
"""Steps below that share of the time are added to the rest."""


@wp.kernel(enable_backward=False)
def search(mesh: wp.uint64, points: wp.array2d[wp.vec3], reach: float, face_out: wp.array2d[int]):
    """Nothing but Warp's search for the closest face: the bound of kernels that search."""
    grasp, point = wp.tid()  # pyright: ignore
    hit = wp.mesh_query_point_no_sign(mesh, points[grasp, point], reach)  # pyright: ignore
    face_out[grasp, point] = wp.where(hit.result, hit.face, -1)  # pyright: ignore


@wp.kernel(enable_backward=False)
def nothing():
    """What a launch takes by itself."""


@dataclass
class Spent:
    """What the launches of one kernel took."""

    seconds: float = 0.0
    launches: int = 0
    threads: int = 0
    bytes: int = 0
    """Of all arrays that it was given, each once per launch."""


@dataclass
class StageRun:
    """One call of ``run_stage``, and what was found when its iterations were done again kernel by kernel."""

    seconds: float
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    kernels: dict[str, Spent] = field(default_factory=dict)
    searches: int = 0
    points: int = 0
    queries_per_second: float = math.nan
    bare_queries_per_second: float = math.nan


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--hand", default="shadow")
    add("--object", default="can r3 h10 cm", help="of the suite `primitives`")
    add("--recipe", default="default")
    add("--batch", type=int, default=8, help="grasps of the profile by step and kernel")
    add("--counts", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of grasps of the scaling")
    add("--device", help="Warp device (default: the first GPU, else the CPU)")
    add("--out", type=Path, default=Path(__file__).parent / "results" / "profile_synthesis.md")
    options = parser.parse_args()
    options.device = choose(options.device)
    obj = next(entry.load() for entry in suite("primitives") if entry.name == options.object)
    find(options, obj, 1)
    with one_core(options.device):
        parts, stages = profile(options, obj)
        for stage in stages:
            launch_by_launch(stage, options.device)
        bandwidth = copy_bandwidth(options.device)
        overhead = fastest(lambda: wp.launch(nothing, 1, device=options.device), options.device, repeats=50)
    command = script_command({str(options.out): "OUT"})
    lines = [*heading(options, command), *part_section(parts), *stage_section(stages)]
    lines += [*kernel_section(stages, bandwidth, overhead), *query_section(stages), *scaling_section(options, obj)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines))
    print("\n".join(lines))


def find(options: argparse.Namespace, obj: ObjectMesh, count: int) -> warpgrasp.Grasps:
    """What is measured."""
    return warpgrasp.synthesize(options.hand, obj, count=count, recipe=options.recipe, device=options.device)


@contextmanager
def one_core(device: str) -> Iterator[None]:
    """On a CPU, stay on one core meanwhile, so that there is one batch and shares add up."""
    before = os.sched_getaffinity(0)
    if device == "cpu":
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def clock(device: str) -> Callable[[], float]:
    """CPU time of this process on a CPU, which does not count what others do; elsewhere the time that passes [s]."""
    return time.process_time if device == "cpu" else time.perf_counter


def profile(options: argparse.Namespace, obj: ObjectMesh) -> tuple[dict[str, dict[str, float]], list[StageRun]]:
    """Seconds of what each of ``PARTS`` calls, by name, and the stages."""
    stages: list[StageRun] = []
    now, run_stage = clock(options.device), descend.run_stage

    def timed(*arguments: Any, **settings: Any) -> Any:
        begin = now()
        result = run_stage(*arguments, **settings)
        stages.append(StageRun(now() - begin, arguments, settings))
        return result

    profiler = cProfile.Profile(now)
    descend.run_stage = timed
    try:
        profiler.runcall(find, options, obj, options.batch)
    finally:
        descend.run_stage = run_stage
    return called(profiler), stages


def called(profiler: cProfile.Profile) -> dict[str, dict[str, float]]:
    """Seconds of the functions of this package that each of ``PARTS`` calls itself, of all the rest, and of all."""
    table: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    found: dict[str, dict[str, float]] = {}
    for caller, (_, _, _, whole, _) in table.items():
        if (part := name_of(caller)) not in PARTS:
            continue
        spent: dict[str, float] = {}
        for function, (*_, callers) in table.items():
            if caller in callers and (name := name_of(function)):
                spent[name] = spent.get(name, 0.0) + callers[caller][3]
        found[part] = spent | {REST: whole - sum(spent.values()), ALL: whole}
    return {part: found[part] for part in PARTS}


def name_of(function: tuple[str, int, str]) -> str:
    """Module and name of a function of this package as cProfile knows it, "" for others."""
    file, _, name = function
    if file == __file__:
        return "descend.run_stage"  # the only one of this script that is called from there
    inside = Path(file).is_relative_to(Path(warpgrasp.__file__).parent)
    return f"{Path(file).stem}.{name}" if inside else ""


def launch_by_launch(stage: StageRun, device: str) -> None:
    """Do all iterations of a stage again, without graphs, and keep the time of every kernel."""
    model, mesh, inner, start, settings = stage.arguments
    options = {k: stage.options[k] for k in ("surroundings",) if k in stage.options}
    if (recipe := stage.options.get("recipe")) is not None:
        options |= {"phong_alpha": recipe.phong_alpha, "phong_mode": recipe.phong_mode}
    descent = Descent(model, mesh, inner, start, settings, **options)
    state = descent.state
    stage.points = int(np.prod(state.point_position.shape))
    with timed_launches(stage.kernels, device):
        for iteration in range(settings.iterations):
            again = iteration % settings.query_period == 0
            before = state.searched.numpy().copy()
            descent.find_gradient(search=again)
            if again:
                moved = (state.searched.numpy() != before).any(axis=-1)
                stage.searches += stage.points if settings.query_slack is None else int(moved.sum())
            descent.step()
    name = next((name for name in stage.kernels if name.startswith("closest_face")), None)
    if name is not None and stage.searches:
        stage.queries_per_second = stage.searches / stage.kernels[name].seconds
        stage.bare_queries_per_second = bare_queries(mesh, state.point_position, device)


@contextmanager
def timed_launches(spent: dict[str, Spent], device: str) -> Iterator[None]:
    """Add up time, threads and bytes of every launch meanwhile, waiting for each."""
    launch, now = wp.launch, clock(device)

    def timed(kernel: wp.Kernel, dim: Any, *arguments: Any, **options: Any) -> Any:
        wp.synchronize_device(device)
        begin = now()
        result = launch(kernel, dim, *arguments, **options)
        wp.synchronize_device(device)
        entry = spent.setdefault(kernel.key, Spent())
        entry.seconds += now() - begin
        entry.launches += 1
        entry.threads += int(np.prod(dim))
        entry.bytes += sum(array_bytes([*options.get("inputs", []), *options.get("outputs", [])]).values())
        return result

    wp.launch = timed  # type: ignore[assignment]
    try:
        yield
    finally:
        wp.launch = launch


def array_bytes(values: list[Any]) -> dict[int, int]:
    """Bytes of the arrays among arguments of a kernel, those in structs too, by where they are."""
    found: dict[int, int] = {}
    for value in values:
        if isinstance(value, wp.array):
            found[value.ptr or 0] = value.size * wp.types.type_size_in_bytes(value.dtype)
        elif hasattr(value, "_cls") and hasattr(value._cls, "vars"):
            found |= array_bytes([getattr(value, name) for name in value._cls.vars])
    return found


def fastest(run: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Least seconds of some runs, after one that is not timed."""
    now, seconds = clock(device), []
    for _ in range(repeats + 1):
        wp.synchronize_device(device)
        begin = now()
        run()
        wp.synchronize_device(device)
        seconds.append(now() - begin)
    return min(seconds[1:])


def bare_queries(mesh: Any, points: wp.array, device: str) -> float:
    """Searches per second of ``search`` on the points as they are."""
    face = wp.empty(points.shape, dtype=int, device=device)
    inputs = [mesh.id, points, SEARCH_DISTANCE]
    seconds = fastest(lambda: wp.launch(search, points.shape, inputs=inputs, outputs=[face], device=device), device)
    return int(np.prod(points.shape)) / seconds


def copy_bandwidth(device: str) -> float:
    """Bytes that are read or written per second when one large array is copied to another."""
    source, target = (wp.zeros(COPIED_BYTES, dtype=wp.uint8, device=device) for _ in range(2))
    return 2 * COPIED_BYTES / fastest(lambda: wp.copy(target, source), device)


# ---- the page


def heading(options: argparse.Namespace, command: str) -> list[str]:
    """What was run, where and how."""
    known = environment()
    unit = "CPU time of one process on one core" if options.device == "cpu" else "time on the clock"
    return [
        "# Where the time of synthesis goes",
        "",
        f"`{command}`",
        "",
        f"Recipe `{options.recipe}`, {options.hand}, `{options.object}`, {options.batch} grasps, seed 0, device "
        f"{options.device}: {processor(options.device)}; {known['cores']} cores shared with other work. warpgrasp "
        f"{known['warpgrasp']}, Warp {known['warp']}, Python {known['python']}. Seconds are {unit}, kernels compiled "
        "and loaded.",
        "",
    ]


def part_section(parts: dict[str, dict[str, float]]) -> list[str]:
    """What takes the time, function by function."""
    whole = parts[PARTS[0]][ALL]
    rows = []
    for name, seconds in by_time(parts[PARTS[0]], whole):
        rows.append(cell(name, "", seconds, whole))
        rows += [cell("", inner, spent, whole) for inner, spent in by_time(parts.get(name, {}), whole)]
    note = "Functions that `synthesize` calls itself, and within the two longest what those call; by cProfile."
    return ["## By step", "", note, "", *markdown([*rows, cell(ALL, "", whole, whole)]), ""]


def by_time(spent: dict[str, float], whole: float) -> list[tuple[str, float]]:
    """Entries but the sum, those that take longest first, and the small ones together."""
    parts = {name: seconds for name, seconds in spent.items() if name not in (ALL, REST)}
    large = sorted((item for item in parts.items() if item[1] >= LEAST_SHARE * whole), key=lambda item: -item[1])
    rest = spent.get(ALL, 0.0) - sum(seconds for _, seconds in large)
    return [*large, (REST, rest)] if rest >= LEAST_SHARE * whole else large


def cell(step: str, within: str, seconds: float, whole: float) -> dict[str, str]:
    """A line of the table by step."""
    shares = {"seconds": show(seconds, 3), "share [%]": show(100.0 * seconds / whole, 1)}
    return {"step": step, "within it": within} | shares


def stage_section(stages: list[StageRun]) -> list[str]:
    """The descents, one after the other."""
    rows = []
    for number, stage in enumerate(stages, start=1):
        _, _, inner, start, settings = stage.arguments
        kernels = sum(entry.seconds for entry in stage.kernels.values())
        rows.append(
            {
                "stage": str(number),
                "hands": str(len(start)),
                "iterations": str(settings.iterations),
                "points on the hand": f"{stage.points // len(start):,}",
                "points on the object": f"{len(inner):,}",
                "seconds": show(stage.seconds, 3),
                "ms per hand and iteration": show(1e3 * stage.seconds / len(start) / settings.iterations, 3),
                "seconds in kernels": show(kernels, 3),
            }
        )
    note = (
        "*Seconds* are those of `run_stage`, its graph captured once and replayed; *in kernels* those of the same "
        "iterations done again, launch by launch."
    )
    return ["## By stage of the descent", "", note, "", *markdown(rows), ""]


def kernel_section(stages: list[StageRun], bandwidth: float, overhead: float) -> list[str]:
    """All kernels, and how near they come to the bandwidth."""
    total: dict[str, Spent] = {}
    for stage in stages:
        for name, entry in stage.kernels.items():
            whole = total.setdefault(name, Spent())
            for key in ("seconds", "launches", "threads", "bytes"):
                setattr(whole, key, getattr(whole, key) + getattr(entry, key))
    everything = sum(entry.seconds for entry in total.values())
    rows = [
        {
            "kernel": f"`{name}`",
            "share [%]": show(100.0 * entry.seconds / everything, 1),
            "µs per launch": show(1e6 * entry.seconds / entry.launches, 1),
            "threads per launch": f"{entry.threads // entry.launches:,}",
            "ns per thread": show(1e9 * entry.seconds / entry.threads, 1),
            "bytes per thread": f"{entry.bytes // entry.threads:,}",
            "GB/s": show(1e-9 * entry.bytes / entry.seconds, 2),
            "of the bandwidth [%]": show(100.0 * entry.bytes / entry.seconds / bandwidth, 1),
        }
        for name, entry in sorted(total.items(), key=lambda item: -item[1].seconds)
    ]
    note = (
        f"A launch alone takes {show(1e6 * overhead, 1)} µs here, which is in every line. Bytes are those of all "
        "arrays that a launch is given, each once, without the mesh and its tree; a kernel that skips points reads "
        f"less. The bandwidth, {show(1e-9 * bandwidth, 1)} GB/s, is that of copying {COPIED_BYTES // 2**20} MiB, "
        "reading and writing counted. A kernel far below it is bound by its arithmetic and branches, or on small "
        "batches by the launch; one may be above it where its arrays stay in the cache."
    )
    return ["## By kernel", "", note, "", *markdown(rows), ""]


def query_section(stages: list[StageRun]) -> list[str]:
    """The search for closest faces against a kernel that does nothing else."""
    rows = [
        {
            "stage": str(number),
            "searched, of all points and iterations [%]": show(
                100.0 * stage.searches / stage.points / stage.arguments[4].iterations, 1
            ),
            "million searches per second": show(1e-6 * stage.queries_per_second, 2),
            "search alone": show(1e-6 * stage.bare_queries_per_second, 2),
            "of the bound [%]": show(100.0 * stage.queries_per_second / stage.bare_queries_per_second, 0),
        }
        for number, stage in enumerate(stages, start=1)
    ]
    note = (
        "Searches are counted by what they leave behind; their rate is that number by the whole time of the kernel, "
        "launches included, so it also pays for looking at points that keep their face. *Search alone* is "
        "`wp.mesh_query_point_no_sign` and nothing else, for all points where they are after the stage; searches "
        "during it begin further from the surface."
    )
    return ["## Searches for the closest face", "", note, "", *markdown(rows), ""]


def scaling_section(options: argparse.Namespace, obj: ObjectMesh) -> list[str]:
    """Whole calls of ``synthesize`` with more and more grasps, on all cores."""
    rows = []
    for count in options.counts:
        begin, cores = time.perf_counter(), core_seconds()
        valid = int(find(options, obj, count).valid.sum())
        seconds, cores = time.perf_counter() - begin, core_seconds() - cores
        rows.append(
            {
                "grasps": f"{count:,}",
                "valid": f"{valid:,}",
                "seconds": show(seconds, 2),
                "core-seconds": show(cores, 2),
                "core-seconds per grasp": show(cores / count, 3),
                "grasps per second": show(count / seconds, 2),
                "grasps per core-second": show(count / cores, 2),
            }
        )
        print(rows[-1], flush=True)
    return ["## By number of grasps", "", "Whole calls, on all cores.", "", *markdown(rows), ""]


if __name__ == "__main__":
    main()
