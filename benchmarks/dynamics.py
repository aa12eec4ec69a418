"""Fused adjoints of the contact dynamics against ``wp.Tape``: how far apart they are, and how much faster they are.

Run ``python benchmarks/dynamics.py FOLDER`` with meshes, e.g. of YCB; it writes ``benchmarks/results/dynamics.md``.
Hand points are those of Allegro grasps after a few and after many iterations of the ``attraction`` recipe.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh
import warp as wp

import warpgrasp
from warpgrasp import rotation
from warpgrasp.descend import descend
from warpgrasp.distance import (
    DeviceMesh,
    evaluate_signed_distance,
    evaluate_signed_distance_adjoint,
    find_closest_faces,
)
from warpgrasp.dynamics import Body, allocate, find_stability
from warpgrasp.exact_dynamics import ExactDynamics
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import starting_poses
from warpgrasp.kernels.dynamics import RADIUS_COLUMN
from warpgrasp.mesh import load_object
from warpgrasp.options import Dynamics, recipe
from warpgrasp.surface import grasping_links, surface_points

REACH = 0.3
"""Of the search for the closest face [m], as in a run."""

VANISHING = 1e-6
"""Speed at which the object moves by a nanometre [m/s]."""

CASES = ((60, 0.0), (400, 0.0), (400, 0.003))
"""Iterations after which the hand is looked at, and dilation of the object [m]: near, touching, and dilated."""

SIZES = ((8, 200), (32, 400))
"""Grasps and points of the timings."""


class Fused:
    """Loss and gradient by the hand-written adjoints, as an iteration of a run finds them."""

    def __init__(self, mesh: DeviceMesh, options: Dynamics, position: np.ndarray, radius: float) -> None:
        self.mesh, self.options, self.body = mesh, options, Body.of(mesh.object)
        schedule = np.full((1, RADIUS_COLUMN + 1), radius, np.float32)
        self.schedule = wp.array(schedule, dtype=float, device=mesh.device)
        self.iteration = wp.zeros(1, dtype=int, device=mesh.device)
        self.points = wp.array(position.astype(np.float32), dtype=wp.vec3, device=mesh.device)
        shape = self.points.shape
        self.distance, self.face = (wp.zeros(shape, dtype=kind, device=mesh.device) for kind in (float, int))
        self.outward, self.normal, self.adjoint = (wp.zeros_like(self.points) for _ in range(3))
        self.arrays = allocate(shape[0], shape[1], options, mesh.device)

    def search(self) -> None:
        """Find the closest faces."""
        find_closest_faces(self.mesh, self.points, REACH, self.face, self.outward)

    def evaluate(self) -> None:
        """Everything but the search."""
        faces = (self.mesh, self.points, self.face, self.outward)
        evaluate_signed_distance(*faces, distance_out=self.distance, gradient_out=self.normal)
        conditions = (self.schedule, self.iteration, self.points, self.distance, self.normal)
        find_stability(self.body, self.options, *conditions, self.arrays)
        evaluate_signed_distance_adjoint(
            *faces,
            distance_adjoint=self.arrays.distance_adjoint,
            gradient_adjoint=self.arrays.gradient_adjoint,
            point_adjoint_out=self.adjoint,
        )

    def gradient(self) -> np.ndarray:
        """With respect to the points, shape (grasp, point, 3)."""
        self.search()
        self.evaluate()
        return self.adjoint.numpy() + self.arrays.arm_adjoint.numpy()

    def tape(self) -> ExactDynamics:
        """The same problem for ``wp.Tape``."""
        grasps, points = self.points.shape
        return ExactDynamics(self.mesh, self.options, grasps, points, max_distance=REACH)

    def exact_gradient(self) -> np.ndarray:
        """By ``wp.Tape``, with a search at every predicted pose."""
        tape = self.tape()
        tape.find_stability(self.schedule, self.iteration, self.points)
        return tape.point_gradient.numpy()


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grasps", type=int, default=32)
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dynamics.md"))
    options = parser.parse_args()

    objects = [
        load_object(trimesh.creation.icosphere(subdivisions=4, radius=0.04), name="sphere"),
        load_object(trimesh.creation.box((0.06, 0.08, 0.1)), name="box"),
        *(load_object(path) for path in sorted(options.folder.glob("*.obj"))),
    ]
    differences, times = [], []
    for obj in objects:
        mesh = DeviceMesh(obj, "cpu")
        iterations = {iterations for iterations, _ in CASES}
        position = {count: hand_points(mesh, options.grasps, options.points, count) for count in iterations}
        differences.append(difference_row(mesh, [(position[count], radius) for count, radius in CASES]))
        times += [time_row(mesh, position[CASES[-1][0]], size, options.repeats) for size in SIZES]
        print(differences[-1], times[-1], sep="\n", flush=True)
    text = "\n".join([*heading(options), *difference_table(differences), *time_table(times)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")


def hand_points(mesh: DeviceMesh, grasps: int, points: int, iterations: int) -> np.ndarray:
    """Points on Allegro hands in the object frame [m], shape (grasp, point, 3)."""
    obj = mesh.object
    hand, chosen = load_hand("allegro"), recipe("attraction").shortened(iterations)
    rng = np.random.default_rng(0)
    start = starting_poses(hand, obj, grasps, distance=0.06, joint_noise=0.1, rng=rng)
    pose, _ = descend(hand, obj, mesh, start, chosen, points, None)
    skin = surface_points(hand, points, links=grasping_links(hand), device="cpu")
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    link = (wrist[:, None] @ hand.link_transforms(pose.joint_position))[:, skin.link]
    return np.einsum("gpij,pj->gpi", link[..., :3, :3], skin.position) + link[..., :3, 3]


def difference_row(mesh: DeviceMesh, cases: list[tuple[np.ndarray, float]]) -> str:
    """Points that touch, and the median over the grasps of |fused - tape| / |tape| for both speeds; of each case."""
    touching: list[str] = []
    error: list[str] = []
    for speed in (VANISHING, Dynamics().speed):
        for position, radius in cases:
            case = Fused(mesh, Dynamics(speed=speed), position, radius)
            gradient, expected = case.gradient(), case.exact_gradient()
            difference = np.linalg.norm(gradient - expected, axis=(1, 2))
            error.append(f"{np.median(difference / np.linalg.norm(expected, axis=(1, 2))):.1e}")
            touching.append(f"{(case.distance.numpy() < radius).sum(axis=1).mean():.1f}")
    return row(mesh.object.name, len(mesh.object.faces), *touching[: len(cases)], *error)


def row(*cells: object) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def time_row(mesh: DeviceMesh, position: np.ndarray, size: tuple[int, int], repeats: int) -> str:
    """CPU time of the parts, least of a few runs."""
    grasps, points = size
    case = Fused(mesh, Dynamics(), position[:grasps, :points], radius=0.0)
    tape = case.tape()
    search = least_seconds(case.search, repeats)
    rest = least_seconds(case.evaluate, repeats)
    taped = least_seconds(lambda: tape.find_stability(case.schedule, case.iteration, case.points), repeats)
    every, fifth = search + rest, search / 5.0 + rest
    replayed = taped + Dynamics().simulations * search
    milliseconds = [f"{1e3 * seconds:.2f}" for seconds in (search, rest, taped)]
    ratios = [f"{ratio:.1f}" for ratio in (taped / fifth, taped / every, replayed / every)]
    return row(mesh.object.name, grasps, points, *milliseconds, *ratios)


def least_seconds(run: Callable[[], None], repeats: int) -> float:
    """CPU time of this process for one run, the least of several."""
    run()
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def heading(options: argparse.Namespace) -> list[str]:
    """Where and with what this was measured."""
    return [
        "# Contact dynamics: fused adjoints against `wp.Tape`",
        "",
        f"`python benchmarks/dynamics.py FOLDER --grasps {options.grasps} --points {options.points}`, default dynamics "
        "(Jacobi, one step, 7 simulations, leak 0.1 where it attracts, no friction), flat signed distance, device cpu. "
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.config.version}, Python {platform.python_version()}, "
        f"{len(os.sched_getaffinity(0))} CPU cores shared with other work.",
        "",
    ]


def difference_table(rows: list[str]) -> list[str]:
    """How far the gradients are apart."""
    names = ("near", "touching", "dilated")
    return [
        "## Difference of the gradients",
        "",
        "Relative difference of the gradient with respect to all points of a grasp, median over the grasps. The tape "
        "searches the mesh at the pose that each simulation predicts; the fused path searches once and linearises. "
        "Where the object hardly moves (1 nm) only the adjoints can differ; at 0.1 mm, the default, the linearisation "
        f"shows. Allegro hands after {CASES[0][0]} iterations (near), after {CASES[1][0]} (touching), and the latter "
        f"with the object dilated by {1e3 * CASES[2][1]:g} mm.",
        "",
        row(
            "object",
            "faces",
            *(f"points that touch, {name}" for name in names),
            *(f"{move}, {name}" for move in ("1 nm", "0.1 mm") for name in names),
        ),
        "|" + "---|" * 11,
        *rows,
        "",
    ]


def time_table(rows: list[str]) -> list[str]:
    """How long they take."""
    return [
        "## CPU time",
        "",
        "One loss and gradient with respect to the points, milliseconds of CPU time, least of a few runs, launches "
        "included. Fused is search plus rest (signed distance, dynamics, both adjoints). The recipes search every 5th "
        "iteration. The tape's own search is kept off the tape; recorded on it, as in the last column (its time plus "
        "7 searches), Warp would search again on the way back.",
        "",
        "| object | grasps | points | search [ms] | rest [ms] | tape [ms] | tape / fused, search every 5th iteration "
        "| tape / fused, search every iteration | the same with a recorded search |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    main()
