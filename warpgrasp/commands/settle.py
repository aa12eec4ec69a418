"""``warpgrasp settle``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import check_output, natural_number, positive_integer, positive_number
from .output import print_json, print_table, short, start_warp

if TYPE_CHECKING:
    from ..resting import RestingPose

HELP = "how an object comes to rest on a table"
DESCRIPTION = "Let a mesh fall on a table many times, and list the poses that it comes to rest in."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Mesh and options."""
    add = parser.add_argument
    add("mesh", metavar="MESH", help="mesh of the object, in metres unless --scale says otherwise")
    add("--scale", type=positive_number, default=1.0, help="factor that makes the mesh metres: 0.001 for millimetres")
    add("--drops", type=positive_integer, default=512, help="how often it falls (default: %(default)s)")
    add("--seed", type=natural_number, default=0, help="equal seeds give equal poses (default: %(default)s)")
    add("--preview", type=Path, metavar="FILE.png", help="file for a picture of the poses")
    add("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> None:
    """``warpgrasp settle``."""
    check_output(options.preview, ".png")
    from ..mesh import load_object
    from ..resting import settle

    obj = load_object(options.mesh, scale=options.scale)
    poses = settle(obj, drops=options.drops, seed=options.seed)
    if options.preview:
        start_warp()
        from ..preview import preview_resting

        preview_resting(obj, poses, options.preview)
    if options.json:
        print_json({"object": obj.name, "drops": options.drops, "poses": [pose_report(pose) for pose in poses]})
        return
    print(f"{obj.name} rests on a table in {len(poses)} ways, of {options.drops} drops\n")
    print_table([pose_row(number, pose) for number, pose in enumerate(poses)])
    if options.preview:
        print(f"\nwrote {options.preview}")


def pose_report(pose: RestingPose) -> dict:
    """One pose in the JSON document."""
    return {
        "probability": pose.probability,
        "position": pose.position.tolist(),
        "quaternion_wxyz": pose.quaternion.tolist(),
        "table_normal": pose.normal.tolist(),
    }


def pose_row(number: int, pose: RestingPose) -> dict:
    """One pose in the table: height of the object's origin, and where up is in its frame."""
    up = dict(zip(("up_x", "up_y", "up_z"), (short(float(value) + 0.0) for value in pose.normal.round(3)), strict=True))
    return {
        "pose": number,
        "percent": short(100.0 * pose.probability),
        **up,
        "origin_mm": short(1e3 * pose.position[2]),
    }
