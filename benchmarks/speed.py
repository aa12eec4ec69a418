"""How many grasps a second: every recipe and baseline on the same objects and device, in one run.

Run ``python benchmarks/speed.py``; it prints as it goes, goes on where it was stopped, and writes ``speed.md``,
``speed.png`` and ``speed.jsonl``, or with ``--name`` others. On a GPU:
``python benchmarks/speed.py --device cuda:0 --counts 64 512 4096 65536``.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ablation import switchable
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warpgrasp import bench
from warpgrasp.baselines import BASELINES
from warpgrasp.bench import Cell, Settings, core_seconds
from warpgrasp.bench_report import (
    LINES,
    KeptRows,
    environment,
    markdown,
    processor,
    script_command,
    share,
    show,
    show_share,
)
from warpgrasp.device import choose
from warpgrasp.options import RECIPES, WITHOUT
from warpgrasp.validation import validate

Row = dict[str, Any]

NAMED = ("box 4x6x12 cm", "can r3 h10 cm")
"""Objects of the usual run."""

PROTOCOL = "fc6"

NOTES = f"""\
*Wall* is the time of one call that finds all grasps of one object, from a hand and a mesh in memory to labelled grasps
with their pregrasp and squeeze: starts, search, finish and filters. Loading files, compiling kernels and the physics
test are not in it; a short call before has loaded the kernels. *Core-seconds* are what all cores were busy meanwhile.
*Valid* is the label; *holding* is valid and holds under `{PROTOCOL}`, a physics test after the clock has stopped. Times
of several objects are added up. Other work on the machine stretches the wall time; then look at core-seconds. Intervals
are 95 % (Wilson)."""


def main() -> None:
    """Measure what is missing, and write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", default="primitives", help="primitives, or with --objects: ycb, egad, normalized")
    add("--objects", type=Path, help="folder with manifest.json and meshes")
    add("--names", nargs="+", default=NAMED, help="which objects of the suite; `all` for all")
    add("--hands", nargs="+", default=["shadow", "allegro"])
    add("--recipes", nargs="+", default=[*RECIPES, *BASELINES], help="recipes and baselines")
    add("--ablate", nargs="*", default=["default"], metavar="RECIPE", help="also without each of their terms")
    add("--counts", type=int, nargs="+", default=[64], help="grasps that are asked for at once")
    add("--judged", type=int, default=64, help="most valid grasps of a call that the physics test is done on")
    add("--seed", type=int, default=0)
    add("--device", help="Warp device (default: the first GPU, else the CPU)")
    add("--name", default="speed", help="of the page, plot and raw numbers (default: %(default)s)")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the page, plot and raw numbers")
    options = parser.parse_args()
    options.device = choose(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    picture, page = options.out / f"{options.name}.png", options.out / f"{options.name}.md"
    rows = list(run(options, options.out / f"{options.name}.jsonl"))
    command = script_command({str(options.objects): "FOLDER", str(options.out): "OUT"})
    draw(rows, picture)
    page.write_text(report(rows, options, command))
    print(f"wrote {page}")


def run(options: argparse.Namespace, path: Path) -> Iterator[Row]:
    """The rows of all calls, those that are in the file already included; new ones are added to it."""
    kept, warm = KeptRows(path), set()

    def measured(cell: Cell, settings: Settings) -> Row:
        if (cell.hand_name, cell.recipe) not in warm:
            bench.warm_up(cell, settings)
            warm.add((cell.hand_name, cell.recipe))
        return measure(cell, settings, options.judged)

    for cell, settings in cells(options):
        key = f"{cell.key} {processor(options.device)} {options.judged}"
        row = kept.get(key, partial(measured, cell, settings))
        found = f"{row['valid']} of {row['count']} valid, {row['held']} of {row['judged']} hold"
        spent = f"{row['seconds']:.2f} s, {row['core_seconds']:.2f} core-seconds"
        print(f"{row['hand']}, {row['recipe']}, {row['object']}: {found}, {spent}", flush=True)
        yield row


def cells(options: argparse.Namespace) -> Iterator[tuple[Cell, Settings]]:
    """Every hand, recipe, object and batch."""
    ablated = [name + WITHOUT + term for name in options.ablate for term in switchable(name)]
    settings = Settings(
        suite=options.suite,
        hands=tuple(options.hands),
        recipes=tuple(dict.fromkeys([*options.recipes, *ablated])),
        seed=options.seed,
        protocols=(PROTOCOL,),
        objects=options.objects,
        device=options.device,
    )
    for count in options.counts:
        asked = replace(settings, count=count)
        for cell in bench.plan(asked, Path()):
            if "all" in options.names or cell.entry.name in options.names:
                yield cell, asked


def measure(cell: Cell, settings: Settings, judged: int) -> Row:
    """Time one call, then judge some of its valid grasps."""
    begin, cores = time.perf_counter(), core_seconds()
    grasps = bench.find(cell, count=settings.count, seed=settings.seed, device=settings.device)
    spent = {"seconds": time.perf_counter() - begin, "core_seconds": core_seconds() - cores}
    valid = np.flatnonzero(grasps.valid)
    chosen = np.random.default_rng(settings.seed).permutation(valid)[:judged]
    held = validate(grasps[chosen], PROTOCOL).metrics[f"success_{PROTOCOL}"].sum() if len(chosen) else 0
    return {
        "hand": cell.hand.name,
        "recipe": cell.recipe,
        "object": cell.entry.name,
        "count": settings.count,
        "valid": len(valid),
        "judged": len(chosen),
        "held": int(held),
    } | spent


@dataclasses.dataclass(frozen=True)
class Rates:
    """Of one hand, recipe and batch, over all objects."""

    hand: str
    recipe: str
    count: int
    attempted: int
    valid: int
    judged: int
    held: int
    holding: float
    """Valid grasps times the share of those judged that hold, summed over the objects."""
    seconds: float
    core_seconds: float

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Attempted, valid and holding grasps."""
        return self.attempted, self.valid, self.holding


def rates(rows: Iterable[Row]) -> list[Rates]:
    """One for each hand, recipe and batch, in order."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["hand"], row["recipe"], row["count"]), []).append(row)

    def total(chosen: list[Row], key: str) -> Any:
        return sum(row[key] for row in chosen)

    return [
        Rates(
            *key,
            attempted=total(chosen, "count"),
            valid=total(chosen, "valid"),
            judged=total(chosen, "judged"),
            held=total(chosen, "held"),
            holding=sum(row["valid"] * row["held"] / max(row["judged"], 1) for row in chosen),
            seconds=total(chosen, "seconds"),
            core_seconds=total(chosen, "core_seconds"),
        )
        for key, chosen in found.items()
    ]


def report(rows: list[Row], options: argparse.Namespace, command: str) -> str:
    """The page."""
    known = environment()
    objects = ", ".join(dict.fromkeys(row["object"] for row in rows))
    return "\n".join(
        [
            "# Speed of synthesis",
            "",
            f"`{command}`",
            "",
            f"Device {options.device}: {processor(options.device)}; the host is {processor('cpu')}, {known['cores']} "
            f"cores. Seed {options.seed}, suite `{options.suite}`: {objects}. warpgrasp {known['warpgrasp']}, Warp "
            f"{known['warp']}, MuJoCo {known['mujoco']}, Python {platform.python_version()}.",
            "",
            NOTES,
            "",
            *markdown([line(rate) for rate in rates(rows)]),
            "",
            f"![Valid and holding grasps per second]({options.name}.png)",
            "",
        ]
    )


def line(rate: Rates) -> dict[str, str]:
    """A line of the table."""
    judged = share(np.arange(rate.judged) < rate.held)

    def per(time_spent: float) -> str:
        return " / ".join(show(number / time_spent, 2) for number in rate.numbers)

    return {
        "hand": rate.hand,
        "recipe": rate.recipe,
        "grasps at once": f"{rate.count:,}",
        "attempted": str(rate.attempted),
        "valid [%]": f"{100 * rate.valid / rate.attempted:.0f}",
        f"{PROTOCOL}, of valid [%]": show_share(judged),
        "attempted / valid / holding per second": per(rate.seconds),
        "attempted / valid / holding per core-second": per(rate.core_seconds),
    }


def draw(rows: list[Row], path: Path) -> None:
    """Holding grasps per second and per core-second: bars, or lines over the batch where there are several."""
    measured = rates(rows)
    recipes = list(dict.fromkeys(rate.recipe for rate in measured))
    figure = Figure(figsize=(11, max(3.6, 1.2 + 0.32 * len(recipes))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=len({rate.count for rate in measured}) == 1)
    several = len({rate.count for rate in measured}) > 1
    for panel, unit in zip(panels, ("seconds", "core_seconds"), strict=True):
        (draw_lines if several else draw_bars)(panel, measured, recipes, unit)
    figure.suptitle(f"valid grasps that hold under {PROTOCOL}", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7)
    figure.savefig(path, dpi=120)


def draw_bars(panel: Axes, measured: list[Rates], recipes: list[str], unit: str) -> None:
    """A bar for each recipe and hand."""
    hands = list(dict.fromkeys(rate.hand for rate in measured))
    height = 0.8 / len(hands)
    for i, hand in enumerate(hands):
        chosen = [rate for rate in measured if rate.hand == hand]
        y = [recipes.index(rate.recipe) + (i - 0.5 * (len(hands) - 1)) * height for rate in chosen]
        panel.barh(y, [rate.holding / getattr(rate, unit) for rate in chosen], height, label=hand, color=f"C{i}")
    panel.set_yticks(range(len(recipes)), recipes, fontsize=8)
    panel.set_ylim(len(recipes) - 0.5, -0.5)
    panel.set_xlabel(f"per {unit.replace('core_seconds', 'core-second').removesuffix('s')}")


def draw_lines(panel: Axes, measured: list[Rates], recipes: list[str], unit: str) -> None:
    """A line over the batch for each hand and recipe."""
    hands = list(dict.fromkeys(rate.hand for rate in measured))
    for hand in hands:
        for recipe in recipes:
            chosen = [rate for rate in measured if (rate.hand, rate.recipe) == (hand, recipe) and rate.holding > 0.0]
            color, dashes = f"C{recipes.index(recipe) % 10}", LINES[hands.index(hand) % len(LINES)]
            x, y = [rate.count for rate in chosen], [rate.holding / getattr(rate, unit) for rate in chosen]
            panel.plot(x, y, marker="o", ms=3, color=color, ls=dashes, label=f"{hand}, {recipe}")
    panel.set(xscale="log", yscale="log", xlabel="grasps at once")
    panel.set_ylabel(f"per {unit.replace('core_seconds', 'core-second').removesuffix('s')}")


if __name__ == "__main__":
    main()
