"""How far is the Phong distance from the exact one, which way does its gradient point, and what does it cost?

Run ``python benchmarks/phong.py FOLDER``; every mesh in the folder gets a row next to the shapes made here. Writes
``benchmarks/results/phong.md``. Points are on the surface (one in four) and up to 20 mm off it. Exact is the distance
to the flat mesh, which the tests compare with closed forms, float64 and rays.
"""

from __future__ import annotations

import argparse
import functools
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import trimesh
import warp as wp

import warpgrasp
from warpgrasp.distance import (
    DeviceMesh,
    PhongMode,
    evaluate_signed_distance,
    evaluate_signed_distance_adjoint,
    find_closest_faces,
)
from warpgrasp.mesh import ObjectMesh, load_object

ALPHA = 0.75
REACH = 0.06
"""Of the search for the closest face [m]."""

MODES: tuple[PhongMode, ...] = ("distance", "plane")

SHAPES = {
    "box": trimesh.creation.box(extents=(0.1, 0.06, 0.02)),
    "ball, 320 faces": trimesh.creation.icosphere(subdivisions=2, radius=0.05),
    "cylinder, 12 sides": trimesh.creation.cylinder(radius=0.03, height=0.1, sections=12),
    "cone, 32 sides": trimesh.creation.cone(radius=0.03, height=0.1),
}


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with meshes")
    parser.add_argument("--points", type=int, default=400_000, help="points per object")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/phong.md"))
    options = parser.parse_args()
    meshes = {**SHAPES, **{path.stem: path for path in sorted(options.folder.glob("*.obj"))}}
    objects = {name: load_object(mesh) for name, mesh in meshes.items()}
    lines = [
        "# Phong distance",
        "",
        f"warpgrasp {warpgrasp.__version__}, Warp {wp.config.version}, {platform.machine()}, {options.device}, "
        f"alpha = {ALPHA:g}, {options.points} points on the surface and up to 20 mm off it. "
        "Made by `python benchmarks/phong.py FOLDER`.",
        "",
        *accuracy(objects, options.points, options.device),
        *speed(objects, options.device),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


class Points:
    """Points at a mesh, with their closest faces."""

    def __init__(self, mesh: DeviceMesh, points: np.ndarray) -> None:
        self.mesh = mesh
        device = mesh.device
        self.at = wp.array(points[None], dtype=wp.vec3, device=device)
        self.face = wp.empty(self.at.shape, dtype=int, device=device)
        self.distance = wp.empty(self.at.shape, dtype=float, device=device)
        self.outward, self.gradient, self.adjoint = (wp.empty_like(self.at) for _ in range(3))
        self.search()

    def search(self) -> None:
        """Find the closest faces."""
        find_closest_faces(self.mesh, self.at, REACH, self.face, self.outward)

    def evaluate(self, alpha: float = 0.0, mode: PhongMode = "distance") -> None:
        """Distances and gradients."""
        evaluate_signed_distance(
            self.mesh,
            self.at,
            self.face,
            self.outward,
            phong_alpha=alpha,
            phong_mode=mode,
            distance_out=self.distance,
            gradient_out=self.gradient,
        )

    def go_back(self, alpha: float = 0.0, mode: PhongMode = "distance") -> None:
        """Adjoints of the points, with distances and gradients as theirs."""
        evaluate_signed_distance_adjoint(
            self.mesh,
            self.at,
            self.face,
            self.outward,
            phong_alpha=alpha,
            phong_mode=mode,
            distance_adjoint=self.distance,
            gradient_adjoint=self.gradient,
            point_adjoint_out=self.adjoint,
        )

    def values(self, alpha: float = 0.0, mode: PhongMode = "distance") -> tuple[np.ndarray, np.ndarray]:
        """Distances (N,) and gradients (N, 3) in NumPy."""
        self.evaluate(alpha, mode)
        return self.distance.numpy()[0].copy(), self.gradient.numpy()[0].copy()


def points_at(obj: ObjectMesh, count: int) -> np.ndarray:
    """Points up to 20 mm off the surface, a quarter of them on it, shape (count, 3)."""
    rng = np.random.default_rng(0)
    on = trimesh.sample.sample_surface(obj.trimesh(), count, seed=0)[0]
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return on + rng.uniform(0.0, 0.02, (count, 1)) * direction * off_surface(count)[:, None]


def off_surface(count: int) -> np.ndarray:
    """Which of the points are not on the surface, shape (count,)."""
    return np.arange(count) % 4 > 0


def accuracy(objects: dict[str, ObjectMesh], count: int, device: str) -> Iterable[str]:
    """Distances from exact, and gradients that point the wrong way."""
    yield "## Distance from the exact signed distance, and normals that are reversed"
    yield ""
    yield (
        "As it is: Phong with the vertex normals of the file. Prepared: normals split at creases, faces subdivided. "
        "Reversed: share of the points within 1 mm of the surface, but not on it, where the gradient points against "
        "that of the exact distance. Length: how far that of the gradient is from 1 at 99 % of the points. Turned: "
        "median angle between those two gradients at the points within 1 mm."
    )
    yield ""
    yield (
        "| object | faces | prepared | s | as it is, max [mm] | distance: 50 % | 99 % | max [mm] | plane: 50 % | 99 % "
        "| max [mm] | reversed: printed, as it is | printed, prepared | distance | plane "
        "| length: distance | plane | turned: distance | plane |"
    )
    yield "|" + " --- |" * 19
    for name, obj in objects.items():
        points = points_at(obj, count)
        flat = Points(DeviceMesh(obj, device), points)
        begin = time.process_time()
        prepared = Points(DeviceMesh(obj, device, phong_alpha=ALPHA), points[:1])
        seconds = time.process_time() - begin
        prepared = Points(prepared.mesh, points)
        exact, normal = flat.values()
        near = (np.abs(exact) < 1e-3) & off_surface(count)

        def reversed_share(gradient: np.ndarray, normal: np.ndarray = normal, near: np.ndarray = near) -> str:
            return f"{100.0 * ((gradient * normal).sum(axis=1) < 0.0)[near].mean():.2f} %"

        error, share, length, turned = [], [], [], []
        for mode in MODES:
            value, gradient = prepared.values(ALPHA, mode)
            gap = 1e3 * np.abs(value - exact)
            error += [f"{np.percentile(gap, 50):.3f}", f"{np.percentile(gap, 99):.3f}", f"{gap.max():.3f}"]
            share.append(reversed_share(gradient))
            norm = np.linalg.norm(gradient, axis=1)
            length.append(f"{np.percentile(np.abs(norm - 1.0), 99):.3f}")
            cosine = (gradient * normal).sum(axis=1)[near] / norm[near]
            turned.append(f"{np.degrees(np.median(np.arccos(np.clip(cosine, -1.0, 1.0)))):.1f}°")
        cells = [
            name,
            str(len(obj.faces)),
            str(len(prepared.mesh.indices) // 3),
            f"{seconds:.2f}",
            f"{1e3 * np.abs(flat.values(ALPHA)[0] - exact).max():.2f}",
            *error,
            *(reversed_share(case.values(ALPHA, "printed")[1]) for case in (flat, prepared)),
            *share,
            *length,
            *turned,
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def speed(objects: dict[str, ObjectMesh], device: str) -> Iterable[str]:
    """Nanoseconds per point of the search, the evaluation and its adjoint."""
    yield "## Nanoseconds per point"
    yield ""
    yield (
        f"Search up to {100 * REACH:g} cm, evaluation and its adjoint on 40,000 of such points; best of 20 launches, "
        "processor time. Times search: the search on the prepared surface over that on the flat one."
    )
    yield ""
    yield (
        "| object | faces | prepared | search: flat | prepared | times | evaluate: flat | distance | plane | printed "
        "| adjoint: flat | distance | plane | printed |"
    )
    yield "|" + " --- |" * 14
    balls = {f"ball, {20 * 4**n} faces": load_object(trimesh.creation.icosphere(n, radius=0.05)) for n in (3, 5, 6)}
    chosen = {name: objects[name] for name in ("box", "025_mug", "035_power_drill") if name in objects}
    for name, obj in {**chosen, **balls}.items():
        points = points_at(obj, 40_000)
        flat, prepared = (Points(DeviceMesh(obj, device, phong_alpha=alpha), points) for alpha in (0.0, ALPHA))
        search = [nanoseconds(case.search, case) for case in (flat, prepared)]
        cells = [name, str(len(obj.faces)), str(len(prepared.mesh.indices) // 3)]
        cells += [f"{search[0]:.0f}", f"{search[1]:.0f}", f"{search[1] / search[0]:.2f}"]
        modes: tuple[PhongMode, ...] = (*MODES, "printed")
        for step in (Points.evaluate, Points.go_back):
            cells.append(f"{nanoseconds(functools.partial(step, flat), flat):.0f}")
            cells += [f"{nanoseconds(functools.partial(step, prepared, ALPHA, mode), prepared):.0f}" for mode in modes]
        yield f"| {' | '.join(cells)} |"


def nanoseconds(work: Callable[[], object], case: Points) -> float:
    """Least processor time of a launch, per point [ns]."""
    best = np.inf
    for _ in range(20):
        wp.synchronize_device(case.mesh.device)
        begin = time.process_time()
        work()
        wp.synchronize_device(case.mesh.device)
        best = min(best, time.process_time() - begin)
    return 1e9 * best / case.at.size


if __name__ == "__main__":
    main()
