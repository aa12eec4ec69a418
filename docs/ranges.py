"""Picture of sampling by degrees of freedom: how Shadow's joints are distributed. `make pictures` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import warpgrasp
from warpgrasp.sampling import sample_joints

SPREAD = 0.25
"""Standard deviation before the cut, as a share of the range."""

COUNT = 40000
COLUMNS = 6


def draw(axes: Axes, hand: warpgrasp.Hand, joint: int, values: np.ndarray) -> None:
    """Histogram of one joint in degrees, and the truncated normal density that it has without couplings."""
    name, lower, upper = hand.joint_names[joint], hand.lower[joint], hand.upper[joint]
    mean, deviation = hand.open_position[joint], SPREAD * (upper - lower)
    tied = any(name in coupling.coefficients for coupling in hand.couplings)
    color = "#d9731f" if tied else "#3b75af"
    axes.hist(np.degrees(values), bins=40, range=(np.degrees(lower), np.degrees(upper)), density=True, color=color)
    x = np.linspace(lower, upper, 200)
    density = stats.truncnorm.pdf(x, (lower - mean) / deviation, (upper - mean) / deviation, mean, deviation)
    axes.plot(np.degrees(x), np.radians(density), color="black", linewidth=1.0, linestyle="--" if tied else "-")
    margin = 0.08 * np.degrees(upper - lower)
    axes.set_xlim(np.degrees(lower) - margin, np.degrees(upper) + margin)
    axes.set_xticks(np.round(np.degrees([lower, upper])))
    axes.set_yticks([])
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def main(folder: str = "out") -> None:
    """Write ranges.png to a folder."""
    hand = warpgrasp.load_hand("shadow")
    q = sample_joints(hand, COUNT, np.random.default_rng(0), spread=SPREAD)
    rows = -(-hand.joint_count // COLUMNS)
    figure = Figure(figsize=(11, 1.55 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS).ravel()
    for joint in range(hand.joint_count):
        draw(panels[joint], hand, joint, q[:, joint])
    for axes in panels[hand.joint_count :]:
        axes.axis("off")
    figure.supxlabel("joint position [degrees]", fontsize=10)
    path = Path(folder) / "ranges.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
