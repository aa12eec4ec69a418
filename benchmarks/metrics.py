"""How fast and how exact are the analytic metrics? Epsilon against qhull, and throughput.

Run ``python benchmarks/metrics.py``; it takes about two minutes on two free cores and writes
``benchmarks/results/metrics.md``. Contacts are random points in clusters, like fingers, on a sphere, an ellipsoid and
a box, with their exact normals.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import warp as wp
from scipy.spatial import ConvexHull, QhullError

import warpgrasp
from warpgrasp import metrics
from warpgrasp.wrench import cone_wrenches, edge_directions, edge_wrenches, read_contacts

CONVENTION = {"friction_coefficient": 0.5, "torque_length": 0.06, "center": np.zeros(3)}
HALF = np.array([0.03, 0.04, 0.06])
"""Half axes of the ellipsoid and half sides of the box [m]."""


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grasps", type=int, default=10_000, help="grasps in the throughput of epsilon")
    parser.add_argument("--oracle", type=int, default=200, help="grasps that qhull checks")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metrics.md"))
    options = parser.parse_args()
    warm_up()
    text = "\n".join([*heading(), *exactness(options.oracle), *throughput(options.grasps)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")
    print(text)


def random_contacts(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on one of three shapes (count, 3) [m] and normals into it."""
    finger = rng.normal(size=(rng.integers(3, 7), 3))
    direction = finger[rng.integers(0, len(finger), count)] + 0.6 * rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shape = rng.integers(3)
    if shape == 0:
        return 0.04 * direction, -direction
    if shape == 1:
        normal = -direction / HALF
        return HALF * direction, normal / np.linalg.norm(normal, axis=1, keepdims=True)
    side = np.abs(direction).argmax(axis=1)
    normal = np.zeros_like(direction)
    normal[np.arange(count), side] = -np.sign(direction[np.arange(count), side])
    return HALF * direction / np.abs(direction).max(axis=1, keepdims=True), normal


def random_grasps(seed: int, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grasps with the given numbers of contacts, NaN behind them, two arrays (N, C, 3)."""
    rng = np.random.default_rng(seed)
    position, normal = np.full((2, len(sizes), int(sizes.max()), 3), np.nan)
    for grasp, size in enumerate(sizes):
        position[grasp, :size], normal[grasp, :size] = random_contacts(rng, int(size))
    return position, normal


def warm_up() -> None:
    """Compile the kernels."""
    grasps = random_grasps(0, np.array([4]))
    metrics.epsilon_l1(*grasps, **CONVENTION, edge_count=8)
    metrics.min_weight(*grasps, **CONVENTION, edge_count=4)


def heading() -> list[str]:
    """Where and with what this was measured."""
    versions = f"warpgrasp {warpgrasp.__version__}, Warp {wp.config.version}, NumPy {np.__version__}"
    return [
        "# Analytic metrics",
        "",
        f"{versions}, SciPy {scipy.__version__}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} "
        "CPU cores shared with other work. mu = 0.5, torques over 60 mm, 8 edges where nothing else is said. "
        "Made by `python benchmarks/metrics.py`.",
        "",
    ]


def exactness(count: int) -> list[str]:
    """Epsilon and its bounds against qhull."""
    rng = np.random.default_rng(1)
    sizes = np.concatenate([rng.integers(5, 31, count - 10), rng.integers(31, 61, 10)])
    position, normal = random_grasps(1, sizes)
    begin = time.process_time()
    lower, upper = metrics.epsilon_l1_bounds(position, normal, **CONVENTION, edge_count=8)
    ours = time.process_time() - begin
    begin = time.process_time()
    expected = hull_radii(position, normal)
    theirs = time.process_time() - begin
    held = expected > 0.0
    error = np.abs(upper[held] / expected[held] - 1.0)
    return [
        "## Epsilon (L1) against qhull",
        "",
        "| grasps | contacts | with epsilon > 0 | worst relative error | largest gap of the bounds | worst lower bound "
        "above qhull | largest value where qhull has 0 | CPU seconds | CPU seconds of qhull | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| {count} | {sizes.min()} to {sizes.max()} | {held.sum()} | {error.max():.1e} "
        f"| {(1.0 - lower[held] / upper[held]).max():.2e} | {max((lower[held] / expected[held]).max() - 1.0, 0.0):.1e} "
        f"| {upper[~held].max(initial=0.0):.1e} | {ours:.2f} | {theirs:.1f} | {theirs / ours:.0f} |",
        "",
    ]


def hull_radii(position: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Epsilon by qhull, shape (N,)."""
    length, center = CONVENTION["torque_length"], CONVENTION["center"]
    contacts = read_contacts(position, normal, center=center, torque_length=length)
    wrench = cone_wrenches(contacts, length, CONVENTION["friction_coefficient"], {})
    radius = np.zeros(len(position))
    for grasp, count in enumerate(contacts.count):
        points = edge_wrenches(wrench[grasp, :count], edge_directions(8)).reshape(-1, 6)
        try:
            radius[grasp] = max((-ConvexHull(points).equations[:, -1]).min(), 0.0)
        except QhullError:
            radius[grasp] = 0.0
    return radius


def throughput(count: int) -> list[str]:
    """Time of every function on grasps with 32 contacts."""
    rows: list[tuple[str, int, Callable[..., object], dict]] = [
        ("epsilon_l1, 8 edges", count, metrics.epsilon_l1, {"edge_count": 8}),
        ("epsilon_l1, circular", count // 40, metrics.epsilon_l1, {"edge_count": 0}),
        ("epsilon_linf, 8 edges", count // 200, metrics.epsilon_linf, {"edge_count": 8}),
        ("wrench_volume, 4 edges", count // 500, metrics.wrench_volume, {"edge_count": 4}),
        ("min_weight, 4 edges", count, metrics.min_weight, {"edge_count": 4}),
        ("force_closure_residual", count, metrics.force_closure_residual, {"edge_count": 1}),
    ]
    lines = [
        "## Throughput, 32 contacts",
        "",
        "Epsilon with its proof, tolerance 1e-4. All cores are used for epsilon, so on a machine that does nothing "
        "else it takes its CPU seconds divided by the number of cores.",
        "",
        "| function | grasps | seconds | CPU seconds | grasps per CPU second |",
        "|---|---|---|---|---|",
    ]
    for name, size, function, convention in rows:
        grasps = random_grasps(2, np.full(max(size, 2), 32))
        begin, begin_cpu = time.perf_counter(), time.process_time()
        function(*grasps, **CONVENTION, **convention)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
        print(f"{name} {seconds:.1f} s, CPU {cpu:.1f} s", flush=True)
        lines.append(f"| {name} | {len(grasps[0])} | {seconds:.2f} | {cpu:.2f} | {len(grasps[0]) / cpu:.0f} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
