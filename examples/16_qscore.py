"""The q-score: how much friction grasps of a mug need, and a few steps after which they need less.

Run it as ``python examples/16_qscore.py [FOLDER] [COUNT] [ITERATIONS]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mug import mug

import warpgrasp
from warpgrasp.distance import DeviceMesh
from warpgrasp.evaluation import torque_length
from warpgrasp.finish import check_model
from warpgrasp.qscore import qscore, qscore_label
from warpgrasp.raise_q import raise_q, rigid_contacts
from warpgrasp.surface import object_points


def main(folder: str = "out", count: str = "12", iterations: str = "") -> None:
    """Write qscore.png to a folder: the contact forces of one grasp, and every q."""
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize("allegro", mug(), count=int(count), seed=0, iterations=steps)
    hand, obj = grasps.hand, grasps.object
    contacts = rigid_contacts(check_model(hand, "cpu"), DeviceMesh(obj, "cpu"), grasps.pose, force=30.0)
    raised = raise_q(hand, obj, grasps.pose, contacts, friction_coefficient=0.5, steps=8)
    # The score of the new contacts while the mug's weight pulls down, 0.3 kg, at its centre of mass.
    point, normal, force = raised.contacts.position, raised.contact_normal, raised.contacts.normal_force
    scale = {"friction_coefficient": 0.5, "center": obj.center_of_mass, "torque_length": torque_length(obj)}
    score = qscore(point, normal, force, wrench=[0.0, 0.0, -0.3 * 9.81, 0.0, 0.0, 0.0], **scale)
    success, reason = qscore_label(score, raised.contacts.finger_count(hand))
    print(
        f"mean q {raised.before.q.mean():.2f}, after {raised.after.q.mean():.2f}, with the weight {score.q.mean():.2f}"
    )
    print(f"{success.sum()} of {len(success)} succeed; the others: {'; '.join(reason[~success]) or 'none'}")
    print(f"V of the first is between {score.lower[0]:.7f} and {score.upper[0]:.7f}")

    one, metres = score.q.argsort()[len(force) // 2], 0.003  # arrows of 3 mm per newton
    push, drag = metres * force[one, :, None] * normal[one], metres * score.friction_force[one]
    figure = Figure(figsize=(9, 4), layout="constrained")
    space = figure.add_subplot(1, 2, 1, projection="3d", title="normal forces and friction", aspect="equal")
    space.scatter(*object_points(obj, 3000).T, s=1, color="0.75")
    space.quiver(*(point[one] - push).T, *push.T, color="C0", linewidth=2)
    space.quiver(*point[one].T, *drag.T, color="C1", linewidth=2)
    space.set_axis_off()
    axes = figure.add_subplot(1, 2, 2, xlabel="grasp", ylabel="q", ylim=(0, 1))
    axes.bar(np.arange(len(success)) - 0.2, raised.before.q, 0.4, label="before")
    axes.bar(np.arange(len(success)) + 0.2, raised.after.q, 0.4, label="after 8 steps")
    axes.axhline(0.5, color="black", linewidth=0.8)
    axes.legend(loc="upper left")
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "qscore.png", dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
