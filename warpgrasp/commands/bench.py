"""``warpgrasp bench``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .arguments import natural_number, positive_integer
from .output import Progress, start_warp

HELP = "measure recipes on many objects and hands"
DESCRIPTION = (
    "Find grasps with every recipe, hand and object of a suite, and judge them all alike. "
    "A run that was stopped goes on where it was."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to run, and where the results go."""
    add = parser.add_argument
    add("suite", metavar="SUITE", help="primitives, or with --objects: ycb, egad, normalized")
    add("--hands", nargs="+", required=True, metavar="HAND", help="bundled hands, or paths of .urdf or .xml files")
    recipes = ["default", "random-closing", "annealing"]
    ablation = "default-without-balance switches a term off"
    add("--recipes", nargs="+", default=recipes, metavar="RECIPE", help=f"{ablation} (default: {' '.join(recipes)})")
    add("--count", type=positive_integer, default=16, help="grasps per object, hand and recipe (default: %(default)s)")
    add("--seed", type=natural_number, default=0, help="equal seeds give equal grasps (default: %(default)s)")
    add("--protocols", nargs="+", default=["fc6"], metavar="PROTOCOL", help="physics tests (default: fc6)")
    add("--objects", type=Path, metavar="FOLDER", help="folder with manifest.json and meshes")
    add("--device", help="Warp device, such as cpu or cuda:0 (default: the first GPU, else the CPU)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for results.json, table.md, plots and cells/")
    add("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp bench``."""
    start_warp()
    from tqdm import tqdm

    from .. import bench, bench_report, device

    settings = bench.Settings(
        suite=options.suite,
        hands=tuple(options.hands),
        recipes=tuple(options.recipes),
        count=options.count,
        seed=options.seed,
        protocols=tuple(options.protocols),
        objects=options.objects,
        device=options.device,
    )
    device.choose(options.device)
    bench.check_folder(options.out)
    hidden = options.quiet or not sys.stderr.isatty()
    with Progress("optimizing", "step", shown=False) as progress, tqdm(unit="cell", disable=hidden, leave=False) as bar:

        def show(done: int, total: int, row: dict) -> None:
            bar.total = total
            bar.set_description(f"{row['hand']} {row['recipe']} {row['object']}", refresh=False)
            bar.update(done - bar.n)

        rows = bench.run(settings, options.out, on_cell=show, on_progress=progress)
        table = bench_report.write_report(rows, settings, options.out)
    if not options.quiet:
        print(table)
