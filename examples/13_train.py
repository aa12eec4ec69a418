"""Make a small dataset and train a network on it: turned like this, where should the hand be to grasp that box?

Run it as ``python examples/13_train.py [FOLDER] [GRASPS] [EPOCHS]``; it takes less than a minute on two idle cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import trimesh
from matplotlib.figure import Figure

from warpgrasp import dataset
from warpgrasp.dataset.torch_dataset import Batch, GraspDataset


def main(folder: str = "out", grasps: str = "24", epochs: str = "30") -> None:
    """Write meshes, a dataset and learning.png to a folder."""
    boxes, out = Path(folder, "boxes"), Path(folder, "boxes_grasped")
    boxes.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(np.random.default_rng(0).uniform(0.03, 0.08, (12, 3))):
        trimesh.creation.box(size).export(boxes / f"box{number}.stl")
    config = dataset.Config(hands=("allegro",), objects=(str(boxes),), count=int(grasps), iterations=40)
    dataset.generate(config, out, gallery=0)
    dataset.split(out, fractions={"seen": 0.75, "unseen": 0.25})
    rows = {split: GraspDataset(out, split=split, batch_size=32) for split in ("seen", "unseen")}
    clouds = {split: one.object_points(128) for split, one in rows.items()}
    torch.manual_seed(0)
    of_points = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ELU(), torch.nn.Linear(64, 64))
    of_both = torch.nn.Sequential(torch.nn.Linear(80, 128), torch.nn.ELU(), torch.nn.Linear(128, 3))

    def errors(split: str, batch: Batch) -> torch.Tensor:
        """Squared distance of the wrist that the network finds from that of the grasp [cm²]."""
        shape, q = of_points(20.0 * clouds[split][batch["object_index"]]).amax(dim=1), batch["wrist_quaternion_wxyz"]
        turned = (q[:, :, None] * q[:, None, :]).flatten(1)  # the same for q and -q
        found = of_both(torch.cat([shape, 4.0 * turned], dim=1))
        return (found - 100.0 * batch["wrist_position"]).square().sum(dim=1)

    optimizer, curve = torch.optim.Adam([*of_points.parameters(), *of_both.parameters()], lr=3e-3), []
    for epoch in range(int(epochs) + 1):
        with torch.no_grad():
            curve.append([torch.cat([errors(split, one) for one in rows[split]]).mean().sqrt() for split in rows])
        rows["seen"].set_epoch(epoch)
        for batch in rows["seen"]:
            optimizer.zero_grad()
            errors("seen", batch).mean().backward()
            optimizer.step()
    before, after = curve[0][1], curve[-1][1]
    print(f"{rows['unseen'].rows} grasps of unseen boxes: wrist off by {before:.1f} cm before, {after:.1f} cm after")
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="error of the wrist [cm]")
    axes.legend(axes.plot(np.array(curve)), ["boxes in training", "unseen boxes"])
    figure.savefig(Path(folder) / "learning.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
