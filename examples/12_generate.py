"""A dataset: configure, make, stop at any time, go on, split by object, read.

Run it as ``python examples/12_generate.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trimesh
from matplotlib.figure import Figure
from mug import mug

from warpgrasp import dataset

CONFIG = """
hands: [allegro, barrett]
objects: [meshes]
count: {count}
shard_size: 8
"""


def main(folder: str = "out", count: str = "16", iterations: str = "") -> None:
    """Write a dataset to FOLDER/dataset, and dataset.png: how many grasps of each object are valid."""
    meshes = Path(folder) / "meshes"
    meshes.mkdir(parents=True, exist_ok=True)
    mug().export(meshes / "mug.obj")
    trimesh.creation.box(extents=[0.04, 0.06, 0.12]).export(meshes / "box.stl")
    trimesh.creation.cylinder(radius=0.03, height=0.1).export(meshes / "can.stl")
    config = Path(folder) / "dataset.yaml"
    config.write_text(CONFIG.format(count=count) + (f"iterations: {iterations}\n" if iterations else ""))

    # On the command line: warpgrasp generate dataset.yaml --out dataset
    out = Path(folder) / "dataset"
    report = dataset.generate(config, out, gallery=4)
    print(f"{report.made} shards made, {report.there} were there; {report.rows} grasps, {report.valid} valid")
    splits = dataset.split(out, fractions={"train": 0.67, "test": 0.33})
    print(f"trained on {', '.join(splits['train'])}; tested on {', '.join(splits['test'])}")

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot(ylabel="valid [%]", ylim=(0, 100))
    store = dataset.open_store(out)
    for hand, color in zip(store.hands(), ("#4c78a8", "#f58518"), strict=True):
        found: dict[str, list[bool]] = {}
        for grasps in store.grasps(hand=hand):
            found.setdefault(grasps.object_name, []).extend(grasps.valid)
        share = {name: 100.0 * sum(valid) / len(valid) for name, valid in sorted(found.items())}
        offset = 0.2 if hand == "barrett" else -0.2
        axes.bar([x + offset for x in range(len(share))], list(share.values()), 0.4, label=hand, color=color)
        axes.set_xticks(range(len(share)), list(share))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(Path(folder) / "dataset.png", dpi=120)


if __name__ == "__main__":  # processes are started that import this file
    main(*sys.argv[1:])
