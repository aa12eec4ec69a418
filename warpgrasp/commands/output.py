"""What commands print: tables, documents, progress."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..result import Grasps


class Progress:
    """A bar on stderr that appears after two seconds, and a way out of the work on Ctrl-C.

    Synthesis runs in threads, which Python does not interrupt: they end at their next report.

    Args:
        doing: What takes its time.
        unit: What is counted.
        shown: Whether there is somebody to see it.
    """

    def __init__(self, doing: str, unit: str = "", *, shown: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(desc=doing, unit=unit, delay=2.0, miniters=0, leave=False, disable=not shown)
        if not unit:
            self.bar.bar_format = "{desc}, {elapsed}"
        self.interrupted = False
        self.finished = threading.Event()
        self.ticker = threading.Thread(target=self.tick, daemon=True)

    def tick(self) -> None:
        """Show that time passes, whether or not the work reports."""
        while not self.finished.wait(0.5):
            self.bar.update(0)

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done; stop the thread that calls if asked to."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Progress:
        self.previous = signal.signal(signal.SIGINT, self.interrupt)
        if not self.bar.disable:
            self.ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)
        self.finished.set()
        if not self.bar.disable:
            self.ticker.join()
        self.bar.close()

    def interrupt(self, *_: object) -> None:
        """Handle Ctrl-C."""
        self.interrupted = True
        raise KeyboardInterrupt


def table(rows: Sequence[dict]) -> Iterator[str]:
    """Rows of equal keys as aligned columns under a heading."""
    if not rows:
        return
    cells = [[key.replace("_", " ") for key in rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    for line in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def print_table(rows: Sequence[dict]) -> None:
    """Print rows of equal keys."""
    print("\n".join(table(rows)))


def vector(values) -> str:
    """Three numbers, short."""
    return "(" + ", ".join(f"{value + 0.0:.3g}" for value in values) + ")"


def print_json(document: object) -> None:
    """Print a document; what is not a number becomes null, since JSON has no NaN."""
    print(json.dumps(finite(document), indent=2))


def finite(value):
    """The value with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def watched(options: argparse.Namespace) -> bool:
    """Whether somebody sees a bar on stderr."""
    return not options.quiet and sys.stderr.isatty()


def short(value: float) -> float | str:
    """Three digits of a number for a table, a dash where there is none."""
    if not math.isfinite(value):
        return "-"
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded.is_integer() else rounded


def verdict_report(grasps: Grasps, grasp: int) -> dict[str, Any]:
    """What is known of one grasp, for a JSON document."""
    return {
        "valid": bool(grasps.valid[grasp]),
        "reason": str(grasps.reason[grasp]),
        "metrics": {key: values[grasp].item() for key, values in grasps.metrics.items()},
    }


def median(values) -> float:
    """Median of the finite values, NaN where there is none."""
    import numpy as np

    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def start_warp() -> None:
    """Start Warp without its banner, and without its warning on machines that have no GPU."""
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    with silent_stderr():
        wp.init()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
