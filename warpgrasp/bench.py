"""``warpgrasp bench``: objects x hands x recipes, each judged alike; a run that was killed goes on where it was.

The objects are in ``bench_suites``, tables and plots in ``bench_report``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .baselines import BASELINES, AnnealingOptions
from .bench_suites import Entry, suite
from .descend import ProgressCallback
from .errors import FileFormatError, OptionError, WarpgraspError
from .evaluation import evaluate, threshold_name
from .files import write_atomically
from .geometry import THRESHOLDS
from .hand import Hand
from .hand_file import load_hand
from .mesh import ObjectMesh
from .options import recipe as find_recipe
from .physics.protocols import find_protocol
from .result import Grasps
from .spread import diversity
from .synthesis import synthesize
from .validation import validate

EPSILON = "epsilon_l1_mu05_edges8"
"""Ferrari and Canny's epsilon as ``evaluate`` measures it."""

Q1 = "q1_dexgraspbench_tips_mu03"
"""DexGraspBench's Q1 as ``evaluate`` measures it."""

AREAS = {threshold: f"contact_area_{threshold_name(threshold)}_m2" for threshold in THRESHOLDS}
"""Keys of the contact area by the distance [m] that counts as contact."""

KEPT = (
    "penetration_depth_m",
    "self_penetration_depth_m",
    "links_in_contact_2mm",
    *AREAS.values(),
    "intersection_volume_1mm_m3",
    "wrench_residual_mu02",
    EPSILON,
    Q1,
)
"""Metrics of each grasp that a cell keeps, besides the protocols' own."""

FORMAT = "warpgrasp bench cell, version 2"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What one run of the benchmark does."""

    suite: str

    hands: tuple[str, ...]

    recipes: tuple[str, ...] = ("default", "random-closing", "annealing")
    """Names of recipes and of baselines."""

    count: int = 16
    """Grasps per object, hand and recipe."""

    seed: int = 0

    protocols: tuple[str, ...] = ("fc6",)
    """Physics tests, see :func:`warpgrasp.validate`; those without a verdict only measure."""

    objects: Path | None = None
    """Folder with ``manifest.json``."""

    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("hands", "recipes", "protocols"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise OptionError(f"{name} must name at least one, each once, got {', '.join(values) or 'none'}")
        for name in self.recipes:
            _check_recipe(name)
        for name in self.protocols:
            find_protocol(name)


@dataclass(frozen=True, eq=False)
class Cell:
    """One object, hand and recipe, and where its result is kept."""

    entry: Entry
    obj: ObjectMesh
    hand: Hand
    hand_name: str
    recipe: str
    key: str
    path: Path


CellCallback = Callable[[int, int, dict[str, Any]], None]
"""Called with the cells done, the cells in all and the last one's row."""


def run(
    settings: Settings,
    out: Path,
    *,
    on_cell: CellCallback | None = None,
    on_progress: ProgressCallback | None = None,
) -> list[dict[str, Any]]:
    """Do every cell that is missing or damaged, and return the rows of all.

    Args:
        settings: What to run.
        out: Folder for the results; made where it does not exist. ``out/cells`` holds one file per cell.
        on_cell: Told after each cell, those that were there already included.
        on_progress: Passed to ``synthesize`` and the baselines.

    Returns:
        One row per cell, see docs/bench.md; a cell that could not be done has ``error`` instead of results, is not
        kept, and is tried again in the next run.

    Raises:
        WarpgraspError: A hand, the suite or an option cannot be used.
    """
    folder = Path(out) / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    cells = list(plan(settings, folder))
    warm: set[tuple[str, str]] = set()
    rows = []
    for done, cell in enumerate(cells, start=1):
        row = read_cell(cell.path, cell.key, settings.count)
        if row is None:
            if (cell.hand_name, cell.recipe) not in warm:
                warm_up(cell, settings)
                warm.add((cell.hand_name, cell.recipe))
            row = run_cell(cell, settings, on_progress)
            if "error" not in row:
                write_atomically(cell.path, json.dumps(finite(row)) + "\n")
        rows.append(row)
        if on_cell is not None:
            on_cell(done, len(cells), row)
    return rows


def plan(settings: Settings, folder: Path) -> Iterator[Cell]:
    """All cells, hand by hand."""
    entries = [(entry, entry.load()) for entry in suite(settings.suite, settings.objects)]
    for hand_name in settings.hands:
        hand = load_hand(hand_name)
        for recipe in settings.recipes:
            for entry, obj in entries:
                key = cell_key(settings, entry.name, obj, hand, recipe)
                name = re.sub(r"[^a-z0-9.]+", "-", f"{hand.name} {recipe} {entry.name}".lower())
                yield Cell(entry, obj, hand, hand_name, recipe, key, folder / f"{name}-{key[:12]}.jsonl")


def cell_key(settings: Settings, name: str, obj: ObjectMesh, hand: Hand, recipe: str) -> str:
    """SHA-256 of all that a cell's result depends on, the recipe's and the protocols' own settings included."""
    from . import __version__

    identity = {
        "format": FORMAT,
        "suite": settings.suite,
        "name": name,
        "object": obj.content_hash,
        "hand": hand.hash,
        "recipe": recipe,
        "recipe_settings": recipe_settings(recipe),
        "count": settings.count,
        "seed": settings.seed,
        "device": settings.device,
        "protocols": {protocol: asdict(find_protocol(protocol)) for protocol in settings.protocols},
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def recipe_settings(name: str) -> dict[str, Any]:
    """The numbers behind a recipe or baseline."""
    if name in BASELINES:
        return asdict(AnnealingOptions()) if name == "annealing" else {}
    return asdict(find_recipe(name))


def read_cell(path: Path, key: str, count: int) -> dict[str, Any] | None:
    """The row kept in a file; None where it is missing, damaged or of another run."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        whole = row["format"] == FORMAT and row["key"] == key and {len(v) for v in row["grasps"].values()} == {count}
        numbers = [row[name] for name in ("seconds", "core_seconds", "judge_seconds")]
        return row if whole and all(math.isfinite(number) for number in numbers) and row["diversity"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def warm_up(cell: Cell, settings: Settings) -> None:
    """Compile and load kernels, so that no cell is timed with that."""
    with suppress(Exception):  # the cell itself meets and reports it
        find(cell, count=1, seed=0, device=settings.device, short=True)


def run_cell(cell: Cell, settings: Settings, on_progress: ProgressCallback | None = None) -> dict[str, Any]:
    """Find the grasps of a cell and judge them; an error becomes the row's ``error``."""
    row: dict[str, Any] = {
        "format": FORMAT,
        "key": cell.key,
        "suite": settings.suite,
        "object": cell.entry.name,
        "family": cell.entry.family,
        "hand": cell.hand.name,
        "recipe": cell.recipe,
    }
    try:
        begin, cores = time.perf_counter(), core_seconds()
        grasps = find(cell, count=settings.count, seed=settings.seed, device=settings.device, on_progress=on_progress)
        row |= {"seconds": time.perf_counter() - begin, "core_seconds": core_seconds() - cores}
        begin = time.perf_counter()
        row |= judge(grasps, settings)
        row["judge_seconds"] = time.perf_counter() - begin
    except WarpgraspError as error:
        return row | {"error": str(error)}
    except Exception as error:  # one cell must not end a night's run; the table lists it
        return row | {"error": f"{type(error).__name__}: {error}"}
    return row


def find(
    cell: Cell,
    *,
    count: int,
    seed: int,
    device: str | None,
    short: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Grasps:
    """Grasps of a cell by its recipe or baseline; ``short`` does as few steps as there can be."""
    common = {"count": count, "seed": seed, "device": device, "on_progress": on_progress}
    if cell.recipe in BASELINES:
        options = {"options": AnnealingOptions(steps=2)} if short and cell.recipe == "annealing" else {}
        return BASELINES[cell.recipe](cell.hand, cell.obj, **common, **options)
    return synthesize(cell.hand, cell.obj, recipe=cell.recipe, iterations=4 if short else None, **common)


def judge(grasps: Grasps, settings: Settings) -> dict[str, Any]:
    """What a cell keeps of its grasps: a column per metric, and the spread of those labelled valid."""
    measured = evaluate(grasps, device=settings.device)
    for protocol in settings.protocols:
        measured = validate(measured, protocol)
    columns: dict[str, list[Any]] = {
        "valid": grasps.valid.tolist(),
        "reason": grasps.reason.tolist(),
        **{key: measured.metrics[key].tolist() for key in KEPT if key in measured.metrics},
        **{key: measured.metrics[key].tolist() for key in physics_keys(measured, settings.protocols)},
    }
    return {
        "device": str(grasps.info.get("device", "")),
        "grasps": columns,
        "diversity": diversity(grasps[grasps.valid]),
    }


def physics_keys(grasps: Grasps, protocols: Iterable[str]) -> list[str]:
    """Keys of the verdict, the reason and the displacement under each protocol, as far as it gives them."""
    names = [find_protocol(protocol).name for protocol in protocols]
    wanted = [key for name in names for key in (f"success_{name}", f"{name}_failure", f"{name}_displacement_m")]
    return [key for key in wanted if key in grasps.metrics]


def core_seconds() -> float:
    """What all cores were busy with, for this process and those it has waited for [s]."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def finite(value: Any) -> Any:
    """The value with None for every number that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_folder(out: Path) -> None:
    """Raise before the long work if the results could not be written.

    Raises:
        FileFormatError: ``out`` is a file, or may not be written to.
    """
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise FileFormatError(out, f"{there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise FileFormatError(out, "no permission to write there")


def _check_recipe(name: str) -> None:
    if name not in BASELINES:
        try:
            find_recipe(name)
        except OptionError as error:
            raise OptionError(f"{error}; baselines: {', '.join(BASELINES)}") from error
