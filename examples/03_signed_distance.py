"""Signed distances to a mesh, on their own: a slice through the mug, drawn as level lines.

Run it as ``python examples/03_signed_distance.py [FOLDER]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mug import mug

import warpgrasp


def main(folder: str = "out") -> None:
    """Write slice.png to a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)

    x, z = np.meshgrid(np.linspace(-0.07, 0.10, 340), np.linspace(-0.075, 0.075, 300))
    points = np.stack([x, np.zeros_like(x), z], axis=-1)
    distance = warpgrasp.signed_distance(mug(), points.reshape(-1, 3)).reshape(x.shape)
    print(f"deepest point: {-1000.0 * distance.min():.1f} mm inside; {(distance < 0.0).mean():.1%} of the slice is mug")

    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlabel="x [mm]", ylabel="z [mm]", title="distance to the mug [mm]")
    levels = np.arange(-4, 42, 2)
    filled = axes.contourf(1e3 * x, 1e3 * z, 1e3 * distance, levels, cmap="Blues_r", extend="both")
    axes.contour(1e3 * x, 1e3 * z, distance, [0.0], colors="#d9731f", linewidths=2)
    figure.colorbar(filled)
    figure.savefig(out / "slice.png", dpi=100)
    print(f"wrote {out / 'slice.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
