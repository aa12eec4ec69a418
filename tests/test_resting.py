"""Resting poses against closed forms and trimesh's quasi-static stable poses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

import warpgrasp
import warpgrasp.resting as module
from warpgrasp import rotation
from warpgrasp.cli import main
from warpgrasp.errors import MeshError, OptionError
from warpgrasp.resting import settle

DROPS = 512
QUASI_STATIC = 20.0
"""Drag [1/s] that takes the swing out of the fall."""


def sampling_error(probability: np.ndarray, drops: int = DROPS) -> np.ndarray:
    """Four standard errors of a share, and half a drop."""
    return 4.0 * np.sqrt(probability * (1.0 - probability) / drops) + 0.5 / drops


def box_shares(extents: np.ndarray) -> np.ndarray:
    """Solid angle of each face of a box seen from its centre, as a share: half extents a, b at distance c."""
    a, b, c = (0.5 * np.roll(extents, -shift) for shift in (1, 2, 0))
    return np.arctan(a * b / (c * np.sqrt(a * a + b * b + c * c))) / np.pi


def angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(first @ second, -1.0, 1.0)))


@pytest.mark.parametrize("extents", [(0.05, 0.05, 0.05), (0.04, 0.06, 0.1)])
def test_a_box_rests_on_its_faces_as_often_as_their_solid_angles_say(extents):
    poses = settle(warpgrasp.load_object(trimesh.creation.box(extents)), drops=DROPS)
    assert len(poses) == 6
    shares = box_shares(np.array(extents))
    assert 2.0 * shares.sum() == pytest.approx(1.0)
    for pose in poses:
        axis = int(np.abs(pose.normal).argmax())
        assert abs(pose.normal[axis]) == pytest.approx(1.0, abs=1e-12)
        assert pose.position == pytest.approx([0.0, 0.0, extents[axis] / 2.0], abs=1e-12)
        assert abs(pose.probability - shares[axis]) < sampling_error(shares[axis])
    assert sum(pose.probability for pose in poses) == pytest.approx(1.0)
    assert (np.diff([pose.probability for pose in poses]) <= 0.0).all()


def quasi_static(obj: warpgrasp.ObjectMesh) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the object that point down, and their probabilities, as trimesh computes them."""
    transform, share = trimesh.poses.compute_stable_poses(obj.trimesh(), center_mass=obj.center_of_mass)
    return -transform[:, 2, :3], np.asarray(share)


@pytest.mark.parametrize("name", ["025_mug", "035_power_drill", "006_mustard_bottle", "061_foam_brick"])
def test_poses_and_quasi_static_probabilities_are_those_of_trimesh(name, shared):
    obj = warpgrasp.load_object(shared / "objects" / "ycb" / f"{name}.obj")
    down, share = quasi_static(obj)
    poses = settle(obj, drops=DROPS, drag=QUASI_STATIC)
    ours = np.array([-pose.normal for pose in poses])
    # Each of ours is one of trimesh's, which has more: shallow wells on the flank of another.
    nearest = angle(ours, down.T)
    assert nearest.min(axis=1).max() < 0.01
    well = module._Wells(obj)
    same = well.find(down)[None] == well.find(ours)[:, None]
    expected = (same * share).sum(axis=1)
    assert expected.sum() > 0.98
    assert (np.abs([pose.probability for pose in poses] - expected) < sampling_error(expected)).all()
    # Without drag it swings on, and leaves the shallower wells more often; not by much.
    swinging = {tuple(-pose.normal.round(6)): pose.probability for pose in settle(obj, drops=DROPS)}
    gone = np.abs([swinging.get(tuple(one.round(6)), 0.0) - p for one, p in zip(ours, expected, strict=True)])
    assert gone.max() < 0.15


@pytest.mark.parametrize("name", ["025_mug", "035_power_drill", "013_apple"])
def test_three_points_touch_the_table_around_the_centre_of_mass(name, shared):
    obj = warpgrasp.load_object(shared / "objects" / "ycb" / f"{name}.obj")
    for pose in settle(obj, drops=64):
        world = obj.vertices @ pose.matrix[:3, :3].T + pose.position
        assert world[:, 2].min() == pytest.approx(0.0, abs=1e-12)
        center = pose.matrix[:3, :3] @ obj.center_of_mass + pose.position
        np.testing.assert_allclose(center[:2], 0.0, atol=1e-12)
        feet = world[world[:, 2] < 1e-8, :2]
        assert len(feet) >= 3
        # Inside their convex hull: no direction has all feet on its far side.
        turn = np.linspace(0.0, 2.0 * np.pi, 360)
        assert (feet @ np.array([np.cos(turn), np.sin(turn)])).max(axis=0).min() > 0.0
        np.testing.assert_allclose(obj.vertices @ pose.normal - pose.offset, world[:, 2], atol=1e-12)


def test_the_turn_is_the_least_that_brings_this_side_down():
    poses = settle(warpgrasp.load_object(trimesh.creation.box((0.04, 0.06, 0.1))), drops=64)
    for pose in poses:
        turned = angle(pose.normal, np.array([0.0, 0.0, 1.0]))
        assert 2.0 * np.degrees(np.arccos(min(1.0, pose.quaternion[0]))) == pytest.approx(turned, abs=1e-5)
    upside_down = next(pose for pose in poses if pose.normal[2] < -0.5)
    np.testing.assert_allclose(upside_down.matrix[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)


@pytest.mark.parametrize("tilt", [0.0, 1e-9, 1e-4, 0.1, 1.0, 3.0, np.pi - 1e-4, np.pi])
def test_a_little_noise_does_not_choose_about_which_axis_an_object_is_turned_over(tilt, rng):
    for turn in rng.uniform(0.0, 2.0 * np.pi, 5):
        down = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
        matrix = module._least_turn(down)
        np.testing.assert_allclose(matrix @ down, [0.0, 0.0, -1.0], atol=1e-12)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        if tilt < 1e-3:
            np.testing.assert_allclose(matrix, np.diag([1.0, -1.0, -1.0]), atol=3e-4)


def test_turning_the_object_turns_the_poses(shared):
    """Drops begin elsewhere, the resting sides are the same."""
    mesh = trimesh.load_mesh(shared / "objects" / "ycb" / "035_power_drill.obj")
    obj = warpgrasp.load_object(mesh)
    turn = rotation.matrix(np.array([0.1, -0.2, 0.05]), np.array([0.6, 0.0, 0.48, 0.64]))
    turned = warpgrasp.load_object(mesh.copy().apply_transform(turn))
    ours, theirs = settle(obj)[:2], settle(turned)[:2]
    for pose in ours:
        side = turn[:3, :3] @ pose.normal
        nearest = min(theirs, key=lambda other: float(angle(other.normal, side)))
        assert angle(nearest.normal, side) < 1e-3
        assert nearest.probability == pytest.approx(pose.probability, abs=0.13)


def test_a_path_will_do(shared):
    """As for every function that takes an object."""
    assert settle(shared / "objects" / "ycb" / "061_foam_brick.obj", drops=8)


def test_round_objects_have_one_pose_for_all_that_roll_into_each_other():
    assert len(settle(warpgrasp.load_object(trimesh.creation.icosphere(3, 0.03)), drops=64)) == 1
    can = settle(warpgrasp.load_object(trimesh.creation.cylinder(0.03, 0.1)), drops=DROPS)
    lying, *standing = can
    assert len(standing) == 2 and all(abs(pose.normal[2]) == pytest.approx(1.0) for pose in standing)
    assert abs(lying.normal[2]) < 1e-9
    # Solid angle of the two ends: 1 - cos of the angle between axis and rim.
    ends = 1.0 - 0.05 / np.hypot(0.03, 0.05)
    assert abs(lying.probability - (1.0 - ends)) < sampling_error(np.array(ends))


def test_equal_seeds_give_equal_poses_and_others_do_not():
    obj = warpgrasp.load_object(trimesh.creation.box((0.04, 0.06, 0.1)))
    first, again, other = ([pose.probability for pose in settle(obj, drops=64, seed=seed)] for seed in (3, 3, 4))
    assert first == again != other


def test_many_faces_are_no_obstacle():
    ball = trimesh.creation.icosphere(6, 0.04)
    egg = ball.apply_scale([1.0, 0.8, 0.7])
    assert len(egg.faces) > 80_000
    poses = settle(warpgrasp.load_object(egg), drops=32)
    assert [abs(pose.normal[2]) for pose in poses] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_the_command_lists_and_draws_the_poses(tmp_path, capsys):
    mesh, picture = tmp_path / "block.obj", tmp_path / "block.png"
    trimesh.creation.box((40.0, 60.0, 100.0)).export(mesh)
    given = [str(mesh), "--scale", "0.001", "--drops", "64"]
    assert main(["settle", *given, "--preview", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "block rests on a table in 6 ways, of 64 drops" in text
    assert np.asarray(Image.open(picture)).shape == (2 * 326, 1200, 4)
    assert main(["settle", *given, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    poses = settle(warpgrasp.load_object(mesh, scale=0.001), drops=64)
    assert [one["probability"] for one in report["poses"]] == [pose.probability for pose in poses]
    for one, pose in zip(report["poses"], poses, strict=True):
        assert one["position"] == pytest.approx(pose.position.tolist())
        assert one["quaternion_wxyz"] == pytest.approx(pose.quaternion.tolist())
        assert one["table_normal"] == pytest.approx(pose.normal.tolist())
    assert main(["settle", str(tmp_path / "none.obj")]) == 2
    assert main(["settle", *given, "--preview", str(tmp_path / "block.jpg")]) == 2


def test_what_cannot_be_settled_is_said(monkeypatch):
    box = warpgrasp.load_object(trimesh.creation.box((0.04, 0.06, 0.1)))
    for drops in (0, 2.5, True):
        with pytest.raises(OptionError, match=f"drops must be a positive whole number, got {drops}"):
            settle(box, drops=drops)  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="drag must not be negative, got -1"):
        settle(box, drag=-1.0)
    sheet = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]], [[0, 1, 2], [0, 2, 3]])
    with pytest.raises(MeshError, match="it is flat"):
        settle(warpgrasp.load_object(sheet))
    monkeypatch.setattr(module, "LONGEST", module.LOOK)
    ball = warpgrasp.load_object(trimesh.creation.icosphere(2, 0.03), name="ball")
    with pytest.raises(MeshError, match=r"ball: 1\d of 16 drops have not come to rest on the table after 0\.2 s"):
        settle(ball, drops=16)
