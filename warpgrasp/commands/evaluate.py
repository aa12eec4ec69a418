"""``warpgrasp evaluate``."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_grasps, check_output, read_grasps
from .output import Progress, print_json, short, start_warp, table, verdict_report, watched

if TYPE_CHECKING:
    from ..result import Grasps

HELP = "measure contact, penetration and force closure of grasps"
DESCRIPTION = (
    "Measure contact, penetration and force closure of grasps, and how much they differ. docs/evaluate.md defines "
    "every number."
)

BATCH = 32
"""Grasps between two reports of progress."""

MEASURES = {
    "penetration_depth_m": ("penetration depth", 1e3, "mm"),
    "intersection_volume_1mm_m3": ("shared volume", 1e9, "mm³"),
    "self_penetration_depth_m": ("self-penetration depth", 1e3, "mm"),
    "links_in_contact_2mm": ("links within 2 mm", 1.0, ""),
    "contact_area_2mm_m2": ("contact area, 2 mm", 1e4, "cm²"),
    "contact_area_5mm_m2": ("contact area, 5 mm", 1e4, "cm²"),
    "finger_distance_mean_cap10mm_m": ("fingers' mean distance", 1e3, "mm"),
    "epsilon_l1_mu05_edges8": ("epsilon L1, friction 0.5", 1.0, ""),
    "min_weight_mu05_edges8": ("l*, friction 0.5", 1.0, ""),
    "q1_dexgraspnet": ("Q1 of DexGraspNet", 1.0, ""),
}
"""Metrics in the printed table: name, factor and unit."""

SPREADS = {
    "sigma_keypoint_m": ("palm and fingertips", 1e2, "cm"),
    "sigma_translation_m": ("wrist position", 1e2, "cm"),
    "sigma_rotation_deg": ("wrist rotation", 1.0, "°"),
    "sigma_joint_rad": ("revolute joints", 1.0, "rad"),
    "sigma_joint_m": ("prismatic joints", 1e3, "mm"),
    "pca1_share": ("first principal component", 1e2, "%"),
}
"""The same of the diversity."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Grasps and options."""
    add_grasps(parser)
    add = parser.add_argument
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--out", type=Path, metavar="FILE.npz", help="file for the grasps with all their metrics")
    add("--json", action="store_true", help="print one JSON document instead of the table")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp evaluate``."""
    check_output(options.out, ".npz")
    grasps = read_grasps(options.grasps)
    start_warp()
    from ..device import choose
    from ..spread import diversity

    device = choose(options.device)
    start = time.perf_counter()
    with Progress("measuring", "grasp", shown=watched(options)) as progress:
        measured = measure(grasps, device, progress)
    seconds = time.perf_counter() - start
    spread = diversity(grasps)
    if options.out:
        measured.save(options.out)
    if options.json:
        print_json(report(options, measured, spread, seconds))
    elif not options.quiet:
        print("\n".join(summary(options, measured, spread, seconds)))


def measure(grasps: Grasps, device: str, progress: Progress) -> Grasps:
    """``warpgrasp.evaluate`` batch by batch, which gives the same numbers."""
    import numpy as np

    from ..evaluation import evaluate

    batches: list[dict[str, np.ndarray]] = []
    for first in range(0, len(grasps), BATCH):
        batch = grasps[first : first + BATCH]
        batch.hand, batch.object = grasps.hand, grasps.object
        batches.append(evaluate(batch, device=device).metrics)
        progress(min(first + BATCH, len(grasps)), len(grasps))
    metrics = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    measured = dataclasses.replace(grasps, metrics=metrics)
    measured.hand, measured.object = grasps.hand, grasps.object
    return measured


def summary(options: argparse.Namespace, grasps: Grasps, spread: dict[str, float], seconds: float) -> Iterator[str]:
    """Lines for people."""
    yield f"{len(grasps)} grasps, {int(grasps.valid.sum())} valid: {grasps.hand.name} on {grasps.object_name}"
    yield ""
    rows = [row(name, factor, unit, grasps.metrics[key]) for key, (name, factor, unit) in MEASURES.items()]
    yield from table(rows)
    yield ""
    known = {key: value for key, value in spread.items() if math.isfinite(value)}
    rows = [
        {"diversity": name, "spread": short(factor * known[key]), "unit": unit}
        for key, (name, factor, unit) in SPREADS.items()
        if key in known
    ]
    yield from table(rows) if rows else ["a single grasp has no diversity"]
    yield ""
    yield f"{seconds:.1f} s, {seconds / len(grasps):.2g} s per grasp"
    if options.out:
        yield f"wrote {options.out} with {len(grasps.metrics)} metrics of each grasp"
    else:
        yield f"{len(grasps.metrics)} metrics of each grasp were not kept: pass --out measured.npz to keep them"


def row(name: str, factor: float, unit: str, values: Any) -> dict[str, Any]:
    """A line of the table: median and the range that all but the outermost tenth of the grasps are in."""
    low, middle, high = (short(factor * value) for value in quantiles(values))
    return {"metric": name, "median": middle, "5 %": low, "95 %": high, "unit": unit}


def quantiles(values: Any) -> tuple[float, float, float]:
    """5 %, median and 95 % of the finite values, NaN where there is none."""
    import numpy as np

    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist() if values.size else (math.nan,) * 3
    return low, middle, high


def report(options: argparse.Namespace, grasps: Grasps, spread: dict[str, float], seconds: float) -> dict[str, Any]:
    """The JSON document of ``warpgrasp evaluate``."""
    numbers = {key: values for key, values in grasps.metrics.items() if values.dtype.kind in "iufb"}
    return {
        "grasps_file": str(options.grasps),
        "hand": grasps.hand.name,
        "object": grasps.object_name,
        "count": len(grasps),
        "valid_count": int(grasps.valid.sum()),
        "seconds": seconds,
        "metrics": {
            key: dict(zip(("q05", "median", "q95"), quantiles(values), strict=True)) for key, values in numbers.items()
        },
        "diversity": spread,
        "out": options.out and str(options.out),
        "grasps": [verdict_report(grasps, grasp) for grasp in range(len(grasps))],
    }
