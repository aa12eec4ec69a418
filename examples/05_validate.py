"""Does it hold? Six pulls in a physics simulation, and the same once more with fingers that touch but do not press.

Run it as ``python examples/05_validate.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from mug import mug

import warpgrasp
from warpgrasp.physics.record import record


def main(folder: str = "out", count: str = "8", iterations: str = "") -> None:
    """Write judged.npz, and a strip of pictures of one grasp with and without its squeeze."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize("allegro", mug(), count=int(count), seed=0, iterations=steps)

    # Pregrasp, grasp, squeeze; then 1 N along -x, +x, -y, +y, -z, +z on an object of 0.1 kg.
    judged = warpgrasp.validate(grasps, "fc6")
    judged.save(out / "judged.npz")
    held = judged.metrics["success_fc6"] > 0
    print(f"{held.sum()} of {len(held)} hold")

    # Without the squeeze the fingers stop where they touch.
    touching = dataclasses.replace(grasps, squeeze=grasps.pose)
    outcome = warpgrasp.validate(touching, "fc6").metrics
    print(f"{outcome['success_fc6'].sum()} of {len(held)} hold without the squeeze")
    for failure, times in Counter(outcome["fc6_failure"].tolist()).most_common():
        print(f"{times:4d}  {failure or 'held'}")

    # The best grasp for which the squeeze makes the difference. A name that ends in .gif gives a film.
    differ = np.flatnonzero(held & (outcome["success_fc6"] == 0))
    index = int(differ[0]) if len(differ) else 0
    for name, these in (("squeezed.png", grasps), ("touching.png", touching)):
        verdict = record(these, index, out / name).failure or "held"
        print(f"wrote {out / name}: {verdict}")


if __name__ == "__main__":
    main(*sys.argv[1:])
