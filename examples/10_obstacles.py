"""A mug in clutter: a book beside it, and a board below it as a depth camera sees it.

Run it as ``python examples/10_obstacles.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import trimesh
from mug import mug

import warpgrasp
from warpgrasp.model import hand_model
from warpgrasp.obstacles import Obstacles
from warpgrasp.preview import preview
from warpgrasp.surface import surface_points


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Find grasps with and without the clutter, and draw both in it."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    hand, obj = warpgrasp.load_hand("allegro"), warpgrasp.load_object(mug(), name="mug")

    # A mesh at a pose in the mug's frame; and points 8 mm apart, each of which stands for a ball of 5 mm.
    pose = np.eye(4)
    pose[:3, 3] = [-0.06, 0.0, 0.02]
    book = trimesh.creation.box(extents=[0.03, 0.15, 0.12])
    x, y = np.mgrid[-0.12:0.12:0.008, -0.12:0.12:0.008]
    board = np.stack([x, y, np.full_like(x, obj.bounds[0, 2] - 0.006)], axis=-1).reshape(-1, 3)
    obstacles = Obstacles([(book, pose)], board, radius=0.005)
    obstacles.check(obj)  # nothing stands in the mug itself

    model = hand_model(hand, surface_points(hand, 64), "cpu")
    for name, around in (("alone", ()), ("clutter", obstacles)):
        grasps = warpgrasp.synthesize(hand, obj, count=int(count), seed=0, iterations=steps, obstacles=around)
        clear = obstacles.clearance(model, grasps.pose) > 0.0
        print(f"{name}: {grasps.valid.sum()} of {len(grasps)} valid, {(grasps.valid & clear).sum()} of them clear")
        preview(grasps, out / f"{name}.png", count=4, obstacles=obstacles)


if __name__ == "__main__":
    main(*sys.argv[1:])
