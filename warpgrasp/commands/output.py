"""What commands print: tables, documents, progress."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Progress:
    """A bar on stderr that appears after two seconds, and a way out of the work on Ctrl-C.

    Synthesis runs in threads, which Python does not interrupt: they end at their next report.
    """

    def __init__(self, *, shown: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(desc="optimizing", unit="step", delay=2.0, leave=False, disable=not shown)
        self.interrupted = False

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are done; stop the thread that calls if asked to."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Progress:
        self.previous = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)
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
