"""Measure grasps: contact, penetration, force closure, and how much they differ.

Run it as ``python examples/04_evaluate.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mug import mug

import warpgrasp


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Write areas.png to a folder: how the contact area grows with the distance that counts as contact."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize("allegro", mug(), count=int(count), seed=0, iterations=steps)

    # The key of a metric names the unit and the convention; docs/evaluate.md defines them all.
    measured = warpgrasp.evaluate(grasps)
    for name in ("penetration_depth_m", "contact_area_5mm_m2", "epsilon_l1_mu05_edges8"):
        low, median, high = np.nanquantile(measured.metrics[name], (0.05, 0.5, 0.95))
        print(f"{name:24s} median {median:.3g}, 90 % between {low:.3g} and {high:.3g}")
    spread = warpgrasp.diversity(measured)
    print(f"the wrist's place varies by {100.0 * spread['sigma_translation_m']:.1f} cm")

    # Papers count contact from 2 to 9 mm, so compare the curve and not one value.
    distance = np.array([0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
    keys = [f"contact_area_{d:g}mm_m2".replace(".", "p") for d in distance]
    area = 1e4 * np.stack([measured.metrics[key] for key in keys], axis=1)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="distance that counts as contact [mm]", ylabel="contact area of the hand [cm²]")
    axes.plot(distance, area.T, color="#9db8d9", linewidth=0.8)
    axes.plot(
        distance, np.median(area, axis=0), "o-", color="#d9731f", linewidth=2, label=f"median of {len(area)} grasps"
    )
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(out / "areas.png", dpi=120)
    print(f"wrote {out / 'areas.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
