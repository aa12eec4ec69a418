"""Cost of an iteration of the descent by mesh, points and batch, and the share of each kernel.

Run ``python benchmarks/descent.py``; it writes ``benchmarks/results/descent.md``. It needs no files.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh
import warp as wp

import warpgrasp
from warpgrasp.descend import run_stage
from warpgrasp.distance import DeviceMesh
from warpgrasp.hand_file import load_hand
from warpgrasp.initialize import starting_poses
from warpgrasp.mesh import ObjectMesh, load_object
from warpgrasp.model import HandModel, hand_model
from warpgrasp.optimize import Descent
from warpgrasp.options import Dynamics, Stage, recipe
from warpgrasp.pose import Pose
from warpgrasp.surface import grasping_links, object_points, surface_points

BASE = recipe("default").stages[0]
DYNAMICS = replace(BASE, stability_weight=1.0, dynamics=Dynamics(friction=0.5))
STAGES = {"default": BASE, "dynamics": DYNAMICS}
"""The first stage of ``default``, and the same with 7 simulations of the object, Jacobi, one step."""

BOX_DIVISIONS = (1, 9, 36, 91)
BALL_SUBDIVISIONS = (0, 3, 5, 6)
POINTS = (128, 256, 512, 1024, 2048)
BATCHES = (1, 4, 16, 64, 256, 1024)
USUAL_POINTS, USUAL_BATCH, USUAL_MESH = 512, 32, 1
"""What stays as it is while something else changes; the mesh is the second of the boxes."""

APPROACH_ITERATIONS = 150
"""After which the hands are timed: most points are near the object then."""

TIMED = 30
"""Iterations that are timed together."""

REPEATS = 3
"""Of which the fastest counts."""


def box(divisions: int) -> trimesh.Trimesh:
    """A box of 12 divisions² faces."""
    grid = np.linspace(-1.0, 1.0, divisions + 1)
    u, v = (values.ravel() for values in np.meshgrid(grid, grid, indexing="ij"))
    corner = np.arange((divisions + 1) ** 2).reshape(divisions + 1, divisions + 1)
    a, b, c, d = (x.ravel() for x in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices, triangles = [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            place = np.roll(np.stack([np.full_like(u, sign), u, v], axis=1), axis, axis=1)
            triangles.append(len(vertices) * len(u) + (faces if sign > 0.0 else faces[:, ::-1]))
            vertices.append(place)
    whole = trimesh.Trimesh(np.concatenate(vertices), np.concatenate(triangles), process=True)
    return whole.apply_scale([0.025, 0.03, 0.04])


def ball(subdivisions: int) -> trimesh.Trimesh:
    """A ball of 20 · 4^subdivisions faces."""
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.035)


class Bench:
    """Descents of the Allegro hand on one object, from poses close to it."""

    def __init__(self, obj: ObjectMesh) -> None:
        self.obj, self.mesh, self.hand = obj, DeviceMesh(obj, "cpu"), load_hand("allegro")
        self.inner = object_points(obj, BASE.object_points)
        start = starting_poses(
            self.hand, obj, USUAL_BATCH, distance=0.06, joint_noise=0.1, rng=np.random.default_rng(0)
        )
        short = replace(BASE, iterations=APPROACH_ITERATIONS, final_step=1.0)
        self.near = run_stage(self.model(256), self.mesh, self.inner, start, short)[0]

    def model(self, points: int) -> HandModel:
        """The hand with that many points."""
        return hand_model(self.hand, surface_points(self.hand, points, links=grasping_links(self.hand)), "cpu")

    def descent(self, stage: Stage, points: int, batch: int) -> Descent:
        """Ready to run, the poses repeated as often as needed."""
        chosen = np.arange(batch) % len(self.near)
        pose = Pose(
            self.near.wrist_position[chosen], self.near.wrist_quaternion[chosen], self.near.joint_position[chosen]
        )
        return Descent(
            self.model(points), self.mesh, self.inner, pose, replace(stage, iterations=TIMED, final_step=1.0)
        )

    def seconds(self, stage: Stage, points: int = USUAL_POINTS, batch: int = USUAL_BATCH) -> float:
        """CPU time of an iteration, as a graph, launches included [s]."""
        descent = self.descent(stage, points, batch)
        descent.capture()
        start = [wp.clone(array) for array in (descent.state.wrist, descent.state.free_position)]

        def run() -> None:
            descent.restart()
            for array, first in zip((descent.state.wrist, descent.state.free_position), start, strict=True):
                wp.copy(array, first)
            descent.run()

        return least_seconds(run) / TIMED

    def kernel_seconds(self, stage: Stage) -> dict[str, float]:
        """CPU time of each kernel in an iteration [s]."""
        descent = self.descent(stage, USUAL_POINTS, USUAL_BATCH)
        descent.find_gradient(search=True)
        descent.restart()
        with timed_launches() as spent:
            for _ in range(TIMED):
                descent.find_gradient(search=True)
                descent.step()
        return {name: seconds / TIMED for name, seconds in spent.items()}


def least_seconds(run: Callable[[], None]) -> float:
    """CPU time of the fastest of some runs, after one that is not timed [s]."""
    run()
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    return min(seconds)


@contextmanager
def timed_launches() -> Iterator[dict[str, float]]:
    """CPU time of every launch meanwhile, by kernel; on a CPU a launch returns when it is done."""
    launch, spent = wp.launch, defaultdict(float)

    def timed(kernel: wp.Kernel, *arguments: object, **options: object) -> object:
        begin = time.process_time()
        result = launch(kernel, *arguments, **options)  # type: ignore[arg-type]
        spent[kernel.key] += time.process_time() - begin
        return result

    wp.launch = timed  # type: ignore[assignment]
    try:
        yield spent
    finally:
        wp.launch = launch


# ---- tables


def exponents(sizes: list[float], seconds: list[float]) -> np.ndarray:
    """By which power of the size the time grows, between neighbours."""
    return np.diff(np.log(seconds)) / np.diff(np.log(sizes))


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def size_table(what: str, sizes: list[int], batches: list[int], seconds: dict[str, list[float]]) -> list[str]:
    """Seconds by size, and the local exponent of the growth from the line above."""
    lines = [
        row(
            what,
            *(
                f"{text}, {name}"
                for name in seconds
                for text in ("ms per iteration", "ms per grasp and iteration", "s per grasp", "power")
            ),
        ),
        "|" + "---|" * (1 + 4 * len(seconds)),
    ]
    for line, (size, batch) in enumerate(zip(sizes, batches, strict=True)):
        cells = []
        for times in seconds.values():
            power = f"{exponents(list(sizes), times)[line - 1]:.2f}" if line else ""
            each = times[line] / batch
            cells += [f"{1e3 * times[line]:.3g}", f"{1e3 * each:.3g}", f"{each * BASE.iterations:.2g}", power]
        lines.append(row(f"{size:,}", *cells))
    return [*lines, ""]


def verdict(what: str, limit: float, sizes: list[int], seconds: dict[str, list[float]]) -> list[str]:
    """Whether time grows by at most a power of the size, from the smallest to the largest and between any two."""
    lines = []
    for name, times in seconds.items():
        pairs = [(i, j) for j in range(len(sizes)) for i in range(j)]
        excess = [times[j] / times[i] / (sizes[j] / sizes[i]) ** limit for i, j in pairs]
        worst, (i, j) = max(zip(excess, pairs, strict=True))
        overall = np.log(times[-1] / times[0]) / np.log(sizes[-1] / sizes[0])
        lines.append(
            f"- {what}, {name}: power {overall:.2f} from {sizes[0]:,} to {sizes[-1]:,}, at most {limit:g} was wanted. "
            + ("It holds between any two sizes." if worst <= 1.0 else "")
            + (f"From {sizes[i]:,} to {sizes[j]:,} it is exceeded by {100 * (worst - 1):.1f} %." if worst > 1.0 else "")
        )
    return lines


def share_table(spent: dict[str, dict[str, float]]) -> list[str]:
    """The share of each kernel, those below 0.5 % everywhere together."""
    totals = {name: sum(times.values()) for name, times in spent.items()}
    kernels = sorted(
        {kernel for times in spent.values() for kernel in times},
        key=lambda k: -max(times.get(k, 0.0) / totals[name] for name, times in spent.items()),
    )
    lines = [row("kernel", *spent), "|" + "---|" * (1 + len(spent))]
    rest = dict.fromkeys(spent, 0.0)
    for kernel in kernels:
        shares = {name: times.get(kernel, 0.0) / totals[name] for name, times in spent.items()}
        if max(shares.values()) < 0.005:
            rest = {name: rest[name] + share for name, share in shares.items()}
        else:
            lines.append(row(f"`{kernel}`", *(f"{100 * share:.1f} %" for share in shares.values())))
    lines.append(row("all others", *(f"{100 * rest[name]:.1f} %" for name in spent)))
    lines.append(row("ms per iteration", *(f"{1e3 * total:.3g}" for total in totals.values())))
    return [*lines, ""]


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "descent.md")
    options = parser.parse_args()
    boxes = [Bench(load_object(box(n), name="box")) for n in BOX_DIVISIONS]
    balls = [Bench(load_object(ball(n), name="ball")) for n in BALL_SUBDIVISIONS]
    usual, verdicts, tables = boxes[USUAL_MESH], [], []

    for name, benches in (("box", boxes), ("ball", balls)):
        faces = [len(bench.obj.faces) for bench in benches]
        times = {stage: [bench.seconds(value) for bench in benches] for stage, value in STAGES.items()}
        verdicts += verdict(f"faces of a {name}", 0.5, faces, times)
        tables += [f"## Faces of a {name}", "", *size_table("faces", faces, [USUAL_BATCH] * len(faces), times)]
    times = {stage: [usual.seconds(value, points=n) for n in POINTS] for stage, value in STAGES.items()}
    verdicts += verdict("points", 1.0, list(POINTS), times)
    tables += ["## Points", "", *size_table("points", list(POINTS), [USUAL_BATCH] * len(POINTS), times)]
    times = {stage: [usual.seconds(value, batch=n) for n in BATCHES] for stage, value in STAGES.items()}
    verdicts += verdict("batch", 1.0, list(BATCHES), times)
    tables += ["## Batch", "", *size_table("grasps", list(BATCHES), list(BATCHES), times)]
    spent = {
        f"{stage}, {bench.obj.name} of {len(bench.obj.faces):,} faces": bench.kernel_seconds(value)
        for stage, value in STAGES.items()
        for bench in (usual, boxes[-1], balls[-1])
    }
    options.out.write_text("\n".join([*heading(usual), *verdicts, "", *tables, *shares_heading(), *share_table(spent)]))
    print("\n".join(verdicts))


def heading(usual: Bench) -> list[str]:
    """Where and with what this was measured."""
    return [
        "# Cost of the descent",
        "",
        "`python benchmarks/descent.py`, Allegro hand, the first stage of `default` and the same with 7 simulations "
        "of the object (Jacobi, one step, friction 0.5), device cpu, one thread. CPU time of captured iterations, "
        f"{TIMED} together, the fastest of {REPEATS}, at full steps from poses after {APPROACH_ITERATIONS} iterations. "
        f"Where not said otherwise: {USUAL_POINTS} points, batch {USUAL_BATCH}, a box of {len(usual.obj.faces)} faces. "
        f"Seconds per grasp are those of the stage's {BASE.iterations} iterations; the second stage comes on top. "
        "*Power* is p where time grows like size^p, from the line above. Each grasp also keeps "
        f"{BASE.object_points} object points out of the hand, whatever the points of the hand. "
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.config.version}, Python {platform.python_version()}, "
        f"{len(os.sched_getaffinity(0))} CPU cores shared with other work.",
        "",
    ]


def shares_heading() -> list[str]:
    """What the shares are of."""
    return ["## Shares of the kernels", "", "Launched one by one, CPU time inside of `wp.launch`.", ""]


if __name__ == "__main__":
    main()
