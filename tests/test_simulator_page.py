"""The table of the simulator's page names kernels and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")


def defined(folder: str) -> set[str]:
    """Files and functions of a folder."""
    files = list((ROOT / folder).glob("*.py"))
    functions = (re.findall(r"^def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in files)
    return {path.name for path in files}.union(*functions)


def missing(names: list[str], known: set[str]) -> list[str]:
    """Names that nothing has; one that ends in dots stands for all that begin so."""
    return [n for n in names if not any(k == n or (n.endswith("...") and k.startswith(n[:-3])) for k in known)]


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(test_[\w.]+)`", PAGE)
    assert len(named) > 30
    assert missing(named, defined("tests")) == []


def test_every_kernel_that_is_named_exists():
    rows = [line.split(" | ")[2] for line in PAGE.split("## Two gradients")[0].splitlines() if line.startswith("| ")]
    named = [
        name.removeprefix("optimize.").removeprefix("warpgrasp/")
        for row in rows
        for name in re.findall(r"`([^`]+)`", row)
    ]
    assert len(named) > 20
    assert missing(named, defined("kernels") | defined("warpgrasp")) == []
