"""What the soft-body check is good for: labels and q-score beside the rigid physics test, and what raising q does.

Run ``python benchmarks/recheck.py FOLDER``; the folder holds ``manifest.json`` and the meshes. It writes
``results/recheck.md`` and ``recheck.png``, and keeps every cell in ``recheck.jsonl`` to go on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import warpgrasp
from warpgrasp.bench_report import (
    KeptRows,
    area_under_curve,
    environment,
    markdown,
    mean,
    save_figure,
    script_command,
    share,
    show,
    show_mean,
    show_share,
)
from warpgrasp.bench_suites import Entry, suite
from warpgrasp.device import choose
from warpgrasp.files import write_atomically
from warpgrasp.rechecking import recheck
from warpgrasp.result import Grasps
from warpgrasp.tactile.quasistatic import Quasistatic

Row = dict[str, Any]

KEPT = {
    "success_fc6": "held",
    "success_tactile": "soft",
    "success_qscore_tactile": "scored",
    "qscore_tactile": "q",
    "tactile_fingers_touching": "fingers",
    "tactile_failure": "failure",
    "wrench_residual_mu02": "residual",
}
"""Metrics that are looked at, and their short names."""

PREDICTORS = {
    "q of the soft contacts": ("q", 1.0),
    "tangential share of the soft contacts": ("tangential", -1.0),
    "wrench residual of the rigid contacts": ("residual", -1.0),
}
"""Columns that may tell what holds, and the sign with which more of them is better."""


def main() -> None:
    """Measure what is missing, and write page and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("objects", type=Path, help="folder with manifest.json and meshes")
    add("--suite", default="ycb")
    add("--names", nargs="+", default=["all"], help="which objects of the suite")
    add("--hands", nargs="+", default=["shadow", "allegro", "leap", "barrett"])
    add("--recipes", nargs="+", default=["default", "attraction"], help="good grasps, and poor ones to tell apart")
    add("--count", type=int, default=16, help="grasps per hand, recipe and object, valid or not")
    add("--raise-steps", type=int, default=6)
    add("--seed", type=int, default=0)
    add("--device", help="Warp device (default: the first GPU, else the CPU)")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the page, plot and raw numbers")
    options = parser.parse_args()
    options.device = choose(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = list(run(options, options.out / "recheck.jsonl"))
    command = script_command({str(options.objects): "FOLDER", str(options.out): "OUT"})
    save_figure(options.out / "recheck.png", (5.2, 4.6), lambda axes: draw(axes, rows))
    write_atomically(options.out / "recheck.md", report(rows, options, command))
    print(f"wrote {options.out / 'recheck.md'}")


def run(options: argparse.Namespace, path: Path) -> Iterator[Row]:
    """The rows of all cells, those that are in the file already included; new ones are added to it."""
    kept = KeptRows(path)
    entries = [e for e in suite(options.suite, options.objects) if "all" in options.names or e.name in options.names]
    for hand in options.hands:
        for recipe in options.recipes:
            for entry in entries:
                what = (hand, recipe, entry.name, options.count, options.seed, options.raise_steps, options.device)
                key = " ".join(map(str, (warpgrasp.__version__, *what)))
                yield kept.get(key, partial(measure, hand, recipe, entry, options))


def measure(hand: str, recipe: str, entry: Entry, options: argparse.Namespace) -> Row:
    """Grasps of one object through both checks, and again after their q was raised."""
    common = {"count": options.count, "seed": options.seed, "device": options.device}
    grasps = warpgrasp.validate(warpgrasp.synthesize(hand, entry.load(), recipe=recipe, **common))
    start = time.process_time()
    touch = Quasistatic(grasps.hand, grasps.object, device=options.device).run(grasps)
    seconds = (time.process_time() - start) / len(grasps)
    before = recheck(grasps, results=touch, device=options.device)
    raised = recheck(grasps, results=touch, raise_steps=options.raise_steps, device=options.device)
    print(f"{hand}, {recipe}, {entry.name}: {seconds:.2f} s a grasp", flush=True)
    return {
        "hand": hand,
        "recipe": recipe,
        "object": entry.name,
        "seconds": seconds,
        "valid": grasps.valid.astype(int).tolist(),
        "before": numbers(before),
        "after": numbers(warpgrasp.validate(raised)),
    }


def numbers(grasps: Grasps) -> dict[str, list]:
    """What is kept of the metrics, by short name."""
    found = grasps.metrics
    return {short: found[key].tolist() for key, short in KEPT.items()} | {
        "tangential": found["tactile_tangential_share"].tolist()
    }


def column(rows: list[Row], name: str, when: str = "before") -> np.ndarray:
    """One number of all grasps."""
    return np.concatenate([np.asarray(row[when][name], float) for row in rows])


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Hand, recipe and rows, then every hand together."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    for recipe in recipes:
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        hands = list(dict.fromkeys(row["hand"] for row in of_recipe))
        for hand in hands:
            yield hand, recipe, [row for row in of_recipe if row["hand"] == hand]
        if len(hands) > 1:
            yield "all", recipe, of_recipe


def labels(rows: list[Row]) -> Iterator[dict[str, str]]:
    """How labels of both checks go together."""
    for hand, recipe, some in groups(rows):
        held, soft, scored = (column(some, name) > 0 for name in ("held", "soft", "scored"))
        both = soft & scored
        yield {
            "hand": hand,
            "recipe": recipe,
            "grasps": str(len(held)),
            "hold fc6 [%]": show_share(share(held)),
            "pass soft [%]": show_share(share(soft)),
            "q label [%]": show_share(share(scored)),
            "hold fc6, of those that pass soft [%]": show_share(share(held[soft])),
            "of those with q label [%]": show_share(share(held[scored])),
            "of those with both [%]": show_share(share(held[both])),
            "s per grasp": show(float(np.mean([row["seconds"] for row in some])), 2),
        }


def caught(rows: list[Row]) -> Iterator[dict[str, str]]:
    """What of the grasps that should not be exported the labels find."""
    for hand, recipe, some in groups(rows):
        held, soft, scored = (column(some, name) > 0 for name in ("held", "soft", "scored"))
        few = column(some, "fingers") < 2
        failed = ~held
        yield {
            "hand": hand,
            "recipe": recipe,
            "fail fc6": str(int(failed.sum())),
            "of them fail soft [%]": show_share(share(~soft[failed])),
            "have no q label [%]": show_share(share(~scored[failed])),
            "fail either [%]": show_share(share(~(soft & scored)[failed])),
            "one finger or none": str(int(few.sum())),
            "of them fail either [%]": show_share(share(~(soft & scored)[few])),
        } | {f"AUC of {name}": show(area_under_curve(sign * column(some, key), held), 2)
             for name, (key, sign) in PREDICTORS.items()}  # fmt: skip


def effects(rows: list[Row]) -> Iterator[dict[str, str]]:
    """What raising q changes."""
    for hand, recipe, some in groups(rows):
        q, new = column(some, "q"), column(some, "q", "after")
        held, after = column(some, "held") > 0, column(some, "held", "after") > 0
        moved = q != new
        yield {
            "hand": hand,
            "recipe": recipe,
            "grasps": str(len(q)),
            "moved": str(int(moved.sum())),
            "q before": show_mean(mean(q), 1.0, 3),
            "q after": show_mean(mean(new), 1.0, 3),
            "rise of those moved": show_mean(mean((new - q)[moved]), 1.0, 3),
            "their fc6 before [%]": show_share(share(held[moved])),
            "after [%]": show_share(share(after[moved])),
        }


def failures(rows: list[Row]) -> Iterator[dict[str, str]]:
    """Why grasps fail on soft fingertips, all hands together."""
    for _, recipe, some in (
        group for group in groups(rows) if group[0] == "all" or len({r["hand"] for r in rows}) == 1
    ):
        reasons = np.concatenate([np.array(row["before"]["failure"], str) for row in some])
        kinds = np.array([reason.split(": ")[-1] for reason in reasons])
        held = column(some, "held") > 0
        for kind in sorted(set(kinds) - {""}, key=lambda kind: (-int((kinds == kind).sum()), kind)):
            those = kinds == kind
            yield {
                "recipe": recipe,
                "what fails first": kind,
                "grasps": str(int(those.sum())),
                "of them hold fc6 [%]": show_share(share(held[those])),
            }


def draw(axes: Any, rows: list[Row]) -> None:
    """Share of grasps that hold and score better than a threshold, over that of those that do not."""
    held = column(rows, "held") > 0
    for name, (key, sign) in PREDICTORS.items():
        score = sign * column(rows, key)
        order = np.argsort(-score, kind="stable")
        good, bad = np.cumsum(held[order]), np.cumsum(~held[order])
        ends = np.append(np.diff(score[order]) != 0, True)  # ties are one step
        shares = [np.append(0.0, total[ends] / max(total[-1], 1)) for total in (bad, good)]
        axes.plot(*shares, label=f"{name}, {area_under_curve(score, held):.2f}")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.set_xlabel("share of grasps that fail fc6")
    axes.set_ylabel("share of grasps that hold fc6")
    axes.set_title("Scores above a threshold, and area under the curve")
    axes.legend(loc="lower right", fontsize="small")


def report(rows: list[Row], options: argparse.Namespace, command: str) -> str:
    """The page."""
    known = environment()
    lines = [
        "# Soft fingertips and the q-score beside the rigid test",
        "",
        f"`{command}`",
        "",
        f"Suite `{options.suite}`, {len({row['object'] for row in rows})} objects, {options.count} grasps per object, "
        f"hand and recipe, valid or not, seed {options.seed}. `attraction` is there for its grasps that fail. "
        f"warpgrasp {known['warpgrasp']}, Warp {known['warp']}, MuJoCo {known['mujoco']}, {known['machine']}, "
        f"{known['cores']} cores, device {options.device}. Intervals are 95 %. Seconds are processor time of the soft "
        "check; other work on the machine stretches them.",
        "",
        "## Labels",
        "",
        "*Pass soft*: `success_tactile`. *q label*: `success_qscore_tactile`: q > 0.5, two fingers, residual at most "
        "0.02.",
        "",
        *markdown(list(labels(rows))),
        "",
        "## What they catch",
        "",
        "*AUC*: the chance that a grasp that holds in `fc6` scores better than one that does not.",
        "",
        *markdown(list(caught(rows))),
        "",
        "![ROC](recheck.png)",
        "",
        "## What fails on soft fingertips",
        "",
        *markdown(list(failures(rows))),
        "",
        "## Raising q",
        "",
        f"`recheck(raise_steps={options.raise_steps})`: a grasp moves only where the second soft check gives it a "
        "higher q and passes what the first one passed.",
        "",
        *markdown(list(effects(rows))),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
