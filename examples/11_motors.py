"""What to send to the robot: the motors of a Shadow hand in every phase of a grasp of a mug.

Run it as ``python examples/11_motors.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mug import mug

import warpgrasp
from warpgrasp.options import recipe


def main(folder: str = "out", count: str = "4", iterations: str = "") -> None:
    """Write motors.png to a folder: where the motors stand at the pregrasp, the grasp and the squeeze."""
    # Starts are drawn by degrees of freedom: truncated normal distributions within what the real robot's joints can do.
    by_joints = replace(recipe("default"), start="joints", joint_noise=0.2)
    hand = warpgrasp.load_hand("shadow", ranges="robot")
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize(hand, mug(), count=int(count), seed=0, recipe=by_joints, iterations=steps)
    print(f"{hand.joint_count} joints, {len(hand.actuator_names)} motors: {' '.join(hand.actuator_names)}")

    broken = 0.0
    figure = Figure(figsize=(9.0, 3.5), layout="constrained")
    axes = figure.subplots()
    for offset, (phase, pose) in zip((-0.25, 0.0, 0.25), grasps.phases.items(), strict=False):
        bent = dict(zip(hand.joint_names, pose.joint_position.T, strict=True))
        broken = max(broken, *(float((bent[f"{finger}J1"] - bent[f"{finger}J2"]).max()) for finger in ("FF", "MF")))
        motors = np.degrees(hand.actuator_position(pose.joint_position)[0])
        axes.bar(np.arange(len(motors)) + offset, motors, width=0.25, label=phase)
    print(f"J1 exceeds J2 by at most {max(broken, 0.0):g} rad in any phase; squeezed, the first grasp's motors go to")
    print(np.round(hand.actuator_position(grasps.squeeze.joint_position)[0], 3).tolist())
    axes.set_xticks(np.arange(len(hand.actuator_names)), hand.actuator_names, rotation=60)
    axes.set_ylabel("motor position [°]")
    axes.legend()
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "motors.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
