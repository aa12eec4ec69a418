"""Reading for training: every row once, whoever reads, in an order that a seed decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_grasps import random_grasps
from torch.utils.data import DataLoader

import warpgrasp
from warpgrasp import dataset
from warpgrasp.dataset import schema, torch_dataset
from warpgrasp.dataset.torch_dataset import GraspDataset
from warpgrasp.pose import Pose

SHARDS, ROWS = 5, 23
COLUMNS = ("index", "metric_row")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shards of 23 rows of four boxes, two of which are in the split ``train``; every row has a number of its own."""
    path = tmp_path_factory.mktemp("grasps") / "out"
    for shard in range(SHARDS):
        grasps = random_grasps("panda", ROWS, seed=shard)
        grasps.object_name = f"box {min(shard, 3)}"
        del grasps.object
        grasps.object_vertices = grasps.object_vertices * [1.0, 1.0 + 0.2 * min(shard, 3), 1.0]
        grasps.metrics = {"row": np.arange(ROWS) + ROWS * shard}
        grasps.valid = np.arange(ROWS) % 3 != shard % 3
        grasps.reason = np.where(grasps.valid, "", "no")
        warpgrasp.export(grasps, path, format="parquet")
    warpgrasp.export(random_grasps("allegro", 3), path, format="parquet")
    dataset.split(path, fractions={"train": 0.5, "rest": 0.5})
    return path


@pytest.fixture(params=["small files", "row groups", "merged"])
def layout(request, folder, tmp_path, monkeypatch) -> Path:
    """The same rows in other files: as they are, in row groups of 7, and merged into few files of such groups."""
    if request.param == "small files":
        return folder
    for module in (schema, torch_dataset):
        monkeypatch.setattr(module, "ROW_GROUP", 7)
    path = tmp_path / "other"
    if request.param == "merged":
        dataset.merge([folder], path)
        return path
    for grasps in dataset.open_store(folder).grasps():
        warpgrasp.export(grasps, path, format="parquet")
    (path / "splits.json").write_bytes((folder / "splits.json").read_bytes())
    return path


def rows_of(batches: Any) -> list[int]:
    return [int(row) for batch in batches for row in batch["metric_row"]]


def rows_in(path: Path, **more: Any) -> Counter:
    """What there is to read, by another reader."""
    return Counter(
        int(row)
        for grasps in dataset.open_store(path).grasps(hand="panda", split=more.get("split"))
        for row in grasps.metrics["row"][grasps.valid if more.get("valid_only") else slice(None)]
    )


@pytest.mark.parametrize("more", [{}, {"valid_only": True}, {"split": "train"}, {"split": "rest", "valid_only": True}])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_over_all_ranks(layout, more, shuffle):
    wanted = rows_in(layout, **more)
    assert more or sum(wanted.values()) == SHARDS * ROWS
    for ranks in (1, 3, 7):
        parts = [
            GraspDataset(
                layout,
                hand="panda",
                columns=COLUMNS,
                batch_size=5,
                buffer=16,
                shuffle=shuffle,
                rank=rank,
                ranks=ranks,
                **more,
            )
            for rank in range(ranks)
        ]
        assert parts[0].rows == sum(wanted.values())
        counts = [len(rows_of(part)) for part in parts]
        assert max(counts) - min(counts) <= 1
        assert Counter(row for part in parts for row in rows_of(part)) == wanted


many_workers = pytest.mark.filterwarnings("ignore:This DataLoader will create")
"""More of them than cores is no mistake here."""


@many_workers
@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_once_over_all_workers(folder, workers):
    wanted = rows_in(folder)
    found: Counter = Counter()
    for rank in range(2):
        rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8, rank=rank, ranks=2)
        found += Counter(rows_of(DataLoader(rows, batch_size=None, num_workers=workers)))
    assert found == wanted


def test_seed_and_epoch_decide_the_order(folder):
    def order(seed: int, epoch: int) -> list[int]:
        rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8, buffer=16, seed=seed)
        rows.set_epoch(epoch)
        return rows_of(rows)

    assert order(0, 0) == order(0, 0)
    others = [order(0, 1), order(1, 0), order(1, 1)]
    assert len({tuple(one) for one in [order(0, 0), *others]}) == 4
    rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8, shuffle=False)
    in_files = rows_of(rows)
    rows.set_epoch(1)
    assert rows_of(rows) == in_files


def test_workers_that_live_on_see_the_epoch(folder):
    rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8)
    loader = DataLoader(rows, batch_size=None, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        rows.set_epoch(epoch)
        epochs.append(rows_of(loader))
    assert epochs[0] == epochs[2] != epochs[1]


def test_a_buffer_as_large_as_all_gives_a_plain_permutation(folder):
    """Each row is as likely to come first as last: the correlation of place before and after is that of chance."""
    rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8)
    in_files = rows_of(GraspDataset(folder, hand="panda", columns=COLUMNS, shuffle=False))
    correlations = []
    for epoch in range(30):
        rows.set_epoch(epoch)
        place = {row: i for i, row in enumerate(rows_of(rows))}
        correlations.append(np.corrcoef([place[row] for row in in_files], np.arange(len(in_files)))[0, 1])
    assert abs(np.mean(correlations)) < 3.0 / np.sqrt(30 * len(in_files))
    assert np.max(np.abs(correlations)) < 4.0 / np.sqrt(len(in_files))


@many_workers
@pytest.mark.parametrize("workers", [0, 3])
def test_dropping_the_last_gives_all_ranks_the_same_number_of_whole_batches(folder, workers):
    sizes = []
    for rank in range(2):
        rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=4, drop_last=True, rank=rank, ranks=2)
        sizes.append([len(b["index"]) for b in DataLoader(rows, batch_size=None, num_workers=workers)])
    assert sizes[0] == sizes[1] and set(sizes[0]) == {4}
    pieces = 2 * max(workers, 1)
    assert len(sizes[0]) == max(workers, 1) * (SHARDS * ROWS // pieces // 4)


def test_batches_are_full_but_for_the_last(folder):
    rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=10, buffer=10)
    sizes = [len(batch["index"]) for batch in rows]
    assert sizes == [10] * (SHARDS * ROWS // 10) + [SHARDS * ROWS % 10]


def test_values_are_those_of_the_grasps(folder):
    rows = GraspDataset(folder, hand="panda", columns=[*torch_dataset.COLUMNS, "metric_row", "squeeze_joint_position"])
    assert rows.joint_names == ("finger_joint1", "finger_joint2")
    found = {
        int(row): {name: column[i] for name, column in batch.items()}
        for batch in rows
        for i, row in enumerate(batch["metric_row"])
    }
    assert next(iter(found.values()))["joint_position"].dtype == torch.float32
    for grasps in dataset.open_store(folder).grasps(hand="panda"):
        for i, row in enumerate(grasps.metrics["row"]):
            one = found[int(row)]
            np.testing.assert_allclose(one["wrist_position"], grasps.wrist_position[i], atol=1e-7)
            np.testing.assert_allclose(one["wrist_quaternion_wxyz"], grasps.wrist_quaternion[i], atol=1e-7)
            np.testing.assert_allclose(one["squeeze_joint_position"], grasps.squeeze.joint_position[i], atol=1e-7)
            assert bool(one["valid"]) == grasps.valid[i]
            assert rows.objects[int(one["object_index"])] == grasps.object_name


def test_columns_that_repeat_others_are_there_all_the_same(tmp_path):
    """Where the wrist stays in the squeeze, files leave it out."""
    grasps = random_grasps("panda")
    grasps.squeeze = Pose(grasps.wrist_position, grasps.wrist_quaternion, grasps.squeeze.joint_position)
    warpgrasp.export(grasps, tmp_path / "out", format="parquet")
    file = next((tmp_path / "out" / "grasps").rglob("*.parquet"))
    assert "squeeze_wrist_position" not in dataset.read_table(file).column_names
    columns = ("wrist_position", "squeeze_wrist_position", "squeeze_joint_position")
    (batch,) = GraspDataset(tmp_path / "out", columns=columns)
    torch.testing.assert_close(batch["squeeze_wrist_position"], batch["wrist_position"])
    order = np.argsort(batch["wrist_position"][:, 0].numpy())
    wanted = grasps.squeeze.joint_position[np.argsort(grasps.wrist_position[:, 0])]
    np.testing.assert_allclose(batch["squeeze_joint_position"][order], wanted, atol=1e-7)


def test_points_lie_on_the_objects(folder):
    rows = GraspDataset(folder, hand="panda")
    points = rows.object_points(200, seed=1)
    assert points.shape == (4, 200, 3) and points.dtype == torch.float32
    torch.testing.assert_close(points, rows.object_points(200, seed=1))
    for grasps in dataset.open_store(folder).grasps(hand="panda"):
        cloud = points[rows.objects.index(grasps.object_name)].numpy()
        low, high = grasps.object.bounds
        assert (np.minimum(cloud - low, high - cloud).min(axis=1) < 1e-6).all()


def test_a_split_has_its_own_objects_only(folder):
    sides = [GraspDataset(folder, hand="panda", split=split) for split in ("train", "rest")]
    assert set(sides[0].objects).isdisjoint(sides[1].objects)
    assert sum(side.rows for side in sides) == SHARDS * ROWS
    for side in sides:
        used = {int(i) for batch in side for i in batch["object_index"]}
        assert used == set(range(len(side.objects)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "has several hands; pass hand: allegro, panda"),
        ({"hand": "pandas"}, "has no hand 'pandas': allegro, panda"),
        ({"hand": "panda", "columns": ["joints"]}, "no column of numbers 'joints'; there are index, scale, seed"),
        ({"hand": "panda", "columns": ["reason"]}, "no column of numbers 'reason'"),
        ({"hand": "panda", "split": "validation"}, "has no split 'validation'; there are train, rest"),
        ({"hand": "panda", "rank": 3, "ranks": 3}, "rank must be in 0..2, got 3"),
        ({"hand": "panda", "rank": 3}, "rank and ranks go together"),
        ({"hand": "panda", "batch_size": 8, "buffer": 4}, "buffer must hold a batch at least"),
    ],
)
def test_bad_options(folder, options, words):
    with pytest.raises(warpgrasp.OptionError) as caught:
        GraspDataset(folder, **options)
    assert words in str(caught.value)


def test_no_dataset_and_nothing_valid(tmp_path):
    with pytest.raises(warpgrasp.FileFormatError, match="there is no dataset"):
        GraspDataset(tmp_path)
    grasps = random_grasps("panda")
    grasps.valid[:] = False
    warpgrasp.export(grasps, tmp_path / "out", format="parquet")
    with pytest.raises(warpgrasp.OptionError, match="has no grasp to read"):
        GraspDataset(tmp_path / "out", valid_only=True)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "out"
    warpgrasp.export(random_grasps("panda", 300), path, format="parquet")
    rows = GraspDataset(path)
    file = next((path / "grasps").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[2000:2100] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(warpgrasp.FileFormatError, match=file.name):
        list(rows)


def test_ranks_of_torch_distributed(folder):
    """A process group that only pretends to have other members."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    found = []
    for rank in range(3):
        torch.distributed.init_process_group("fake", rank=rank, world_size=3, store=FakeStore())
        try:
            rows = GraspDataset(folder, hand="panda", columns=COLUMNS, batch_size=8)
        finally:
            torch.distributed.destroy_process_group()
        assert (rows.rank, rows.ranks) == (rank, 3)
        found.append(rows_of(rows))
    assert Counter(row for rows in found for row in rows) == rows_in(folder)
    assert max(map(len, found)) - min(map(len, found)) <= 1
