"""Tables and plots of ``warpgrasp bench``."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .bench import EPSILON, Q1, Settings, finite
from .files import atomic_file, write_atomically
from .physics.protocols import find_protocol

Row = dict[str, Any]

DASH = "-"
"""Where there is nothing to report."""

BEST = 10
"""Grasps of each object whose epsilon is looked at apart."""

NOTES = f"""\
Every object was attempted with the same number of grasps. A share is followed by its 95 % interval (Wilson 1927) and a
mean by 1.96 standard errors; both take grasps for independent, which those of one object are not quite. *of attempted*
divides by all grasps, *of valid* by those that the geometric labels let pass. *Worst object* is the lowest share of
attempted grasps that hold on one object. Penetration is the deepest point either way; links touch within 2 mm; the
contact area is the hand's skin within 5 mm of the surface; epsilon is `{EPSILON}` of `evaluate`, 0 without
force closure, the mean over attempted grasps. Diversity compares the valid grasps of an object (root mean square
distance of palm centre and fingertips to their mean; of the rotation to the mean one), averaged over objects with at
least two. Core-seconds add up what all cores were busy while grasps were found; mesh loading, compilation and judging
are left out. On a GPU look at the wall time."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share; NaN without trials. Source: Wilson 1927."""
    if trials == 0:
        return math.nan, math.nan
    z, share = 1.96, successes / trials
    center = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = (center - half) / (1 + z * z / trials), (center + half) / (1 + z * z / trials)
    return max(low, 0.0), min(high, 1.0)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean of the finite values and 1.96 standard errors; NaN where there are too few."""
    values = values[np.isfinite(values)]
    mean = float(values.mean()) if len(values) else math.nan
    return mean, 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def area_under_curve(score: np.ndarray, good: np.ndarray) -> float:
    """Chance that something good has a higher score than something that is not; NaN where there is only one kind."""
    from scipy.stats import rankdata

    count = int(good.sum())
    others = len(good) - count
    if not count or not others:
        return math.nan
    return float((rankdata(score)[good].sum() - count * (count + 1) / 2) / (count * others))


def column(rows: Iterable[Row], key: str) -> np.ndarray:
    """A metric of the grasps of all rows, NaN for null; empty where no row has it."""
    values = [value for row in rows for value in row["grasps"].get(key, [])]
    return np.array([math.nan if value is None else value for value in values], float)


def summarize(rows: list[Row], protocols: Iterable[str]) -> dict[str, Any]:
    """The numbers of one line of the table.

    Args:
        rows: Cells of one hand and recipe, all without ``error``.
        protocols: Names of the physics tests.

    Returns:
        Counts, shares with ``low`` and ``high`` ends, means with ``half`` widths; NaN where there is nothing.
    """
    valid = column(rows, "valid") > 0.0
    depth = column(rows, "penetration_depth_m")
    summary: dict[str, Any] = {
        "object_count": len(rows),
        "grasp_count": len(valid),
        "valid": share(valid),
        "penetration_mean_m": mean(depth),
        "self_penetration_mean_m": mean(column(rows, "self_penetration_depth_m")),
        "penetration_p95_m": float(np.quantile(depth[np.isfinite(depth)], 0.95))
        if np.isfinite(depth).any()
        else math.nan,
        "links_in_contact_2mm": mean(column(rows, "links_in_contact_2mm")),
        "contact_area_5mm_m2": mean(column(rows, "contact_area_5mm_m2")),
        EPSILON: mean(column(rows, EPSILON)),
        f"{EPSILON}_best_{BEST}": mean(np.array([_best(column([row], EPSILON)) for row in rows])),
        Q1: mean(column(rows, Q1)),
        "pca1_share": mean(_diversity(rows, "pca1_share")),
        "sigma_keypoint_m": mean(_diversity(rows, "sigma_keypoint_m")),
        "sigma_rotation_deg": mean(_diversity(rows, "sigma_rotation_deg")),
        "core_seconds_per_grasp": sum(row["core_seconds"] for row in rows) / max(len(valid), 1),
        "seconds_per_grasp": sum(row["seconds"] for row in rows) / max(len(valid), 1),
        "judge_seconds_per_grasp": sum(row["judge_seconds"] for row in rows) / max(len(valid), 1),
    }
    summary["success"] = {name: _success(rows, name, valid) for name in verdicts(rows, protocols)}
    return summary


def _success(rows: list[Row], protocol: str, valid: np.ndarray) -> dict[str, Any]:
    held = column(rows, f"success_{protocol}") > 0.0
    by_object = {row["object"]: float((column([row], f"success_{protocol}") > 0.0).mean()) for row in rows}
    worst = min(by_object, key=lambda name: by_object[name])
    valid_by_object = {row["object"]: float(valid_and_held(row, protocol).mean()) for row in rows}
    worst_valid = min(valid_by_object, key=lambda name: valid_by_object[name])
    core_seconds = sum(row["core_seconds"] for row in rows)
    return {
        "of_attempted": share(held),
        "of_valid": share(held[valid]),
        "valid_of_attempted": share(held & valid),
        "mean_over_objects": mean(np.array(list(by_object.values()))),
        "worst_object": worst,
        "worst_share": by_object[worst],
        "valid_worst_object": worst_valid,
        "valid_worst_share": valid_by_object[worst_valid],
        "valid_per_core_second": int((held & valid).sum()) / core_seconds if core_seconds > 0.0 else math.nan,
    }


def valid_and_held(row: Row, protocol: str) -> np.ndarray:
    """Which grasps of a cell are labelled valid and hold under a protocol, bool."""
    return (column([row], "valid") > 0.0) & (column([row], f"success_{protocol}") > 0.0)


def _best(values: np.ndarray) -> float:
    """Mean of the ``BEST`` largest finite values, of all where there are fewer; NaN where there is none."""
    values = np.sort(values[np.isfinite(values)])[-BEST:]
    return float(values.mean()) if len(values) else math.nan


def verdicts(rows: Iterable[Row], protocols: Iterable[str]) -> list[str]:
    """Names of the protocols that say whether a grasp holds."""
    names = [find_protocol(protocol).name for protocol in protocols]
    kept = {key for row in rows for key in row.get("grasps", {})}
    return [name for name in names if f"success_{name}" in kept]


def share(held: np.ndarray) -> dict[str, float]:
    """A share of grasps: ``count``, ``of``, ``value`` and the ends ``low`` and ``high`` of its interval."""
    count, trials = int(held.sum()), len(held)
    low, high = wilson(count, trials)
    return {"count": count, "of": trials, "value": count / trials if trials else math.nan, "low": low, "high": high}


def mean(values: np.ndarray) -> dict[str, float]:
    """``value`` and ``half`` width of its interval."""
    value, half = mean_interval(values)
    return {"value": value, "half": half}


def _diversity(rows: Iterable[Row], key: str) -> np.ndarray:
    values = [row["diversity"].get(key) for row in rows]
    return np.array([math.nan if value is None else value for value in values], float)


def groups(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows without ``error`` by hand and recipe, in order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "error" not in row:
            found.setdefault((row["hand"], row["recipe"]), []).append(row)
    return found


def write_report(rows: list[Row], settings: Settings, out: Path) -> str:
    """Write ``results.json``, ``table.md`` and the plots into a folder, and return the table.

    Args:
        rows: What ``bench.run`` returned.
        settings: What was run.
        out: Folder, which exists.
    """
    summaries = {key: summarize(chosen, settings.protocols) for key, chosen in groups(rows).items()}
    document = {
        "settings": {**asdict(settings), "objects": settings.objects and str(settings.objects.name)},
        "environment": environment(),
        "summary": [{"hand": hand, "recipe": recipe, **summary} for (hand, recipe), summary in summaries.items()],
        "cells": rows,
    }
    write_atomically(out / "results.json", json.dumps(finite(document), indent=1) + "\n")
    text = table(rows, summaries, settings)
    write_atomically(out / "table.md", text)
    plot(rows, settings, out)
    return text


def processor(device: str) -> str:
    """What a Warp device is called by its maker; the machine's kind where the system does not tell."""
    import warp as wp

    target = wp.get_device(device)
    if target.is_cuda:
        return target.name
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Versions and machine."""
    import mujoco
    import warp as wp

    from . import __version__

    versions = {"warpgrasp": __version__, "warp": wp.__version__, "mujoco": mujoco.__version__}
    return {**versions, "python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}


def table(rows: list[Row], summaries: dict[tuple[str, str], dict[str, Any]], settings: Settings) -> str:
    """The Markdown document: what was run, one line per hand and recipe, every object, and what failed."""
    names = verdicts(rows, settings.protocols)
    lines = [f"# Scoreboard: {settings.suite}", "", command(settings), "", versions(rows), "", NOTES, ""]
    lines += markdown([_line(key, summary, names) for key, summary in summaries.items()])
    for name in names:
        lines += ["", f"## Held under {name}, by object", "", *markdown(_by_object(rows, name))]
    lines += ["", "## First failed check", "", *markdown(_reasons(rows))]
    errors = [row for row in rows if "error" in row]
    if errors:
        lines += ["", "## Not done", ""]
        lines += [f"- {row['hand']}, {row['recipe']}, {row['object']}: {row['error']}" for row in errors]
    return "\n".join(lines) + "\n"


def command(settings: Settings) -> str:
    """The command that makes this table again."""
    words = ["warpgrasp bench", settings.suite, "--hands", *settings.hands, "--recipes", *settings.recipes]
    words += ["--count", str(settings.count), "--seed", str(settings.seed), "--protocols", *settings.protocols]
    return f"`{' '.join(words + (['--objects FOLDER'] if settings.objects else []))}`"


def versions(rows: Iterable[Row]) -> str:
    """One line on versions, machine and device."""
    known = environment()
    device = ", ".join(sorted({row["device"] for row in rows if "error" not in row})) or DASH
    return (
        f"warpgrasp {known['warpgrasp']}, Warp {known['warp']}, MuJoCo {known['mujoco']}, Python {known['python']}, "
        f"{known['machine']}, {known['cores']} cores, device {device}."
    )


def script_command(places: dict[str, str]) -> str:
    """How the running benchmark script was called, with other names in the ``places`` of paths of this machine."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(places.get(w, w) for w in sys.argv[1:])])


class KeptRows:
    """Rows by their key in a file of JSON lines, from which a later run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: dict[str, Row] = {row["key"]: row for row in map(json.loads, lines)}

    def get(self, key: str, measure: Callable[[], Row]) -> Row:
        """The row of a key, measured and added to the file where it is not there."""
        if key not in self.rows:
            self.rows[key] = {"key": key} | measure()
            write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in self.rows.values()))
        return self.rows[key]


def markdown(rows: list[dict[str, str]]) -> list[str]:
    """Rows of equal keys as a Markdown table; nothing where there are none."""
    if not rows:
        return []
    heading = [list(rows[0]), ["---"] * len(rows[0])]
    return ["| " + " | ".join(cells) + " |" for cells in [*heading, *(list(row.values()) for row in rows)]]


def _line(key: tuple[str, str], summary: dict[str, Any], names: Iterable[str]) -> dict[str, str]:
    line = {
        "hand": key[0],
        "recipe": key[1],
        "objects": str(summary["object_count"]),
        "grasps": str(summary["grasp_count"]),
    }
    for name in names:
        result = summary["success"][name]
        line[f"{name}, of attempted [%]"] = show_share(result["of_attempted"])
        line[f"{name}, of valid [%]"] = show_share(result["of_valid"])
        line[f"{name}, worst object [%]"] = f"{100 * result['worst_share']:.0f} ({result['worst_object']})"
    penetration = show_mean(summary["penetration_mean_m"], 1e3, 2)
    return line | {
        "valid [%]": show_share(summary["valid"]),
        "penetration, mean / 95 % quantile [mm]": f"{penetration} / {show(1e3 * summary['penetration_p95_m'], 2)}",
        "links": show_mean(summary["links_in_contact_2mm"], 1.0, 1),
        "contact area at 5 mm [cm²]": show_mean(summary["contact_area_5mm_m2"], 1e4, 1),
        "epsilon": show_mean(summary[EPSILON], 1.0, 3),
        "diversity, keypoints [cm] / rotation [deg]": (
            f"{show(1e2 * summary['sigma_keypoint_m']['value'], 1)} / {show(summary['sigma_rotation_deg']['value'], 0)}"
        ),
        "core-seconds per grasp": show(summary["core_seconds_per_grasp"], 2),
        "wall seconds per grasp": show(summary["seconds_per_grasp"], 2),
    }


def show(value: float, digits: int) -> str:
    """A number, or a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else DASH


def show_share(value: dict[str, float]) -> str:
    """Per cent with its interval, or a dash."""
    if not value["of"]:
        return DASH
    return f"{100 * value['value']:.0f} ({100 * value['low']:.0f} to {100 * value['high']:.0f})"


def show_mean(value: dict[str, float], factor: float, digits: int) -> str:
    """A mean with its half width where there is one, or a dash."""
    half = show(factor * value["half"], digits)
    return show(factor * value["value"], digits) + (f" ± {half}" if half != DASH else "")


def _by_object(rows: list[Row], protocol: str) -> list[dict[str, str]]:
    """Held of attempted grasps: one line per object, one column per hand and recipe."""
    found = groups(rows)
    held = {
        (key, row["object"]): column([row], f"success_{protocol}") > 0.0
        for key, chosen in found.items()
        for row in chosen
    }
    lines = []
    for name in dict.fromkeys(row["object"] for row in rows):
        line = {"object": name}
        for key in found:
            result = held.get((key, name))
            line[" ".join(key)] = DASH if result is None else f"{int(result.sum())}/{len(result)}"
        lines.append(line)
    return lines


def _reasons(rows: list[Row]) -> list[dict[str, str]]:
    """How many grasps of each hand and recipe failed which geometric check first."""
    found = groups(rows)
    texts = {key: [text for row in chosen for text in row["grasps"]["reason"] if text] for key, chosen in found.items()}
    every = sorted({text for listed in texts.values() for text in listed})
    lines = []
    for key, listed in texts.items():
        counts = {text: str(listed.count(text)) for text in every}
        lines.append({"hand": key[0], "recipe": key[1], **counts})
    return lines if every else []


def plot(rows: list[Row], settings: Settings, out: Path) -> list[Path]:
    """Write ``success.png``, ``penetration.png`` and ``time.png``; those without anything to show are left out."""
    found = groups(rows)
    names = verdicts(rows, settings.protocols)
    if not found:
        return []
    written = [save_figure(out / "penetration.png", (6.4, 4.0), lambda axes: _draw_penetration(axes, found))]
    if names:
        hands, objects = len({hand for hand, _ in found}), len({row["object"] for row in rows})
        size = (max(6.4, 1.2 + 0.12 * len(rows) / hands, 0.4 * objects), 1.5 + 1.7 * hands)
        draw_success = lambda panels: _draw_success(panels, found, names[0])  # noqa: E731 - one argument of two calls
        written.append(save_figure(out / "success.png", size, draw_success, panels=hands))
        written.append(
            save_figure(out / "time.png", (6.4, 4.0), lambda axes: _draw_time(axes, found, settings, names[0]))
        )
    return written


def save_figure(path: Path, size: tuple[float, float], draw: Callable[[Any], None], *, panels: int = 0) -> Path:
    """Draw without a display, and without touching the user's own figures; on one axes or a column of panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(panels, sharex=True, squeeze=False)[:, 0] if panels else figure.subplots())
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


MARKERS = "osD^vPX*"
"""Of the hands, in the order in which they come."""

LINES = ("-", "--", ":", "-.")
"""Likewise."""


def _style(found: Iterable[tuple[str, str]], key: tuple[str, str]) -> tuple[str, int]:
    """Colour of the recipe, the same with every hand, and number of the hand."""
    hands, recipes = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    return f"C{recipes.index(key[1]) % 10}", hands.index(key[0])


def _draw_success(panels: Any, found: dict[tuple[str, str], list[Row]], protocol: str) -> None:
    """Bars, a panel for each hand: share of attempted grasps that hold, by object, with Wilson intervals."""
    objects = list(dict.fromkeys(row["object"] for chosen in found.values() for row in chosen))
    recipes = list(dict.fromkeys(recipe for _, recipe in found))
    width = 0.8 / len(recipes)
    for key, chosen in found.items():
        color, hand = _style(found, key)
        shares = [share(column([row], f"success_{protocol}") > 0.0) for row in chosen]
        shift = (recipes.index(key[1]) - 0.5 * (len(recipes) - 1)) * width
        x = [objects.index(row["object"]) + shift for row in chosen]
        value = np.array([entry["value"] for entry in shares])
        ends = [value - [entry["low"] for entry in shares], [entry["high"] for entry in shares] - value]
        options = {"label": key[1], "color": color, "error_kw": {"lw": 0.6}}
        panels[hand].bar(x, 100 * value, width, yerr=100 * np.abs(ends), **options)
        panels[hand].set(ylabel=f"{key[0]} [%]", ylim=(0, 100))
    panels[-1].set_xticks(range(len(objects)), objects, rotation=60, ha="right", fontsize=7)
    panels[0].set_title(f"held under {protocol}, of attempted", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].figure.legend(handles, labels, fontsize=7, ncols=len(recipes), loc="outside lower center")


def _draw_penetration(axes: Any, found: dict[tuple[str, str], list[Row]]) -> None:
    """Share of grasps up to each largest penetration."""
    for key, chosen in found.items():
        depth = np.sort(column(chosen, "penetration_depth_m"))
        depth = np.maximum(1e3 * depth[np.isfinite(depth)], 1e-3)
        color, hand = _style(found, key)
        style = {"color": color, "ls": LINES[hand % len(LINES)], "label": " ".join(key)}
        axes.step(depth, 100 * np.arange(1, len(depth) + 1) / max(len(depth), 1), where="post", **style)
    axes.set(
        xscale="log", xlabel="largest penetration, none drawn at 1 µm [mm]", ylabel="grasps up to it [%]", ylim=(0, 100)
    )
    axes.legend(fontsize=7)


def _draw_time(axes: Any, found: dict[tuple[str, str], list[Row]], settings: Settings, protocol: str) -> None:
    """What a grasp costs against how often it holds."""
    for key, chosen in found.items():
        summary = summarize(chosen, settings.protocols)
        result = summary["success"][protocol]["of_attempted"]
        ends = [[100 * (result["value"] - result["low"])], [100 * (result["high"] - result["value"])]]
        at = [max(summary["core_seconds_per_grasp"], 1e-3)], [100 * result["value"]]
        color, hand = _style(found, key)
        style = {"color": color, "fmt": MARKERS[hand % len(MARKERS)], "label": " ".join(key)}
        axes.errorbar(*at, yerr=np.abs(ends), **style)
    axes.set(xscale="log", xlabel="core-seconds per grasp", ylabel=f"held under {protocol}, of attempted [%]")
    axes.set_ylim(0, 100)
    axes.legend(fontsize=7)
