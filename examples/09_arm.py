"""Grasps of a mug on a table that an arm can execute: a UR10e carries a Shadow hand.

Run it as ``python examples/09_arm.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from mug import mug

import warpgrasp
from warpgrasp.arm_plan import PHASES
from warpgrasp.arm_preview import preview_arm
from warpgrasp.resting import settle


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Write arm.npz and arm.png to a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    obj = warpgrasp.load_object(mug())
    resting = settle(obj)[0]

    # The world is the table's frame: z up, table top at 0, the mug at its origin. The arm stands 90 cm away.
    arm = warpgrasp.mount_arm("ur10e", "shadow_wrist", base_position=(-0.9, 0.0, 0.0))
    grasps = warpgrasp.synthesize(
        arm.hand,
        obj,
        count=int(count),
        seed=0,
        iterations=int(iterations) if iterations else None,
        table=resting,
        arm=arm,
    )
    grasps.save(out / "arm.npz")

    plan = grasps.arm
    assert plan is not None
    print(f"{plan.valid.sum()} of {len(plan)} grasps have a plan for {', '.join(plan.joint_names)}")
    for reason, times in Counter(plan.reason.tolist()).most_common():
        print(f"{times:4d}  {reason or 'planned'}")
    if not plan.valid.any():
        return
    best = int(np.flatnonzero(plan.valid)[0])
    for phase, theta in zip(PHASES, plan.joint_position[best], strict=True):
        print(f"{phase:>9}: {np.degrees(theta).round(1)} degrees")

    poses = grasps[best : best + 1].phases
    phases = {name: (theta, poses[name]) for name, theta in zip(PHASES, plan.joint_position[best], strict=True)}
    preview_arm(arm.beside(resting.matrix, table=True), obj, phases, out / "arm.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
