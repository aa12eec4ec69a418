"""The command line: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import hands
from warpgrasp.cli import main
from warpgrasp.commands.output import finite, table

SMALL = ["--count", "2", "--iterations", "5", "--points", "64", "--device", "cpu"]


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "box.obj"
    trimesh.creation.box(extents=[0.05, 0.06, 0.07]).export(path)
    return str(path)


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "warpgrasp", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The only line on stderr after bad input."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("warpgrasp: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err


def test_synthesize_writes_files_and_a_summary(box, tmp_path, capsys):
    out, picture = tmp_path / "grasps.npz", tmp_path / "grasps.png"
    assert main(["synthesize", "barrett", box, *SMALL, "--out", str(out), "--preview", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "of 2 grasps valid: barrett on box" in text
    assert "s per grasp" in text
    assert f"wrote {out}" in text and f"wrote {picture}" in text
    assert warpgrasp.load_grasps(out).joint_position.shape == (2, 8)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_the_only_thing_on_stdout(box, tmp_path):
    out = tmp_path / "grasps.npz"
    process = start("synthesize", "barrett", box, *SMALL, "--json", "--out", str(out), "--seed", "3")
    text, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert errors == ""
    document = json.loads(text)
    assert (document["hand"], document["object"], document["seed"], document["count"]) == ("barrett", "box", 3, 2)
    kept = warpgrasp.load_grasps(out)
    assert document["valid_count"] == kept.valid.sum()
    for grasp, report in enumerate(document["grasps"]):
        np.testing.assert_array_equal(report["wrist_position"], kept.wrist_position[grasp])
        np.testing.assert_array_equal(report["wrist_quaternion_wxyz"], kept.wrist_quaternion[grasp])
        assert tuple(report["joint_position"]) == tuple(kept.joint_names)
        assert report["reason"] == kept.reason[grasp]


def test_quiet_prints_nothing(box, capfd):
    assert main(["synthesize", "barrett", box, *SMALL, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_no_valid_grasp_is_not_an_error(box, tmp_path, capsys):
    arguments = ["--count", "1", "--iterations", "1", "--points", "64", "--device", "cpu", "--valid-only"]
    assert main(["synthesize", "barrett", box, *arguments, "--preview", str(tmp_path / "none.png")]) == 0
    assert "no grasp passed every check" in capsys.readouterr().out


def test_hands_are_listed(capsys):
    assert main(["hands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "joints", "free", "joints", "fingers", "links", "mass", "kg"]
    assert [line.split()[0] for line in lines[1:]] == hands.names()
    assert main(["hands", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["free_joints"] for row in rows}["panda"] == 1


def test_inspect_shows_a_hand(tmp_path, capsys):
    picture = tmp_path / "panda.png"
    assert main(["hands", "--inspect", "panda", "--preview", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "2 joints, 1 of them free" in text
    assert "palm on" in text and f"wrote {picture}" in text
    assert picture.is_file()


def test_inspect_as_json(capsys):
    assert main(["hands", "--inspect", "shadow", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    hand = warpgrasp.load_hand("shadow")
    assert [joint["name"] for joint in document["joints"]] == list(hand.joint_names)
    assert document["palm"]["normal"] == hand.palm.normal.tolist()
    assert document["inferred"] == list(hand.inferred)
    assert len(document["couplings"]) == len(hand.couplings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["synthesise"], "invalid choice: 'synthesise'"),
        (["synthesize", "allegro"], "the following arguments are required: MESH"),
        (["synthesize", "allegro", "BOX", "--count", "0"], "expected a positive whole number, got '0'"),
        (["synthesize", "allegro", "BOX", "--scale", "nan"], "expected a positive number, got 'nan'"),
        (["synthesize", "allegro", "BOX", "--seed", "-1"], "expected a whole number, 0 or larger, got '-1'"),
        (["synthesize", "alegro", "BOX"], "Did you mean 'allegro'?"),
        (["synthesize", "allegro", "missing.obj"], "missing.obj"),
        (["synthesize", "allegro", "BOX", "--scale", "1000"], "70 m long"),
        (["synthesize", "allegro", "BOX", "--recipe", "defualt"], "Did you mean 'default'?"),
        (["synthesize", "allegro", "BOX", "--device", "cuda:99"], "no device named 'cuda:99'"),
        (["synthesize", "allegro", "BOX", "--out", "grasps.npy"], "ends in .npz"),
        (["synthesize", "allegro", "BOX", "--out", "nowhere/grasps.npz"], "the folder nowhere does not exist"),
        (["synthesize", "allegro", "BOX", "--preview", "nowhere/a.png"], "the folder nowhere does not exist"),
        (["hands", "--inspect", "alegro"], "Did you mean 'allegro'?"),
        (["hands", "--preview", "a.png"], "--preview needs --inspect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(arguments, message, box, capsys):
    assert message in error_line(capsys, *(box if word == "BOX" else word for word in arguments))


def test_bad_input_is_one_line_in_a_process_of_its_own(box):
    process = start("synthesize", "allegro", box, "--device", "cuda:99")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert err.startswith("warpgrasp: error: ") and err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_outputs_are_checked_before_the_work(box, tmp_path, capsys):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "no permission" in error_line(capsys, "synthesize", "allegro", box, "--out", str(folder / "grasps.npz"))


def test_interrupt_is_quiet(box):
    process = start("synthesize", "barrett", box, "--iterations", "10000000", "--count", "2", "--device", "cpu")
    time.sleep(5.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "")


def test_broken_pipe_is_quiet():
    process = start("hands", "--json")
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"warpgrasp {warpgrasp.__version__}\n"


def test_numbers_that_json_lacks_become_null():
    assert finite({"a": [1.5, float("nan"), float("inf")], "b": "nan"}) == {"a": [1.5, None, None], "b": "nan"}


def test_table_aligns_numbers_to_the_right():
    assert list(table([{"name": "a", "n_x": 5}, {"name": "bcd", "n_x": 15}])) == ["name  n x", "a       5", "bcd    15"]
