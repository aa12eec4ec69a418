"""What every term of a recipe is worth: one page per suite, with targets, and contact areas over the threshold.

Run ``python benchmarks/ablation.py primitives --cells DIR``, or another suite with ``--objects FOLDER``. It does what
``warpgrasp bench`` does, with ``attraction``, ``default`` and ``default`` without each of its terms, goes on with the
cells that a run into the same folder has left, and writes ``SUITE_ablation.md`` and ``SUITE_contact.png``, or with
``--name`` others.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warpgrasp import bench
from warpgrasp.bench import AREAS, EPSILON, Q1, Settings
from warpgrasp.bench_report import (
    BEST,
    Row,
    column,
    groups,
    markdown,
    mean_interval,
    script_command,
    show,
    summarize,
    versions,
)
from warpgrasp.options import TERMS, WITHOUT, Dynamics, Recipe, recipe

TUNED = (
    "003_cracker_box",
    "061_foam_brick",
    "005_tomato_soup_can",
    "011_banana",
    "035_power_drill",
    "025_mug",
    "egad_B3",
    "egad_D6",
)
"""Objects that were looked at while the recipes were made."""

SIZE = re.compile(r" r(\d+)cm$")
"""How names of the suite ``normalized`` end."""

PROTOCOL = "fc6"

MILLIMETRES, CENTIMETRES2, PER_CENT = 1e3, 1e4, 100.0


@dataclass(frozen=True)
class Figures:
    """A column of the table."""

    title: str

    value: Callable[[dict[str, Any]], float]
    """From what ``summarize`` gives, in the unit of the title."""

    digits: int
    """After the point."""

    target: float | dict[str, float]
    """What is wanted, of every hand or by the hand's name."""

    at_least: bool = True
    """Whether more than the target is better."""

    def wanted(self, hand: str) -> float:
        """The target of a hand, NaN where there is none."""
        return self.target.get(hand, np.nan) if isinstance(self.target, dict) else self.target

    def head(self, hand: str) -> str:
        """The target in words."""
        wanted = self.wanted(hand)
        return f"{'≥' if self.at_least else '≤'} {wanted:g}" if np.isfinite(wanted) else "-"

    def cell(self, hand: str, summary: dict[str, Any]) -> str:
        """The value, in bold where it misses the target."""
        value, wanted = self.value(summary), self.wanted(hand)
        text = show(value, self.digits)
        missed = value < wanted if self.at_least else value > wanted
        return f"**{text}**" if missed else text


def held(key: str) -> Callable[[dict[str, Any]], float]:
    """A share of ``summary["success"]`` in per cent."""
    return lambda summary: PER_CENT * summary["success"][PROTOCOL][key]["value"]


def average(key: str, factor: float = 1.0) -> Callable[[dict[str, Any]], float]:
    """A mean of the summary."""
    return lambda summary: factor * summary[key]["value"]


COLUMNS = (
    Figures("fc6, of valid [%]", held("of_valid"), 1, 97.0),
    Figures(
        "valid and holding, of attempted [%]",
        held("valid_of_attempted"),
        1,
        {"shadow": 80.0, "allegro": 80.0, "leap": 75.0, "barrett": 70.0},
    ),
    Figures("worst object [%]", lambda s: PER_CENT * s["success"][PROTOCOL]["valid_worst_share"], 0, 40.0),
    Figures("penetration, mean [mm]", average("penetration_mean_m", MILLIMETRES), 2, 0.5, at_least=False),
    Figures("penetration, 95 % quantile [mm]", lambda s: MILLIMETRES * s["penetration_p95_m"], 2, 1.0, at_least=False),
    Figures("self-penetration, mean [mm]", average("self_penetration_mean_m", MILLIMETRES), 3, 0.1, at_least=False),
    Figures("links within 2 mm", average("links_in_contact_2mm"), 1, {"shadow": 8.0, "allegro": 7.0}),
    Figures("contact area at 5 mm [cm²]", average("contact_area_5mm_m2", CENTIMETRES2), 1, {"shadow": 40.0}),
    Figures("Q1", average(Q1), 3, 0.04),
    Figures(f"epsilon of the {BEST} best", average(f"{EPSILON}_best_{BEST}"), 3, 0.25),
    Figures("first PCA share", average("pca1_share"), 2, 0.33, at_least=False),
    Figures("rotation, sigma [deg]", average("sigma_rotation_deg"), 0, 100.0),
    Figures(
        "valid and holding per core-second",
        lambda s: s["success"][PROTOCOL]["valid_per_core_second"],
        2,
        {"shadow": 4.0, "allegro": 8.0},
    ),
)

NOTES = f"""\
The first line of each table is what is wanted; what misses it is **bold**. Shares, depths, links, areas, Q1 and epsilon
are over all attempted grasps, valid or not; epsilon (`{EPSILON}`) takes the {BEST} best of each object, all of
them where there are fewer, and diversity the valid grasps of each object, both averaged over objects. The first PCA
share of two grasps is always 1, and that of few is too high. *Worst object* has the lowest share of attempted grasps
that are valid and hold. Q1 is `{Q1}`. Core-seconds are those of synthesis, finish and labels, not of the
physics test. *Tuned* are the objects that were looked at while the recipes were made: {", ".join(TUNED)}."""


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="primitives, or with --objects: ycb, egad, normalized")
    parser.add_argument("--cells", type=Path, required=True, help="folder that keeps what is done; see docs/bench.md")
    parser.add_argument("--objects", type=Path, help="folder with manifest.json and meshes")
    parser.add_argument("--hands", nargs="+", default=["shadow", "allegro", "leap", "barrett"])
    parser.add_argument("--recipe", default="default", help="the one whose terms are switched off")
    parser.add_argument("--terms", nargs="*", help="which of them (default: all that it has)")
    parser.add_argument("--others", nargs="*", default=["attraction"], help="recipes and baselines beside it")
    parser.add_argument("--count", type=int, default=64, help="grasps per object, hand and recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="Warp device (default: the first GPU, else the CPU)")
    parser.add_argument("--partial", action="store_true", help="report on the cells that are there, and run none")
    parser.add_argument("--name", help="of the page and the picture (default: that of the suite)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bench")
    options = parser.parse_args()
    terms = switchable(options.recipe) if options.terms is None else options.terms
    settings = Settings(
        suite=options.suite,
        hands=tuple(options.hands),
        recipes=(*options.others, options.recipe, *(options.recipe + WITHOUT + term for term in terms)),
        count=options.count,
        seed=options.seed,
        protocols=(PROTOCOL,),
        objects=options.objects,
        device=options.device,
    )
    rows = done(settings, options.cells) if options.partial else bench.run(settings, options.cells, on_cell=tell)
    options.out.mkdir(parents=True, exist_ok=True)
    command = script_command({str(options.cells): "CELLS", str(options.objects): "FOLDER", str(options.out): "OUT"})
    name = options.name or options.suite
    picture = options.out / f"{name}_contact.png"
    draw_areas(rows, picture)
    page = options.out / f"{name}_ablation.md"
    page.write_text(report(rows, settings, command, picture.name))
    print(f"wrote {page} and {picture}")


def switchable(name: str) -> list[str]:
    """The terms that a recipe has: those whose absence changes it."""
    whole = recipe(name)
    return [term for term in TERMS if acting(whole.without(term)) != acting(whole)]


def acting(chosen: Recipe) -> Recipe:
    """The recipe without its name, and without settings of simulations that are not run."""
    stages = [s if s.stability_weight else replace(s, dynamics=Dynamics()) for s in chosen.stages]
    return replace(chosen, name="", stages=tuple(stages))


def done(settings: Settings, out: Path) -> list[Row]:
    """The rows of the cells that are there."""
    rows = (bench.read_cell(cell.path, cell.key, settings.count) for cell in bench.plan(settings, out / "cells"))
    return [row for row in rows if row is not None]


def tell(count: int, total: int, row: Row) -> None:
    """One line on a cell that is done."""
    result = row.get("error") or f"{sum(row['grasps']['valid'])} valid, {row['core_seconds']:.1f} core-seconds"
    print(f"{count}/{total} {row['hand']}, {row['recipe']}, {row['object']}: {result}", flush=True)


def tuned(row: Row) -> bool:
    """Whether a row is of an object that the recipes were tuned on, at whatever size."""
    return SIZE.sub("", row["object"]) in TUNED


def report(rows: list[Row], settings: Settings, command: str, picture: str) -> str:
    """The page."""
    found = groups(rows)
    lines = [f"# What each term is worth: {settings.suite}", "", f"`{command}`", ""]
    lines += [f"{settings.count} grasps per object, hand and recipe, seed {settings.seed}. {versions(rows)}", "", NOTES]
    for hand in dict.fromkeys(hand for hand, _ in found):
        chosen = {name: rows for (other, name), rows in found.items() if other == hand}
        lines += ["", f"## {hand}", "", *markdown(table(hand, chosen))]
    lines += ["", "## Contact area over the distance that counts as contact", "", f"![Curves]({picture})", ""]
    lines += ["Mean of the attempted grasps [cm²].", "", *markdown(area_table(found))]
    failed = [row for row in rows if "error" in row]
    if failed:
        lines += ["", "## Not done", ""]
        lines += [f"- {row['hand']}, {row['recipe']}, {row['object']}: {row['error']}" for row in failed]
    return "\n".join(lines) + "\n"


def table(hand: str, chosen: dict[str, list[Row]]) -> list[dict[str, str]]:
    """The targets, then a line for each recipe and part of the objects."""
    target = {"recipe": "*wanted*", "objects": "", "grasps": ""} | {c.title: c.head(hand) for c in COLUMNS}
    lines = [target]
    for name, rows in chosen.items():
        for part, of_part in parts(rows).items():
            summary = summarize(of_part, (PROTOCOL,))
            line = {"recipe": name, "objects": f"{part} ({len(of_part)})", "grasps": str(summary["grasp_count"])}
            lines.append(line | {c.title: c.cell(hand, summary) for c in COLUMNS})
    return lines


def parts(rows: list[Row]) -> dict[str, list[Row]]:
    """All rows; those of tuned and of held-out objects, where there are both; and those of each size."""
    seen, unseen = [row for row in rows if tuned(row)], [row for row in rows if not tuned(row)]
    sizes: dict[str, list[Row]] = {}
    for row in rows:
        if size := SIZE.search(row["object"]):
            sizes.setdefault(f"radius {int(size[1])} cm", []).append(row)
    found = {"all": rows}
    if seen and unseen:
        found |= {"tuned": seen, "held out": unseen}
    return found | sizes if len(sizes) > 1 else found


def areas(rows: Iterable[Row]) -> np.ndarray:
    """Mean contact area of the grasps at each threshold [m²], shape (threshold,)."""
    rows = list(rows)
    return np.array([mean_interval(column(rows, key))[0] for key in AREAS.values()])


def area_table(found: dict[tuple[str, str], list[Row]]) -> list[dict[str, str]]:
    """The numbers of the curves [cm²]."""
    names = [f"{MILLIMETRES * threshold:g} mm" for threshold in AREAS]
    return [
        {"hand": hand, "recipe": name}
        | {text: show(CENTIMETRES2 * area, 1) for text, area in zip(names, areas(rows), strict=True)}
        for (hand, name), rows in found.items()
    ]


def draw_areas(rows: list[Row], path: Path) -> None:
    """Contact area over the threshold, a panel for each hand and a line for each recipe."""
    found = groups(rows)
    hands = list(dict.fromkeys(hand for hand, _ in found))
    figure = Figure(figsize=(4.2 * max(len(hands), 1) + 2.4, 3.6), layout="constrained")
    panels = figure.subplots(1, max(len(hands), 1), squeeze=False, sharey=True)[0]
    for panel, hand in zip(panels, hands, strict=False):
        draw_hand(panel, hand, {name: rows for (other, name), rows in found.items() if other == hand})
    if hands:
        panels[0].set_ylabel("contact area [cm²]")
        # One scale for all panels. Lines of hands that sit deep in the object, without a term, may leave it.
        whole = [rows for (_, name), rows in found.items() if WITHOUT not in name] or list(found.values())
        panels[0].set_ylim(0.0, 1.1 * CENTIMETRES2 * max(areas(rows).max() for rows in whole))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=120)


def draw_hand(panel: Axes, hand: str, chosen: dict[str, list[Row]]) -> None:
    """The lines of one hand."""
    threshold = MILLIMETRES * np.array(list(AREAS))
    for i, (name, rows) in enumerate(chosen.items()):
        style = {"color": f"C{i % 10}", "ls": "--" if WITHOUT in name else "-", "lw": 1.2 if WITHOUT in name else 2.0}
        panel.plot(threshold, CENTIMETRES2 * areas(rows), marker="o", ms=3, label=name, **style)
    panel.set(title=hand, xlabel="distance that counts as contact [mm]")


if __name__ == "__main__":
    main()
