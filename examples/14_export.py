"""Write grasps for other projects, and read theirs.

Run it as ``python examples/14_export.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mug import mug

import warpgrasp
from warpgrasp import formats
from warpgrasp.preview import preview

NAMES = {
    "parquet": "parquet",
    "dexgraspbench": "dexgraspbench",
    "dexgraspnet": "dexgraspnet",
    "unidexgrasp": "unidexgrasp",
    "multidex": "multidex",
    "isaac_grasp": "mug.yaml",
    "graspgen": "mug.json",
    "usd": "mug.usdc",
    "hdf5": "mug.h5",
}


def main(folder: str = "out", count: str = "4", iterations: str = "300") -> None:
    """Write formats/ and exported.png to a folder."""
    target = Path(folder) / "formats"
    target.mkdir(parents=True, exist_ok=True)
    grasps = warpgrasp.synthesize("shadow", mug(), count=int(count), iterations=int(iterations))
    for name, path in NAMES.items():
        warpgrasp.export(grasps, target / path, format=name)
        again = formats.read(target / path, format=name)
        moved = np.abs(again.wrist_position - grasps.wrist_position).max()
        bent = np.abs(again.joint_position - grasps.joint_position).max()
        print(f"{name:14} wrist to {1e3 * moved:.1g} mm, joints to {bent:.1g} rad; lost: {formats.find(name).LOSES}")
    # What DexGraspBench finds in its file: the numbers are those of its own model of the hand.
    record = np.load(next((target / "dexgraspbench").rglob("0.npy")), allow_pickle=True).item()
    print("DexGraspBench:", record["joint_names"][:4], "root", record["grasp_qpos"][:3].round(3))
    # Files of others are read the same way; this one says which joints it has, in its own names and signs.
    theirs = formats.read(next((target / "dexgraspnet").rglob("dataset/*.npy")), format="dexgraspnet", hand="shadow")
    preview(theirs, Path(folder) / "exported.png", count=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
