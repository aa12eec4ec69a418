"""The benchmark: suites, resuming, hand-computed table numbers, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from warpgrasp import bench, bench_report, bench_suites
from warpgrasp.bench import Settings, read_cell, run
from warpgrasp.bench_report import mean_interval, summarize, wilson, write_report
from warpgrasp.bench_suites import bounding_radius, suite
from warpgrasp.cli import main
from warpgrasp.errors import FileFormatError, MeshError, OptionError

FAST = {"count": 2, "protocols": ("fc6",), "device": "cpu"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small objects and their manifest."""
    objects = tmp_path / "objects"
    (objects / "ycb").mkdir(parents=True)
    trimesh.creation.box(extents=[0.05, 0.06, 0.07]).export(objects / "ycb" / "box.obj")
    trimesh.creation.icosphere(subdivisions=3, radius=0.05).export(objects / "ycb" / "ball.obj")
    rows = [
        {"name": "box", "family": "ycb", "file": "ycb/box.obj"},
        {"name": "ball", "family": "egad", "file": "ycb/ball.obj"},
        {"name": "bad", "family": "egad_defective", "file": "ycb/ball.obj"},
    ]
    (objects / "manifest.json").write_text(json.dumps(rows))
    return objects


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """Replaces the work of a cell by made-up numbers, and lists the objects that were worked on."""
    done: list[str] = []

    def pretend(cell: bench.Cell, settings: Settings, on_progress=None) -> dict:
        done.append(cell.entry.name)
        if cell.entry.name == "broken":
            return {"hand": cell.hand.name, "recipe": cell.recipe, "object": "broken", "error": "no surface"}
        row = made_up(cell.entry.name, [True] * settings.count, [1] * settings.count)
        return {**row, "key": cell.key, "hand": cell.hand.name, "recipe": cell.recipe}

    monkeypatch.setattr(bench, "run_cell", pretend)
    monkeypatch.setattr(bench, "warm_up", lambda *_: None)
    return done


def made_up(name: str, valid: list[bool], success: list[int], **columns: list) -> dict:
    count = len(valid)
    grasps = {
        "valid": valid,
        "reason": ["" if good else "penetration" for good in valid],
        "penetration_depth_m": [0.001] * count,
        "links_in_contact_2mm": [4] * count,
        "contact_area_5mm_m2": [1e-3] * count,
        bench.EPSILON: [0.1] * count,
        "success_fc6": success,
        **columns,
    }
    return {
        "format": bench.FORMAT,
        "object": name,
        "hand": "barrett",
        "recipe": "default",
        "device": "cpu",
        "seconds": 2.0,
        "core_seconds": 3.0,
        "judge_seconds": 1.0,
        "grasps": grasps,
        "diversity": {"sigma_keypoint_m": 0.02, "sigma_rotation_deg": 30.0},
    }


def test_primitives_can_be_held():
    entries = suite("primitives")
    assert len({entry.name for entry in entries}) == len(entries) >= 8
    for entry in entries:
        obj = entry.load()
        assert obj.watertight and obj.body_count == 1, entry.name
        assert 0.02 <= np.sort(obj.extents)[1] <= 0.105 and obj.extents.max() <= 0.15, entry.name
        assert obj.name == entry.name


def test_suites_of_a_folder_choose_and_scale(folder):
    assert [entry.name for entry in suite("ycb", folder)] == ["box"]
    (ball,) = suite("egad", folder)
    assert bounding_radius(ball.load()) == pytest.approx(0.6 * 0.05, rel=1e-6)
    normalized = suite("normalized", folder)
    assert len(normalized) == 8, "two objects, four sizes, defective meshes left out"
    radii = sorted({round(bounding_radius(entry.load()), 6) for entry in normalized})
    assert radii == [0.06, 0.08, 0.1, 0.12]


def test_suites_say_what_is_missing(folder, tmp_path):
    with pytest.raises(OptionError, match=r"no suite named 'yxb'. Did you mean 'ycb'\?"):
        suite("yxb")
    with pytest.raises(OptionError, match="needs --objects FOLDER"):
        suite("ycb")
    with pytest.raises(FileFormatError, match=r"holds manifest\.json"):
        suite("ycb", tmp_path / "nowhere")
    (folder / "ycb" / "box.obj").unlink()
    with pytest.raises(FileFormatError, match=r"lists ycb/box\.obj, which is not there"):
        suite("ycb", folder)
    (folder / "manifest.json").write_text('[{"name": "box"}]')
    with pytest.raises(FileFormatError, match="should be a list of"):
        suite("ycb", folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(FileFormatError, match="no object for the suite 'egad'"):
        suite("egad", folder)


def test_a_killed_run_does_only_what_is_missing(folder, tmp_path, counted):
    settings = Settings(suite="normalized", hands=("barrett",), recipes=("default",), objects=folder, **FAST)
    out = tmp_path / "out"
    first = run(settings, out)
    assert len(counted) == len(first) == 8
    files = sorted((out / "cells").iterdir())
    assert len(files) == 8 and all(path.suffix == ".jsonl" for path in files)

    counted.clear()
    assert run(settings, out) == first and not counted

    files[0].unlink()
    files[1].write_text(files[1].read_text()[:-40])
    row = json.loads(files[2].read_text())
    row["grasps"]["valid"] = [True]
    files[2].write_text(json.dumps(row))
    files[3].write_bytes(b"\xff\x00")
    files[4].write_text("[]")
    assert run(settings, out) == first
    assert len(counted) == 5, "missing, cut off, a short column, no text, not a row"


def test_a_kill_while_a_cell_is_written_leaves_no_cell(folder, tmp_path, counted, monkeypatch):
    settings = Settings(suite="ycb", hands=("barrett",), recipes=("default",), objects=folder, **FAST)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "out")
    assert not list((tmp_path / "out" / "cells").iterdir())
    assert len(run(settings, tmp_path / "out")) == 1 and len(counted) == 2


def test_what_changes_the_result_changes_the_cell(folder, tmp_path, counted):
    base = {"suite": "ycb", "hands": ("barrett",), "recipes": ("default",), "objects": folder, **FAST}
    changes = [
        {},
        {"count": 3},
        {"seed": 1},
        {"hands": ("panda",)},
        {"recipes": ("annealing",)},
        {"recipes": ("default-without-finish",)},
        {"protocols": ("sd",)},
    ]
    for change in changes:
        run(Settings(**{**base, **change}), tmp_path / "out")
    assert len(counted) == len(changes)
    run(Settings(**{**base, "hands": ("panda", "barrett")}), tmp_path / "out")
    assert len(counted) == len(changes), "a cell does not depend on what else is run"
    trimesh.creation.box(extents=[0.05, 0.06, 0.08]).export(folder / "ycb" / "box.obj")
    run(Settings(**base), tmp_path / "out")
    assert len(counted) == len(changes) + 1


def test_a_cell_that_fails_is_reported_and_tried_again(tmp_path, counted, monkeypatch):
    def one(name: str, objects: Path | None) -> list[bench_suites.Entry]:
        entry = suite("primitives")[0]
        return [entry, bench_suites.Entry(name="broken", family="made", load=entry.load)]

    monkeypatch.setattr(bench, "suite", one)
    settings = Settings(suite="primitives", hands=("barrett",), recipes=("default",), **FAST)
    rows = run(settings, tmp_path)
    assert [row.get("error") for row in rows] == [None, "no surface"]
    text = write_report(rows, settings, tmp_path)
    assert "- barrett, default, broken: no surface" in text
    run(settings, tmp_path)
    assert counted == ["cube 5 cm", "broken", "broken"]


def test_an_error_of_the_library_becomes_the_rows_error(monkeypatch, tmp_path):
    settings = Settings(suite="primitives", hands=("barrett",), recipes=("default",), **FAST)
    cell = next(bench.plan(settings, tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise MeshError("cube", "it has no faces")

    monkeypatch.setattr(bench, "find", fail)
    assert bench.run_cell(cell, settings)["error"] == "cube: it has no faces"


def test_wilson_and_mean_by_hand():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    assert np.isnan(wilson(0, 0)).all()
    # 1, 2, 3: mean 2, sample deviation 1, standard error 1 / sqrt(3).
    assert mean_interval(np.array([1.0, 2.0, np.nan, 3.0])) == (2.0, pytest.approx(1.96 / np.sqrt(3.0)))


def test_table_numbers_by_hand(tmp_path):
    rows = [
        made_up("a", [True, True, False, True], [1, 1, 1, 0], penetration_depth_m=[0.0, 0.001, 0.002, None]),
        made_up("b", [True, False, False, False], [0, 0, 0, 1], penetration_depth_m=[0.001, 0.001, 0.001, 0.008]),
    ]
    summary = summarize(rows, ("fc6",))
    held = summary["success"]["fc6"]
    assert (held["of_attempted"]["count"], held["of_attempted"]["of"]) == (4, 8)
    assert (held["of_valid"]["count"], held["of_valid"]["of"]) == (2, 4)
    assert (held["worst_object"], held["worst_share"]) == ("b", 0.25)
    assert held["mean_over_objects"]["value"] == pytest.approx(0.5)
    assert summary["valid"]["value"] == pytest.approx(0.5)
    assert summary["penetration_mean_m"]["value"] == pytest.approx(0.002)
    # 0, 1, 1, 1, 1, 2, 8 mm: the 0.95 quantile lies 0.7 of the way from the sixth to the seventh.
    assert summary["penetration_p95_m"] == pytest.approx(0.0062)
    assert summary["core_seconds_per_grasp"] == pytest.approx(0.75)

    settings = Settings(suite="primitives", hands=("barrett",), recipes=("default",), count=4)
    text = write_report(rows, settings, tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| barrett | default | 2 | 8 |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[4:8] == ["50 (22 to 78)", "50 (15 to 85)", "25 (b)", "50 (22 to 78)"]
    assert cells[8].endswith("/ 6.20") and cells[8].startswith("2.00 ± ")
    assert cells[9:] == ["4.0 ± 0.0", "10.0 ± 0.0", "0.100 ± 0.000", "2.0 / 30", "0.75", "0.50"]
    assert "| a | 3/4 |" in text and "| b | 1/4 |" in text
    assert "| barrett | default | 4 |" in text, "four failed by penetration"
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["summary"][0]["success"]["fc6"]["worst_object"] == "b"
    assert document["cells"] == rows
    for name in ("success", "penetration", "time"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_columns_stay_away_where_a_protocol_has_no_verdict(tmp_path):
    row = made_up("a", [False, False], [0, 0])
    del row["grasps"]["success_fc6"]
    settings = Settings(suite="primitives", hands=("barrett",), recipes=("default",), protocols=("sd",))
    text = write_report([row], settings, tmp_path)
    assert "of attempted [%]" not in text and not (tmp_path / "success.png").exists()


def test_settings_name_what_is_wrong():
    with pytest.raises(
        OptionError, match=r"Did you mean 'default'\? Recipes: .*; baselines: random-closing, annealing"
    ):
        Settings(suite="ycb", hands=("barrett",), recipes=("defualt",))
    with pytest.raises(OptionError, match="no protocol 'fc7'"):
        Settings(suite="ycb", hands=("barrett",), protocols=("fc7",))
    with pytest.raises(OptionError, match="each once, got barrett, barrett"):
        Settings(suite="ycb", hands=("barrett", "barrett"))


def test_the_command_runs_a_suite_and_resumes(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = ["bench", "ycb", "--hands", "panda", "--recipes", "random-closing", "--count", "1", "--device", "cpu"]
    words += ["--objects", str(folder), "--out", str(out)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "| panda | random-closing | 1 | 1 |" in text and "fc6, of attempted [%]" in text
    assert (out / "table.md").read_text() in text
    (path,) = (out / "cells").iterdir()
    row = json.loads(path.read_text())
    assert read_cell(path, row["key"], 1) == row
    assert {"success_fc6", bench.EPSILON, "contact_area_5mm_m2"} <= row["grasps"].keys()

    monkeypatch.setattr(bench, "run_cell", lambda *_: pytest.fail("the cell is there already"))
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ycb"], "the following arguments are required: --hands, --out"),
        (["ycb", "--hands", "panda", "--out", "OUT"], "the suite 'ycb' needs --objects FOLDER"),
        (["ycb", "--hands", "panda", "--out", "OUT", "--objects", "nowhere"], "there is no such file"),
        (["primitives", "--hands", "pandda", "--out", "OUT"], "Did you mean 'panda'?"),
        (["primitives", "--hands", "panda", "--out", "OUT", "--recipes", "aneal"], "no recipe named 'aneal'"),
        (["primitives", "--hands", "panda", "--out", "OUT", "--protocols", "fc7"], "no protocol 'fc7'"),
        (["primitives", "--hands", "panda", "--out", "FILE"], "is a file, not a folder"),
        (["primitives", "--hands", "panda", "--out", "OUT", "--device", "cuda:99"], "no device named 'cuda:99'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    places: dict[str, str] = {"OUT": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    try:
        code = main(["bench", *(places[word] if word in places else word for word in words)])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("warpgrasp: error: ") and err.count("\n") == 1 and message in err


def test_reports_need_no_matplotlib_before_they_draw():
    assert "matplotlib" not in vars(bench_report)
