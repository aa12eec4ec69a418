"""Can the robot execute it? Ranges, couplings, self-penetration and table, checked in every phase of many grasps.

Run ``python benchmarks/constraints.py``; it writes ``benchmarks/results/constraints.md``. Ranges and couplings are read
from the hand's definition, depths are MuJoCo's: nothing here is measured by the kernels that synthesis runs on.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import warp as wp

import warpgrasp
from warpgrasp.bench_suites import Entry, suite
from warpgrasp.device import choose
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand import Hand
from warpgrasp.initialize import starting_poses
from warpgrasp.model import hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import recipe
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.hand_model import PREFIX, ROOT, add_hand
from warpgrasp.physics.protocols import FC6
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps
from warpgrasp.self_collision import self_penetration
from warpgrasp.surface import grasping_links, object_points, surface_points

LIMIT = 1.0e-6
"""Largest violation that counts as none [rad or m]."""

DEPTH = 5.0e-4
"""Largest depth of a link in another one [m]."""

PAIRS = 15
"""Runs with and without constraints, one after the other, whose times are compared."""

PHASES = ("pregrasp", "grasp", "squeeze", "lift")


def phases(grasps: Grasps) -> dict[str, Pose]:
    """Poses of every phase, by name."""
    return {name: grasps.pose if name == "grasp" else getattr(grasps, name) for name in PHASES}


def violation(hand: Hand, joint_position: np.ndarray) -> np.ndarray:
    """By how much each grasp breaks a range, a mimic, a coupling or a motor's range at most [rad or m], shape (N,)."""
    column = dict(zip(hand.joint_names, joint_position.T, strict=True))

    def weighted(coefficients: dict[str, float]) -> np.ndarray:
        return np.sum([factor * column[name] for name, factor in coefficients.items()], axis=0)

    excess = [joint.lower - column[joint.name] for joint in hand.joints]
    excess += [column[joint.name] - joint.upper for joint in hand.joints]
    excess += [np.abs(column[m.joint] - m.multiplier * column[m.of] - m.offset) for m in hand.mimics]
    excess += [coupling.minimum - weighted(coupling.coefficients) for coupling in hand.couplings]
    excess += [a.lower - weighted(a.joints) for a in hand.actuators if a.lower is not None]
    excess += [weighted(a.joints) - a.upper for a in hand.actuators if a.upper is not None]
    return np.maximum(np.max(excess, axis=0), 0.0)


def table_penetration(hand: Hand, pose: Pose, normal: np.ndarray, offset: float) -> np.ndarray:
    """Depth of the deepest shape of the hand below the plane normal . x = offset, by MuJoCo [m], shape (N,)."""
    spec = mujoco().MjSpec()
    spec.compiler.degree = False
    spec.worldbody.add_geom(
        name="table", type=mujoco().mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], pos=offset * normal, zaxis=normal
    )
    add_hand(spec, hand, FC6)
    model = spec.compile()
    data = mujoco().MjData(model)
    table, root = model.geom("table").id, int(model.joint(ROOT).qposadr[0])
    joints = [int(model.joint(PREFIX + name).qposadr[0]) for name in hand.joint_names]
    depth = np.zeros(len(pose))
    for row in range(len(pose)):
        data.qpos[root : root + 3] = pose.wrist_position[row]
        data.qpos[root + 3 : root + 7] = pose.wrist_quaternion[row]
        data.qpos[joints] = pose.joint_position[row]
        mujoco().mj_kinematics(model, data)
        mujoco().mj_collision(model, data)
        below = [-contact.dist for contact in data.contact if table in (contact.geom1, contact.geom2)]
        depth[row] = max([0.0, *below])
    return depth


def measure(hand: Hand, entry: Entry, options: argparse.Namespace, count: int) -> dict[str, np.ndarray]:
    """Everything of one object's grasps, each of shape (N,)."""
    grasps = warpgrasp.synthesize(
        hand, entry.load(), count=count, seed=options.seed, device=options.device, table=options.table
    )
    found = {"valid": grasps.valid}
    for name, pose in phases(grasps).items():
        found[f"violation {name}"] = violation(hand, pose.joint_position)
        found[f"self {name}"] = self_penetration(hand, pose.joint_position)
        if grasps.table is not None:
            found[f"table {name}"] = table_penetration(hand, pose, grasps.table.normal, grasps.table.offset)
    return found


def cost(hand: Hand, entry: Entry, options: argparse.Namespace) -> float:
    """Time of an iteration that keeps ranges and couplings over one that does not: the median of paired runs."""
    stage = replace(recipe("default").stages[1], iterations=30, final_step=1.0)
    obj, device = entry.load(), choose(options.device)
    mesh = DeviceMesh(obj, device)
    model = hand_model(hand, surface_points(hand, 512, links=grasping_links(hand), device=device), device)
    start = starting_poses(hand, obj, 32, distance=0.04, joint_noise=0.3, rng=np.random.default_rng(options.seed))
    inner = object_points(obj, stage.object_points)
    runs = [Descent(model, mesh, inner, start, replace(stage, keeps_ranges=keeps)) for keeps in (True, False)]
    for run in runs:
        run.capture()
        run.run()
    clock = time.process_time if device == "cpu" else time.perf_counter

    def seconds(run: Descent) -> float:
        run.restart()
        wp.synchronize_device(device)
        begin = clock()
        run.run()
        wp.synchronize_device(device)
        return clock() - begin

    return float(np.median([seconds(runs[0]) / seconds(runs[1]) for _ in range(PAIRS)]))


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def lines_of(hand: str, found: dict[str, np.ndarray], with_table: bool) -> list[str]:
    """A line for every phase."""
    valid, lines = found["valid"], []
    for phase in PHASES:
        broken, own = found[f"violation {phase}"], found[f"self {phase}"]
        cells = [
            hand, phase, len(valid), int(valid.sum()), f"{broken.max():.1e}", int((broken > LIMIT).sum()),
            f"{1e3 * own.max():.3f}", f"{1e3 * own[valid].max(initial=0.0):.3f}", int((own[valid] > DEPTH).sum()),
        ]  # fmt: skip
        if with_table:
            below = found[f"table {phase}"]
            cells += [f"{1e3 * below[valid].max(initial=0.0):.3f}", int((below[valid] > 0.0).sum())]
        lines.append(row(*cells))
    return lines


def main() -> None:
    """Synthesize, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", nargs="+", default=["shadow", "barrett", "allegro"])
    parser.add_argument("--count", type=int, default=2000, help="grasps of each hand, over all objects together")
    parser.add_argument("--suite", default="primitives")
    parser.add_argument("--objects", type=Path, help="folder of the suite, with manifest.json")
    parser.add_argument("--object-count", type=int, help="only so many of its objects")
    parser.add_argument("--table", action="store_true", help="with the object on a table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "constraints.md")
    options = parser.parse_args()

    entries = suite(options.suite, options.objects)[: options.object_count]
    counts = np.diff(np.linspace(0, options.count, len(entries) + 1).astype(int))
    lines, costs, seconds = [], {}, time.perf_counter()
    for name in options.hands:
        hand = warpgrasp.load_hand(name)
        costs[name] = cost(hand, entries[0], options)
        parts = []
        for entry, count in zip(entries, counts, strict=True):
            parts.append(measure(hand, entry, options, max(int(count), 1)))
            print(f"{name} {entry.name}: {int(parts[-1]['valid'].sum())} of {count} valid", flush=True)
        found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        lines += lines_of(name, found, options.table)
    options.out.write_text(report(lines, costs, options, len(entries), time.perf_counter() - seconds))
    print(options.out.read_text())


def report(lines: list[str], costs: dict[str, float], options: argparse.Namespace, objects: int, seconds: float) -> str:
    """The page."""
    head = [
        "hand", "phase", "grasps", "valid", "largest violation [rad or m]", f"grasps above {LIMIT:g}",
        "deepest self-penetration [mm]", "of the valid [mm]", f"valid above {1e3 * DEPTH:g} mm",
    ]  # fmt: skip
    if options.table:
        head += ["deepest in the table, of the valid [mm]", "valid in the table"]
    return "\n".join(
        [
            "# Constraints in every phase",
            "",
            f"`python benchmarks/constraints.py --count {options.count} --suite {options.suite} --seed {options.seed}"
            f"{' --table' if options.table else ''}`, recipe `default`, {objects} objects, device "
            f"{choose(options.device)}; warpgrasp {warpgrasp.__version__}, Warp {wp.__version__}, "
            f"MuJoCo {mujoco().__version__}, {platform.machine()}, {seconds:.0f} s.",
            "",
            "A violation is the most by which a joint leaves its range, a mimic misses what it follows, or a coupling "
            "or a motor's range is broken. Squeeze and lift hold commands, which an object "
            "stops short of. Depths are MuJoCo's, between links that are no neighbours.",
            "",
            row(*head),
            "|" + "---|" * len(head),
            *lines,
            "",
            "What they cost: time of an iteration of the recipe's second stage (32 grasps, 512 points) over that of "
            f"one that lets joints go anywhere, median of {PAIRS} pairs: "
            + ", ".join(f"{name} {100 * (ratio - 1):+.1f} %" for name, ratio in costs.items())
            + ".",
            "",
        ]
    )


if __name__ == "__main__":
    main()
