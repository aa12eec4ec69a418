"""Calibration, cost and agreement of the soft-body check. Seconds are processor time.

Run ``python benchmarks/tactile.py``; ``benchmarks/recheck.py`` has what it says beside the rigid physics test.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import warpgrasp
from warpgrasp.physics.object_model import ObjectShape
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.mujoco_flex import MujocoFlex
from warpgrasp.tactile.options import Load, Solver
from warpgrasp.tactile.pads import dome_pad
from warpgrasp.tactile.quasistatic import Quasistatic

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from tactile_scenes import BALL, DOME, ball, domes, gripper, held, turned  # pyright: ignore

FIRM = dataclasses.replace(SILICONE, poisson_ratio=0.4)


def main() -> None:
    """Measure and write one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tactile.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages = [cost(Path(folder)), friction(Path(folder)), agreement(Path(folder))]
    options.out.write_text(
        f"# Soft fingertips: cost, calibration, agreement\n\n{platform.processor() or platform.machine()}, warpgrasp "
        f"{warpgrasp.__version__}. Written by `python benchmarks/tactile.py`. Times are processor time on one core, "
        "after everything is compiled.\n\n" + "\n\n".join("\n".join(page) for page in pages) + "\n"
    )


def cost(folder: Path) -> list[str]:
    """Seconds of a grasp by batch: three fingers, 96 contacts on each pad, closing and six directions."""
    hand, obj = gripper(folder, 3), ball()
    backend = Quasistatic(hand, obj, pads=domes(hand), material=FIRM, load=Load(force=4.0))
    lines = ["## Cost", "", "| grasps at once | s per grasp |", "| --- | --- |"]
    rng = np.random.default_rng(0)
    for count in (1, 4, 16, 32, 64):
        quaternion = np.array([1.0, 0, 0, 0]) + 0.05 * rng.normal(size=(count, 4))
        grasps = turned(held(hand, obj, count=count), quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True))
        backend.run(grasps)
        start = time.process_time()
        backend.run(grasps)
        lines.append(f"| {count} | {(time.process_time() - start) / count:.3f} |")
    return lines


def friction(folder: Path) -> list[str]:
    """The least friction coefficient with which two fingers of 4 N hold 0.1 kg, by bisection."""
    hand, obj = gripper(folder, 2), ball()
    low, high = 0.1, 0.15
    for _ in range(7):
        middle = 0.5 * (low + high)
        material = dataclasses.replace(FIRM, friction=middle)
        backend = Quasistatic(hand, obj, pads=domes(hand), material=material, load=Load(force=4.0))
        holds = bool(backend.run(held(hand, obj)).passed[0])
        low, high = (low, middle) if holds else (middle, high)
    limit = 0.1 * 9.81 / 8.0
    return ["## Least friction", "", f"Found {high:.4f}, m g / 2 F = {limit:.4f}: {100 * (high / limit - 1):+.1f} %."]


def agreement(folder: Path) -> list[str]:
    """Travel of the fingers and sag of the ball against MuJoCo's flexes."""
    hand, obj = gripper(folder, 2), ball()
    lines = [
        "## Against MuJoCo",
        "",
        "Two domes, 4 N each, 0.1 kg, Poisson's ratio 0.4. MuJoCo's elements are linear, which are too stiff; the "
        "quasistatic backend uses quadratic ones.",
        "",
        "| E [Pa] | | travel [mm] | sag across the axis [mm] | s per grasp |",
        "| --- | --- | --- | --- | --- |",
    ]
    for modulus in (1.0e5, 3.0e5):
        material = dataclasses.replace(FIRM, youngs_modulus=modulus)
        options = {"pads": domes(hand, dome_pad(DOME, (6, 8, 2))), "material": material, "load": Load(force=4.0)}
        for name, backend in (
            ("MuJoCo", MujocoFlex(hand, obj, shape=ObjectShape("sphere", np.array([BALL])), **options)),
            ("linear elements", Quasistatic(hand, obj, solver=Solver(degree=1, gravity_steps=4), **options)),
            ("quadratic elements", Quasistatic(hand, obj, **options)),
        ):
            start = time.process_time()
            result = backend.run(held(hand, obj))
            seconds = time.process_time() - start
            travel, sag = 1e3 * result.closure.mean(), 1e3 * result.object_displacement[0, 2:].mean()
            lines.append(f"| {modulus:g} | {name} | {travel:.3f} | {sag:.3f} | {seconds:.2f} |")
    return lines


if __name__ == "__main__":
    main()
