"""``warpgrasp generate``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .arguments import positive_integer
from .output import print_json, start_warp, table

if TYPE_CHECKING:
    from ..dataset import Estimate, Report

HELP = "make a dataset of grasps: hands x objects, resumable"
DESCRIPTION = (
    "Make a dataset of grasps from a YAML configuration. A run that was stopped or killed goes on where it was. "
    "docs/datasets.md has the keys, the columns and worked examples."
)


SECONDS_PER_LINE = 60.0
"""Between two lines of progress where nobody watches."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to make, where, and by whom."""
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG.yaml", help="hands, objects, count and so on")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    add("--executor", default="local", choices=("local", "ray", "slurm"), help="who makes it (default: %(default)s)")
    add(
        "--workers",
        type=positive_integer,
        metavar="N",
        help="processes, actors or tasks (default: one per GPU or core)",
    )
    add("--recycle", type=positive_integer, default=256, metavar="N", help="shards per process (default: %(default)s)")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: all GPUs, else the CPU)")
    add("--dry-run", action="store_true", help="print the plan with the expected time and size, and make nothing")
    add("--part", type=part, metavar="I/N", help="make only every N-th shard from the I-th on, beside others")
    add("--json", action="store_true", help="print one JSON document instead of the summary")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")


def part(text: str) -> tuple[int, int]:
    """``I/N`` with I from 0 to N - 1."""
    try:
        place, count = map(int, text.split("/"))
    except ValueError:
        place, count = 0, 0
    if not 0 <= place < count:
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, got {text!r}")
    return place, count


def run(options: argparse.Namespace) -> None:
    """``warpgrasp generate``."""
    start_warp()
    from ..dataset import config as configs
    from ..dataset import estimate, generate
    from ..device import choose

    config = configs.read_config(options.config)
    if options.device is not None:
        choose(options.device)
    if options.dry_run:
        expected = estimate(config, options.out, workers=options.workers, device=options.device)
        show(options, estimate_report(expected), estimate_lines(expected))
    elif options.executor == "slurm":
        write_array(options, config)
    else:
        with Bar(options) as progress:
            report = generate(
                config,
                options.out,
                executor=options.executor,
                workers=options.workers,
                recycle=options.recycle,
                device=options.device,
                part=options.part,
                on_report=progress,
            )
        show(options, run_report(options, report), run_lines(options, report))
        if report.failed and not report.made + report.there:
            raise OptionError(f"no shard could be made: {next(iter(report.failures.values()))}")


class Bar:
    """Grasps done, rate, yield and time left on stderr: a bar for people, a line now and then in a log."""

    def __init__(self, options: argparse.Namespace) -> None:
        from tqdm import tqdm

        seen = sys.stderr.isatty()
        self.tqdm = tqdm(unit="grasp", disable=options.quiet or not seen, leave=False, smoothing=0.0)
        self.next_line = math.inf if options.quiet or seen else time.monotonic() + SECONDS_PER_LINE

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.tqdm.close()

    def __call__(self, report: Report) -> None:
        """Show how far it is."""
        failed = f", {report.failed} shards failed" if report.failed else ""
        outcome = f"{100.0 * report.share_valid:.1f} % valid{failed}"
        self.tqdm.total = report.grasps
        self.tqdm.set_postfix_str(outcome, refresh=False)
        self.tqdm.update(report.tried - self.tqdm.n)
        if time.monotonic() > self.next_line:
            self.next_line = time.monotonic() + SECONDS_PER_LINE
            done = f"{report.tried} of {report.grasps} grasps, {report.rate:.3g} per second"
            print(f"{done}, {outcome}, {duration(report.seconds_left)} left", file=sys.stderr, flush=True)


def show(options: argparse.Namespace, document: dict[str, Any], lines: Iterator[str]) -> None:
    """Print for machines or for people."""
    if options.json:
        print_json(document)
    elif not options.quiet:
        print("\n".join(lines))


def write_array(options: argparse.Namespace, config: Any) -> None:
    """Write the script of a Slurm array."""
    from ..dataset.plan import plan
    from ..dataset.slurm import write_script
    from ..dataset.store import Store

    shards = plan(config)
    store = Store(options.out)
    store.prepare()
    script = write_script(
        store.folder, options.config, shard_count=len(shards), tasks=options.workers, device=options.device
    )
    lines = iter((f"{len(shards)} shards", f"wrote {script}", f"submit it: sbatch {script}"))
    show(options, {"shards": len(shards), "script": str(script)}, lines)


def run_lines(options: argparse.Namespace, report: Report) -> Iterator[str]:
    """What a run has done, for people."""
    if report.there:
        yield f"{report.there} of {report.planned} shards were there"
    if report.made:
        yield (
            f"{report.rows} grasps in {report.made} shards, {100.0 * report.share_valid:.1f} % valid, "
            f"{report.size / max(report.rows, 1):.0f} bytes each"
        )
        yield f"{duration(report.seconds)}, {report.rate:.3g} grasps per second"
    for key, error in report.failures.items():
        yield f"failed: {key}: {error}"
    if report.failed:
        yield f"{report.failed} shards could not be made; see {options.out / 'failures'}; the next run tries them again"
    if options.part is None:
        yield f"wrote {options.out / 'summary.html'}"


def run_report(options: argparse.Namespace, report: Report) -> dict[str, Any]:
    """The same as a JSON document."""
    return {
        "folder": str(options.out),
        "shards": {"planned": report.planned, "there": report.there, "made": report.made, "failed": report.failed},
        "grasps": report.rows,
        "valid": report.valid,
        "bytes": report.size,
        "seconds": report.seconds,
        "failures": report.failures,
    }


def estimate_lines(expected: Estimate) -> Iterator[str]:
    """The plan, for people."""
    yield f"{expected.shards} shards, {expected.there} of them there; {expected.grasps} grasps to be made"
    rows = [
        {"hand": hand, "grasps": count, "seconds each": round(seconds, 4), "bytes each": round(size)}
        for hand, (count, seconds, size) in expected.hands.items()
    ]
    yield from table(rows)
    if rows:
        yield (
            f"about {duration(expected.seconds)} with {expected.workers} workers, and {expected.size / 1e6:.3g} MB, "
            "by a small shard of each hand"
        )


def estimate_report(expected: Estimate) -> dict[str, Any]:
    """The same as a JSON document."""
    return {
        "shards": {"planned": expected.shards, "there": expected.there},
        "grasps": expected.grasps,
        "workers": expected.workers,
        "seconds": expected.seconds,
        "bytes": expected.size,
        "hands": {
            hand: {"grasps": count, "seconds_per_grasp": seconds, "bytes_per_grasp": size}
            for hand, (count, seconds, size) in expected.hands.items()
        },
    }


def duration(seconds: float) -> str:
    """A time as people say it."""
    if not math.isfinite(seconds):
        return "?"
    for length, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
