"""What a real hand's couplings cost: the same hand with and without them, judged alike.

Run ``python benchmarks/coupling.py``; it writes ``benchmarks/results/coupling.md``. The free hand is one that cannot be
built: its joints move as they like within their ranges. Both are tested with a motor for every joint.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
from pathlib import Path

import numpy as np
import warp as wp

import warpgrasp
from warpgrasp.bench_suites import suite
from warpgrasp.device import choose
from warpgrasp.hand import Hand

COLUMNS = {
    "hold in `fc6`": ("success_fc6", 100.0, "%"),
    "links within 2 mm": ("links_in_contact_2mm", 1.0, ""),
    "contact area [cm²]": ("contact_area_2mm_m2", 1.0e4, ""),
    "penetration [mm]": ("penetration_depth_m", 1.0e3, ""),
}
"""Means over all grasps: heading, key, factor and unit."""


def uncoupled(hand: Hand) -> Hand:
    """The same hand, every joint free of the others."""
    return dataclasses.replace(hand, couplings=(), actuators=())


def measure(hand: Hand, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Metrics of all grasps of one hand."""
    parts = []
    for entry in suite(options.suite, options.objects)[: options.object_count]:
        grasps = warpgrasp.synthesize(hand, entry.load(), count=options.count, seed=options.seed, device=options.device)
        grasps.hand = hand  # what is not bundled cannot be loaded again
        judged = warpgrasp.validate(warpgrasp.evaluate(grasps), "fc6")
        parts.append({"valid": judged.valid, **judged.metrics})
        print(f"{entry.name}: {judged.metrics['success_fc6'].mean():.2f}", flush=True)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def interval(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of a mean."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def line(name: str, found: dict[str, np.ndarray]) -> str:
    """One line of the table."""
    cells = [name, f"{len(found['valid'])}", f"{100 * found['valid'].mean():.1f} %"]
    for key, factor, unit in COLUMNS.values():
        values = factor * np.asarray(found[key], float)
        cells.append(f"{values.mean():.2f} ± {interval(values):.2f} {unit}".strip())
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Synthesize and test both hands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hand", default="shadow")
    parser.add_argument("--count", type=int, default=50, help="grasps of each object")
    parser.add_argument("--suite", default="primitives")
    parser.add_argument("--objects", type=Path, help="folder of the suite, with manifest.json")
    parser.add_argument("--object-count", type=int, help="only so many of its objects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coupling.md")
    options = parser.parse_args()

    hand = warpgrasp.load_hand(options.hand)
    objects = len(suite(options.suite, options.objects)[: options.object_count])
    head = ["hand", "grasps", "valid", *COLUMNS]
    lines = [
        "# What couplings cost",
        "",
        f"`python benchmarks/coupling.py --hand {options.hand} --count {options.count} --suite {options.suite} "
        f"--seed {options.seed}`, recipe `default`, {objects} objects, device {choose(options.device)}; warpgrasp "
        f"{warpgrasp.__version__}, Warp {wp.__version__}, {platform.machine()}. Means of all grasps, valid or not, "
        "with 95 % intervals.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        line(f"{options.hand} as it is", measure(hand, options)),
        line("without its couplings", measure(uncoupled(hand), options)),
        "",
    ]
    options.out.write_text("\n".join(lines))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
