"""Push a mug along each half axis, and let hands descend the speed at which it leaves.

Run it as ``python examples/07_simulator.py [FOLDER] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mug import mug

import warpgrasp
from warpgrasp.descend import run_stage
from warpgrasp.distance import DeviceMesh
from warpgrasp.initialize import starting_poses
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import Dynamics, Stage
from warpgrasp.pose import Pose
from warpgrasp.surface import grasping_links, object_points, surface_points

PUSHES = ("none", "+x", "-x", "+y", "-y", "+z", "-z")


def main(folder: str = "out", iterations: str = "400") -> None:
    """Write simulator.png to a folder."""
    hand, obj = warpgrasp.load_hand("allegro"), warpgrasp.load_object(mug())
    start = starting_poses(hand, obj, 8, distance=0.06, joint_noise=0.1, rng=np.random.default_rng(0))
    model = hand_model(hand, surface_points(hand, 512, links=grasping_links(hand), device="cpu"), "cpu")
    mesh, inner = DeviceMesh(obj, "cpu"), object_points(obj, 1024)
    pushes = Dynamics(speed=0.1, friction=0.5, solver="gauss-seidel")
    stage = Stage(iterations=int(iterations), attraction_weight=0.0, stability_weight=1.0, dynamics=pushes)

    def speeds(pose: Pose) -> np.ndarray:
        """What is left after 10 ms in each simulation, turning included [mm/s], shape (grasp, simulation)."""
        longer = Descent(model, mesh, inner, pose, replace(stage, dynamics=replace(pushes, steps=10)))
        longer.find_gradient(search=True)
        return 1e3 * len(PUSHES) * longer.loss_parts()[-1].numpy()  # the loss of the simulations is their mean

    before, after = speeds(start), speeds(run_stage(model, mesh, inner, start, stage)[0])
    best = after.mean(axis=1).argmin()
    for push, first, last in zip(PUSHES, before[best], after[best], strict=True):
        print(f"pushed {push:>4}: leaves at {first:5.1f} mm/s before, {last:5.1f} mm/s after")
    print(f"this is the best of 8 hands; the median is {np.median(after):.0f} mm/s")

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="push", ylabel="speed after 10 ms [mm/s]", xticks=range(7), xticklabels=PUSHES)
    for side, label, speed in ((-0.2, "before", before[best]), (0.2, "after", after[best])):
        axes.bar(np.arange(7) + side, speed, 0.4, label=label)
    axes.legend()
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "simulator.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
