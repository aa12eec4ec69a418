"""``warpgrasp import``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import FileFormatError
from ..formats import NAMES, find, guess, read
from .arguments import check_output, positive_number
from .output import start_warp

HELP = "read grasps of another project"
DESCRIPTION = (
    "Read grasps from a file of another project and save them as warpgrasp has them, to be evaluated, validated and "
    f"viewed. Nothing in the file is executed. Formats: {', '.join(NAMES)}."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and what it may not say itself."""
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="file, or folder of files, of another project")
    add("--format", metavar="NAME", help="one of the formats above (default: what the suffix of PATH says)")
    add("--hand", metavar="HAND", help="bundled hand or path of a .urdf or .xml file, where PATH does not say it")
    add("--mesh", type=Path, metavar="MESH", help="the object in metres, where it does not lie beside PATH")
    add("--name", metavar="OBJECT", help="the object to read, where there are several")
    add("--scale", type=positive_number, help="scale of the object, where there are grasps at several")
    add("--out", type=Path, required=True, metavar="FILE.npz", help="file for the grasps")
    add("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp import``."""
    check_output(options.out, ".npz")
    name = options.format if options.format is not None else guess(options.path)
    find(name)
    start_warp()
    grasps = read(
        options.path, format=name, hand=options.hand, mesh=options.mesh, name=options.name, scale=options.scale
    )
    if not len(grasps.object_faces):
        raise FileFormatError(options.path, "the mesh of its object is not beside it; pass --mesh")
    grasps.save(options.out)
    if not options.quiet:
        print(
            f"read {len(grasps)} grasps of {grasps.object_name} by {grasps.hand.name}, {int(grasps.valid.sum())} valid"
        )
        same = grasps.info.get("phases_equal_to_the_grasp")
        if same:
            print(f"the file has no {' and no '.join(same)}: taken to be the grasp itself")
        print(f"wrote {options.out}")
