"""Datasets are made whole, alike and once, whatever happens to those who make them."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from dataset_runs import Reader, content, run_and_kill, simulate, start, write_config
from simulated_synthesis import simulated_grasps

import warpgrasp
from warpgrasp import cli, dataset
from warpgrasp.commands import generate as generate_command
from warpgrasp.dataset import make, plan


@pytest.fixture
def config(tmp_path) -> Path:
    return write_config(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A dataset of 2 hands x 3 objects x 10 grasps in shards of 4, 4 and 2, made by two processes."""
    folder = tmp_path_factory.mktemp("original")
    simulate(write_config(folder), folder / "made", workers=2)
    return folder / "made"


@pytest.fixture
def made(original, config, tmp_path) -> Path:
    """A copy of it, made by this test's configuration as far as it can tell."""
    shutil.copytree(original, tmp_path / "made")
    record = json.loads((original / "dataset.json").read_text()) | {"folder": str(config.parent)}
    (tmp_path / "made" / "dataset.json").write_text(json.dumps(record, indent=1) + "\n")
    return tmp_path / "made"


def test_a_dataset_holds_every_grasp_once(made):
    store = dataset.open_store(made)
    assert store.hands() == ["allegro", "barrett"]
    shards = [(g.hand_source, g.object_name, g.info["seed"], len(g)) for g in store.grasps()]
    assert len(shards) == len(set(shards)) == 18
    assert len({seed for _, _, seed, _ in shards}) == 18
    for hand in store.hands():
        for name in ("box0", "box1", "box2"):
            assert sorted(n for h, o, _, n in shards if (h, o) == (hand, name)) == [2, 4, 4]
    grasps = next(store.grasps(hand="barrett"))
    expected = simulated_grasps("barrett", grasps.object, count=len(grasps), seed=grasps.info["seed"])
    np.testing.assert_allclose(grasps.joint_position, expected.joint_position, atol=3e-7)
    assert dataset.verify(made, deep=True) == []


def test_the_same_configuration_gives_the_same_bytes_however_it_is_made(made, config, tmp_path):
    simulate(config, tmp_path / "again", workers=1, recycle=7)
    for part in (2, 0, 1):
        simulate(config, tmp_path / "parts", part=(part, 3))
    simulate(config, tmp_path / "parts")
    assert content(made) == content(tmp_path / "again") == content(tmp_path / "parts")


def test_a_second_run_makes_only_what_is_missing(made, config):
    before = content(made)
    victim = sorted((made / "shards").glob("*.json"))[3]
    victim.unlink()
    report = simulate(config, made)
    assert (report.planned, report.there, report.made) == (18, 17, 1)
    assert content(made) == before
    assert simulate(config, made).made == 0


def test_more_objects_and_grasps_are_added(made, config, tmp_path):
    before = content(made)
    write_config(tmp_path, boxes=4, hands=["allegro", "barrett", "panda"])
    report = simulate(config, made)
    assert report.there == 18 and report.made == 18
    assert {name: content(made)[name] for name in before if name.endswith(".parquet")} == {
        name: value for name, value in before.items() if name.endswith(".parquet")
    }


def test_ten_kills_leave_every_shard_once_and_the_same(made, config, tmp_path):
    with Reader(tmp_path / "killed") as reader:
        hits = run_and_kill(config, tmp_path / "killed", kills=10, rng=random.Random(1))
    assert sum(hits.values()) == 10
    assert reader.errors == [] and reader.reads > 0
    assert content(tmp_path / "killed") == content(made)
    assert dataset.verify(tmp_path / "killed", deep=True) == []


def test_workers_end_with_a_run_that_is_killed(config, tmp_path):
    process = start(config, tmp_path / "out", seconds=30.0)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers: list[str] = []
    while len(workers) < 3 and process.poll() is None:
        workers = children.read_text().split()
    process.kill()
    process.wait()
    left = workers
    for _ in range(200):
        left = [pid for pid in left if b"spawn_main" in _command(pid)]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_worker_that_always_dies_is_recorded_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WARPGRASP_TEST_DEADLY", "box1")
    config = write_config(tmp_path, boxes=2, hands="barrett", count=4)
    report = simulate(config, tmp_path / "out", workers=1)
    assert (report.made, report.failed) == (1, 1)
    assert "its worker died 3 times (killed by SIGKILL" in next(iter(report.failures.values()))


def test_a_full_disk_ends_the_run_and_leaves_the_folder_whole(made, config, tmp_path):
    out = tmp_path / "full"
    script = (
        "import resource, sys; from dataset_runs import simulate;"
        "from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2);"
        "simulate(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    sizes = sorted(len(value) for name, value in content(made).items() if name.startswith("grasps/"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script, str(config), str(out), str(sizes[len(sizes) // 2])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "File too large" in done.stderr
    assert dataset.verify(out, deep=True) == []
    simulate(config, out)
    assert content(out) == content(made)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_an_object_that_cannot_be_loaded_is_recorded_and_the_run_goes_on(config, tmp_path, capsys):
    (tmp_path / "meshes" / "broken.stl").write_text("solid nothing\nendsolid nothing\n")
    out = tmp_path / "out"
    report = simulate(config, out)
    assert (report.made, report.failed) == (18, 6)
    records = [json.loads(path.read_text()) for path in sorted((out / "failures").glob("*.json"))]
    assert {(record["object"], record["hand"]) for record in records} == {("broken", "allegro"), ("broken", "barrett")}
    assert all("broken.stl" in record["error"] for record in records)
    assert "broken.stl" in (out / "summary.html").read_text()
    assert cli.main(["dataset", "stats", str(out)]) == 0
    assert "6 shards could not be made" in capsys.readouterr().out
    shutil.copy(tmp_path / "meshes" / "box0.stl", tmp_path / "meshes" / "broken.stl")
    assert simulate(config, out).made == 6
    assert not list((out / "failures").iterdir()) and "could not be made" not in (out / "summary.html").read_text()


def test_progress_is_told_where_nobody_watches(capsys, monkeypatch):
    monkeypatch.setattr(generate_command, "SECONDS_PER_LINE", -1.0)
    report = dataset.Report(planned=4, there=1, grasps=12, begin=0.0, end=10.0)
    with generate_command.Bar(argparse.Namespace(quiet=False)) as progress:
        for outcome in (make.Outcome(key="a", rows=4, valid=1), make.Outcome(key="b", error="no mesh")):
            report.add(outcome, 4)
            progress(report)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "4 of 12 grasps, 0.4 per second, 25.0 % valid, 20.0 s left"
    assert second == "8 of 12 grasps, 0.4 per second, 25.0 % valid, 1 shards failed, 5.0 s left"


def test_two_runs_in_one_folder_are_not_let_in(config, made):
    with dataset.open_store(made).lock(), pytest.raises(warpgrasp.OptionError, match=f"process {os.getpid()}"):
        simulate(config, made)
    with dataset.open_store(made).lock(shared=True), pytest.raises(warpgrasp.OptionError, match="another run is"):
        simulate(config, made)
    with dataset.open_store(made).lock(shared=True):
        assert simulate(config, made, part=(0, 2)).made == 0


def test_a_dataset_of_another_configuration_is_not_mixed_in(made, config, tmp_path):
    write_config(tmp_path, recipe="attraction")
    with pytest.raises(warpgrasp.OptionError, match="recipe: default there, attraction here"):
        simulate(config, made)
    write_config(tmp_path, hands=["allegro"])
    with pytest.raises(warpgrasp.OptionError, match="holds 9 shards that this configuration does not list"):
        simulate(config, made)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run as somebody else")
def test_a_folder_that_may_not_be_written_to_is_refused(config, tmp_path):
    script = (
        "import os, sys; import warpgrasp; from warpgrasp import dataset; from warpgrasp.dataset.store import Store;"
        "os.setuid(65534);\n"
        "try: Store(sys.argv[1]).prepare()\n"
        "except warpgrasp.FileFormatError as error: print(error)"
    )
    out = tmp_path / "closed"
    out.mkdir()
    command = [sys.executable, "-c", script, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no permission to write there" in done.stdout
    with pytest.raises(warpgrasp.FileFormatError, match="is a file, not a folder"):
        simulate(config, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shardsize": 4}, "unknown key 'shardsize'. Did you mean 'shard_size'?"),
        ({"hands": ["alegro"]}, "Did you mean 'allegro'?"),
        ({"hands": []}, "hands must be a list of one entry or more"),
        ({"hands": {"a": 1}}, "hands must be a name or a list of names"),
        ({"objects": ["nowhere"]}, "there is no such mesh, folder or manifest"),
        ({"objects": ["*.obj"]}, "there is no mesh"),
        ({"objects": ["manifest.json"]}, "there is no such manifest"),
        ({"scales": [0.0]}, "scales must be positive"),
        ({"scales": "big"}, "scales must be a number"),
        ({"count": 0}, "count must be from 1"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"count": True}, "count must be a whole number"),
        ({"seed": -1}, "seed must be 0 or larger"),
        ({"recipe": "defalt"}, "Did you mean 'default'?"),
        ({"validate": "fc7"}, "fc6"),
        ({"contacts": "yes"}, "contacts must be true or false"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path, changes, message):
    path = write_config(tmp_path, **changes)
    with pytest.raises(warpgrasp.WarpgraspError) as caught:
        simulate(path, tmp_path / "out")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hands: [", "not valid YAML"),
        ("- hands", "should be a mapping"),
        ("hands: allegro", "the key 'objects' is missing"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 2000, "not valid YAML"),
        ("#" * 2**21, "no larger than"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert cli.main(["generate", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_objects_are_named_by_what_tells_them_apart(tmp_path):
    for place in ("a/model.stl", "b/model.stl", "b/notes.txt", "deep/c/other.stl"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(place)
    (tmp_path / "manifest.json").write_text(json.dumps([{"name": "cup", "file": "a/model.stl"}]))
    (tmp_path / "outside.json").write_text(json.dumps([{"name": "cup", "file": "../secret.stl"}]))

    def names(*objects: str) -> list[str]:
        config = dataset.Config(hands=("allegro",), objects=objects, folder=tmp_path)
        return [entry.name for entry in plan.find_objects(config)]

    assert names("a/model.stl") == ["model"]
    assert names(".") == ["a/model", "b/model", "deep/c/other"]
    assert names("*/model.stl") == ["a/model", "b/model"]
    assert names("deep/**/*.stl") == ["c/other"]
    assert names("manifest.json", "deep") == ["c/other", "cup"]
    with pytest.raises(warpgrasp.OptionError, match="both called 'model'"):
        names("a/model.stl", "b/model.stl")
    with pytest.raises(warpgrasp.FileFormatError, match="outside its folder"):
        names("outside.json")


def test_keys_depend_on_all_that_matters_and_on_nothing_else(tmp_path):
    def keys(**changes) -> set[str]:
        config = dataset.read_config(write_config(tmp_path, **changes))
        return {shard.key for shard in plan.plan(config)}

    base = keys()
    assert len(base) == 18 and keys() == base
    assert len(keys(count=14) & base) == 12  # whole shards are the same, the rest of two is not
    for change in ({"seed": 1}, {"scales": [0.9]}, {"recipe": "attraction"}, {"validate": ["fc6"]}, {"iterations": 5}):
        assert not keys(**change) & base
    mesh = tmp_path / "meshes" / "box1.stl"
    config = dataset.read_config(write_config(tmp_path))
    mesh.write_bytes(mesh.read_bytes() + b" ")
    changed = {shard.key for shard in plan.plan(config)}
    assert {key.split("-")[1] for key in changed - base} == {"box1"}


def test_the_dry_run_writes_nothing_and_expects_what_comes(config, made, tmp_path):
    expected = dataset.estimate(config, tmp_path / "new", maker="simulated_synthesis:make", device="cpu")
    assert (expected.shards, expected.there, expected.grasps) == (18, 0, 60)
    assert not (tmp_path / "new").exists()
    size = sum(len(value) for name, value in content(made).items() if name.startswith("grasps/"))
    assert expected.size == pytest.approx(size, rel=0.2)
    assert dataset.estimate(config, made, maker="simulated_synthesis:make", device="cpu").grasps == 0


def test_the_summary_page_needs_nothing_else(made):
    page = (made / "summary.html").read_text()
    assert "60 grasps of 3 objects" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page and "<script" not in page and 'src="data:' in page


def test_the_slurm_script_makes_the_dataset(tmp_path, config, capsys):
    out = tmp_path / "array"
    assert (
        cli.main(
            ["generate", str(config), "--out", str(out), "--executor", "slurm", "--workers", "4", "--device", "cpu"]
        )
        == 0
    )
    assert f"sbatch {out / 'slurm.sh'}" in capsys.readouterr().out
    script = (out / "slurm.sh").read_text()
    assert "#SBATCH --array=0-3\n" in script
    # A stand-in on the path says what the last task would run.
    stand_in = tmp_path / "bin" / "warpgrasp"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    stand_in.chmod(0o755)
    environment = {
        "PATH": f"{stand_in.parent}:/usr/bin:/bin",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "4",
    }
    done = subprocess.run(["bash", str(out / "slurm.sh")], env=environment, capture_output=True, text=True, check=True)
    said = f"generate|{config}|--out|{out}|--quiet|--device|cpu|--part|3/4|"
    assert done.stdout == said
    assert cli.make_parser().parse_args(said.rstrip("|").split("|")).part == (3, 4)


@pytest.mark.slow
def test_real_synthesis_gives_the_same_bytes_on_one_core_and_on_all(tmp_path):
    config = write_config(tmp_path, boxes=1, hands="barrett", count=4, shard_size=2, iterations=60, contacts=True)
    for name, workers in (("one", {"workers": 1}), ("here", {})):
        report = simulate(config, tmp_path / name, maker=plan.SYNTHESIZE, **workers)
        assert (report.made, report.rows) == (2, 4)
    assert content(tmp_path / "one") == content(tmp_path / "here")
    assert dataset.verify(tmp_path / "one", deep=True) == []

    grasps = next(dataset.open_store(tmp_path / "one").grasps())
    assert "seconds" not in grasps.info and grasps.info["device"] == "cpu"
    direct = warpgrasp.synthesize("barrett", grasps.object, count=2, seed=grasps.info["seed"], iterations=60)
    np.testing.assert_allclose(grasps.wrist_position, direct.wrist_position, atol=1e-6)
    np.testing.assert_allclose(grasps.lift.joint_position, direct.lift.joint_position, atol=1e-6)

    # Contacts lie on the box, and their normals point into it.
    part = next(dataset.open_store(tmp_path / "one").parts())
    table = dataset.read_table(tmp_path / "one" / "contacts" / "barrett" / f"{part.name}.parquet")
    position, normal = (np.array(table[name].to_pylist()) for name in ("position", "normal"))
    assert len(position) > 0 and set(table["link"].to_pylist()) <= set(grasps.hand.link_names)
    assert (np.abs(np.array(table["distance_m"])) <= 0.005).all()
    assert np.abs(trimesh.proximity.signed_distance(grasps.object.trimesh(), position)).max() < 1e-5
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=1e-5)
    assert grasps.object.trimesh().contains(position + 1e-3 * normal).all()


@pytest.mark.slow
def test_a_table_physics_and_the_tactile_stage_are_kept(tmp_path):
    keys = {"table": True, "validate": "lift", "recheck": True, "contacts": True, "iterations": 60}
    config = write_config(tmp_path, boxes=1, hands="barrett", count=2, **keys)
    report = simulate(config, tmp_path / "made", maker=plan.SYNTHESIZE)
    assert (report.made, report.failures) == (1, {})
    assert dataset.verify(tmp_path / "made", deep=True) == []
    grasps = next(dataset.open_store(tmp_path / "made").grasps())
    assert grasps.table is not None and grasps.lift is not None
    assert {"success_lift", "success_tactile", "qscore_tactile"} <= set(grasps.metrics)
    assert set(grasps.info["recheck"]) == {"tactile"} and set(grasps.info["physics"]) == {"lift"}
    main_table = dataset.read_table(next((tmp_path / "made" / "grasps").rglob("*.parquet")))
    assert not [name for name in main_table.column_names if "tactile" in name]


def test_kernels_are_compiled_by_one_process_of_a_node_at_a_time(tmp_path):
    script = (
        "import time, sys, warp as wp; from warpgrasp.dataset import make;"
        "log = open(sys.argv[1], 'a', buffering=1);"
        "wp.load_module = lambda *_, **__: (log.write('begin\\n'), time.sleep(0.3), log.write('end\\n'));"
        "wp.config.log_level = wp.LOG_WARNING;"
        "make.compile_kernels('cpu')"
    )
    environment = os.environ | {"WARP_CACHE_PATH": str(tmp_path / "cache")}
    log = tmp_path / "log"
    command = [sys.executable, "-c", script, str(log)]
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert log.read_text().split() == 3 * ["begin", "end"]
