"""How long the physics test takes, how often grasps hold, and whether the labels depend on the time step.

Run ``python benchmarks/physics.py FOLDER``; the folder holds the meshes of ``OBJECTS``. One process, one core. Every
grasp is also tested with phases of this benchmark's own (``near``: a pregrasp without wrist motion, 15 % of the way
to the open hand, and 2 grasp - pregrasp), so that a loss can be told apart: grasp, or the way to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import warpgrasp
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.object_model import object_shape
from warpgrasp.physics.protocols import FC6
from warpgrasp.physics.workers import judge
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps
from warpgrasp.validation import metrics, prepare

OBJECTS = {"061_foam_brick": 1.0, "054_softball": 0.8, "011_banana": 1.0, "005_tomato_soup_can": 1.0}
"""File stem and scale."""

HALF_STEP = dataclasses.replace(FC6, name="fc6_half_step", time_step=0.5 * FC6.time_step)

HEADER = (
    "| hand | object | shape | phases | valid hold | invalid hold | s per grasp | half step changes "
    "| lost while closing |"
)


def main() -> None:
    """Synthesize, judge, write one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the meshes")
    parser.add_argument("--hands", nargs="+", default=["allegro", "shadow"])
    parser.add_argument("--count", type=int, default=24, help="grasps per hand and object")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/physics.md"))
    options = parser.parse_args()
    rows = list(run(options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        f"# fc6: share of grasps that hold, and time\n\n{platform.processor() or platform.machine()}, one core, "
        f"MuJoCo {mujoco().__version__}, warpgrasp {warpgrasp.__version__}, {options.count} grasps per row. "
        "Seconds are processor time. Half step changes: labels that differ at a time step of 2 ms.\n\n"
        + "\n".join([HEADER, "|" + " --- |" * HEADER.count(" | ") + " --- |", *rows])
        + "\n"
    )


def run(options: argparse.Namespace) -> Iterable[str]:
    """One row per hand, object and phases."""
    for hand in options.hands:
        for stem, scale in OBJECTS.items():
            grasps = warpgrasp.synthesize(
                hand, options.folder / f"{stem}.obj", scale=scale, count=options.count, device=options.device
            )
            for phases, case in (("synthesized", grasps), ("near", near(grasps))):
                line = row(hand, stem, phases, case)
                print(line, flush=True)
                yield line


def row(hand: str, name: str, phases: str, grasps: Grasps) -> str:
    """One line of the table."""
    shape = object_shape(grasps.object)
    job = prepare(grasps, FC6, shape)
    begin = time.process_time()
    seen = metrics(FC6, judge(job, workers=1))
    seconds = (time.process_time() - begin) / len(grasps)
    half = metrics(HALF_STEP, judge(prepare(grasps, HALF_STEP, shape)))
    success = seen["success_fc6"]
    changed = (success != half[f"success_{HALF_STEP.name}"]).mean()
    lost = np.char.endswith(seen["fc6_failure"], "while the hand closed").mean()
    return (
        f"| {hand} | {name} | {len(shape.pieces) or shape.kind} | {phases} | {share(success[grasps.valid])} | "
        f"{share(success[~grasps.valid])} | {seconds:.2f} | {100 * changed:.0f} % | {100 * lost:.0f} % |"
    )


def share(success: np.ndarray) -> str:
    """Held, of how many."""
    return f"{int(success.sum())} of {len(success)}"


def near(grasps: Grasps, opening: float = 0.15) -> Grasps:
    """The same grasps with a pregrasp beside the grasp."""
    joints = (1.0 - opening) * grasps.joint_position + opening * grasps.hand.open_position
    press = grasps.hand.clamp(2.0 * grasps.joint_position - joints)
    wrist = (grasps.wrist_position, grasps.wrist_quaternion)
    changed = dataclasses.replace(grasps, pregrasp=Pose(*wrist, joints), squeeze=Pose(*wrist, press))
    changed.hand, changed.object = grasps.hand, grasps.object
    return changed


if __name__ == "__main__":
    main()
