"""How exact and how fast is the q-score? Against Clarabel, on degenerate contacts, and what its gradient is good for.

Run ``python benchmarks/qscore.py``; it takes about three minutes on a free core and writes
``benchmarks/results/qscore.md``. Needs clarabel and casadi. Contacts are random points on a sphere, an ellipsoid and a
box, half of the grasps with any forces and half opposed pairs whose forces and normals are disturbed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp

import warpgrasp
from warpgrasp.distance import DeviceMesh
from warpgrasp.finish import check_model
from warpgrasp.qscore import QScore, qscore, qscore_label
from warpgrasp.qscore_ipopt import qscore_literal
from warpgrasp.raise_q import raise_q, rigid_contacts, value_gradient

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

reference: Any = importlib.import_module("reference_metrics")
mug: Any = importlib.import_module("mug").mug
clarabel: Any = importlib.import_module("clarabel")

CONVENTION: dict[str, Any] = {"friction_coefficient": 0.5, "torque_length": 0.05, "center": np.zeros(3)}

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grasps", type=int, default=500, help="grasps that Clarabel checks")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "qscore.md")
    options = parser.parse_args()
    os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[:1]))
    qscore(*random_grasps(0, np.array([4])), **CONVENTION)
    sections: list[Callable[[], list[str]]] = [
        heading,
        lambda: exactness(options.grasps),
        degenerate,
        gradients,
        cost,
        literal,
        raising,
    ]
    lines = []
    for section in sections:
        part = section()
        print("\n".join(part), flush=True)
        lines += part
    options.out.write_text("\n".join(lines).rstrip() + "\n")


def random_grasps(seed: int, sizes: np.ndarray) -> Arrays:
    """Grasps with the given numbers of contacts, NaN behind them: positions, normals, forces."""
    rng = np.random.default_rng(seed)
    position, normal = np.full((2, len(sizes), int(sizes.max()), 3), np.nan)
    force = np.full(position.shape[:2], np.nan)
    for grasp, size in enumerate(sizes):
        if grasp % 2:
            parts = reference.random_pinch(rng, size, rng.uniform(0.02, 0.4))
        else:
            parts = (*reference.random_contacts(rng, size), rng.uniform(0.2, 1.0, size))
        for array, part in zip((position, normal, force), parts, strict=True):
            array[grasp, :size] = part
    return position, normal, force


def heading() -> list[str]:
    """Where and with what this was measured."""
    casadi: Any = importlib.import_module("casadi")
    return [
        "# q-score",
        "",
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.config.version}, NumPy {np.__version__}, Clarabel "
        f"{clarabel.__version__}, casadi {casadi.__version__}, Python {platform.python_version()}, one CPU core shared "
        "with other work. mu = 0.5, torques over 50 mm, rho = 20. Made by `python benchmarks/qscore.py`.",
        "",
    ]


def relative_gap(score: QScore) -> np.ndarray:
    """Difference of the bounds, relative to the larger of V and one, shape (N,)."""
    return (score.upper - score.lower) / np.maximum(score.upper, 1.0)


def exactness(count: int) -> list[str]:
    """Values and labels against Clarabel."""
    sizes = np.geomspace(3, 200, count).astype(int)
    arrays = random_grasps(1, sizes)
    lines = [
        "## Against Clarabel",
        "",
        "| weights | grasps | contacts | worst difference of q | of V, relative to max(V, 1) | labels that differ "
        "| successes | widest gap of the bounds, relative to max(V, 1) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for weights in ("force", "uniform"):
        score = qscore(*arrays, **CONVENTION, weights=weights)
        pairs = [
            reference.friction_program(*(array[g, :size] for array in arrays), **CONVENTION, weights=weights)
            for g, size in enumerate(sizes)
        ]
        value, residual = np.array(pairs).T
        success, _ = qscore_label(score, 3)
        expected = (np.exp(-value) > 0.5) & (residual <= 0.02)
        off = np.abs(score.value - value) / np.maximum(value, 1.0)
        lines.append(
            f"| {weights} | {count} | 3 to 200 | {np.abs(score.q - np.exp(-value)).max():.1e} | {off.max():.1e} "
            f"| {(success != expected).sum()} | {success.sum()} | {relative_gap(score).max():.1e} |"
        )
    return [*lines, ""]


def degenerate() -> list[str]:
    """Bounds where contacts, forces or conventions are odd."""
    lines = [
        "## Odd input",
        "",
        "Each row: 9 sizes from 1 to 200 contacts, 100 grasps each, both weights.",
        "",
        "| case | grasps | not finite | widest gap | second widest |",
        "|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(2)
    for name, change in odd_cases(rng).items():
        gaps, wrong = [], 0
        for size in (1, 2, 3, 4, 6, 10, 20, 60, 200):
            for weights in ("force", "uniform"):
                *arrays, options = change(*random_grasps(size, np.full(100, size)))
                score = qscore(*arrays, **CONVENTION | options, weights=weights)
                gaps.append(relative_gap(score))
                finite = [
                    np.isfinite(a.reshape(100, -1)).all(axis=1) for a in (score.q, *vars(score.gradient).values())
                ]
                wrong += 100 - int(np.all(finite, axis=0).sum())
        both = np.sort(np.concatenate(gaps))
        lines.append(f"| {name} | {len(both)} | {wrong} | {both[-1]:.1e} | {both[-2]:.1e} |")
    return [*lines, ""]


def odd_cases(rng: np.random.Generator) -> dict[str, Callable[..., tuple]]:
    """What is done to plain grasps, by name."""

    def flat(p: np.ndarray, n: np.ndarray, f: np.ndarray) -> tuple:
        n = n * [1.0, 1.0, 0.0] + [1e-9, 0.0, 0.0]
        return p * [1.0, 1.0, 0.0], n / np.linalg.norm(n, axis=2, keepdims=True), f, {}

    return {
        "none": lambda p, n, f: (p, n, f, {}),
        "coplanar": flat,
        "all in one point": lambda p, n, f: (0.0 * p, n, f, {}),
        "duplicates of one": lambda p, n, f: (p[:, [0] * p.shape[1]], n[:, [0] * p.shape[1]], f, {}),
        "forces over nine decades": lambda p, n, f: (p, n, f * 10.0 ** rng.uniform(-9, 0, f.shape), {}),
        "two thirds idle": lambda p, n, f: (p, n, f * (rng.uniform(size=f.shape) < 1 / 3), {}),
        "mu = 1e-6": lambda p, n, f: (p, n, f, {"friction_coefficient": 1e-6}),
        "mu = 1000": lambda p, n, f: (p, n, f, {"friction_coefficient": 1e3}),
        "torque length 1 km": lambda p, n, f: (p, n, f, {"torque_length": 1e3}),
        "torque length 1 um": lambda p, n, f: (p, n, f, {"torque_length": 1e-6}),
        "wrench 1e12 times the forces": lambda p, n, f: (p, n, f, {"wrench": np.full(6, 1e12)}),
        "rho = 10000": lambda p, n, f: (p, n, f, {"slack_weight": 1e4}),
    }


def gradients() -> list[str]:
    """Slopes along random directions of all inputs, against differences of Clarabel's values."""
    rng, step, errors = np.random.default_rng(3), 1e-5, []
    for size in np.geomspace(3, 60, 40).astype(int):
        position, normal, force = reference.random_pinch(rng, size, rng.uniform(0.05, 0.3))
        ways = [rng.normal(size=a.shape) for a in (position, normal, force)]
        gradient = qscore(position[None], normal[None], force[None], **CONVENTION).gradient
        slopes = [gradient.contact_position[0], gradient.contact_normal[0], gradient.normal_force[0]]
        for which, (way, slope) in enumerate(zip(ways, slopes, strict=True)):
            scale = 0.05 if which == 0 else 1.0
            values = []
            for sign in (1.0, -1.0):
                arrays = [position, normal, force]
                arrays[which] = arrays[which] + sign * step * scale * way
                arrays[1] = arrays[1] / np.linalg.norm(arrays[1], axis=1, keepdims=True)
                values.append(reference.friction_program(*arrays, **CONVENTION)[0])
            expected = (values[0] - values[1]) / (2.0 * step)
            errors.append(abs((slope * way).sum() * scale - expected) / max(abs(expected), 1.0))
    return [
        "## Gradient",
        "",
        f"{len(errors)} slopes along random directions of positions, normals or forces of all contacts, 3 to 60 of "
        f"them, against differences of Clarabel's V: worst difference {max(errors):.1e}, median "
        f"{np.median(errors):.1e}, relative to the larger of the slope and one.",
        "",
    ]


def cost() -> list[str]:
    """CPU time of a whole call: checks, bounds and gradients."""
    lines = [
        "## Cost",
        "",
        "CPU milliseconds per grasp of a whole call with checks, bounds and gradients, least of five; the method alone "
        "in brackets. Clarabel's is that of its solve alone, at a tolerance of 1e-10.",
        "",
        "| contacts | 64 grasps | 512 grasps | 4096 grasps | Clarabel |",
        "|---|---|---|---|---|",
    ]
    for size in (3, 10, 50, 200):
        row = []
        for count in (64, 512, 4096):
            arrays = random_grasps(4, np.full(count, size))
            whole, alone = np.min([timed(arrays) for _ in range(5 if count < 4096 else 2)], axis=0) / count
            row.append(f"{whole:.3f} ({alone:.3f})")
        lines.append(f"| {size} | {' | '.join(row)} | {clarabel_time(size):.2f} |")
    return [*lines, ""]


def timed(arrays: Arrays) -> tuple[float, float]:
    """CPU milliseconds of one call, and of its launches."""
    spent, launch = [0.0], wp.launch

    def timing(*arguments: Any, **options: Any) -> None:
        begin = time.process_time()
        launch(*arguments, **options)
        spent[0] += time.process_time() - begin

    wp.launch = timing
    begin = time.process_time()
    qscore(*arrays, **CONVENTION)
    whole = time.process_time() - begin
    wp.launch = launch
    return 1e3 * whole, 1e3 * spent[0]


def clarabel_time(size: int) -> float:
    """CPU milliseconds of Clarabel's solve, the median of 20 grasps."""
    times, solver = [], clarabel.DefaultSolver

    class Timed:
        def __init__(self, *arguments: Any) -> None:
            self.solver = solver(*arguments)

        def solve(self) -> Any:
            begin = time.process_time()
            solution = self.solver.solve()
            times.append(1e3 * (time.process_time() - begin))
            return solution

    clarabel.DefaultSolver = Timed
    for position, normal, force in zip(*random_grasps(5, np.full(20, size)), strict=True):
        reference.friction_program(position, normal, force, **CONVENTION)
    clarabel.DefaultSolver = solver
    return float(np.median(times))


def literal() -> list[str]:
    """The slides' form by IPOPT, with forces that may change more and more."""
    lines = [
        "## The literal form, by IPOPT",
        "",
        "Median V of 20 disturbed pinches, of those that balance, and CPU milliseconds of one.",
        "",
        "| contacts | forces | V | balance | ms |",
        "|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(6)
    for size in (2, 4, 10, 40):
        grasps = [reference.random_pinch(rng, size, 0.15) for _ in range(20)]
        arrays = [np.array(part) for part in zip(*grasps, strict=True)]
        for name, factor in (("given", (1.0, 1.0)), ("within 20 %", (0.8, 1.2)), ("free", (0.0, np.inf))):
            begin = time.process_time()
            score = qscore_literal(*arrays, **CONVENTION, force_factor=factor)
            spent = 1e3 * (time.process_time() - begin) / 20
            value = f"{np.median(score.value[score.solved]):.3f}" if score.solved.any() else "-"
            lines.append(f"| {size} | {name} | {value} | {score.solved.sum()} of 20 | {spent:.0f} |")
    return [*lines, ""]


def raising() -> list[str]:
    """What a few steps up q do to synthesized grasps of a mug."""
    lines = [
        "## Raising q",
        "",
        "12 steps on 16 grasps of the mug, rigid contacts with 30 N of normal force that balance, mu = 0.5. The last "
        "column is with forces found anew by the squeeze, which balances forces and does not ask for little friction.",
        "",
        "| hand | mean q before | after | raised by more than 0.01 | contacts moved, mean | seconds per grasp "
        "| q with new forces, before | after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for hand in ("allegro", "shadow"):
        grasps = warpgrasp.synthesize(hand, mug(), count=16, seed=0, device="cpu")
        model, mesh = check_model(grasps.hand, "cpu"), DeviceMesh(grasps.object, "cpu")
        contacts = rigid_contacts(model, mesh, grasps.pose)
        options: dict[str, Any] = {"friction_coefficient": 0.5, "device": "cpu"}
        begin = time.process_time()
        raised = raise_q(grasps.hand, grasps.object, grasps.pose, contacts, **options)
        spent = (time.process_time() - begin) / len(grasps)
        moved = 1e3 * np.nanmean(np.linalg.norm(raised.contacts.position - contacts.position, axis=2))
        anew = [
            np.exp(-value_gradient(grasps.hand, grasps.object, pose, rigid_contacts(model, mesh, pose), **options)[0])
            for pose in (grasps.pose, raised.pose)
        ]
        gain = raised.after.q - raised.before.q
        lines.append(
            f"| {hand} | {raised.before.q.mean():.3f} | {raised.after.q.mean():.3f} | {(gain > 0.01).sum()} of 16 "
            f"| {moved:.1f} mm | {spent:.2f} | {anew[0].mean():.3f} | {anew[1].mean():.3f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
