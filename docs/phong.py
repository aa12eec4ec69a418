"""Picture of the Phong distance: a slice through a coarse ball, as printed and prepared. `make pictures` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import trimesh
import warp as wp
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import warpgrasp
from warpgrasp.distance import FAR_DISTANCE, DeviceMesh, PhongMode, evaluate_signed_distance, find_closest_faces

ALPHA = 0.75

PANELS: tuple[tuple[str, float, PhongMode], ...] = (
    ("as printed", 0.0, "printed"),
    ("side told by the normal", 0.0, "distance"),
    ("prepared, mode plane", ALPHA, "plane"),
)
"""Title, share of smoothing that the mesh is prepared for, and mode."""


def evaluate(mesh: DeviceMesh, points: np.ndarray, alpha: float, mode: PhongMode) -> tuple[np.ndarray, np.ndarray]:
    """Distances [m] and gradients at points (..., 3)."""
    at = wp.array(points.reshape(1, -1, 3), dtype=wp.vec3, device=mesh.device)
    face, distance = (wp.empty(at.shape, dtype=kind, device=mesh.device) for kind in (int, float))
    outward, gradient = wp.empty_like(at), wp.empty_like(at)
    find_closest_faces(mesh, at, FAR_DISTANCE, face, outward)
    evaluate_signed_distance(
        mesh, at, face, outward, phong_alpha=alpha, phong_mode=mode, distance_out=distance, gradient_out=gradient
    )
    return distance.numpy().reshape(points.shape[:-1]).copy(), gradient.numpy().reshape(points.shape).copy()


def draw(axes: Axes, mesh: DeviceMesh, flat: DeviceMesh, mode: PhongMode) -> None:
    """Level lines of the distance, and its gradients close to the flat surface, reversed ones in red."""
    x, y = np.meshgrid(np.linspace(0.022, 0.058, 300), np.linspace(-0.012, 0.028, 300))
    distance, _ = evaluate(mesh, np.stack([x, y, np.full_like(x, 0.004)], axis=-1), ALPHA, mode)
    axes.contourf(1e3 * x, 1e3 * y, 1e3 * distance, np.arange(-12, 13), cmap="Blues_r", extend="both")
    exact, _ = evaluate(flat, np.stack([x, y, np.full_like(x, 0.004)], axis=-1), 0.0, "distance")
    axes.contour(1e3 * x, 1e3 * y, exact, [0.0], colors="black", linewidths=1.2, linestyles="dashed")
    axes.contour(1e3 * x, 1e3 * y, distance, [0.0], colors="#d9731f", linewidths=2)
    angle = np.radians(np.arange(-12, 30, 2.0))
    points = np.stack([np.cos(angle), np.sin(angle), np.full_like(angle, 0.08)], axis=-1)
    points = np.concatenate([radius * points for radius in (0.046, 0.049, 0.052)])
    _, gradient = evaluate(mesh, points, ALPHA, mode)
    colors = np.where((gradient * points).sum(axis=1) < 0.0, "#c22626", "#202020")
    axes.quiver(
        *(1e3 * points[:, :2].T), *gradient[:, :2].T, color=colors, angles="xy", scale=18.0, width=0.006, pivot="tail"
    )


def main(folder: str = "out") -> None:
    """Write phong.png to a folder."""
    obj = warpgrasp.load_object(trimesh.creation.icosphere(subdivisions=1, radius=0.05))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    flat = DeviceMesh(obj, "cpu")
    for index, (title, prepared, mode) in enumerate(PANELS):
        axes = figure.add_subplot(1, 3, index + 1, aspect="equal", title=title, xlabel="x [mm]")
        draw(axes, DeviceMesh(obj, "cpu", phong_alpha=prepared), flat, mode)
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "phong.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
