"""What can be wrong with a file of another project: one clear line each, and nothing in it is ever executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_grasps import random_grasps

import warpgrasp
from warpgrasp import formats
from warpgrasp.cli import main
from warpgrasp.formats import pickled

FILES = {
    "dexgraspbench": ("out", "out/graspdata/a-box/scale100_pose000/0.npy"),
    "dexgraspnet": ("out", "out/dataset/a-box.npy"),
    "unidexgrasp": ("out", "out/datasetv4.1/warpgrasp/a-box/00000.npz"),
    "multidex": ("out", "out/shadowhand/shadowhand.pt"),
    "isaac_grasp": ("out.yaml", "out.yaml"),
    "graspgen": ("out.json", "out.json"),
    "usd": ("out.usda", "out.usda"),
    "hdf5": ("out.h5", "out.h5"),
    "parquet": ("out", None),
}


def exported(folder: Path, name: str) -> tuple[Path, Path]:
    """What was exported, and one file of grasps in it."""
    folder.mkdir(exist_ok=True)
    out, inside = FILES[name]
    path = warpgrasp.export(random_grasps("shadow"), folder / out, format=name)
    return path, folder / inside if inside else next((path / "grasps").rglob("*.parquet"))


def message(path: Path, name: str, **more: Any) -> str:
    """The one line that reading ends with."""
    with pytest.raises(warpgrasp.WarpgraspError) as caught:
        formats.read(path, format=name, **more)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400, text
    return text


# options


@pytest.mark.parametrize(
    ("given", "meant"),
    [("dexgraspnets", "dexgraspnet"), ("isaacgrasp", "isaac_grasp"), ("HDF5", "hdf5"), ("parket", "parquet")],
)
def test_unknown_format_shows_the_nearest(tmp_path, given, meant):
    with pytest.raises(warpgrasp.OptionError, match=f"no format '{given}'. Did you mean '{meant}'.*Formats: parquet, "):
        warpgrasp.export(random_grasps("shadow"), tmp_path / "out", format=given)
    with pytest.raises(warpgrasp.OptionError, match=f"Did you mean '{meant}'"):
        formats.read(tmp_path / "out", format=given)


def test_format_that_the_name_does_not_say(tmp_path):
    with pytest.raises(warpgrasp.OptionError, match=r"'some\.npy' does not say which format"):
        formats.read(tmp_path / "some.npy")


def test_no_grasp_to_export(tmp_path):
    grasps = random_grasps("shadow")
    with pytest.raises(warpgrasp.OptionError, match="no grasp to export"):
        warpgrasp.export(grasps[np.zeros(4, bool)], tmp_path / "out", format="dexgraspnet")


@pytest.mark.parametrize(("name", "hands"), [("dexgraspnet", "shadow and allegro"), ("unidexgrasp", "shadow")])
def test_a_hand_that_the_format_has_no_place_for(tmp_path, name, hands):
    with pytest.raises(warpgrasp.OptionError, match=f"{name} has no hand 'barrett'; it is for {hands}"):
        warpgrasp.export(random_grasps("barrett"), tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["isaac_grasp", "graspgen", "usd", "hdf5"])
def test_a_name_with_the_wrong_suffix(tmp_path, name):
    with pytest.raises(warpgrasp.FileFormatError, match="give a name that ends in "):
        warpgrasp.export(random_grasps("shadow"), tmp_path / "out.txt", format=name)
    with pytest.raises(warpgrasp.FileFormatError, match=r"the folder .*nowhere does not exist"):
        warpgrasp.export(random_grasps("shadow"), tmp_path / "nowhere" / FILES[name][0], format=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dexgraspbench", "dexgraspnet", "unidexgrasp"])
def test_two_exports_into_one_folder_would_mix(tmp_path, name):
    exported(tmp_path, name)
    with pytest.raises(warpgrasp.FileFormatError, match="is not empty; delete it or export to another folder"):
        warpgrasp.export(random_grasps("shadow"), tmp_path / "out", format=name)


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    from warpgrasp.formats import hdf5

    grasps = random_grasps("shadow")
    monkeypatch.setattr(hdf5, "CONVENTIONS", None)
    with pytest.raises(AttributeError):
        warpgrasp.export(grasps, tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [("usd", "pxr"), ("hdf5", "h5py")])
def test_a_package_that_is_missing(tmp_path, monkeypatch, name, package):
    module = import_module(f"warpgrasp.formats.{name}")
    monkeypatch.setattr(module, "find_spec", lambda wanted: None if wanted == package else 1)
    with pytest.raises(warpgrasp.OptionError, match=rf"pip install 'warpgrasp\[{name}\]'"):
        warpgrasp.export(random_grasps("shadow"), tmp_path / FILES[name][0])


# files


@pytest.mark.parametrize("name", FILES)
def test_missing_empty_cut_off_and_foreign_files(tmp_path, name):
    assert "there is no such file" in message(tmp_path / "gone.xyz", name)
    _, file = exported(tmp_path / "good", name)
    content = file.read_bytes()
    for number, part in enumerate(
        (b"", content[: len(content) // 2], content[:-1] if name != "usd" else b"#usda 1.0\n")
    ):
        if name == "isaac_grasp" and number == 2:
            continue  # a newline at the end says nothing
        broken = tmp_path / f"broken{number}{file.suffix}"
        broken.write_bytes(part)
        assert str(broken) in message(broken, name)
    picture = tmp_path / f"picture{file.suffix}"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    assert str(picture) in message(picture, name)


@pytest.mark.parametrize("name", FILES)
def test_every_byte_that_changes_is_an_error_or_reads(tmp_path, name, rng):
    _, file = exported(tmp_path / "good", name)
    hand, mesh = warpgrasp.load_hand("shadow"), warpgrasp.load_object(box(tmp_path))
    content = bytearray(file.read_bytes())
    for number in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 3000), 3):
            damaged[place] ^= 1 << int(rng.integers(8))
        broken = tmp_path / f"broken{number}{file.suffix}"
        broken.write_bytes(damaged)
        try:
            assert len(formats.read(broken, format=name, hand=hand, mesh=mesh))
        except warpgrasp.WarpgraspError as error:
            assert "\n" not in str(error)


def box(folder: Path) -> Path:
    import trimesh

    path = folder / "box.obj"
    if not path.exists():
        trimesh.creation.box(extents=(0.05, 0.05, 0.05)).export(path)
    return path


@pytest.mark.parametrize("name", ["dexgraspbench", "dexgraspnet"])
def test_a_file_of_the_other_npy_format(tmp_path, name):
    other = {"dexgraspbench": "dexgraspnet", "dexgraspnet": "dexgraspbench"}[name]
    _, file = exported(tmp_path, other)
    assert f"it is not a file of {'DexGrasp' + ('Bench' if name == 'dexgraspbench' else 'Net')}" in message(file, name)


def test_a_file_of_grasps_is_no_archive_of_unidexgrasp(tmp_path):
    random_grasps("shadow").save(tmp_path / "own.npz")
    assert "it has no 'qpos', but format, " in message(tmp_path / "own.npz", "unidexgrasp")


def test_other_yaml_and_json(tmp_path):
    (tmp_path / "a.yaml").write_text("format: isaac_grasp\nformat_version: 2.0\ngrasps: {}\n")
    assert "readable is isaac_grasp, version 1.0" in message(tmp_path / "a.yaml", "isaac_grasp")
    (tmp_path / "b.yaml").write_text("just text")
    assert "expected a dictionary, found str" in message(tmp_path / "b.yaml", "isaac_grasp")
    (tmp_path / "c.json").write_text("[1, 2]")
    assert "expected a dictionary, found list" in message(tmp_path / "c.json", "graspgen")
    (tmp_path / "d.yaml").write_text("a: !!python/object/apply:os.system ['touch hacked']\n")
    assert "it is not YAML" in message(tmp_path / "d.yaml", "isaac_grasp")
    assert not Path("hacked").exists()


def test_missing_joint_wrong_hand_and_unknown_hand(tmp_path):
    path, file = exported(tmp_path, "isaac_grasp")
    text = file.read_text()
    file.write_text(text.replace("LFJ3:", "LFJ9:"))
    assert "joint 'LFJ3' of shadow is missing; it has FFJ4, " in message(path, "isaac_grasp")
    file.write_text(text)
    assert "is not the hand that the grasps in" in message(path, "isaac_grasp", hand="allegro")
    file.write_text(text.replace("gripper_file: shadow", "gripper_file: /home/somebody/hand.urdf"))
    assert "which is not here" in message(path, "isaac_grasp")
    assert len(formats.read(path, hand="shadow")) == 4


def test_missing_joint_in_a_dictionary(tmp_path):
    _, file = exported(tmp_path, "dexgraspnet")
    rows = list(np.load(file, allow_pickle=True))
    del rows[3]["qpos"]["robot0:THJ2"]
    pickled.write_object(file, rows)
    assert "'robot0:THJ2' is missing in qpos" in message(file, "dexgraspnet")


def test_a_hand_with_another_number_of_joints(tmp_path):
    _, file = exported(tmp_path, "dexgraspbench")
    record = np.load(file, allow_pickle=True).item()
    del record["hand"], record["hand_hash"]
    pickled.write_object(file, record)
    assert "it does not say which hand it is of; pass hand" in message(file, "dexgraspbench")
    text = message(file, "dexgraspbench", hand="allegro")
    assert "it holds 22 joints, but the hand 'allegro' has 16 there" in text


def test_numbers_that_are_none(tmp_path):
    _, file = exported(tmp_path, "dexgraspbench")
    record = np.load(file, allow_pickle=True).item()
    for key, value, words in (
        ("grasp_qpos", record["grasp_qpos"] * np.nan, "finite|length one"),
        ("grasp_qpos", ["a"], "rows of numbers"),
        ("grasp_qpos", record["grasp_qpos"][:5], "expected 7 for the root"),
        ("obj_pose", np.zeros(7), "length one"),
        ("obj_pose", "x", "obj_pose should be numbers"),
    ):
        pickled.write_object(file, record | {key: value})
        import re

        assert re.search(words, message(file, "dexgraspbench")), (key, value)


def test_several_objects_in_a_folder(tmp_path):
    exported(tmp_path, "dexgraspbench")
    other = random_grasps("shadow")
    other.object_name = "other"
    warpgrasp.export(other, tmp_path / "out", format="dexgraspbench")
    text = message(tmp_path / "out", "dexgraspbench")
    assert "holds grasps of a-box at scale 1 and of other at scale 1; give the folder of one of them" in text


# pickles


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def npy_with(value: Any, protocol: int = 4) -> bytes:
    """An .npy file as NumPy writes it, with anything in it."""
    file = io.BytesIO()
    array = np.empty((), object)
    array[()] = value
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    pickle.dump(array, file, protocol=protocol)
    return file.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, protocol):
    trap, file = tmp_path / "trap", tmp_path / "evil.npy"
    file.write_bytes(npy_with({"grasp_qpos": Evil(trap)}, protocol))
    np.load(file, allow_pickle=True)
    assert trap.is_dir()  # it does run where nothing stops it
    trap.rmdir()
    for name in ("dexgraspbench", "dexgraspnet"):
        assert "it is refused: it asks for " in message(file, name)
        assert "mkdir" in message(file, name)
    assert not trap.exists()


def test_a_malicious_pickle_in_an_archive_and_in_a_torch_file(tmp_path):
    torch: Any = import_module("torch")
    trap = tmp_path / "trap"
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("qpos.npy", npy_with(Evil(trap)))
        archive.writestr("scale.npy", npy_with(10.0))
    assert "it is refused: it asks for " in message(tmp_path / "evil.npz", "unidexgrasp")
    torch.save({"metadata": [(Evil(trap), "a", "b")]}, tmp_path / "evil.pt")
    assert "it is refused: it holds something other than tensors" in message(tmp_path / "evil.pt", "multidex")
    assert not trap.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "builtins.getattr",
        "os.system",
        "numpy.load",
        "numpy.testing._private.utils.runstring",
        "copyreg._reconstructor",
    ],
)
def test_only_a_few_names_may_be_asked_for(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    file = tmp_path / "file.npy"
    header = npy_with(0)[:128]
    file.write_bytes(header + b"\x80\x03c" + module.encode() + b"\n" + attribute.encode() + b"\n.")
    assert f"it is refused: it asks for {name}" in message(file, "dexgraspnet")


def test_what_numpy_itself_would_trip_over(tmp_path):
    file = tmp_path / "file.npy"
    header = npy_with(0)[:128]
    for body, words in (
        # an array of 10^15 numbers that is only promised
        (
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\x00\x00\x00\x40\x85C\x01b\x87R.",
            "refused",
        ),
        # a type with fields of its own
        (b"\x80\x03cnumpy\ndtype\nX\x05\x00\x00\x00V9999\x85R.", "refused"),
        # a memo of four thousand million entries
        (b"\x80\x03]r\xff\xff\xff\xff.", "header and its content differ"),
        # a text that is longer than the file
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0fabc", "damaged"),
        # a stack that is empty
        (b"\x80\x03R.", "damaged"),
        # attributes for a class of ours, which would stay after the file
        (b"\x80\x03cnumpy\nndarray\nN}X\x05\x00\x00\x00valueK\x01s\x86b.", "refused"),
        # and for a function
        (b"\x80\x03cnumpy.core.multiarray\nscalar\nN}X\x01\x00\x00\x00xK\x01s\x86b.", "refused"),
        # an object elsewhere
        (b"\x80\x03Pname\n.", "refused"),
    ):
        file.write_bytes(header + body)
        assert words in message(file, "dexgraspbench"), body
    assert pickled.Array.value is None and not vars(pickled.scalar)


def test_containers_that_hold_each_other_end(tmp_path):
    again: list = []
    again.append(again)
    (tmp_path / "loop.npy").write_bytes(npy_with({"grasp_qpos": again}))
    message(tmp_path / "loop.npy", "dexgraspbench")
    tower: list = [1.0]
    for _ in range(60):
        tower = [tower, tower]
    (tmp_path / "tower.npy").write_bytes(npy_with({"x": tower}))
    assert "it has no 'grasp_qpos'" in message(tmp_path / "tower.npy", "dexgraspbench")


def test_plain_data_reads_the_same_as_with_numpy(tmp_path, rng):
    value = {
        "floats": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4)).astype(">f4")),
        "text": np.array(["a", "bc"]),
        "flag": np.bool_(True),
        "number": np.float32(1.5),
        "nested": [OrderedDict(a=1, b=(2.5, None)), np.array([{"x": np.arange(3)}, "y"], object)],
        "bytes": b"\x00\xff",
    }
    for protocol in range(2, 6):
        (tmp_path / "plain.npy").write_bytes(npy_with(value, protocol))
        ours = pickled.read_npy(tmp_path / "plain.npy")
        theirs = np.load(tmp_path / "plain.npy", allow_pickle=True).item()
        np.testing.assert_array_equal(ours["floats"], theirs["floats"])
        np.testing.assert_array_equal(ours["fortran"], theirs["fortran"])
        assert ours["text"].tolist() == theirs["text"].tolist()
        assert (ours["flag"], ours["number"], ours["bytes"]) == (True, 1.5, b"\x00\xff")
        assert ours["nested"][0] == dict(theirs["nested"][0])
        np.testing.assert_array_equal(ours["nested"][1][0]["x"], [0, 1, 2])


def test_sizes_are_bounded(tmp_path, monkeypatch):
    for name in ("dexgraspnet", "unidexgrasp", "isaac_grasp", "graspgen"):
        path, file = exported(tmp_path / name, name)
        with monkeypatch.context() as patch:
            patch.setattr(pickled, "MAX_BYTES", file.stat().st_size - 1)
            assert "bytes; at most" in message(path if path.is_file() else file, name)
    for name in ("usd", "hdf5", "multidex"):
        module = import_module(f"warpgrasp.formats.{name}")
        path, file = exported(tmp_path / name, name)
        with monkeypatch.context() as patch:
            patch.setattr(module, "MAX_BYTES", 1000)
            assert "bytes" in message(file, name)


def test_an_archive_that_unpacks_to_much_more(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("qpos.npy", bytes(10_000_000))
    monkeypatch.setattr(pickled, "MAX_BYTES", 1_000_000)
    assert "it unpacks to 10000000 bytes; at most 1000000 are read" in message(tmp_path / "bomb.npz", "unidexgrasp")


def test_hdf5_follows_no_link_out_of_the_file(tmp_path):
    h5py: Any = import_module("h5py")
    path, _ = exported(tmp_path, "hdf5")
    with h5py.File(path, "r+") as file:
        del file["valid"]
        file["valid"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/valid")
    assert "valid is a link to somewhere else" in message(path, "hdf5")
    with h5py.File(path, "r+") as file:
        del file["valid"]
        file.create_dataset("valid", (4,), dtype="i1", external=[(str(tmp_path / "secret"), 0, 4)])
    assert "valid lies in another file" in message(path, "hdf5")


def test_usd_opens_no_other_file(tmp_path):
    path, _ = exported(tmp_path, "usd")
    text = path.read_text()
    assert text.startswith("#usda 1.0\n(")
    path.write_text(text.replace("#usda 1.0\n(", "#usda 1.0\n(\n    subLayers = [@/etc/passwd@]", 1))
    assert len(formats.read(path)) == 4


# commands


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("export {own} --out x --format dexgraspnest", "no format 'dexgraspnest'. Did you mean 'dexgraspnet'?"),
        ("export {own} --out x", "the name 'x' does not say which format it is; pass format"),
        ("export gone.npz --out x.yaml", "gone.npz: there is no such file"),
        ("export {own} --out x.txt --format hdf5", "x.txt: give a name that ends in .h5 or .hdf5"),
        ("import gone.npy --format dexgraspnet --out y.npz", "gone.npy: there is no such file or folder"),
        ("import {own} --format unidexgrasp --out y.npz", "it has no 'qpos'"),
        ("import {own} --format graspgen --out y.npz", "it is not JSON"),
        ("import {own} --format graspgen --out y.txt", "y.txt: give a name that ends in .npz"),
        ("import bare.npy --format dexgraspnet --out y.npz", "the mesh of its object is not beside it; pass --mesh"),
        ("import bare.npy --format dexgraspnet --scale 0.7 --out y.npz", "it has no grasp at scale 0.7, but at 0."),
    ],
)
def test_commands_end_with_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    grasps = random_grasps("shadow")
    grasps.save("own.npz")
    warpgrasp.export(grasps, "net", format="dexgraspnet")
    Path("net/dataset/a-box.npy").rename("bare.npy")
    assert main(arguments.format(own="own.npz").split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert words in printed.err


def test_graspgen_with_what_is_no_rotation(tmp_path):
    path, _ = exported(tmp_path, "graspgen")
    document = json.loads(path.read_text())
    document["grasps"]["transforms"][0][0][0] = 7.0
    path.write_text(json.dumps(document))
    assert "a transform is not a rotation and a translation" in message(path, "graspgen")
    document["grasps"]["transforms"] = [[1.0, 2.0]]
    path.write_text(json.dumps(document))
    assert "transforms has shape" in message(path, "graspgen")
