"""Find grasps of a mug with a bundled hand, keep them in a file and draw them.

Run it as ``python examples/01_synthesize.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mug import mug

import warpgrasp
from warpgrasp.preview import preview


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Write grasps.npz and grasps.png to a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)

    hand = warpgrasp.load_hand("allegro")
    grasps = warpgrasp.synthesize(
        hand, mug(), count=int(count), seed=0, iterations=int(iterations) if iterations else None
    )
    print(f"{grasps.valid.sum()} of {len(grasps.valid)} grasps are valid")

    # Best first. Positions in metres, quaternions w x y z, both in the frame of the mesh.
    print("wrist position  ", np.round(grasps.wrist_position[0], 3))
    print("wrist quaternion", np.round(grasps.wrist_quaternion[0], 3))
    for name, angle in zip(grasps.joint_names[:4], grasps.joint_position[0], strict=False):
        print(f"{name:16s} {angle:6.2f} rad")
    for name, values in grasps.metrics.items():
        print(f"{name:32s} {values[0]:.4g}")

    # A grasp has two more phases: a pose to come from, and targets that press.
    step = np.linalg.norm(grasps.pregrasp.wrist_position[0] - grasps.wrist_position[0])
    print(f"the pregrasp is {1000.0 * step:.0f} mm away")

    grasps.save(out / "grasps.npz")
    again = warpgrasp.load_grasps(out / "grasps.npz")
    preview(again, out / "grasps.png", count=8)
    print(f"wrote {out / 'grasps.npz'} and {out / 'grasps.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
