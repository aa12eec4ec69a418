"""The examples run, write what they say, and stay short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

FOLDER = Path(__file__).parents[1] / "examples"
ALL = sorted(FOLDER.glob("*.py"))
PNG = b"\x89PNG\r\n\x1a\n"


def run(name: str, *arguments: str) -> str:
    """Run an example with warnings as errors and return what it prints."""
    command = [sys.executable, "-W", "error", str(FOLDER / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mug(tmp_path):
    run("mug.py", str(tmp_path / "new" / "mug.obj"))
    mesh = trimesh.load_mesh(tmp_path / "new" / "mug.obj")
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.euler_number == 0  # one closed surface with one handle
    np.testing.assert_allclose(mesh.extents, [0.090, 0.064, 0.076], atol=1e-3)
    assert 0.75e-4 < mesh.volume < 1.1e-4


@pytest.mark.slow
def test_synthesize(tmp_path):
    out = run("01_synthesize.py", str(tmp_path), "2", "20")
    assert "of 2 grasps are valid" in out
    with np.load(tmp_path / "grasps.npz") as file:
        assert file["joint_position"].shape == (2, 16)
    assert (tmp_path / "grasps.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_own_hand(tmp_path):
    out = run("02_own_hand.py", str(tmp_path), "2", "20")
    assert "inferred:" in out
    assert "of 2 grasps are valid" in out
    assert (tmp_path / "gripper.urdf").is_file()
    for name in ("gripper.png", "ball.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_signed_distance(tmp_path):
    assert "mm inside" in run("03_signed_distance.py", str(tmp_path))
    assert (tmp_path / "slice.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_torch(tmp_path):
    assert "64 unseen poses" in run("06_torch.py", str(tmp_path), "40")
    assert (tmp_path / "training.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_simulator(tmp_path):
    out = run("07_simulator.py", str(tmp_path))
    speeds = re.findall(r"leaves at +([0-9.]+) mm/s before, +([0-9.]+) mm/s after", out)
    before, after = np.array(speeds, float).T
    np.testing.assert_allclose(before, [0.0] + 6 * [100.0], atol=0.1)
    assert after.max() < 20.0
    assert (tmp_path / "simulator.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_evaluate(tmp_path):
    out = run("04_evaluate.py", str(tmp_path), "2", "20")
    assert "contact_area_5mm_m2" in out and "varies by" in out
    assert (tmp_path / "areas.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_validate(tmp_path):
    out = run("05_validate.py", str(tmp_path), "2", "20")
    assert "of 2 hold\n" in out and "of 2 hold without the squeeze" in out
    with np.load(tmp_path / "judged.npz") as file:
        assert f"{file['metric_success_fc6'].sum()} of 2 hold\n" in out
    for name in ("squeezed.png", "touching.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_table(tmp_path):
    out = run("08_table.py", str(tmp_path), "2", "20")
    shares = [float(share) for share in re.findall(r"pose \d: (\d+) %", out)]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100.0, abs=3.0)
    assert "with table: 2 of 2 hands are above it" in out
    for name in ("resting.png", "table.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_arm(tmp_path):
    out = run("09_arm.py", str(tmp_path), "4", "60")
    planned = int(re.findall(r"(\d) of 4 grasps have a plan for shoulder_pan_joint", out)[0])
    with np.load(tmp_path / "arm.npz") as file:
        assert file["arm_joint_position"].shape == (4, 3, 6)
        assert np.isfinite(file["arm_joint_position"]).all(axis=(1, 2)).sum() == planned > 0
    assert len(re.findall(r"(pregrasp|grasp|lift): \[.*\] degrees", out)) == 3
    assert (tmp_path / "arm.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_obstacles(tmp_path):
    out = run("10_obstacles.py", str(tmp_path), "2", "20")
    assert re.search(r"alone: \d of 2 valid, \d of them clear", out)
    valid, clear = re.findall(r"clutter: (\d) of 2 valid, (\d) of them clear", out)[0]
    assert valid == clear
    for name in ("alone.png", "clutter.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_qscore(tmp_path):
    out = run("16_qscore.py", str(tmp_path), "2", "20")
    assert "of 2 succeed" in out
    low, high = map(float, re.findall(r"V of the first is between ([0-9.]+) and ([0-9.]+)", out)[0])
    assert 0.0 <= low <= high <= low + 1e-4
    assert (tmp_path / "qscore.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_fingertips(tmp_path):
    out = run("17_fingertips.py", str(tmp_path), "2", "60")
    links = {name: float(number) for name, number in re.findall(r"(\w+) +\d+ of 2 +\d+% +([0-9.]+)", out)}
    assert links["fingertips"] < links["default"]
    for name in ("recipe_default.png", "recipe_fingertips.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


@pytest.mark.slow
def test_motors(tmp_path):
    out = run("11_motors.py", str(tmp_path), "2", "20")
    assert "22 joints, 18 motors: FFJ4 FFJ3 FFJ0" in out
    assert "J1 exceeds J2 by at most 0 rad" in out
    assert (tmp_path / "motors.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_generate(tmp_path):
    out = run("12_generate.py", str(tmp_path), "2", "8")
    assert "6 shards made, 0 were there; 12 grasps" in out
    assert "tested on" in out
    assert len(list((tmp_path / "dataset" / "grasps").rglob("*.parquet"))) == 6
    assert (tmp_path / "dataset.png").read_bytes().startswith(PNG)
    assert "0 shards made, 6 were there" in run("12_generate.py", str(tmp_path), "2", "8")


@pytest.mark.slow
def test_train(tmp_path):
    out = run("13_train.py", str(tmp_path), "4", "60")
    before, after = map(
        float, re.findall(r"12 grasps of unseen boxes: wrist off by ([0-9.]+) cm before, ([0-9.]+)", out)[0]
    )
    assert after < 0.7 * before
    assert (tmp_path / "learning.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_export(tmp_path):
    out = run("14_export.py", str(tmp_path), "2", "20")
    lines = re.findall(r"(\w+) +wrist to (\S+) mm, joints to (\S+) rad; lost: .+", out)
    assert len(lines) == 9
    assert all(float(moved) < 1e-3 and float(bent) < 1e-6 for _, moved, bent in lines)
    assert (tmp_path / "formats" / "mug.usdc").is_file()
    assert (tmp_path / "exported.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_tactile(tmp_path):
    out = run("15_tactile.py", str(tmp_path), "2", "20")
    assert "of 2 hold on soft fingertips; q-scores: " in out
    with np.load(tmp_path / "touch.npz") as file:
        assert file["taxel_force"].shape == (2, 5, 24, 3)
    assert (tmp_path / "touch.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_example_is_short_and_documented(path):
    assert len(path.read_text().splitlines()) <= 60
    assert f"examples/{path.name}" in (FOLDER.parent / "docs" / "index.md").read_text()


def test_every_numbered_example_has_a_test():
    tested = Path(__file__).read_text()
    assert [path.name for path in ALL if f'run("{path.name}"' not in tested] == []
