"""A hand on an arm above a table: how many grasps the arm can execute, with and without the reach term of the loss.

Run ``python benchmarks/arms.py --objects FOLDER``; it writes ``benchmarks/results/arms.md``. Objects stand in their
most probable resting poses. Forward kinematics of every arm solution is MuJoCo's and pytorch-kinematics', not ours.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_kinematics
import torch
import warp as wp

import warpgrasp
from warpgrasp import rotation
from warpgrasp.bench_report import wilson
from warpgrasp.bench_suites import suite
from warpgrasp.errors import WarpgraspError
from warpgrasp.mesh import ObjectMesh
from warpgrasp.physics.engine import mujoco
from warpgrasp.reach import MountedArm
from warpgrasp.resting import RestingPose, settle
from warpgrasp.result import Grasps

PHASES = {"pregrasp": 0, "grasp": 1, "lift": 2}
"""Row of ``ArmPlan.joint_position`` by phase."""


@dataclass
class Outcome:
    """Of all runs with or without the term."""

    attempted: int = 0
    valid: int = 0
    lifted: int = 0
    position_error: list[float] = field(default_factory=list)
    reasons: Counter = field(default_factory=Counter)
    refused: int = 0

    @property
    def share(self) -> float:
        """Valid of attempted."""
        return self.valid / max(self.attempted, 1)


def run(obj: ObjectMesh, resting: RestingPose, arm: MountedArm, count: int, seed: int, outcome: Outcome) -> None:
    """Synthesize, test the valid ones in ``lift`` and check their arm joints."""
    try:
        grasps = warpgrasp.synthesize(arm.hand, obj, count=count, seed=seed, table=resting, arm=arm)
    except WarpgraspError as error:
        outcome.refused += 1
        outcome.reasons[str(error)] += count
        outcome.attempted += count
        return
    outcome.attempted += count
    outcome.valid += int(grasps.valid.sum())
    outcome.reasons.update(str(reason) for reason in grasps.reason if reason)
    kept = grasps[grasps.valid]
    if len(kept):
        outcome.position_error += [*mujoco_error(arm, kept), *chain_error(arm, kept)]
        outcome.lifted += int(warpgrasp.validate(kept, protocol="lift").metrics["success_lift"].sum())


def wanted(arm: MountedArm, grasps: Grasps, phase: str) -> np.ndarray:
    """Where the hand's base should be in the arm's base frame, from the stored grasps alone, shape (N, 4, 4)."""
    pose = grasps.phases[phase]
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    assert grasps.table is not None
    base = rotation.matrix(arm.base_position, arm.base_quaternion)
    return np.linalg.inv(base) @ grasps.table.matrix @ wrist


def mujoco_error(arm: MountedArm, grasps: Grasps) -> list[float]:
    """Distance of the hand's base from where it should be by MuJoCo, in every phase [m]."""
    spec = mujoco().MjSpec.from_file(str(arm.arm.path))
    spec.compiler.fusestatic = False
    model = spec.compile()
    data = mujoco().MjData(model)
    mount = arm.mount.matrix
    errors = []
    flange = model.body(arm.arm.flange).id
    for phase, row in PHASES.items():
        for target, theta in zip(wanted(arm, grasps, phase), plan_of(grasps)[:, row], strict=True):
            for name, angle in zip(arm.arm.joint_names, theta, strict=True):
                data.qpos[model.joint(name).qposadr[0]] = angle
            mujoco().mj_kinematics(model, data)
            body = np.eye(4)
            body[:3, :3], body[:3, 3] = data.xmat[flange].reshape(3, 3), data.xpos[flange]
            errors.append(float(np.linalg.norm((body @ mount - target)[:3, 3])))
    return errors


def chain_error(arm: MountedArm, grasps: Grasps) -> list[float]:
    """The same by pytorch-kinematics."""
    chain = pytorch_kinematics.build_serial_chain_from_urdf(arm.arm.path.read_bytes(), arm.arm.flange)
    chain = chain.to(dtype=torch.float64)
    errors = []
    for phase, row in PHASES.items():
        flange: Any = chain.forward_kinematics(torch.tensor(plan_of(grasps)[:, row]))
        there = flange.get_matrix().numpy() @ arm.mount.matrix
        errors += np.linalg.norm((there - wanted(arm, grasps, phase))[:, :3, 3], axis=1).tolist()
    return errors


def plan_of(grasps: Grasps) -> np.ndarray:
    """Arm joints of grasps that have a plan."""
    assert grasps.arm is not None
    return grasps.arm.joint_position


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--hand", default="shadow_wrist")
    add("--arm", default="ur10e")
    add("--distances", type=float, nargs="+", default=[0.9, 1.2, 1.4], help="of the base from the object [m]")
    add("--suite", default="ycb")
    add("--objects", type=Path, help="folder of the suite, with manifest.json")
    add("--object-count", type=int, default=10)
    add("--poses", type=int, default=3, help="resting poses of each object")
    add("--count", type=int, default=16, help="grasps of each")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    hand = warpgrasp.load_hand(options.hand)
    entries = suite(options.suite, options.objects)[: options.object_count]
    scenes = [(obj, pose) for entry in entries for obj in [entry.load()] for pose in settle(obj)[: options.poses]]
    begin = time.perf_counter()
    rows = []
    for distance in options.distances:
        arm = warpgrasp.mount_arm(options.arm, hand, base_position=(-distance, 0.0, 0.0))
        both = {"with": (arm, Outcome()), "without": (replace(arm, weight=0.0), Outcome())}
        for obj, pose in scenes:
            for there, outcome in both.values():
                run(obj, pose, there, options.count, options.seed, outcome)
        rows += [(distance, name, outcome) for name, (_, outcome) in both.items()]
        print(*[row_text(*row) for row in rows[-2:]], sep="\n", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    seconds = time.perf_counter() - begin
    path = options.out / "arms.md"
    path.write_text("\n".join(report(options, scenes, rows, seconds)) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def row_text(distance: float, name: str, outcome: Outcome) -> str:
    """A row of the table."""
    low, high = wilson(outcome.valid, outcome.attempted)
    common = ", ".join(f"{count} {reason}" for reason, count in outcome.reasons.most_common(3))
    error = f"{1e3 * max(outcome.position_error):.1e}" if outcome.position_error else "-"
    lifted = f"{outcome.lifted / max(outcome.valid, 1):.0%}"
    return (
        f"| {distance:g} | {name} | {outcome.attempted} | {outcome.share:.0%} ({low:.0%} to {high:.0%}) | "
        f"{lifted} | {error} | {common} |"
    )


def report(
    options: argparse.Namespace, scenes: list, rows: list[tuple[float, str, Outcome]], seconds: float
) -> list[str]:
    """The Markdown page."""
    command = f"python benchmarks/arms.py --suite {options.suite} --count {options.count} --seed {options.seed}"
    lines = [
        f"# {options.hand} on {options.arm}, above a table",
        "",
        f"`{command}`, recipe `default`, {options.object_count} objects in {len(scenes)} resting poses; "
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.__version__}, MuJoCo {mujoco().__version__}, "
        f"{platform.machine()}, {seconds:.0f} s.",
        "",
        "*Valid* also asks for arm joints in every phase and on the ways between them, clear of the table. Error: of "
        "the hand's base by the forward kinematics of MuJoCo and of pytorch-kinematics, the worst of all phases of all "
        "valid grasps. Lifted: of the valid ones, in the physics test `lift`.",
        "",
        "| base to object [m] | reach term | attempted | valid (95 %) | lifted | worst error [mm] | failures |",
        "|---|---|---|---|---|---|---|",
        *[row_text(*row) for row in rows],
        "",
    ]
    for distance in options.distances:
        share = {name: outcome.share for d, name, outcome in rows if d == distance}
        ratio = share["with"] / share["without"] if share["without"] else np.inf
        lines.append(f"At {distance:g} m the term makes {ratio:.2f} times as many grasps valid.")
    return lines


if __name__ == "__main__":
    main()
