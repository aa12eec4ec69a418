"""Grasps become rows of Parquet and rows become the same grasps again; files that are not so are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated_synthesis import simulated_grasps

import warpgrasp
from warpgrasp.arm_plan import ArmPlan
from warpgrasp.dataset import schema
from warpgrasp.resting import RestingPose

POSES = ("wrist_position", "wrist_quaternion", "joint_position")


@pytest.fixture
def grasps() -> warpgrasp.Grasps:
    return simulated_grasps("shadow", count=17, seed=3)


@pytest.fixture
def file(grasps, tmp_path) -> Path:
    """A file as it lies in a dataset, its mesh included."""
    path = tmp_path / "grasps" / "shadow" / "one.parquet"
    mesh = tmp_path / "objects" / f"{grasps.object.content_hash}.parquet"
    for folder in (path.parent, mesh.parent):
        folder.mkdir(parents=True)
    schema.write_parquet(schema.write_table(grasps, shard="one"), path)
    schema.write_parquet(schema.object_table(grasps.object_vertices, grasps.object_faces), mesh)
    return path


def test_grasps_come_back(grasps, file):
    again = schema.read_grasps(file)
    for phase in ("pose", "pregrasp", "squeeze", "lift"):
        for name in POSES:
            expected = getattr(getattr(grasps, phase), name)
            np.testing.assert_allclose(getattr(getattr(again, phase), name), expected, rtol=0, atol=3e-7)
    for name in ("valid", "reason"):
        np.testing.assert_array_equal(getattr(again, name), getattr(grasps, name))
    assert set(again.metrics) == set(grasps.metrics)
    for key, value in grasps.metrics.items():
        assert again.metrics[key].dtype.kind == value.dtype.kind
        if value.dtype.kind == "f":
            np.testing.assert_allclose(again.metrics[key], value, rtol=1e-6)
        else:
            np.testing.assert_array_equal(again.metrics[key], value)
    for name in ("joint_names", "hand_source", "hand_hash", "object_name"):
        assert getattr(again, name) == getattr(grasps, name)
    assert again.info == {key: value for key, value in grasps.info.items() if key != "seconds"}
    np.testing.assert_array_equal(again.object_faces, grasps.object_faces)
    np.testing.assert_allclose(again.object_vertices, grasps.object_vertices, rtol=0, atol=1e-8)
    assert again.object.content_hash == grasps.object.content_hash
    assert again.hand.joint_names == grasps.joint_names


def test_what_was_read_gives_the_same_bytes(file, tmp_path):
    schema.write_parquet(schema.write_table(schema.read_grasps(file), shard="one"), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()


def test_every_column_is_described_and_has_the_type_that_is_said(grasps):
    table = schema.write_table(dataclasses.replace(grasps, metrics={}))
    plain = [name for name in schema.FIELDS if not name.endswith("*") and not name.startswith("arm_")]
    assert [name for name in table.column_names if not name.startswith(("pregrasp_", "squeeze_", "lift_"))] == plain
    for name in plain:
        kind, _, size = schema.FIELDS[name][0].removesuffix("]").partition("[")
        found = table.schema.field(name).type
        if size:
            assert (found.value_type, str(found.list_size)) == (pa.float32(), "22" if size == "J" else size)
        else:
            assert found == pa.type_for_alias(kind)
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    for fields in (schema.FIELDS, schema.CONTACT_FIELDS):
        for name, (kind, meaning) in fields.items():
            assert f"| `{name}` | {kind} | {meaning} |" in page


def test_any_reader_of_parquet_reads_it(grasps, file):
    table = pq.read_table(file)
    wrist = np.array(table["wrist_quaternion_wxyz"].to_pylist())
    np.testing.assert_allclose(wrist, grasps.wrist_quaternion, atol=1e-7)
    assert json.loads(table.schema.metadata[b"warpgrasp"])["joint_names"] == list(grasps.joint_names)


def test_a_grasp_takes_less_than_400_bytes(tmp_path):
    many = simulated_grasps("shadow", count=20_000, seed=0)
    schema.write_parquet(schema.write_table(many), tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 400 * len(many)


def test_no_grasps_come_back_as_none(grasps, tmp_path):
    schema.write_parquet(schema.write_table(grasps[:0], shard="x"), tmp_path / "none.parquet")
    again = schema.read_grasps(tmp_path / "none.parquet", mesh=False)
    assert len(again) == 0 and again.joint_position.shape == (0, 22)


def test_merged_tables_give_the_grasps_of_each(tmp_path):
    parts = [simulated_grasps("allegro", count=count, seed=count) for count in (3, 1, 5)]
    tables = [schema.write_table(part, shard=f"s{len(part)}") for part in parts]
    schema.write_parquet(schema.merge_tables(tables, "merged"), tmp_path / "merged.parquet")
    again = list(schema.iterate_grasps(tmp_path / "merged.parquet", mesh=False))
    assert [len(part) for part in again] == [3, 1, 5]
    for part, read in zip(parts, again, strict=True):
        np.testing.assert_allclose(read.squeeze.joint_position, part.squeeze.joint_position, atol=3e-7)
        assert read.info["seed"] == part.info["seed"]
    with pytest.raises(warpgrasp.FileFormatError, match="it holds 3 shards"):
        schema.read_grasps(tmp_path / "merged.parquet", mesh=False)


def test_tables_of_two_hands_are_not_merged():
    tables = [schema.write_table(simulated_grasps(hand, count=2, seed=0)) for hand in ("allegro", "leap")]
    with pytest.raises(warpgrasp.FileFormatError, match="not all of the same hand"):
        schema.merge_tables(tables, "merged")


def test_columns_that_would_repeat_others_are_left_out(grasps):
    def phase(name: str, of: warpgrasp.Grasps) -> list[str]:
        names = schema.write_table(of).column_names
        return [column.removeprefix(f"{name}_") for column in names if column.startswith(f"{name}_")]

    everything = ["wrist_position", "wrist_quaternion_wxyz", "joint_position"]
    assert phase("pregrasp", grasps) == everything
    assert phase("squeeze", grasps) == ["joint_position"] and phase("lift", grasps) == ["wrist_position"]
    moved = dataclasses.replace(grasps, squeeze=grasps.pregrasp)
    assert phase("squeeze", moved) == everything == phase("lift", moved)


def test_tables_of_which_one_leaves_columns_out_are_merged(grasps):
    moved = dataclasses.replace(grasps, squeeze=grasps.pregrasp)
    tables = [schema.write_table(part, shard=str(i)) for i, part in enumerate((grasps, moved))]
    for order in (tables, tables[::-1]):
        merged = schema.merge_tables(order, "merged")
        assert merged.column_names == tables[1].column_names
        again = list(schema.table_grasps(merged))
        for read, part in zip(again, (grasps, moved) if order is tables else (moved, grasps), strict=True):
            for name in ("squeeze", "lift"):
                expected, found = getattr(part, name), getattr(read, name)
                np.testing.assert_allclose(found.wrist_quaternion, expected.wrist_quaternion, atol=3e-7)
                np.testing.assert_allclose(found.joint_position, expected.joint_position, atol=3e-7)


def test_a_table_and_an_arm_come_back(grasps):
    count = len(grasps)
    rng = np.random.default_rng(0)
    plan = ArmPlan(
        joint_names=("shoulder", "elbow"),
        joint_position=np.where(np.arange(count)[:, None, None] == 3, np.nan, rng.random((count, 3, 2))),
        reason=np.where(np.arange(count) == 3, "out of reach", ""),
        metrics={"arm_limit_margin": rng.random(count)},
        arm_source="ur10e",
        arm_hash="0" * 64,
        base_position=rng.random(3),
        base_quaternion=rng.random(4),
        mount_position=rng.random(3),
        mount_quaternion=rng.random(4),
        world_from_object=rng.random((4, 4)),
    )
    resting = RestingPose(rng.random(3), rng.random(4), 0.25)
    metrics = grasps.metrics | dict(plan.metrics)
    placed = dataclasses.replace(grasps, table=resting, arm=plan, metrics=metrics)
    again = next(schema.table_grasps(schema.write_table(placed, shard="one")))
    for kept, read in ((resting, again.table), (plan, again.arm)):
        for field in dataclasses.fields(kept):
            expected, found = getattr(kept, field.name), getattr(read, field.name)
            if field.name == "metrics":
                expected, found = expected["arm_limit_margin"], found["arm_limit_margin"]
            if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
                np.testing.assert_allclose(found, expected, atol=1e-7)
            else:
                assert np.array_equal(found, expected), field.name


def test_tactile_results_stand_in_a_side_table(grasps, file, tmp_path):
    force = np.arange(17.0)
    felt = dataclasses.replace(grasps, metrics=grasps.metrics | {"qscore_tactile": force})
    assert schema.write_table(felt).column_names == schema.write_table(grasps).column_names
    side = tmp_path / "tactile" / "shadow" / "one.parquet"
    side.parent.mkdir(parents=True)
    schema.write_parquet(schema.side_table(felt, shard="one"), side)
    np.testing.assert_array_equal(schema.read_grasps(file).metrics["qscore_tactile"], force)
    schema.write_parquet(schema.side_table(felt[::-1], shard="two"), side)
    with pytest.raises(warpgrasp.FileFormatError, match="not of the same grasps"):
        schema.read_grasps(file)


def damaged(file: Path, how: str) -> str:
    """Damage a file and return what its reader should complain about."""
    content = file.read_bytes()
    match how:
        case "missing":
            file.unlink()
            return "there is no such file"
        case "empty":
            file.write_bytes(b"")
        case "half":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            file.write_bytes(content[:2000] + bytes([content[2000] ^ 0xFF]) + content[2001:])
        case "foreign":
            pq.write_table(pa.table({"a": [1]}), file)
            return "not one that warpgrasp wrote"
        case "newer" | "no json":
            text = b'{"schema": 99}' if how == "newer" else b"{"
            pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"warpgrasp": text}), file)
            return "this version reads schema 1" if how == "newer" else "its metadata is damaged"
        case "no column":
            pq.write_table(pq.read_table(file).drop_columns(["valid"]), file)
        case "row too few":
            pq.write_table(pq.read_table(file)[1:], file)
            return "should have 17 rows, but has 16"
        case "outside":
            table = pq.read_table(file)
            text = table.schema.metadata[b"warpgrasp"].decode()
            made = json.loads(text)
            made["shards"]["one"]["object_hash"] = "../../secret"
            pq.write_table(table.replace_schema_metadata({b"warpgrasp": json.dumps(made)}), file)
            return "which is no hash"
    return "damaged"


@pytest.mark.parametrize(
    "how", "missing|empty|half|flipped|foreign|newer|no json|no column|row too few|outside".split("|")
)
def test_damaged_files_are_refused(file, how):
    with pytest.raises(warpgrasp.FileFormatError, match=damaged(file, how)):
        schema.read_grasps(file)


def test_what_unpacks_to_too_much_is_refused(file, monkeypatch):
    monkeypatch.setattr(schema, "MAX_BYTES", 10_000)
    with pytest.raises(warpgrasp.FileFormatError, match="at most 10000 are read"):
        schema.read_grasps(file)


def test_a_mesh_that_is_not_the_one_that_its_name_says_is_refused(grasps, file, tmp_path):
    mesh = tmp_path / "objects" / f"{grasps.object.content_hash}.parquet"
    schema.write_parquet(schema.object_table(2.0 * grasps.object_vertices, grasps.object_faces), mesh)
    with pytest.raises(warpgrasp.FileFormatError, match="not the hash of the mesh"):
        schema.read_grasps(file)
