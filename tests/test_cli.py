"""The command line: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tqdm
import trimesh
from physics_grasps import panda_grip
from PIL import Image

import warpgrasp
from warpgrasp import hands
from warpgrasp.bench_report import share
from warpgrasp.cli import main
from warpgrasp.commands import evaluate
from warpgrasp.commands.output import Progress, finite, short, table
from warpgrasp.options import RECIPES
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps

SMALL = ["--count", "2", "--iterations", "5", "--points", "64", "--device", "cpu"]


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "box.obj"
    trimesh.creation.box(extents=[0.05, 0.06, 0.07]).export(path)
    return str(path)


def repeated(grasps: Grasps, count: int) -> Grasps:
    """The first grasp, many times."""
    many = grasps[np.zeros(count, int)]
    many.hand, many.object = grasps.hand, grasps.object
    return many


@pytest.fixture
def grip(tmp_path: Path) -> str:
    """Three grips of a box: one that holds, one that is far away and one with its fingers open."""
    good, far = repeated(panda_grip(), 3), panda_grip(away=0.5)
    for pose in (good.pregrasp, good, good.squeeze):
        pose.wrist_position[1] = far.wrist_position[0]
    good.squeeze = Pose(good.squeeze.wrist_position, good.squeeze.wrist_quaternion, good.squeeze.joint_position.copy())
    good.squeeze.joint_position[2] = good.joint_position[2] + 0.01
    good.valid[2], good.reason = False, np.array(["", "", "links in contact"])
    good.save(tmp_path / "grip.npz")
    return str(tmp_path / "grip.npz")


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


def test_terms_are_switched_off(box, tmp_path, capsys):
    common = ["--without", "self-penetration", "finish", "--json", "--quiet", "--out"]
    assert main(["synthesize", "barrett", box, *SMALL, *common, str(tmp_path / "one.npz")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"] == "default-without-self-penetration-without-finish"
    stages = warpgrasp.load_grasps(tmp_path / "one.npz").info["recipe"]["stages"]
    assert [stage["self_weight"] for stage in stages] == [0.0] * (len(RECIPES["default"].stages) - 1)
    written = ["synthesize", "barrett", box, *SMALL, "--recipe", document["recipe"], "--json"]
    assert main(written) == 0
    assert json.loads(capsys.readouterr().out)["grasps"] == document["grasps"], "the name means the same"


def test_quiet_prints_nothing(box, capfd):
    assert main(["synthesize", "barrett", box, *SMALL, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_no_valid_grasp_is_not_an_error(box, tmp_path, capsys):
    arguments = ["--count", "1", "--iterations", "1", "--points", "64", "--device", "cpu", "--valid-only"]
    assert main(["synthesize", "barrett", box, *arguments, "--preview", str(tmp_path / "none.png")]) == 0
    assert "no grasp passed every check" in capsys.readouterr().out


def test_evaluate_prints_a_table_and_keeps_every_metric(grip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 2)
    out = tmp_path / "measured.npz"
    assert main(["evaluate", grip, "--device", "cpu", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("3 grasps, 2 valid: panda on object\n")
    kept, expected = warpgrasp.load_grasps(out), warpgrasp.evaluate(warpgrasp.load_grasps(grip), device="cpu")
    assert set(kept.metrics) == set(expected.metrics)
    for key, values in expected.metrics.items():
        np.testing.assert_array_equal(kept.metrics[key], values, err_msg=key)
    area = 1e4 * np.quantile(expected.metrics["contact_area_5mm_m2"], (0.5, 0.05, 0.95))
    line = next(line for line in text.splitlines() if line.startswith("contact area, 5 mm"))
    assert line.split()[-4:] == [*(str(short(value)) for value in area), "cm²"]
    spread = short(1e2 * warpgrasp.diversity(expected)["sigma_translation_m"])
    assert ["wrist", "position", str(spread), "cm"] in [line.split() for line in text.splitlines()]
    assert f"wrote {out} with {len(expected.metrics)} metrics" in text


def test_evaluate_as_json(grip, capfd):
    assert main(["evaluate", grip, "--device", "cpu", "--json"]) == 0
    out, err = capfd.readouterr()
    document, expected = json.loads(out), warpgrasp.evaluate(warpgrasp.load_grasps(grip), device="cpu")
    assert err == ""
    assert (document["hand"], document["count"], document["valid_count"]) == ("panda", 3, 2)
    for key, values in expected.metrics.items():
        assert [grasp["metrics"][key] for grasp in document["grasps"]] == finite(values.tolist()), key
    median = document["metrics"]["finger_distance_mean_cap10mm_m"]["median"]
    assert median == np.median(expected.metrics["finger_distance_mean_cap10mm_m"])
    assert document["diversity"] == finite(warpgrasp.diversity(expected))


def test_validate_counts_what_held_and_why_the_others_did_not(grip, tmp_path, capsys):
    out = tmp_path / "judged.npz"
    arguments = ["--protocol", "fc6", "sd", "--workers", "1", "--out", str(out)]
    assert main(["validate", grip, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    low, high = (round(100 * share(np.array([True, False, False]))[end]) for end in ("low", "high"))
    assert lines[1] == (
        f"fc6: 1 of 3 held (33 %, 95 % interval {low} to {high} %), "
        "1 of 2 of the valid ones (50 %, 95 % interval 9 to 91 %)"
    )
    assert lines[2] == "     2  moved too far (pull -x 2)"
    kept = warpgrasp.load_grasps(out)
    expected = warpgrasp.validate(warpgrasp.validate(warpgrasp.load_grasps(grip)), "sd")
    assert kept.metrics["success_fc6"].tolist() == [1, 0, 0]
    assert set(kept.metrics) == set(expected.metrics)
    assert kept.info == json.loads(json.dumps(expected.info))
    moved = 1e3 * np.median(expected.metrics["sd_obman_displacement_m"])
    assert lines[3] == f"sd_obman: the object moved {moved:.3g} mm (median); nothing is judged"
    assert lines[-1] == f"wrote {out}"


def test_validate_as_json(grip, capfd):
    assert main(["validate", grip, "--protocol", "fc6", "sd", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["protocols"]["fc6"]["held"] == share(np.array([True, False, False]))
    assert document["protocols"]["fc6"]["held_of_valid"] == share(np.array([True, False]))
    assert document["protocols"]["fc6"]["failures"] == {"moved too far": 2}
    assert document["protocols"]["fc6"]["failed_pulls"] == {"-x": 2}
    assert document["protocols"]["sd_obman"]["held"] is None
    assert [grasp["metrics"]["success_fc6"] for grasp in document["grasps"]] == [1, 0, 0]


def test_validate_records_the_grasp_that_was_asked_for(grip, tmp_path, capsys):
    for name, words in (("film.gif", []), ("strip.png", ["--index", "1"]), ("numbers.npz", ["--index", "2"])):
        assert main(["validate", grip, "--record", str(tmp_path / name), "--workers", "1", *words]) == 0
        assert f"wrote {tmp_path / name}" in capsys.readouterr().out
    with Image.open(tmp_path / "film.gif") as film, Image.open(tmp_path / "strip.png") as strip:
        assert film.format == "GIF" and film.size == (320, 390)
        # Beginning, closed, and lost in the first pull.
        assert strip.size == (3 * 240, 240 + 44)
    with np.load(tmp_path / "numbers.npz") as numbers:
        assert set(numbers["stage"]) == {"close", "-x"}


def test_commands_say_how_to_keep_what_they_found(grip, capsys):
    assert main(["validate", grip, "--workers", "1"]) == 0
    assert "pass --out judged.npz to keep them" in capsys.readouterr().out
    assert main(["evaluate", grip, "--device", "cpu", "--quiet"]) == 0
    assert main(["validate", grip, "--workers", "1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("whole_group", [False, True], ids=["parent", "group"])
def test_interrupted_validation_leaves_no_process_behind(whole_group, tmp_path):
    many = repeated(panda_grip(), 1000)
    many.save(tmp_path / "many.npz")
    process = start("validate", str(tmp_path / "many.npz"), "--workers", "2", start_new_session=True)
    workers: list[int] = []
    deadline = time.monotonic() + 60.0
    while len(workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        workers = children(process.pid)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT) if whole_group else process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert len(workers) == 2
    assert (process.returncode, out, err) == (130, "", "")
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []


def children(parent: int) -> list[int]:
    """Processes that a process has started and not yet waited for."""
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_a_bar_shows_that_time_passes(capfd, monkeypatch):
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0.0))
    with Progress("cutting", shown=True) as progress:
        progress.bar.start_t -= 10.0
        time.sleep(1.2)
    assert "cutting, 00:1" in capfd.readouterr().err
    with Progress("quick", "step", shown=True) as progress:
        progress(1, 2)
    assert capfd.readouterr().err.strip() == ""


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
        (["synthesize", "allegro", "BOX", "--without", "penetraton"], "Did you mean 'penetration'? Terms: attraction,"),
        (["synthesize", "allegro", "BOX", "--recipe", "default-without-leek"], "Did you mean 'leak'?"),
        (["synthesize", "allegro", "BOX", "--without"], "argument --without: expected at least one argument"),
        (["synthesize", "allegro", "BOX", "--device", "cuda:99"], "no device named 'cuda:99'"),
        (["synthesize", "allegro", "BOX", "--table", "9"], "--table 9: box has 6 resting poses, from 0 to 5"),
        (["synthesize", "allegro", "BOX", "--obstacle", "missing.obj"], "missing.obj: no such file"),
        (["synthesize", "allegro", "BOX", "--obstacle", "BOX"], "mm into the object; move one of them"),
        (["synthesize", "allegro", "BOX", "--arm", "ur10e"], "--arm needs --base-pose X Y Z [YAW]"),
        (["synthesize", "allegro", "BOX", "--base-pose", "1", "0", "0"], "--base-pose is of use with an arm only"),
        (["synthesize", "allegro", "BOX", "--arm", "ur10", "--base-pose", "1", "0", "0"], "Did you mean 'ur10e'?"),
        (["synthesize", "allegro", "BOX", "--arm", "ur10e", "--base-pose", "1", "0"], "--base-pose takes X Y Z, X Y Z"),
        (["synthesize", "allegro", "BOX", "--arm", "ur10e", "--base-pose", "5", "0", "0"], "move the base (now at [5,"),
        (
            ["synthesize", "shadow_wrist", "BOX", "--arm", "panda_arm", "--base-pose", "0.5", "0", "0"],
            "shadow_wrist weighs 3.79 kg, but panda_arm may carry 3 kg",
        ),
        (["synthesize", "allegro", "BOX", "--out", "grasps.npy"], "ends in .npz"),
        (["synthesize", "allegro", "BOX", "--out", "nowhere/grasps.npz"], "the folder nowhere does not exist"),
        (["synthesize", "allegro", "BOX", "--preview", "nowhere/a.png"], "the folder nowhere does not exist"),
        (["evaluate"], "the following arguments are required: GRASPS"),
        (["evaluate", "missing.npz"], "missing.npz: there is no such file"),
        (["evaluate", "BOX"], "it is not a file of grasps"),
        (["evaluate", "GRIP", "--device", "cuda:99"], "no device named 'cuda:99'"),
        (["evaluate", "GRIP", "--out", "nowhere/a.npz"], "the folder nowhere does not exist"),
        (["validate", "GRIP", "--protocol", "fc7"], "Did you mean 'fc6'?"),
        (["validate", "GRIP", "--workers", "0"], "expected a positive whole number, got '0'"),
        (["validate", "GRIP", "--record", "a.gif", "--index", "3"], "--index must be from 0 to 2, got 3"),
        (["validate", "GRIP", "--record", "a.gif", "--index", "-1"], "expected a whole number, 0 or larger, got '-1'"),
        (["validate", "GRIP", "--index", "1"], "--index says which grasp to record; it needs --record FILE"),
        (["validate", "GRIP", "--record", "a.mp4"], "ends in .gif or .png or .npz"),
        (["validate", "GRIP", "--record", "nowhere/a.gif"], "the folder nowhere does not exist"),
        (["validate", "GRIP", "--out", "judged.npy"], "ends in .npz"),
        (["validate", "GRIP", "--hand-mjcf", "missing.xml"], "missing.xml: there is no such file"),
        (["hands", "--inspect", "alegro"], "Did you mean 'allegro'?"),
        (["hands", "--preview", "a.png"], "--preview needs --inspect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(arguments, message, box, grip, capsys):
    files = {"BOX": box, "GRIP": grip}
    assert message in error_line(capsys, *(files.get(word, word) for word in arguments))


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
