"""Run by `make wheel` with the Python of an environment that has the wheel: is it whole, and does it work?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import trimesh

import warpgrasp
from warpgrasp import dataset, hands, kernels, physics

PREFIX = Path(sys.prefix).resolve()


def main() -> None:
    """Fail with a traceback unless the installed package works from end to end."""
    for module in (warpgrasp, dataset, kernels, hands, physics):
        assert module.__file__ and Path(module.__file__).resolve().is_relative_to(PREFIX), module.__file__
    command = subprocess.run([PREFIX / "bin" / "warpgrasp", "--version"], check=True, capture_output=True, text=True)
    assert command.stdout.split() == ["warpgrasp", warpgrasp.__version__], command.stdout
    for name in hands.names():
        warpgrasp.load_hand(name)
    box = trimesh.creation.box(extents=[0.05, 0.05, 0.05])
    grasps = warpgrasp.synthesize("allegro", box, count=2, iterations=5, points=64, device="cpu")
    assert grasps.joint_position.shape == (2, 16), grasps.joint_position.shape
    with tempfile.TemporaryDirectory() as folder:
        box.export(f"{folder}/box.stl")
        config = dataset.Config(hands=("allegro",), objects=(f"{folder}/box.stl",), count=2, iterations=5, points=64)
        report = dataset.generate(config, f"{folder}/made", executor="here", device="cpu", gallery=0)
        assert report.rows == 2 and dataset.verify(f"{folder}/made", deep=True) == [], report
    print(f"the wheel of warpgrasp {warpgrasp.__version__} works, with {len(hands.names())} hands")


if __name__ == "__main__":
    main()
