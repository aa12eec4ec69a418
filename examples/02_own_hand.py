"""Use your own hand: any URDF. Run it as ``python examples/02_own_hand.py [FOLDER] [COUNT] [ITERATIONS]``."""

from __future__ import annotations

import sys
from pathlib import Path

import trimesh

import warpgrasp
from warpgrasp.preview import preview, preview_hand

LINK = """
  <link name="{name}">
    <inertial><mass value="0.05"/><inertia ixx="1e-5" iyy="1e-5" izz="1e-5" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz="{center}"/><geometry><box size="{size}"/></geometry></collision>
  </link>"""
JOINT = """
  <joint name="{name}_joint" type="revolute">
    <parent link="{parent}"/><child link="{name}"/><origin xyz="{at}" rpy="0 0 {turn}"/><axis xyz="0 1 0"/>
    <limit lower="{lower}" upper="{upper}" effort="2" velocity="3"/>
  </joint>"""


def gripper() -> str:
    """URDF text: a square palm, two fingers on one side and a thumb on the other, two joints each."""
    text = LINK.format(name="palm", center="0 0 -0.01", size="0.08 0.08 0.02")
    for finger, at, turn in (
        ("left", "0.04 0.025 0", 0),
        ("right", "0.04 -0.025 0", 0),
        ("thumb", "-0.04 0 0", 3.1416),
    ):
        near, far = f"{finger}_near", f"{finger}_far"
        text += LINK.format(name=near, center="0 0 0.025", size="0.014 0.018 0.05")
        text += JOINT.format(name=near, parent="palm", at=at, turn=turn, lower=-1.2, upper=0.6)
        text += LINK.format(name=far, center="0 0 0.02", size="0.012 0.018 0.04")
        text += JOINT.format(name=far, parent=near, at="0 0 0.05", turn=0, lower=-1.4, upper=0.2)
    return f'<robot name="gripper">{text}\n</robot>\n'


def main(folder: str = "out", count: str = "8", iterations: str = "") -> None:
    """Write the hand, what was inferred of it as a picture, and grasps of a ball."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gripper.urdf").write_text(gripper())

    hand = warpgrasp.load_hand(out / "gripper.urdf")
    for sentence in hand.inferred:
        print("inferred:", sentence)
    preview_hand(hand, out / "gripper.png")

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.035)
    steps = int(iterations) if iterations else None
    grasps = warpgrasp.synthesize(hand, ball, count=int(count), seed=0, iterations=steps)
    preview(grasps, out / "ball.png", count=4)
    print(f"{grasps.valid.sum()} of {len(grasps.valid)} grasps are valid; see {out / 'ball.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
