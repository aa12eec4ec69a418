"""Grasps of an object on a table: how it comes to rest, a hand that stays above the table, and a lift.

Run it as ``python examples/08_table.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from mug import mug

import warpgrasp
from warpgrasp.finish import check_model
from warpgrasp.preview import preview, preview_resting
from warpgrasp.resting import settle
from warpgrasp.table import Table


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Write resting.png and table.png to a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    obj = warpgrasp.load_object(mug())

    # 512 drops in MuJoCo; a pose is the object's frame in the table's, z up, z = 0 on top.
    poses = settle(obj)
    for number, pose in enumerate(poses):
        print(f"pose {number}: {100.0 * pose.probability:.0f} %, {pose.position} m, {pose.quaternion} (w x y z)")
    preview_resting(obj, poses, out / "resting.png")

    # The same search without a table and with one. Without, most hands reach through where it would be.
    table = Table(poses[0])
    model = check_model(warpgrasp.load_hand("allegro"), "cpu")
    for name, resting in (("without", False), ("with", poses[0])):
        grasps = warpgrasp.synthesize("allegro", obj, count=int(count), seed=0, iterations=steps, table=resting)
        height = table.clearance(model, grasps.pose)
        print(f"{name} table: {(height >= 0.0).sum()} of {len(grasps)} hands are above it, {grasps.valid.sum()} valid")
    preview(grasps, out / "table.png")

    # Off that table by 10 cm, held, shaken.
    judged = warpgrasp.validate(grasps, "lift")
    for failure, times in Counter(judged.metrics["lift_failure"].tolist()).most_common():
        print(f"{times:4d}  {failure or 'lifted'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
