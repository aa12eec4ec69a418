"""How many valid grasps hold when the object is not where it should be, more slippery, or heavier.

Run ``python benchmarks/robustness.py``; it prints as it goes and writes ``benchmarks/results/robustness.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from math import radians
from pathlib import Path

import numpy as np

import warpgrasp
from warpgrasp.bench_report import environment, markdown, processor, script_command, share, show_share
from warpgrasp.bench_suites import suite
from warpgrasp.physics.protocols import FC6, Protocol
from warpgrasp.result import Grasps
from warpgrasp.robustness import perturbed, variants

POSITION, ANGLE = 0.002, radians(3.0)
"""How far the object is from where it should be [m, rad]."""

LESS_FRICTION, MORE_MASS = 0.4, 2.0

SLIPPERY, HEAVY, BOTH = variants(friction=LESS_FRICTION, mass=MORE_MASS).values()

CONDITIONS: dict[str, tuple[float, float, Protocol]] = {
    "as it is": (0.0, 0.0, FC6),
    "2 mm off": (POSITION, 0.0, FC6),
    "3 degrees off": (0.0, ANGLE, FC6),
    "2 mm and 3 degrees off": (POSITION, ANGLE, FC6),
    f"friction {LESS_FRICTION:g} instead of {FC6.friction[0]:g}": (0.0, 0.0, SLIPPERY),
    f"{MORE_MASS:g} times the mass": (0.0, 0.0, HEAVY),
    "all of it": (POSITION, ANGLE, BOTH),
}
"""Shift [m], turn [rad] and protocol by what the table calls them."""


def main() -> None:
    """Synthesize, judge under every condition, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", default="primitives", help="primitives, or with --objects: ycb, egad, normalized")
    add("--objects", type=Path, help="folder with manifest.json and meshes")
    add("--names", nargs="+", default=["box 4x6x12 cm", "can r3 h10 cm"], help="which objects; `all` for all")
    add("--hands", nargs="+", default=["shadow", "allegro"])
    add("--recipes", nargs="+", default=["default"])
    add("--count", type=int, default=16, help="grasps attempted per object, hand and recipe")
    add("--copies", type=int, default=4, help="random motions of each grasp")
    add("--seed", type=int, default=0)
    add("--device", help="Warp device (default: the first GPU, else the CPU)")
    add("--out", type=Path, default=Path(__file__).parent / "results" / "robustness.md")
    options = parser.parse_args()
    lines = list(run(options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = script_command({str(options.objects): "FOLDER", str(options.out): "OUT"})
    options.out.write_text("\n".join([*heading(options, command), *markdown(lines), ""]))
    print(f"wrote {options.out}")


def run(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """A line of the table for each hand, recipe and condition."""
    chosen = [e for e in suite(options.suite, options.objects) if "all" in options.names or e.name in options.names]
    for hand in options.hands:
        for recipe in options.recipes:
            common = {"recipe": recipe, "count": options.count, "seed": options.seed, "device": options.device}
            found = [warpgrasp.synthesize(hand, entry.load(), valid_only=True, **common) for entry in chosen]
            for name in CONDITIONS:
                held = np.concatenate([hold(grasps, name, options.copies, options.seed) for grasps in found])
                line = {"hand": hand, "recipe": recipe, "condition": name, "trials": str(len(held))}
                yield line | {"hold, of valid [%]": show_share(share(held))}
                print(hand, recipe, name, show_share(share(held)), flush=True)


def hold(grasps: Grasps, condition: str, copies: int, seed: int) -> np.ndarray:
    """Which copies hold; a condition that moves nothing needs one of each."""
    position, angle, protocol = CONDITIONS[condition]
    if len(grasps) == 0:
        return np.zeros(0, bool)
    copies = copies if position or angle else 1
    moved = perturbed(grasps, position=position, angle=angle, copies=copies, seed=seed)
    return warpgrasp.validate(moved, protocol).metrics[f"success_{protocol.name}"] > 0


def heading(options: argparse.Namespace, command: str) -> list[str]:
    """What was run, where and how."""
    known = environment()
    names = "all objects" if "all" in options.names else ", ".join(options.names)
    where = options.device or "the first GPU, else the CPU"
    return [
        "# Grasps that miss the object by a little",
        "",
        f"`{command}`",
        "",
        f"Suite `{options.suite}`: {names}; {options.count} grasps attempted per object, hand and recipe, seed "
        f"{options.seed}; those labelled valid are judged. Synthesis on {where}, physics on {processor('cpu')}, "
        f"{known['cores']} cores. warpgrasp {known['warpgrasp']}, Warp {known['warp']}, MuJoCo {known['mujoco']}, "
        f"Python {known['python']}.",
        "",
        f"Each grasp that is moved is moved {options.copies} times: the whole of it, pregrasp, grasp and squeeze, by a "
        "turn about a random axis through the centre of mass and a shift in a random direction, of exactly the size "
        "that is given. The object stands still, and nothing tells the hand. The test is `fc6`; a pull is an "
        "acceleration, so twice the mass is pulled twice as hard. Intervals are 95 % (Wilson) and take trials for "
        "independent, which copies of one grasp are not quite.",
        "",
    ]


if __name__ == "__main__":
    main()
