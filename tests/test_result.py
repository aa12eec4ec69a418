"""Grasps: shapes, choosing, and a file that comes back as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import rotation
from warpgrasp.hand_file import load_hand
from warpgrasp.mesh import load_object
from warpgrasp.pose import Pose
from warpgrasp.result import Grasps, load_grasps


def some_grasps(count=5):
    rng = np.random.default_rng(0)
    hand = load_hand("allegro")
    obj = load_object(trimesh.creation.box(extents=(0.05, 0.06, 0.07)), name="box")

    def pose():
        quaternion = rng.normal(size=(count, 4))
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        return Pose(rng.normal(size=(count, 3)), quaternion, rng.normal(size=(count, 16)))

    grasp = pose()
    return Grasps(
        joint_names=hand.joint_names,
        wrist_position=grasp.wrist_position,
        wrist_quaternion=grasp.wrist_quaternion,
        joint_position=grasp.joint_position,
        pregrasp=pose(),
        squeeze=pose(),
        valid=np.arange(count) < 2,
        reason=np.where(np.arange(count) < 2, "", "penetration"),
        metrics={"penetration_depth_m": rng.random(count), "links_in_contact_2mm": np.arange(count)},
        hand_source="allegro",
        hand_hash=hand.hash,
        object_name=obj.name,
        object_vertices=obj.vertices,
        object_faces=obj.faces,
        info={"seed": 0, "recipe": {"name": "default"}},
    )


def test_file_gives_back_what_was_saved(tmp_path):
    grasps = some_grasps()
    grasps.save(tmp_path / "g.npz")
    loaded = load_grasps(tmp_path / "g.npz")
    for phase in ("pose", "pregrasp", "squeeze"):
        for name in ("wrist_position", "wrist_quaternion", "joint_position"):
            np.testing.assert_array_equal(getattr(getattr(loaded, phase), name), getattr(getattr(grasps, phase), name))
    assert loaded.joint_names == grasps.joint_names
    assert loaded.reason.tolist() == grasps.reason.tolist()
    assert loaded.valid.tolist() == grasps.valid.tolist()
    assert loaded.info == grasps.info
    assert loaded.metrics.keys() == grasps.metrics.keys()
    assert loaded.hand.hash == grasps.hand_hash
    np.testing.assert_array_equal(loaded.object.vertices, grasps.object_vertices)
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"], "no temporary file is left"


def test_file_holds_no_pickle(tmp_path):
    some_grasps().save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_mask_and_slice_choose_everything_alike():
    grasps = some_grasps()
    assert len(grasps[grasps.valid]) == 2
    assert grasps[1:3].metrics["links_in_contact_2mm"].tolist() == [1, 2]
    assert grasps[[4]].reason.tolist() == ["penetration"]
    np.testing.assert_array_equal(grasps[2:].pregrasp.joint_position, grasps.pregrasp.joint_position[2:])
    assert repr(grasps) == "<5 grasps of box by allegro, 2 valid>"


def test_wrong_shapes_are_named():
    grasps = some_grasps()
    with pytest.raises(warpgrasp.ShapeError, match=r"wrist_quaternion has shape \(5, 3\), expected \(5, 4\)"):
        dataclasses.replace(grasps, wrist_quaternion=grasps.wrist_position)
    with pytest.raises(warpgrasp.ShapeError, match=r"metrics\['x'\] has shape \(2,\), expected \(5,\)"):
        dataclasses.replace(grasps, metrics={"x": np.zeros(2)})


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 but no archive"])
def test_a_damaged_file_is_refused(content, tmp_path):
    (tmp_path / "g.npz").write_bytes(content)
    with pytest.raises(warpgrasp.FileFormatError, match=r"g\.npz: it is not a file of grasps, or it is damaged"):
        load_grasps(tmp_path / "g.npz")


def test_a_truncated_file_is_refused(tmp_path):
    some_grasps().save(tmp_path / "g.npz")
    whole = (tmp_path / "g.npz").read_bytes()
    (tmp_path / "g.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(warpgrasp.FileFormatError, match="damaged"):
        load_grasps(tmp_path / "g.npz")


def test_a_pickle_in_the_file_is_refused(tmp_path):
    np.savez(tmp_path / "g.npz", format=np.array({"evil": 1}, dtype=object))
    with pytest.raises(warpgrasp.FileFormatError, match="damaged"):
        load_grasps(tmp_path / "g.npz")


def test_a_missing_file_and_a_wrong_name_are_refused(tmp_path):
    with pytest.raises(warpgrasp.FileFormatError, match="there is no such file"):
        load_grasps(tmp_path / "none.npz")
    with pytest.raises(warpgrasp.FileFormatError, match=r"give a name that ends in \.npz"):
        some_grasps().save(tmp_path / "g.txt")
    with pytest.raises(warpgrasp.FileFormatError, match=r"the folder .* does not exist"):
        some_grasps().save(tmp_path / "no" / "g.npz")


def test_a_hand_that_changed_is_noticed(tmp_path):
    grasps = dataclasses.replace(some_grasps(), hand_hash="0" * 64)
    grasps.save(tmp_path / "g.npz")
    with pytest.raises(warpgrasp.FileFormatError, match="this hand has changed"):
        _ = load_grasps(tmp_path / "g.npz").hand


def test_poses_are_what_they_say():
    pose = some_grasps().pose
    matrix = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    np.testing.assert_allclose(np.linalg.det(matrix[:, :3, :3]), 1.0)
