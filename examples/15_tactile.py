"""Soft fingertips: does a grasp hold on pads that yield, what do its fingertips feel, how much friction does it need?

Run it as ``python examples/15_tactile.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mug import mug

import warpgrasp
from warpgrasp import tactile
from warpgrasp.tactile.picture import preview_tactile


def main(folder: str = "out", count: str = "8", iterations: str = "") -> None:
    """Write rechecked.npz, the arrays behind it in touch.npz, and a picture of one grasp."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize("shadow", mug(), count=int(count), seed=0, iterations=steps)

    # Every fingertip gets a layer of silicone. Fingers close under force, then gravity pulls from six sides.
    backend = tactile.open(grasps.hand, grasps.object, material="silicone")
    touch = backend.run(grasps)
    touch.save(out / "touch.npz")
    for index in range(len(grasps)):
        press = np.linalg.norm(touch.finger_wrench[index, :, :3], axis=1)
        words = ", ".join(f"{name} {force:.1f} N" for name, force in zip(touch.finger_names, press, strict=True))
        print(f"{index}: {words}: {touch.reason[index] or 'holds'}")

    # The contact forces, scored: q = 1 needs no friction, below 0.37 there is none that would do.
    checked = warpgrasp.recheck(grasps, results=touch)
    checked.save(out / "rechecked.npz")
    held, q = checked.metrics["success_tactile"] > 0, checked.metrics["qscore_tactile"]
    print(f"{held.sum()} of {len(held)} hold on soft fingertips; q-scores: {', '.join(f'{value:.2f}' for value in q)}")

    index = int(np.argmax((1 + touch.loaded.sum(axis=1)) * held))
    preview_tactile(grasps, touch, out / "touch.png", index=index)
    print(f"wrote {out / 'touch.png'} of grasp {index}")


if __name__ == "__main__":
    main(*sys.argv[1:])
