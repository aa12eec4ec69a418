"""How long the physics test takes, how often grasps hold, and whether the labels depend on the time step.

Run ``python benchmarks/physics.py FOLDER``; the folder holds the meshes of ``OBJECTS``. Every grasp is judged four
times: as it is on one core, again in several processes, at half the time step, and without friction.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import warpgrasp
from warpgrasp.bench_report import wilson
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.object_model import object_shape
from warpgrasp.physics.protocols import FC6
from warpgrasp.physics.workers import judge
from warpgrasp.result import Grasps
from warpgrasp.validation import metrics, prepare

OBJECTS = {
    "061_foam_brick": 1.0,
    "054_softball": 0.8,
    "011_banana": 1.0,
    "005_tomato_soup_can": 1.0,
    "025_mug": 0.9,
    "035_power_drill": 0.75,
}
"""File stem and scale."""

HALF_STEP = dataclasses.replace(FC6, name="fc6_half_step", time_step=0.5 * FC6.time_step)

SLIPPERY = dataclasses.replace(FC6, name="fc6_slippery", friction=(0.0, 0.0, 0.0))

HEADER = "| hand | object | shape | valid hold | invalid hold | s per grasp | again | half step | without friction |"


class Counts(NamedTuple):
    """Of one hand and object, or of several together."""

    grasps: int
    again: int
    """Labels that differ when the same grasps are judged once more, by other processes."""
    half_step: int
    """Labels that differ at half the time step."""
    slippery: int
    """Grasps that hold without friction."""


def main() -> None:
    """Synthesize, judge, write one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the meshes")
    parser.add_argument("--hands", nargs="+", default=["allegro", "shadow"])
    parser.add_argument("--count", type=int, default=24, help="grasps per hand and object")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/physics.md"))
    options = parser.parse_args()
    rows, counts = zip(*run(options), strict=True)
    total = Counts(*map(sum, zip(*counts, strict=True)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        f"# fc6: share of grasps that hold, time, and what labels depend on\n\n"
        f"{platform.processor() or platform.machine()}, MuJoCo {mujoco().__version__}, warpgrasp "
        f"{warpgrasp.__version__}, {options.count} grasps per row. Seconds are processor time on one core. The last "
        "three columns count labels that differ when judged again in several processes, labels that differ at a time "
        "step of 2 ms, and grasps that hold without friction.\n\n"
        + "\n".join([HEADER, "|" + " --- |" * HEADER.count(" | ") + " --- |", *rows])
        + f"\n\nOf {total.grasps} labels, {total.half_step} differ at half the time step: {interval(total)}. "
        f"{total.again} differ when judged again. {total.slippery} hold without friction.\n"
    )


def run(options: argparse.Namespace) -> Iterable[tuple[str, Counts]]:
    """One row per hand and object."""
    for hand in options.hands:
        for stem, scale in OBJECTS.items():
            grasps = warpgrasp.synthesize(
                hand, options.folder / f"{stem}.obj", scale=scale, count=options.count, device=options.device
            )
            line, counts = row(hand, stem, grasps)
            print(line, flush=True)
            yield line, counts


def row(hand: str, name: str, grasps: Grasps) -> tuple[str, Counts]:
    """One line of the table."""
    shape = object_shape(grasps.object)
    job = prepare(grasps, FC6, shape)
    begin = time.process_time()
    success = metrics(FC6, judge(job, workers=1))["success_fc6"]
    seconds = (time.process_time() - begin) / len(grasps)
    again = metrics(FC6, judge(job, workers=3))["success_fc6"]
    half, slippery = (
        metrics(variant, judge(prepare(grasps, variant, shape)))[f"success_{variant.name}"]
        for variant in (HALF_STEP, SLIPPERY)
    )
    counts = Counts(len(grasps), int((again != success).sum()), int((half != success).sum()), int(slippery.sum()))
    return (
        f"| {hand} | {name} | {len(shape.pieces) or shape.kind} | {share(success[grasps.valid])} | "
        f"{share(success[~grasps.valid])} | {seconds:.2f} | {counts.again} | {counts.half_step} | {counts.slippery} |"
    ), counts


def share(success: np.ndarray) -> str:
    """Held, of how many."""
    return f"{int(success.sum())} of {len(success)}"


def interval(total: Counts) -> str:
    """Share of labels that the time step changes, with Wilson's 95 % interval."""
    low, high = wilson(total.half_step, total.grasps)
    return f"{100 * total.half_step / total.grasps:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"


if __name__ == "__main__":
    main()
