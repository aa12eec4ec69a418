"""``warpgrasp recheck``."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .arguments import add_grasps, check_output, natural_number, positive_number, read_grasps
from .output import Progress, median, print_json, start_warp, verdict_report, watched

if TYPE_CHECKING:
    from ..result import Grasps
    from ..tactile import TactileResults

HELP = "close grasps on soft fingertips, read tactile sensors, score the forces"
DESCRIPTION = (
    "Close grasps on soft fingertips, pull them six ways, read tactile sensors and score the contact forces by the "
    "friction that they need. docs/tactile.md describes backends, materials and every number."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Grasps and options."""
    add_grasps(parser)
    add = parser.add_argument
    backends = "quasistatic (default), mujoco, mujoco-warp or isaacgym"
    add("--backend", default="quasistatic", metavar="NAME", help=backends)
    add("--material", default="silicone", metavar="NAME", help="of the pads: silicone (default), rubber or biotac")
    add("--youngs-modulus", type=positive_number, metavar="PA", help="of the pads instead of the material's [Pa]")
    add("--mass", type=positive_number, metavar="KG", help="of the object (default: 0.1 kg)")
    add("--force", type=positive_number, metavar="N", help="largest force behind a finger (default: 5 N)")
    add("--raise-q", type=natural_number, default=0, metavar="STEPS", help="steps that raise the q-score (default: 0)")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--maps", type=Path, metavar="FILE.npz", help="file for taxel forces, contacts and all other arrays")
    add("--preview", type=Path, metavar="FILE.png", help="draw a grasp with its forces and tactile maps")
    add("--index", type=natural_number, metavar="I", help="the grasp to draw (default: 0, the best)")
    add("--out", type=Path, metavar="FILE.npz", help="file for the grasps with their outcomes")
    add("--json", action="store_true", help="print one JSON document instead of the summary")
    add("--quiet", action="store_true", help="print nothing but errors (and the JSON document, where asked for)")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp recheck``."""
    check_output(options.out, ".npz")
    check_output(options.maps, ".npz")
    check_output(options.preview, ".png")
    if options.index is not None and not options.preview:
        raise OptionError("--index says which grasp to draw; it needs --preview FILE")
    if options.raise_q and (options.maps or options.preview):
        raise OptionError("--raise-q changes the grasps: recheck what it writes once more for --maps or --preview")
    grasps = read_grasps(options.grasps)
    if (options.index or 0) >= len(grasps):
        raise OptionError(f"--index must be from 0 to {len(grasps) - 1}, got {options.index}")
    start_warp()
    start = time.perf_counter()
    checked, results = check(grasps, options)
    seconds = time.perf_counter() - start
    if options.out:
        checked.save(options.out)
    if options.maps and results:
        results.save(options.maps)
    if options.preview and results:
        from ..tactile.picture import preview_tactile

        preview_tactile(checked, results, options.preview, index=options.index or 0, device=options.device)
    if options.json:
        print_json(report(options, checked, seconds))
    elif not options.quiet:
        print("\n".join(summary(options, checked, seconds)))


def check(grasps: Grasps, options: argparse.Namespace) -> tuple[Grasps, TactileResults | None]:
    """The grasps with their outcomes, and the arrays behind them where no grasp was moved."""
    import dataclasses

    from .. import tactile
    from ..rechecking import recheck

    material = tactile.find_material(options.material)
    if options.youngs_modulus:
        material = dataclasses.replace(material, youngs_modulus=options.youngs_modulus)
    given = {"mass": options.mass, "force": options.force}
    load = tactile.Load(**{name: value for name, value in given.items() if value is not None})
    device = {} if options.backend == "isaacgym" else {"device": options.device}
    results = None
    with Progress("pressing", "grasp", shown=watched(options)) as progress:
        if not options.raise_q:
            session = tactile.open(
                grasps.hand, grasps.object, backend=options.backend, material=material, load=load, **device
            )
            results = session.run(grasps, on_progress=progress)
        checked = recheck(
            grasps,
            backend=options.backend,
            material=material,
            load=load,
            raise_steps=options.raise_q,
            results=results,
            device=options.device,
            on_progress=progress,
        )
    return checked, results


def columns(options: argparse.Namespace, grasps: Grasps) -> dict[str, Any]:
    """The check's columns by short names."""
    from ..rechecking import key

    prefix = key(options.backend)
    return {
        "held": grasps.metrics[f"success_{prefix}"] > 0,
        "failure": grasps.metrics[f"{prefix}_failure"],
        "success_q": grasps.metrics[f"success_qscore_{prefix}"] > 0,
        "q": grasps.metrics[f"qscore_{prefix}"],
        "q_before": grasps.metrics.get(f"qscore_{prefix}_before"),
        "failure_q": grasps.metrics[f"qscore_{prefix}_failure"],
        "displacement": grasps.metrics[f"{prefix}_displacement_m"],
        "grip": grasps.metrics[f"{prefix}_grip_force_N"],
    }


def summary(options: argparse.Namespace, grasps: Grasps, seconds: float) -> Iterator[str]:
    """Lines for people."""
    from .validate import share_text

    found = columns(options, grasps)
    yield f"{len(grasps)} grasps, {int(grasps.valid.sum())} valid: {grasps.hand.name} on {grasps.object_name}"
    yield f"{options.backend}, {options.material}: {share_text(found['held'])} on soft fingertips"
    for reason, count in Counter(found["failure"].tolist()).most_common():
        if reason:
            yield f"  {count:4d}  {reason}"
    yield f"q-score: {share_text(found['success_q'], 'above 0.5 in balance')}, median {median(found['q']):.3g}"
    if found["q_before"] is not None:
        yield f"raised from a median of {median(found['q_before']):.3g}"
    moved, grip = 1e3 * median(found["displacement"]), median(found["grip"])
    yield f"gravity moves the object by {moved:.2g} mm, the hand grips with {grip:.3g} N (medians)"
    yield f"{seconds:.1f} s, {seconds / len(grasps):.2g} s per grasp"
    for path in (options.out, options.maps, options.preview):
        if path:
            yield f"wrote {path}"
    if not options.out:
        yield "the outcomes were not kept: pass --out rechecked.npz to keep them"


def report(options: argparse.Namespace, grasps: Grasps, seconds: float) -> dict[str, Any]:
    """The JSON document of ``warpgrasp recheck``."""
    from ..bench_report import share

    found = columns(options, grasps)
    return {
        "grasps_file": str(options.grasps),
        "hand": grasps.hand.name,
        "object": grasps.object_name,
        "count": len(grasps),
        "valid_count": int(grasps.valid.sum()),
        "seconds": seconds,
        "backend": options.backend,
        "material": options.material,
        "held": share(found["held"]),
        "q_success": share(found["success_q"]),
        "median_q": median(found["q"]),
        "failures": {reason: count for reason, count in Counter(found["failure"].tolist()).items() if reason},
        "out": options.out and str(options.out),
        "maps": options.maps and str(options.maps),
        "preview": options.preview and str(options.preview),
        "grasps": [verdict_report(grasps, grasp) for grasp in range(len(grasps))],
    }
