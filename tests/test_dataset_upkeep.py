"""Verify finds what is wrong, repair redoes only that, merge and split lose and leak nothing, others can read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import trimesh
import yaml
from dataset_runs import content, simulate, write_config

import warpgrasp
from warpgrasp import dataset
from warpgrasp.cli import main
from warpgrasp.dataset import verifying


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A dataset of 2 hands x 5 objects x 10 grasps, with contacts; two objects are the same box, one scaled."""
    folder = tmp_path_factory.mktemp("original")
    config = write_config(folder, boxes=4, contacts=True, shard_size=6)
    twin = trimesh.load_mesh(folder / "meshes" / "box0.stl")
    twin.apply_scale(1.25)
    twin.export(folder / "meshes" / "twin.stl")
    simulate(config, folder / "made")
    return folder / "made"


@pytest.fixture
def made(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "made")


def some(made: Path, pattern: str) -> Path:
    """A file in the middle of those that match."""
    found = sorted(made.glob(pattern))
    return found[len(found) // 2]


def damage(made: Path, how: str) -> set[str]:
    """Damage a dataset; returns where verify should see it."""
    path, record = some(made, "grasps/*/*.parquet"), some(made, "shards/*.json")
    if how in ("record", "liar", "outside"):
        path = record
    text = record.read_text()
    match how:
        case "flipped":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "cut off":
            path.write_bytes(path.read_bytes()[:-9])
        case "gone":
            path = some(made, "contacts/*/*.parquet")
            path.unlink()
        case "record":
            record.write_text(text[:-30])
        case "liar":
            record.write_text(text.replace('"rows": ', '"rows": 1', 1))
        case "outside":
            record.write_text(text.replace('"files": {', '"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0"},'))
        case "mesh":
            path = some(made, "objects/*.parquet")
            path.write_bytes(path.read_bytes()[:-9])
        case "orphan":
            record.unlink()
            return {path.relative_to(made).as_posix() for path in made.glob(f"*/*/{record.stem}.parquet")}
        case "half":
            path = path.with_name(f".{path.name}.77.tmp")
            path.write_bytes(b"half")
    return {path.relative_to(made).as_posix()}


@pytest.mark.parametrize("how", "flipped|cut off|gone|record|liar|outside|mesh|orphan|half".split("|"))
def test_verify_finds_damage_and_repair_redoes_only_that(original, made, how):
    assert dataset.verify(made, deep=True) == []
    expected = damage(made, how)
    assert {problem.path for problem in dataset.verify(made)} == expected
    # The maker is not run from what a folder says, unless it is warpgrasp's own.
    found, report = dataset.repair(made)
    assert {problem.path for problem in found} == expected and report is None
    assert dataset.verify(made, deep=True) == []
    redone = simulate(original.parent / "config.yaml", made)
    assert redone.made == {"half": 0, "mesh": 4}.get(how, 1)
    assert content(made) == content(original)


def test_repair_makes_what_it_deleted_again(made, monkeypatch):
    record = json.loads((made / "dataset.json").read_text())
    monkeypatch.setattr(verifying, "SYNTHESIZE", record["identity"]["maker"])
    monkeypatch.setattr(
        verifying, "generate", lambda config, out, **_: dataset.generate(
            config, out, maker="simulated_synthesis:make", executor="here", device="cpu", gallery=0
        )
    )  # fmt: skip
    before = content(made)
    damage(made, "flipped")
    found, report = dataset.repair(made)
    assert (len(found), report.made, report.there) == (1, 1, 19)
    assert content(made) == before


def test_deep_verify_finds_rows_that_a_checksum_cannot(made):
    part = next(dataset.open_store(made).parts(hand="barrett"))
    path = made / "contacts" / "barrett" / f"{part.name}.parquet"
    other = some(made, "contacts/barrett/*.parquet")
    path.write_bytes(other.read_bytes())
    record = made / "shards" / f"{part.name}.json"
    content = json.loads(record.read_text())
    name = path.relative_to(made).as_posix()
    size, digest = dataset.open_store(made).part(other.stem).files[other.relative_to(made).as_posix()]
    content["files"][name] = {"bytes": size, "sha256": digest}
    record.write_text(json.dumps(content))
    assert dataset.verify(made) == []
    assert "a grasp that is not there" in dataset.verify(made, deep=True)[0].what


def test_the_command_line_says_what_is_wrong(made, capsys):
    assert main(["dataset", "verify", str(made)]) == 0
    assert capsys.readouterr().out == "all is well\n"
    damage(made, "flipped")
    assert main(["dataset", "verify", str(made)]) == 2
    captured = capsys.readouterr()
    assert "its content has changed" in captured.out and "1 files are not as they should be" in captured.err
    assert main(["dataset", "repair", str(made)]) == 0
    assert "deleted 1 damaged files" in capsys.readouterr().out
    assert main(["dataset", "verify", str(made / "grasps")]) == 2
    assert "there is no dataset" in capsys.readouterr().err


def rows(folder: Path) -> dict[tuple[str, int], tuple]:
    """Every grasp of a dataset, by shard and place."""
    found = {}
    for part in dataset.open_store(folder).parts():
        table = dataset.read_table(part.path)
        for row in table.drop_columns(["metric_fc6_failure"]).to_pylist():
            key = row["shard"], row["index"]
            assert key not in found
            found[key] = tuple(map(str, row.values()))
    return found


def test_merge_keeps_every_grasp_and_contact(made, tmp_path):
    store = dataset.merge([made, made], tmp_path / "merged")
    assert [part.hand for part in store.parts()] == ["allegro", "barrett"]
    assert rows(tmp_path / "merged") == rows(made)
    assert dataset.verify(tmp_path / "merged", deep=True) == []
    for hand in ("allegro", "barrett"):
        one, many = (
            sum(pq.read_metadata(path).num_rows for path in folder.glob(f"contacts/{hand}/*.parquet"))
            for folder in (made, tmp_path / "merged")
        )
        assert one == many
    first, again = (list(dataset.open_store(folder).grasps()) for folder in (made, tmp_path / "merged"))
    order = sorted(range(len(first)), key=lambda i: (first[i].hand_source, first[i].object_name, first[i].info["seed"]))
    other = sorted(range(len(again)), key=lambda i: (again[i].hand_source, again[i].object_name, again[i].info["seed"]))
    for i, j in zip(order, other, strict=True):
        np.testing.assert_array_equal(first[i].squeeze.joint_position, again[j].squeeze.joint_position)
        np.testing.assert_array_equal(first[i].object_vertices, again[j].object_vertices)
        assert first[i].info == again[j].info


def test_a_merged_dataset_goes_on(made, original, tmp_path):
    merged = tmp_path / "merged"
    dataset.merge([made], merged)
    assert simulate(original.parent / "config.yaml", merged).made == 0
    before = content(merged)
    dataset.merge([made], merged)
    assert content(merged) == before
    with pytest.raises(warpgrasp.OptionError, match="is one of the datasets"):
        dataset.merge([made], made)
    damage(made, "flipped")
    with pytest.raises(warpgrasp.FileFormatError, match="run `warpgrasp dataset repair` first"):
        dataset.merge([made], tmp_path / "other")


def test_no_object_is_in_two_splits(made):
    found = dataset.split(made, fractions={"train": 0.5, "validation": 0.25, "test": 0.25})
    names = [name for objects in found.values() for name in objects]
    assert sorted(names) == ["box0", "box1", "box2", "box3", "twin"]
    assert [len(found[split]) - ("twin" in found[split]) for split in found] == [2, 1, 1]
    # The twin is box0 at another size.
    assert any({"box0", "twin"} <= set(objects) for objects in found.values())
    seen = {split: {g.object_name for g in dataset.open_store(made).grasps(split=split)} for split in found}
    assert seen == {split: set(objects) for split, objects in found.items()}
    assert dataset.split(made, fractions={"train": 0.5, "validation": 0.25, "test": 0.25}) == found
    assert any(dataset.split(made, seed=seed) != dataset.split(made) for seed in range(1, 6))


def test_splits_that_cannot_be_are_refused(made):
    with pytest.raises(warpgrasp.OptionError, match="sum to 1"):
        dataset.split(made, fractions={"train": 0.5, "test": 0.6})
    with pytest.raises(warpgrasp.OptionError, match="4 objects, too few for 5 splits"):
        dataset.split(made, fractions=dict.fromkeys("abcde", 0.2))
    with pytest.raises(warpgrasp.OptionError, match="has no split 'train'; run"):
        list(dataset.open_store(made).grasps(split="train"))


def test_merging_takes_the_splits_apart(made, tmp_path):
    found = dataset.split(made)
    dataset.merge([made], tmp_path / "merged")
    for part in dataset.open_store(tmp_path / "merged").parts():
        assert any(set(part.objects) <= set(objects) for objects in found.values())


def card(folder: Path) -> dict:
    """What the card of a dataset tells Hugging Face."""
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


HUGGING_FACE = """
import json, sys
from datasets import load_dataset
out = {}
for folder in sys.argv[1:]:
    for name in ("allegro", "barrett", "allegro_contacts"):
        for streaming in (False, True):
            loaded = load_dataset(folder, name, streaming=streaming)
            for split in loaded:
                rows = list(loaded[split])
                objects = sorted({str(row.get("object")) for row in rows})
                found = [len(rows), objects, len(rows[0].get("joint_position", []))]
                out[f"{folder} {name} {split} {streaming}"] = found
print(json.dumps(out))
"""


def test_hugging_face_reads_it_offline_and_streaming(made, tmp_path):
    pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    apart = shutil.copytree(made, tmp_path / "apart")
    expected = {
        made: {"train": ["box0", "box1", "box2", "box3", "twin"]},
        apart: dataset.split(apart, fractions={"train": 0.5, "test": 0.5}),
    }
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", HUGGING_FACE, str(made), str(apart)]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    for folder, splits in expected.items():
        for split, objects in splits.items():
            for hand, joints in (("allegro", 16), ("barrett", 8)):
                for streaming in (False, True):
                    found = read.pop(f"{folder} {hand} {split} {streaming}")
                    assert found == [10 * len(objects), sorted(objects), joints]
            once, again = (read.pop(f"{folder} allegro_contacts {split} {streaming}") for streaming in (False, True))
            assert once == again and once[0] > 0
    assert read == {}
    assert {entry["config_name"] for entry in card(made)["configs"]} == {
        "allegro", "barrett", "allegro_contacts", "barrett_contacts"
    }  # fmt: skip


def test_a_card_of_ones_own_is_kept(made):
    (made / "README.md").write_text("mine")
    dataset.split(made)
    assert (made / "README.md").read_text() == "mine"
