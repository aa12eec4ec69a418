"""How much of a grasp's fate shows at its start: how well the loss after a few iterations tells which starts end valid.

Run ``python benchmarks/starts.py --objects FOLDER/ycb/003_cracker_box.obj ...``; it writes ``results/starts.md``. Every
start is followed to the end, without the choices that the recipe makes between its stages.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from warpgrasp import load_hand, load_object
from warpgrasp.bench_report import area_under_curve, environment, markdown, script_command, show
from warpgrasp.descend import least_of_each, run_stage, stage_skin
from warpgrasp.device import choose
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand import Hand
from warpgrasp.initialize import back_off, starting_poses
from warpgrasp.label import Limits, measure, pose_failures
from warpgrasp.mesh import ObjectMesh
from warpgrasp.model import hand_model
from warpgrasp.options import RECIPES, Stage
from warpgrasp.pose import Pose
from warpgrasp.surface import object_points

POINTS = 512
"""Points on the hand that a stage's density multiplies, as in ``synthesize``."""

ITERATIONS = (1, 5, 20, 40)
"""Of the stages ``glance`` (1) and ``explore``, after which the loss is looked at."""

CHOICES = (1, 4, 16, 24)
"""Numbers of starts of which the one with the least loss is taken."""

DRAWS = 2000
"""Such choices at random."""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="+", type=Path, required=True, help="mesh files, in metres")
    parser.add_argument("--hands", nargs="+", default=["shadow", "allegro"])
    parser.add_argument("--count", type=int, default=128, help="starts per hand and object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="Warp device (default: the first GPU, else the CPU)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "starts.md")
    options = parser.parse_args()
    device = choose(options.device)
    lines = []
    for name in options.hands:
        for path in options.objects:
            for line in measure_starts(load_hand(name), load_object(path), options.count, options.seed, device):
                lines.append({"hand": name, "object": path.stem} | line)
                print(lines[-1], flush=True)
    command = script_command({str(path): f"FOLDER/{path.name}" for path in options.objects})
    options.out.write_text(report(lines, command, options))
    print(f"wrote {options.out}")


def measure_starts(hand: Hand, obj: ObjectMesh, count: int, seed: int, device: str) -> list[dict[str, str]]:
    """A line for each number of iterations: AUC, and the share valid of the best of several."""
    recipe, rng = RECIPES["default"], np.random.default_rng(seed)
    mesh = DeviceMesh(obj, device)
    noise, distance = recipe.joint_noise, recipe.start_distance
    start = back_off(hand, mesh, starting_poses(hand, obj, count, distance=distance, joint_noise=noise, rng=rng))
    glance, explore, *later = recipe.stages
    losses = {1: descend(hand, obj, mesh, start, replace(glance, iterations=1))[1]}
    for iterations in ITERATIONS[1:]:
        losses[iterations] = descend(hand, obj, mesh, start, replace(explore, iterations=iterations))[1]
    pose = descend(hand, obj, mesh, start, explore)[0]
    for stage in later:
        pose = descend(hand, obj, mesh, pose, stage)[0]
    valid = is_valid(hand, obj, mesh, pose)
    lines = []
    for iterations, loss in losses.items():
        chosen = {f"best of {n}": show(share_of_best(loss, valid, n), 2) for n in CHOICES}
        lines.append({"iterations": str(iterations), "AUC": show(area_under_curve(-loss, valid), 2)} | chosen)
    return lines


def descend(hand: Hand, obj: ObjectMesh, mesh: DeviceMesh, pose: Pose, stage: Stage) -> tuple[Pose, np.ndarray]:
    """One stage from every pose, and the loss at its last iteration."""
    model = hand_model(hand, stage_skin(hand, stage, POINTS, mesh.device), mesh.device)
    return run_stage(model, mesh, object_points(obj, stage.object_points), pose, stage)


def is_valid(hand: Hand, obj: ObjectMesh, mesh: DeviceMesh, pose: Pose) -> np.ndarray:
    """Whether the pose itself is a valid grasp; nothing is said about its pregrasp."""
    failures = pose_failures(hand, measure(hand, obj, pose, mesh), Limits())
    return ~np.any(list(failures.values()), axis=0)


def share_of_best(loss: np.ndarray, valid: np.ndarray, count: int) -> float:
    """Share of valid ends among starts that had the least loss of ``count`` drawn at random."""
    drawn = np.random.default_rng(0).integers(len(loss), size=(count, DRAWS))
    best = least_of_each(loss[drawn].ravel(), DRAWS)
    return float(valid[drawn.ravel()[best]].mean())


def report(lines: list[dict[str, str]], command: str, options: argparse.Namespace) -> str:
    """The page."""
    return "\n".join(
        [
            "# What shows at the start",
            "",
            f"`{command}`",
            "",
            f"{options.count} starts per hand and object, seed {options.seed}, each followed through all stages of",
            "`default`. *AUC*: the chance that the loss after so many iterations is less for a start that ends valid",
            "than for one that does not. *Best of n*: share of valid ends, of the start with the least loss of n drawn",
            "at random.",
            ", ".join(f"{name} {value}" for name, value in environment().items()) + f", on {choose(options.device)}.",
            "",
            *markdown(lines),
            "",
        ]
    )


if __name__ == "__main__":
    main()
