"""Power or precision: grasps of a mug with as much of the hand as possible, and with the fingertips alone.

Run it as ``python examples/17_fingertips.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mug import mug

import warpgrasp
from warpgrasp.preview import preview


def main(folder: str = "out", count: str = "32", iterations: str = "") -> None:
    """Write recipe_default.png and recipe_fingertips.png to a folder: the four best grasps of each recipe."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    print("recipe      valid   hold  links within 2 mm  contact area  closure of the tips")
    for recipe in ("default", "fingertips"):
        grasps = warpgrasp.synthesize("shadow", mug(), count=int(count), recipe=recipe, seed=0, iterations=steps)
        measured = warpgrasp.evaluate(warpgrasp.validate(grasps, "fc6")).metrics

        # Q1 looks at the contacts of the fingertips only: the least push, per unit of force on them, that they resist.
        area, closure = measured["contact_area_5mm_m2"], measured["q1_dexgraspbench_tips_mu03"]
        print(
            f"{recipe:10}  {grasps.valid.sum():2} of {len(grasps)}  {measured['success_fc6'].mean():4.0%}"
            f"  {measured['links_in_contact_2mm'].mean():17.1f}  {1e4 * area.mean():8.1f} cm²  {closure.mean():19.3f}"
        )
        preview(grasps, out / f"recipe_{recipe}.png", count=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
