"""What users get wrong most: every case ends with exit code 2 and one line that says what would work."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from physics_grasps import labelled, panda_grip

import warpgrasp
from warpgrasp.cli import main
from warpgrasp.pose import Pose

LINK = '<link name="{}"><collision><geometry><box size="0.02 0.02 0.05"/></geometry></collision></link>'
JOINT = (
    '<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{child}"/><axis xyz="0 1 0"/>'
    '<limit lower="0" upper="1" effort="1" velocity="1"/>{extra}</joint>'
)


def urdf(links: str, *joints: str) -> str:
    return f'<robot name="r">{"".join(LINK.format(name) for name in links)}{"".join(joints)}</robot>'


def joint(name: str, parent: str, child: str, extra: str = "") -> str:
    return JOINT.format(name=name, parent=parent, child=child, extra=extra)


HANDS = {
    "no_joints.urdf": urdf("a"),
    "cyclic.urdf": urdf("ab", joint("i", "a", "b"), joint("j", "b", "a")),
    "own.urdf": urdf("ab", joint("i", "a", "b")),
    "mimic.urdf": urdf("ab", joint("i", "a", "b", '<mimic joint="ghost"/>')),
}


def write_meshes(folder: Path) -> None:
    box = trimesh.creation.box(extents=(0.05, 0.06, 0.07))
    box.export(folder / "box.obj")
    (folder / "empty.obj").write_text("# nothing\n")
    (folder / "nan.obj").write_text("v 0 0 0\nv nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\n")
    (folder / "page.obj").write_text("<!DOCTYPE html><html><body>404: not found</body></html>")
    for name, size in (("huge", 100.0), ("tiny", 0.001)):
        trimesh.Trimesh(box.vertices / 0.07 * size, np.asarray(box.faces)).export(folder / f"{name}.obj")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_meshes(tmp_path)
    for name, text in HANDS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("alegro box.obj", ["no hand named 'alegro'", "Did you mean 'allegro'?"]),
        ("allegro empty.obj", ["empty.obj: ", "0 faces"]),
        ("allegro nan.obj", ["nan.obj: ", "finite"]),
        ("allegro huge.obj", ["huge.obj: ", "100 m", "scale"]),
        ("allegro tiny.obj", ["tiny.obj: ", "1 mm", "scale"]),
        ("allegro missing.obj", ["missing.obj: no such file"]),
        ("allegro page.obj", ["page.obj: ", "HTML"]),
        ("no_joints.urdf box.obj", ["no_joints.urdf: ", "no movable joint"]),
        ("cyclic.urdf box.obj", ["cyclic.urdf: "]),
        ("mimic.urdf box.obj", ["mimic.urdf: ", "'ghost'"]),
        ("allegro box.obj --count 0", ["--count", "'0'"]),
        ("allegro box.obj --device tpu", ["no device named 'tpu'", "cpu"]),
    ],
)
def test_one_line_and_exit_code_2(arguments, expected, folder, capsys):
    check(["synthesize", *arguments.split()], expected, capsys)
    assert not list(folder.glob("*.npz")), "nothing is written"


def check(arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command that must fail with one line that has all these words."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("warpgrasp: error: ") and err.count("\n") == 1
    assert "Traceback" not in err
    for words in expected:
        assert words in err


@pytest.fixture
def grasp_files(folder: Path) -> Path:
    """Files of grasps, each with something wrong."""
    grip = panda_grip()
    grip.save(folder / "good.npz")
    grip[:0].save(folder / "none.npz")
    (folder / "text.npz").write_text("not a zip file")
    np.savez(folder / "numbers.npz", x=np.zeros(3))
    hand = warpgrasp.load_hand("own.urdf")
    pose = Pose(np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0, 0.0]]), np.zeros((1, 1)))
    own = labelled(hand, trimesh.creation.box((0.05, 0.06, 0.07)), pose, pose, pose)
    for name, source in (("gone", "gone.urdf"), ("changed", "no_joints.urdf")):
        own.hand_source = source
        own.save(folder / f"{name}.npz")
    (folder / "no_joints.urdf").write_text(HANDS["own.urdf"].replace('upper="1"', 'upper="2"'))
    (folder / "broken.xml").write_text("<mujoco")
    (folder / "other.xml").write_text(
        '<mujoco><worldbody><body><joint name="ghost"/><geom size="0.01"/></body></worldbody></mujoco>'
    )
    (folder / "made.npz").mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("missing.npz", ["missing.npz: there is no such file"]),
        ("text.npz", ["text.npz: it is not a file of grasps"]),
        ("numbers.npz", ["numbers.npz: it is not a file of grasps"]),
        ("none.npz", ["none.npz: there is no grasp in it", "--count"]),
        ("gone.npz", ["gone.npz: ", "'gone.urdf'", "put the file back"]),
        ("changed.npz", ["no_joints.urdf: ", "changed since"]),
        ("good.npz --out made.npz", ["made.npz: is a folder"]),
        ("good.npz --out nowhere/a.npz", ["the folder nowhere does not exist"]),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "validate"])
def test_grasps_that_cannot_be_judged(command, arguments, expected, grasp_files, capsys):
    check([command, *arguments.split()], expected, capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--protocol lfit", ["there is no protocol 'lfit'", "Did you mean 'lift'?"]),
        ("--protocol fc6 dgn", ["there is no protocol 'dgn'", "Did you mean 'dgn6'?"]),
        ("--hand-mjcf other.xml", ["other.xml: it has no joint", "panda"]),
        ("--hand-mjcf broken.xml", ["broken.xml: MuJoCo cannot read it"]),
        ("--record a.gif --index 1", ["--index must be from 0 to 0, got 1"]),
        ("--device cuda:77", ["no device named 'cuda:77'"]),
        ("--device cpu --protocol dgn6", ["dgn6 does not run on a device"]),
        ("--device cpu", ["needs mujoco-warp: pip install 'warpgrasp[gpu-sim]'"]),
    ],
)
def test_nothing_is_judged_with_a_wrong_option(arguments, expected, grasp_files, capsys, monkeypatch):
    monkeypatch.setattr("warpgrasp.physics.object_model.object_shape", None)
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    check(["validate", "good.npz", *arguments.split()], expected, capsys)
    assert not list(grasp_files.glob("*.gif"))
