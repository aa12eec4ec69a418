"""What users get wrong most: every case ends with exit code 2 and one line that says what would work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from warpgrasp.cli import main

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
    try:
        code = main(["synthesize", *arguments.split()])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("warpgrasp: error: ") and err.count("\n") == 1
    assert "Traceback" not in err
    for words in expected:
        assert words in err
    assert not list(folder.glob("*.npz")), "nothing is written"
