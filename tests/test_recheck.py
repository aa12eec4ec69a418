"""``recheck`` and its command: soft fingertips, then the q-score."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import trimesh
from physics_grasps import panda_grip
from tactile_scenes import DOME, ball, domes, gripper, held, labelled

import warpgrasp
from warpgrasp import tactile
from warpgrasp.cli import main
from warpgrasp.errors import FileFormatError, OptionError, ShapeError
from warpgrasp.pose import Pose
from warpgrasp.rechecking import link_contacts, score_contacts
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.options import Load
from warpgrasp.tactile.pads import dome_pad

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three grasps of a ball by three fingers: one that holds, one far away, one that presses with one finger."""
    folder = tmp_path_factory.mktemp("three")
    hand, obj = gripper(folder, 3), ball()
    grasps = held(hand, obj, count=3)
    grasps.wrist_position[1] = [1.0, 0.0, 0.0]
    grasps.joint_position[2, 1:] = grasps.squeeze.joint_position[2, 1:] = -0.04
    grasps.metrics["success_fc6"] = np.array([1, 0, 0])
    options = {"pads": domes(hand, dome_pad(DOME, (4, 6, 2))), "load": Load(force=4.0)}
    results = tactile.open(hand, obj, **options).run(grasps)
    return grasps, results, options


def test_forces_of_soft_fingertips_are_scored(three):
    grasps, results, options = three
    checked = warpgrasp.recheck(grasps, results=results, load=options["load"])
    found = checked.metrics
    assert list(found["success_tactile"]) == [1, 0, 0]
    assert list(found["success_qscore_tactile"]) == [1, 0, 0]
    assert found["tactile_failure"][1].startswith("0 fingers touch")
    # Three equal fingers at 120 degrees need no friction; nothing at all needs everything.
    assert found["qscore_tactile"][0] > 0.9 and found["qscore_tactile"][1] < 1e-6
    assert "too few fingers" in found["qscore_tactile_failure"][1]
    assert (found["qscore_tactile_lower"] <= found["qscore_tactile"] + 1e-9).all()
    assert (found["qscore_tactile"] <= found["qscore_tactile_upper"] + 1e-9).all()
    assert found["tactile_grip_force_N"][0] == pytest.approx(12.0, rel=0.03)
    assert list(found["success_fc6"]) == [1, 0, 0]
    np.testing.assert_array_equal(checked.joint_position, grasps.joint_position)
    assert checked.info["recheck"]["tactile"]["material"]["name"] == "silicone"


def test_results_of_a_check_are_kept_with_the_grasps(three, tmp_path):
    grasps, results, options = three
    checked = warpgrasp.recheck(grasps, results=results, load=options["load"])
    checked.save(tmp_path / "checked.npz")
    again = warpgrasp.load_grasps(tmp_path / "checked.npz")
    for key in checked.metrics:
        np.testing.assert_array_equal(again.metrics[key], checked.metrics[key])
    assert again.info["recheck"]["tactile"]["load"]["force"] == 4.0


def test_the_score_is_that_of_the_contacts_however_they_are_grouped(three):
    """Contacts of one pad, or their centre: the same normal forces, so nearly the same friction."""
    grasps, results, _ = three
    links = link_contacts(grasps, results)
    assert (np.isfinite(links.position[0]).all(axis=1).nonzero()[0] == [1, 2, 3]).all()
    np.testing.assert_allclose(links.normal_force[0, 1:], 4.0, rtol=0.05)
    np.testing.assert_allclose(np.linalg.norm(links.position[0, 1:], axis=1), 0.025, rtol=0.05)
    assert score_contacts(grasps, results).residual[0] < 1e-3


def test_a_check_that_raises_the_score_never_leaves_a_grasp_worse(tmp_path):
    """Two fingers off the middle of a ball: rolling them opposite each other needs less friction."""
    hand, obj = gripper(tmp_path, 3), ball()
    grasps = held(hand, obj, count=2)
    grasps.wrist_position[:, 2] = [0.006, 0.0]
    grasps.metrics["success_fc6"] = np.array([1, 1])
    options = {"pads": domes(hand, dome_pad(DOME, (4, 6, 2))), "load": Load(force=4.0)}
    raised = warpgrasp.recheck(grasps, raise_steps=6, **options)
    found = raised.metrics
    assert (found["qscore_tactile"] >= found["qscore_tactile_before"]).all()
    assert "success_fc6" not in found and "penetration_depth_m" in found
    moved = np.abs(raised.wrist_position - grasps.wrist_position).max(axis=1) > 1e-6
    np.testing.assert_array_equal(moved, found["qscore_tactile"] > found["qscore_tactile_before"])
    firm = [np.linalg.norm(g.squeeze.joint_position - g.joint_position, axis=1) for g in (grasps, raised)]
    assert (firm[1] > 0.9 * firm[0]).all(), "it presses no less than before, but for ranges"


def test_a_grasp_whose_object_is_pushed_away_is_left_as_it_is(tmp_path):
    hand, obj = gripper(tmp_path, 2), ball()
    grasps = held(hand, obj, count=2)
    options = {"pads": domes(hand, dome_pad(DOME, (4, 6, 2))), "load": Load(force=4.0)}
    touch = tactile.open(hand, obj, **options).run(grasps)
    touch.contact_position[1] += 0.2
    raised = warpgrasp.recheck(grasps, results=touch, raise_steps=2, **options)
    np.testing.assert_array_equal(raised.wrist_position[1], grasps.wrist_position[1])
    assert np.isfinite(raised.metrics["qscore_tactile"]).all()


def test_a_gripper_on_a_box_and_bad_input():
    hand = warpgrasp.load_hand("panda")
    box = warpgrasp.load_object(trimesh.creation.box((0.03, 0.04, 0.05)))
    joints = np.full((1, 2), 0.0205)
    links = hand.link_transforms(joints[0])
    pads = np.array([links[pad.link, :3, :3] @ pad.position + links[pad.link, :3, 3] for pad in hand.pads])
    place = (-pads.mean(axis=0)[None], np.array([[1.0, 0.0, 0.0, 0.0]]))
    grasps = labelled(hand, box, Pose(*place, joints), Pose(*place, joints - 0.003))
    checked = warpgrasp.recheck(grasps)
    assert checked.metrics["success_tactile"] == [1] and checked.metrics["qscore_tactile"] > 0.9
    hard = warpgrasp.recheck(grasps, material=dataclasses.replace(SILICONE, youngs_modulus=3.0e6))
    assert hard.metrics["tactile_indentation_m"] < 0.3 * checked.metrics["tactile_indentation_m"]

    with pytest.raises(OptionError, match="no material 'wood'"):
        warpgrasp.recheck(grasps, material="wood")
    with pytest.raises(OptionError, match="no tactile backend 'fem'"):
        warpgrasp.recheck(grasps, backend="fem")
    with pytest.raises(OptionError, match="raise_steps must be 0 or larger"):
        warpgrasp.recheck(grasps, raise_steps=-1)
    results = tactile.open(hand, box).run(grasps)
    with pytest.raises(ShapeError, match="results has shape"):
        warpgrasp.recheck(grasps[[0, 0]], results=results)
    changed = dataclasses.replace(grasps, hand_hash="0")
    changed.hand, changed.object = hand, box
    with pytest.raises(FileFormatError, match="changed since the grasps were made"):
        warpgrasp.recheck(changed)


@pytest.fixture
def grip(tmp_path):
    """A file of three grips of a box: one that holds, one far away, and one that opens instead of pressing."""
    one, far = panda_grip(), panda_grip(away=0.5)
    many = one[[0, 0, 0]]
    many.hand, many.object = one.hand, one.object
    many.wrist_position[1] = many.squeeze.wrist_position[1] = far.wrist_position[0]
    many.squeeze.joint_position[2] = many.joint_position[2] + 0.01
    many.save(tmp_path / "grip.npz")
    return tmp_path / "grip.npz"


def run(capsys, *arguments):
    code = main(["recheck", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_checks_draws_and_keeps(grip, tmp_path, capsys):
    out, maps, picture = tmp_path / "out.npz", tmp_path / "maps.npz", tmp_path / "touch.png"
    code, text, _ = run(capsys, grip, "--out", out, "--maps", maps, "--preview", picture, "--device", "cpu")
    assert code == 0 and "on soft fingertips" in text and "q-score" in text
    assert picture.read_bytes().startswith(PNG)
    kept = warpgrasp.load_grasps(out)
    assert list(kept.metrics["success_tactile"]) == [1, 0, 0]
    results = tactile.load_tactile(maps)
    assert results.taxel_force.shape == (3, 2, 24, 3) and list(results.passed) == [True, False, False]
    code, text, _ = run(capsys, grip, "--json", "--material", "rubber", "--device", "cpu")
    document = json.loads(text)
    assert document["held"]["count"] == 1 and document["material"] == "rubber"
    assert document["grasps"][0]["metrics"]["success_tactile"] == 1


def test_the_command_refuses_bad_input_in_one_line(grip, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WARPGRASP_ISAACGYM_PYTHON", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    for arguments, message in (
        (["--backend", "isaacgym"], "set WARPGRASP_ISAACGYM_PYTHON"),
        (["--backend", "mujoco-warp"], "needs mujoco-warp: pip install 'warpgrasp[gpu-sim]'"),
        (["--material", "silicon"], "Did you mean 'silicone'?"),
        (["--youngs-modulus", "-3"], "expected a positive number, got '-3'"),
        (["--index", "1"], "it needs --preview FILE"),
        (["--preview", str(tmp_path / "a.png"), "--index", "3"], "--index must be from 0 to 2, got 3"),
        (["--raise-q", "3", "--maps", str(tmp_path / "a.npz")], "recheck what it writes once more"),
        (["--out", str(tmp_path / "a.txt")], "ends in .npz"),
    ):
        try:
            code, _, errors = run(capsys, grip, *arguments)
        except SystemExit as stopped:
            code, errors = stopped.code, capsys.readouterr().err
        assert code == 2 and message in errors and len(errors.strip().splitlines()) == 1, errors
