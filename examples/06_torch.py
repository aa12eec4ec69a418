"""Train a network that turns a rough pose in front of a mug into a grasp; its only teacher is the loss.

Run it as ``python examples/06_torch.py [FOLDER] [STEPS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mug import mug

import warpgrasp
import warpgrasp.torch as wt
from warpgrasp.initialize import starting_poses


def main(folder: str = "out", steps: str = "300") -> None:
    """Write training.png to a folder."""
    torch.manual_seed(0)
    hand, obj = warpgrasp.load_hand("allegro"), warpgrasp.load_object(mug())
    lower, upper, opened = (torch.tensor(x).float() for x in (hand.lower, hand.upper, hand.open_position))
    share = torch.logit((opened - lower) / (upper - lower), eps=0.01)
    last = torch.nn.Linear(128, 7 + hand.joint_count)
    torch.nn.init.zeros_(last.weight)  # at first the hand stays about where it is, and open
    network = torch.nn.Sequential(torch.nn.Linear(7, 128), torch.nn.ELU(), last)

    def rough_poses(count: int, seed: int) -> torch.Tensor:
        pose = starting_poses(hand, obj, count, distance=0.06, joint_noise=0.0, rng=np.random.default_rng(seed))
        return torch.tensor(np.hstack([pose.wrist_position, pose.wrist_quaternion])).float()

    def loss_of(rough: torch.Tensor) -> torch.Tensor:
        change = network(rough * torch.tensor([10.0, 10.0, 10.0, 1.0, 1.0, 1.0, 1.0]))
        position, quaternion = rough[:, :3] + 0.1 * change[:, :3], rough[:, 3:] + change[:, 3:7]
        joints = lower + (upper - lower) * torch.sigmoid(share + change[:, 7:])
        return wt.grasp_loss(hand, obj, position, quaternion, joints, points=128)

    train, unseen, curve = rough_poses(512, seed=0), rough_poses(64, seed=1), []
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(steps))
    for step in range(int(steps) + 1):
        if step % 10 == 0:
            curve.append((step, loss_of(unseen).mean().item()))
        optimizer.zero_grad()
        loss_of(train[torch.randint(len(train), (16,))]).log().mean().backward()  # log: no grasp drowns the others
        optimizer.step()
        schedule.step()
    print(f"mean loss of 64 unseen poses: {curve[0][1]:.1f} before, {curve[-1][1]:.1f} after {curve[-1][0]} steps")
    assert curve[-1][1] < 0.7 * curve[0][1], "the loss should fall"
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    figure.add_subplot(xlabel="step", ylabel="mean loss of 64 unseen poses").plot(*np.transpose(curve))
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "training.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
