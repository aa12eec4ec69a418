"""``warpgrasp export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..formats import NAMES, export, exportable, find, guess
from .arguments import add_grasps, read_grasps
from .output import start_warp

HELP = "write grasps in the format of another project"
DESCRIPTION = (
    "Write grasps, with their object, in the format of another project: joints in its names, order and signs, poses of "
    f"its root frame. Formats: {', '.join(NAMES)}. FORMATS.md shows each of them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Grasps, format and where to."""
    add_grasps(parser)
    add = parser.add_argument
    add("--format", metavar="NAME", help="one of the formats above (default: what the suffix of --out says)")
    add("--out", type=Path, required=True, metavar="PATH", help="file or folder to write, as the format has it")
    add("--valid-only", action="store_true", help="leave out grasps that failed a check")
    add("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp export``."""
    name = options.format if options.format is not None else guess(options.out)
    module = find(name)
    grasps = read_grasps(options.grasps)
    start_warp()
    hand = grasps.hand
    if options.valid_only:
        grasps = grasps[grasps.valid]
        grasps.hand = hand
    export(grasps, options.out, format=name)
    if not options.quiet:
        count = len(exportable(grasps, name))
        print(f"wrote {count} grasps of {grasps.object_name} by {hand.name} to {options.out} ({name})")
        print(f"lost: {module.LOSES}")
