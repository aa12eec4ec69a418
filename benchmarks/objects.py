"""Grasps of many real objects: does it run on all of them, and how good are the grasps by geometry?

Run ``python benchmarks/objects.py FOLDER``; the folder holds ``manifest.json`` and the meshes it lists. Every number
is of one run with one seed; shares carry their 95 % interval (Wilson). No physics here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import warpgrasp

SCALES = {"egad": 0.6, "egad_defective": 0.6}
"""EGAD objects are 10 cm across, more than most hands can hold."""


def main() -> None:
    """Synthesize on every object with every hand, and write one table and one line per object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with manifest.json")
    parser.add_argument("--hands", nargs="+", default=["shadow", "allegro"])
    parser.add_argument("--count", type=int, default=8, help="grasps per hand and object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects"), help="path without suffix")
    options = parser.parse_args()

    rows = list(run(options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = report(rows, options)
    options.out.with_suffix(".md").write_text(table)
    print(table)


def run(options: argparse.Namespace) -> Iterable[dict]:
    """One row per hand and object; the first synthesis of each hand compiles and is not timed."""
    objects = json.loads((options.folder / "manifest.json").read_text())
    for name in options.hands:
        hand = warpgrasp.load_hand(name)
        warm_up = options.folder / objects[0]["file"]
        warpgrasp.synthesize(hand, warm_up, count=1, iterations=2, device=options.device)
        for entry in objects:
            scale = SCALES.get(entry["family"], 1.0)
            mesh = options.folder / entry["file"]
            begin, begin_cpu = time.perf_counter(), time.process_time()
            grasps = warpgrasp.synthesize(
                hand, mesh, scale=scale, count=options.count, seed=options.seed, device=options.device
            )
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
            print(
                f"{name} {entry['name']}: {int(grasps.valid.sum())} of {len(grasps)} valid, {seconds:.1f} s", flush=True
            )
            yield {
                "hand": name,
                "family": entry["family"],
                "object": entry["name"],
                "seconds": round(seconds, 3),
                "cpu_seconds": round(cpu_seconds, 3),
                "valid": grasps.valid.tolist(),
                "reason": grasps.reason.tolist(),
                "device": grasps.info["device"],
                **{key: np.round(value, 6).tolist() for key, value in grasps.metrics.items()},
            }


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share. Source: Wilson 1927."""
    z, share = 1.96, successes / trials
    center = share + z * z / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return (center - half) / (1 + z * z / trials), (center + half) / (1 + z * z / trials)


def report(rows: list[dict], options: argparse.Namespace) -> str:
    """A Markdown table by hand and family, with what is needed to repeat it."""
    import warp as wp

    lines = [
        "# Grasps of many objects",
        "",
        f"`python benchmarks/objects.py FOLDER --count {options.count} --seed {options.seed}`, recipe `default`, "
        f"device {rows[0]['device']}.",
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {len(rows)} hand-object pairs, none failed. EGAD objects at scale 0.6.",
        f"Times include mesh loading and labelling, not compilation; {os.cpu_count()} cores. Core-seconds add up what "
        "all cores were busy and change little with what else the machine does; the wall time does.",
        "",
        "| hand | family | objects | grasps | largest penetration, median / 90 % [mm] | self-penetration, 90 % [mm] "
        "| links within 2 mm, mean | valid (95 % interval) | core-seconds per grasp | wall seconds per grasp |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    families = list(dict.fromkeys(row["family"] for row in rows))
    for hand in options.hands:
        for family in [*families, "all"]:
            chosen = [row for row in rows if row["hand"] == hand and family in (row["family"], "all")]
            lines.append(f"| {hand} | {family} | " + summary(chosen) + " |")
    reasons = [reason for row in rows for reason in row["reason"] if reason]
    counted = ", ".join(f"{reason} {reasons.count(reason)}" for reason in dict.fromkeys(sorted(reasons)))
    lines += ["", f"Why the others are not valid (first failed check): {counted}.", ""]
    return "\n".join(lines)


def summary(rows: list[dict]) -> str:
    """The cells of one line."""

    def all_of(key: str) -> np.ndarray:
        return np.concatenate([row[key] for row in rows])

    depth, own = 1e3 * all_of("penetration_depth_m"), 1e3 * all_of("self_penetration_depth_m")
    valid = all_of("valid")
    low, high = wilson(int(valid.sum()), len(valid))
    cells = [
        f"{len(rows)}",
        f"{len(valid)}",
        f"{np.median(depth):.2f} / {np.quantile(depth, 0.9):.2f}",
        f"{np.quantile(own, 0.9):.2f}",
        f"{all_of('links_in_contact_2mm').mean():.1f}",
        f"{100 * valid.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})",
        f"{sum(row['cpu_seconds'] for row in rows) / len(valid):.2f}",
        f"{sum(row['seconds'] for row in rows) / len(valid):.2f}",
    ]
    return " | ".join(cells)


if __name__ == "__main__":
    main()
