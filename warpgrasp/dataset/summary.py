"""``summary.html``: what a dataset has come to, with plots and pictures, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WarpgraspError
from ..files import write_atomically
from .store import Part, Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..result import Grasps

SAMPLED_PARTS = 60
"""Parts that the distributions of metrics are drawn from."""

SAMPLED_OBJECTS = 60
"""Most objects in a plot."""

METRICS = {
    "penetration_depth_m": (1e3, "penetration [mm]"),
    "links_in_contact_2mm": (1.0, "links within 2 mm"),
    "wrench_residual_mu02": (1.0, "wrench residual"),
}
"""Metrics that are drawn: factor and label."""

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Grasps</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }}
td:first-child, th:first-child {{ text-align: left }}
img {{ max-width: 100% }}
.gallery {{ display: flex; flex-wrap: wrap; gap: .8rem }}
figure {{ margin: 0; width: 16rem }} figcaption {{ font-size: .85rem; color: #555 }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def write_summary(store: Store, *, gallery: int = 12) -> None:
    """Write ``summary.html`` from the records, with ``gallery`` pictures of grasps."""
    from .verifying import stats

    counts = stats(store.folder)
    if not counts["hands"]:
        return
    rows = sum(hand["rows"] for hand in counts["hands"].values())
    parts = spread(list(store.parts()), SAMPLED_PARTS)
    body = [
        table(counts),
        *(f"<h2>{title}</h2>{picture(figure)}" for title, figure in plots(store, counts, parts)),
        failures(store),
        "<h2>Grasps</h2><div class=gallery>",
        *pictures(store, spread(parts, gallery)),
        "</div>",
    ]
    title = f"{rows} grasps of {len(counts['objects'])} objects"
    write_atomically(store.folder / "summary.html", PAGE.format(title=title, body="\n".join(body)))


def spread(parts: list[Part], count: int) -> list[Part]:
    """Some of the parts, spread evenly over all."""
    places = np.linspace(0, len(parts) - 1, min(count, len(parts))).round().astype(int)
    return [parts[place] for place in dict.fromkeys(places.tolist())]


def table(counts: dict[str, Any]) -> str:
    """Counts by hand."""
    head = ("hand", "shards", "grasps", "valid", "share", "bytes each", "seconds each", "most frequent failures")
    lines = [f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"]
    for name, hand in counts["hands"].items():
        each = max(hand["rows"], 1)
        reasons = ", ".join(f"{reason} {count}" for reason, count in islice(hand["reasons"].items(), 3))
        cells = (
            name,
            hand["shards"],
            hand["rows"],
            hand["valid"],
            f"{100.0 * hand['valid'] / each:.1f} %",
            f"{hand['bytes'] / each:.0f}",
            f"{hand['seconds'] / each:.3g}",
            reasons,
        )
        lines.append(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def failures(store: Store) -> str:
    """Shards that could not be made."""
    from .store import read_json

    paths = sorted((store.folder / "failures").glob("*.json"))
    if not paths:
        return ""
    items = []
    for path in paths[:50]:
        try:
            row = read_json(path)
        except WarpgraspError as error:
            row = {"error": str(error)}
        text = f"{row.get('hand', '')} {row.get('object', path.stem)}: {row.get('error', '')}"
        items.append(f"<li>{html.escape(text)}</li>")
    return f"<h2>{len(paths)} shards could not be made</h2><ul>{''.join(items)}</ul>"


def plots(store: Store, counts: dict[str, Any], parts: list[Part]) -> Iterator[tuple[str, Figure]]:
    """Title and figure of each plot."""
    from matplotlib.figure import Figure

    share = sorted(
        ((entry["valid"] / max(entry["rows"], 1), name) for name, entry in counts["objects"].items()), reverse=True
    )
    share = share[:: max(1, -(-len(share) // SAMPLED_OBJECTS))]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.add_subplot(ylabel="valid [%]", ylim=(0, 100))
    axes.bar(range(len(share)), [100.0 * value for value, _ in share], color=COLORS[0])
    axes.set_xticks(range(len(share)), [name[-24:] for _, name in share], rotation=90, fontsize=7)
    yield "Valid grasps by object", figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    panels = figure.subplots(1, len(METRICS), squeeze=False)[0]
    for place, (hand, columns) in enumerate(sampled_metrics(store, parts).items()):
        for axes, (key, (factor, label)) in zip(panels, METRICS.items(), strict=True):
            values = factor * columns.get(key, np.zeros(0))
            values = values[np.isfinite(values)]
            if len(values):
                low, high = np.quantile(values, (0.0, 0.98))
                axes.hist(values, bins=40, range=(low, max(high, low + 1e-9)), density=True, histtype="step",
                          color=COLORS[place % len(COLORS)], label=hand)  # fmt: skip
            axes.set(xlabel=label, yticks=[])
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(frameon=False, fontsize=8)
    yield "Valid grasps, by hand", figure


def sampled_metrics(store: Store, parts: Iterable[Part]) -> dict[str, dict[str, np.ndarray]]:
    """Metrics of the valid grasps of some parts, by hand."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for part in parts:
        for grasps in store.read(part, mesh=False):
            columns = found.setdefault(part.hand, {})
            for key in METRICS.keys() & grasps.metrics.keys():
                columns.setdefault(key, []).append(grasps.metrics[key][grasps.valid].astype(float))
    return {hand: {key: np.concatenate(values) for key, values in columns.items()} for hand, columns in found.items()}


def pictures(store: Store, parts: Iterable[Part]) -> Iterator[str]:
    """The best grasp of each part, drawn; one whose hand is gone is left out."""
    for part in parts:
        grasps = next((grasps for grasps in store.read(part) if len(grasps)), None)
        try:
            if grasps is not None:
                text = f"{part.hand}, {grasps.object_name}: {grasps.reason[0] or 'valid'}"
                yield f"<figure>{image(drawn(grasps))}<figcaption>{html.escape(text)}</figcaption></figure>"
        except WarpgraspError as error:
            yield f"<p>{html.escape(f'{part.name} cannot be drawn: {error}')}</p>"


def drawn(grasps: Grasps) -> bytes:
    """A picture of the best grasp."""
    from ..preview import preview

    with tempfile.TemporaryDirectory(prefix="warpgrasp-") as folder:
        path = Path(folder) / "grasp.png"
        preview(grasps, path, count=1, size=300)
        return path.read_bytes()


def picture(figure: Figure) -> str:
    """A figure as part of the page."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return image(sink.getvalue())


def image(content: bytes) -> str:
    """A PNG as part of the page."""
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
