"""The scripts behind the committed results run, and compute what they say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import warp as wp

from warpgrasp import bench
from warpgrasp.bench_suites import suite
from warpgrasp.options import recipe

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


@wp.struct
class Both:
    """An array and a number, as kernels take them together."""

    points: wp.array[wp.vec3]
    scale: float


@pytest.fixture
def script(monkeypatch):
    """Imports a script of a folder, and runs it with arguments where there are any."""

    def load(name: str, *arguments: str, folder: str = "benchmarks") -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / folder))
        module = importlib.import_module(name)
        if arguments:
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
            module.main()
        return module

    return load


def row(name: str, valid: list[int], held: list[int], epsilon: list[float | None]) -> dict:
    """A cell's result with made-up numbers."""
    grasps = {
        "valid": [bool(value) for value in valid],
        "reason": [""] * len(valid),
        "success_fc6": held,
        "penetration_depth_m": [0.0004] * len(valid),
        "self_penetration_depth_m": [0.0002] * len(valid),
        "links_in_contact_2mm": [9] * len(valid),
        bench.EPSILON: epsilon,
        bench.Q1: [0.05] * len(valid),
        **{key: [threshold] * len(valid) for threshold, key in bench.AREAS.items()},
    }
    spread = {"sigma_keypoint_m": 0.02, "sigma_rotation_deg": 90.0, "pca1_share": 0.3}
    common = {"hand": "shadow", "recipe": "default", "device": "cpu", "seconds": 1.0, "core_seconds": 2.0}
    return {"object": name, "grasps": grasps, "diversity": spread, "judge_seconds": 1.0, **common}


def test_ablation_table_by_hand(script):
    ablation = script("ablation")
    rows = [
        row("025_mug r06cm", [1, 1, 1, 0], [1, 1, 0, 1], [0.3, 0.2, 0.1, 0.0]),
        row("013_apple r06cm", [1, 0, 0, 0], [1, 0, 0, 0], [0.4, 0.4, None, 0.0]),
    ]
    wanted, whole, seen, unseen = ablation.table("shadow", {"default": rows})
    assert wanted["fc6, of valid [%]"] == "≥ 97" and wanted["first PCA share"] == "≤ 0.33"
    assert (whole["objects"], seen["objects"], unseen["objects"]) == ("all (2)", "tuned (1)", "held out (1)")
    assert whole["fc6, of valid [%]"] == "**75.0**" and unseen["fc6, of valid [%]"] == "100.0"
    assert whole["valid and holding, of attempted [%]"] == "**37.5**", "held but not valid does not count"
    assert whole["worst object [%]"] == "**25**" and seen["worst object [%]"] == "50"
    assert whole["penetration, mean [mm]"] == "0.40" and whole["self-penetration, mean [mm]"] == "**0.200**"
    # The four of the mug average 0.15, the three of the apple that are finite 0.267.
    assert whole["epsilon of the 10 best"] == "**0.208**" and unseen["epsilon of the 10 best"] == "0.267"
    assert whole["rotation, sigma [deg]"] == "**90**" and whole["Q1"] == "0.050"
    assert whole["valid and holding per core-second"] == "**0.75**"
    np.testing.assert_allclose(ablation.areas(rows), list(bench.AREAS))


def test_each_size_has_a_line(script):
    names = ["025_mug r06cm", "025_mug r12cm", "013_apple r06cm", "can r3 h10 cm"]
    (_, *lines) = script("ablation").table("shadow", {"default": [row(name, [1], [1], [0.3]) for name in names]})
    parts = [line["objects"] for line in lines]
    assert parts == ["all (4)", "tuned (2)", "held out (2)", "radius 6 cm (2)", "radius 12 cm (1)"]


def test_ten_best_are_the_ten_largest_of_each_object(script):
    ablation = script("ablation")
    many = row("a", [1] * 12, [1] * 12, [0.1, 0.2, *([0.3] * 10)])
    (_, line) = ablation.table("shadow", {"default": [many]})
    assert line["epsilon of the 10 best"] == "0.300"


def test_only_terms_that_act_are_switched_off(script):
    ablation = script("ablation")
    assert "balance" in ablation.switchable("default") and "balance" not in ablation.switchable("attraction")
    assert "leak" in ablation.switchable("paper") and "leak" not in ablation.switchable("default")
    for name in ("default", "paper"):
        for term in ablation.switchable(name):
            assert ablation.acting(recipe(name).without(term)) != ablation.acting(recipe(name))


@pytest.mark.slow
def test_ablation_runs_and_reports_again_what_is_there(script, tmp_path, capsys):
    words = ["primitives", "--cells", str(tmp_path / "cells"), "--hands", "panda", "--recipe", "attraction"]
    words += ["--others", "random-closing", "--terms", "finish", "--count", "1", "--device", "cpu"]
    out = ["--out", str(tmp_path)]
    ablation = script("ablation", *words, "--partial", *out)
    assert "wrote" in capsys.readouterr().out and "## panda" not in (tmp_path / "primitives_ablation.md").read_text()
    few = suite("primitives")[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "suite", lambda *_: few)
        script("ablation", *words, *out)
        text = (tmp_path / "primitives_ablation.md").read_text()
        assert text.count("all (2)") == 3 and "attraction-without-finish" in text
        assert "--cells CELLS" in text and str(tmp_path / "cells") not in text
        assert (tmp_path / "primitives_contact.png").read_bytes().startswith(PNG)
        patch.setattr(bench, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
        script("ablation", *words, "--partial", *out)
    assert ablation.TUNED and "all (2)" in (tmp_path / "primitives_ablation.md").read_text()


def test_speed_adds_up_by_hand(script):
    speed = script("speed")
    common = {"hand": "shadow", "recipe": "default", "count": 100, "seconds": 5.0, "core_seconds": 10.0}
    rows = [
        {**common, "valid": 80, "judged": 10, "held": 9},
        {**common, "valid": 20, "judged": 20, "held": 10},
        {**common, "count": 200, "valid": 0, "judged": 0, "held": 0},
    ]
    first, second = speed.rates(rows)
    assert first.numbers == (200, 100, pytest.approx(80 * 0.9 + 10))
    assert speed.line(first)["attempted / valid / holding per second"] == "20.00 / 10.00 / 8.20"
    assert speed.line(first)["attempted / valid / holding per core-second"] == "10.00 / 5.00 / 4.10"
    assert second.numbers == (200, 0, 0.0) and speed.line(second)["fc6, of valid [%]"] == "-"


@pytest.mark.slow
def test_speed_runs_and_goes_on(script, tmp_path, capsys):
    words = ["--hands", "panda", "--recipes", "attraction", "random-closing", "--ablate", "--names", "cube 5 cm"]
    words += ["--counts", "2", "--device", "cpu", "--out", str(tmp_path)]
    speed = script("speed", *words)
    raw = tmp_path / "speed.jsonl"
    assert raw.read_text().count("\n") == 2 and "of 2 valid" in capsys.readouterr().out
    text = (tmp_path / "speed.md").read_text()
    assert "| panda | attraction | 2 | 2 |" in text and "cube 5 cm" in text
    assert (tmp_path / "speed.png").read_bytes().startswith(PNG)
    first = raw.read_text().splitlines()[0]
    raw.write_text(first + "\n")
    made = json.loads(first) | {"recipe": "random-closing", "valid": 0, "judged": 0, "held": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure", lambda *_: made)
        script("speed", *words)
    assert "| panda | random-closing | 2 | 2 | 0 | - |" in (tmp_path / "speed.md").read_text()
    assert raw.read_text().splitlines()[0] == first


def test_recheck_tables_by_hand(script):
    recheck = script("recheck")
    before = {
        "held": [1, 1, 1, 0],
        "soft": [1, 1, 0, 0],
        "scored": [1, 0, 1, 0],
        "q": [0.9, 0.4, 0.8, 0.6],
        "tangential": [0.1, 0.2, 0.3, 0.4],
        "residual": [0.0, 0.0, 0.0, 1.0],
        "fingers": [3, 3, 2, 1],
        "failure": ["", "", "closing: strain too large", "too few fingers"],
    }
    after = before | {"q": [0.95, 0.4, 0.8, 0.6], "held": [0, 1, 1, 0]}
    rows = [{"hand": "shadow", "recipe": "default", "object": "a", "seconds": 0.5, "before": before, "after": after}]
    (line,) = recheck.labels(rows)
    assert line["hold fc6 [%]"].startswith("75") and line["hold fc6, of those that pass soft [%]"].startswith("100")
    (line,) = recheck.caught(rows)
    assert (line["fail fc6"], line["one finger or none"]) == ("1", "1")
    assert line["of them fail soft [%]"].startswith("100") and line["of them fail either [%]"].startswith("100")
    assert line["AUC of q of the soft contacts"] == "0.67", "0.9 and 0.8 are above 0.6, 0.4 is not"
    assert line["AUC of wrench residual of the rigid contacts"] == "1.00"
    first, second = recheck.failures(rows)
    assert first["what fails first"] == "strain too large" and first["of them hold fc6 [%]"].startswith("100")
    assert second["what fails first"] == "too few fingers" and second["of them hold fc6 [%]"].startswith("0")
    (line,) = recheck.effects(rows)
    assert (line["moved"], line["rise of those moved"]) == ("1", "0.050")
    assert line["their fc6 before [%]"].startswith("100") and line["after [%]"].startswith("0")


@pytest.mark.slow
def test_recheck_runs(script, tmp_path):
    words = ["--suite", "primitives", "--names", "cube 5 cm", "--hands", "barrett", "--recipes", "default"]
    script("recheck", str(tmp_path), *words, "--count", "2", "--device", "cpu", "--out", str(tmp_path))
    text = (tmp_path / "recheck.md").read_text()
    assert text.count("| barrett | default | 2 |") == 2 and (tmp_path / "recheck.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_robustness_runs(script, tmp_path):
    page = tmp_path / "robustness.md"
    words = ["--hands", "barrett", "--names", "can r3 h10 cm", "--count", "2", "--copies", "2", "--device", "cpu"]
    script("robustness", *words, "--out", str(page))
    lines = [line for line in page.read_text().splitlines() if line.startswith("| barrett")]
    assert len(lines) == 7 and "| as it is |" in lines[0] and "| all of it |" in lines[-1]
    alone, moved = (int(line.split("|")[4]) for line in (lines[0], lines[1]))
    assert 0 < alone <= 2 and moved == 2 * alone, "a grasp that is not moved is judged once"


@pytest.mark.slow
def test_profile_adds_up(script, tmp_path, monkeypatch):
    page = tmp_path / "profile.md"
    taken = []
    synthesize = script("profile_synthesis").find
    monkeypatch.setattr(
        script("profile_synthesis"), "find", lambda *words: taken.append(words[-1]) or synthesize(*words)
    )
    script(
        "profile_synthesis", "--hand", "panda", "--batch", "2", "--counts", "1", "--device", "cpu", "--out", str(page)
    )
    assert taken == [1, 2, 1], "once to compile, once for the profile, once for the scaling"
    text = page.read_text()
    steps = [line.split("|") for line in text.split("## By stage")[0].splitlines() if line.startswith("| ")][2:]
    shares = [float(cells[4]) for cells in steps if cells[1].strip() not in ("", "all of it")]
    within = [float(cells[4]) for cells in steps if not cells[1].strip()]
    assert sum(shares) == pytest.approx(100.0, abs=5.0) and 0.0 < sum(within) <= sum(shares) + 1.0
    assert {"descend.descend", "finish.finish"} <= {cells[1].strip() for cells in steps}
    kernels = text.split("## By kernel")[1].split("## Searches")[0]
    of_kernels = [float(line.split("|")[2]) for line in kernels.splitlines() if line.startswith("| `")]
    assert sum(of_kernels) == pytest.approx(100.0, abs=1.0) and "`closest_face_by_normal`" in kernels
    hands = [line.split("|")[2].strip() for line in text.split("of the descent")[1].splitlines()[6:11]]
    assert hands == ["64", "6", "4", "2", "2"], "32, 3, 2, 1 and 1 starts of two grasps"


def test_bytes_of_a_launch_count_every_array_once(script):
    profile = script("profile_synthesis")
    a, b = wp.zeros(5, dtype=wp.vec3, device="cpu"), wp.zeros((2, 3), dtype=int, device="cpu")
    assert sum(profile.array_bytes([a, 3.0, b, a]).values()) == 5 * 12 + 6 * 4
    both = Both()
    both.points, both.scale = a, 1.0
    assert sum(profile.array_bytes([both, b]).values()) == 5 * 12 + 6 * 4
    assert sum(profile.array_bytes([both, a]).values()) == 5 * 12
