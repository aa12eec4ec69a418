"""Recordings of trials: numbers, films, strips of pictures."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import trimesh
from physics_grasps import BOX_WIDTH, labelled, panda_grip
from PIL import Image, ImageSequence

from warpgrasp.errors import FileFormatError, HandError, OptionError
from warpgrasp.film import LAST, Studio, smooth, stage_ends, write_film, write_strip
from warpgrasp.physics.protocols import DIRECTIONS, LIFT, SIX
from warpgrasp.physics.record import Recording, record, run_trial, stages
from warpgrasp.validation import validate


@pytest.fixture(scope="module")
def held() -> Recording:
    return run_trial(panda_grip(opening=0.01), 0)


@pytest.fixture(scope="module")
def lost() -> Recording:
    return run_trial(panda_grip(away=0.5), 0)


def red(picture: Image.Image | np.ndarray) -> int:
    """Pixels of the arrow's colour."""
    r, g, b = np.moveaxis(
        np.asarray(picture if isinstance(picture, np.ndarray) else picture.convert("RGB"), int), -1, 0
    )
    return int(((r > 120) & (g < 70) & (b < 70)).sum())


def frame_count(film: Image.Image) -> int:
    """Pictures of an animation."""
    return sum(1 for _ in ImageSequence.Iterator(film))


def test_a_recording_shows_what_the_judge_saw(tmp_path):
    grasps = panda_grip()
    outcome = record(grasps, 0, tmp_path / "grip.npz")
    assert outcome.success
    assert outcome.displacement_m == validate(grasps).metrics["fc6_displacement_m"][0]
    with np.load(tmp_path / "grip.npz") as motion:
        frames = len(motion["time_s"])
        # 0.8 s of closing and six pulls of 2 s.
        assert frames == 640
        assert motion["joint_position"].shape == (frames, 2)
        assert motion["joint_position"][-1] == pytest.approx(np.full(2, BOX_WIDTH / 2.0), abs=2e-3)
        moved = np.linalg.norm(motion["object_pose"][:, :3, 3], axis=1)
        assert moved.max() < 0.003
        np.testing.assert_allclose(motion["wrist_position"], np.tile(grasps.wrist_position, (frames, 1)), atol=2e-3)
        names = [str(name) for name, _ in itertools.groupby(motion["stage"])]
        assert names == ["close", *SIX]
        for name, direction in DIRECTIONS.items():
            force = motion["force_N"][motion["stage"] == name]
            np.testing.assert_allclose(force, np.tile(direction, (100, 1)), atol=1e-12)


def test_an_object_that_falls_is_seen_to_fall(tmp_path):
    outcome = record(panda_grip(away=0.5), 0, tmp_path / "lost.npz", frame_rate=100.0)
    assert outcome.failed_pull == "-x"
    with np.load(tmp_path / "lost.npz") as motion:
        assert motion["object_pose"][-1, 0, 3] < -0.1


def test_stages_of_a_lift_follow_its_times():
    grip = panda_grip()
    for pose in (grip.pregrasp, grip, grip.squeeze):
        pose.wrist_position[:] *= [1.0, -1.0, -1.0]
        pose.wrist_quaternion[:] = [0.0, 1.0, 0.0, 0.0]
    tall = labelled(grip.hand, trimesh.creation.box((0.03, 0.04, 0.06)), grip.pregrasp, grip.pose, grip.squeeze)
    steady = run_trial(tall, 0, protocol=LIFT, frame_rate=250.0)
    assert steady.outcome.success
    seconds = {str(name): len(list(run)) / 250.0 for name, run in itertools.groupby(steady.stage)}
    assert tuple(seconds) == stages(LIFT) == ("close", "lift", "hold", "shake x", "shake y", "shake z")
    expected = [0.8, 1.0, 2.0, 1.0, 1.0, 1.0]
    assert list(seconds.values()) == pytest.approx(expected, abs=0.02)
    # The hand is raised while it lifts, and shaken along the axis that the stage names.
    path = {name: np.ptp(steady.wrist_position[steady.stage == name], axis=0) for name in seconds}
    assert path["lift"][2] > 0.09 and path["hold"].max() < 0.02
    assert [int(path[f"shake {axis}"].argmax()) for axis in "xyz"] == [0, 1, 2]


def test_a_grasp_that_is_refused_has_one_frame(tmp_path):
    grasps = panda_grip()
    inside = dataclasses.replace(grasps.pregrasp, wrist_position=grasps.wrist_position + np.array([0.0, 0.0, 0.04]))
    refused = dataclasses.replace(grasps, pregrasp=inside)
    recording = run_trial(refused, 0)
    assert recording.outcome.failure.startswith("prefilter")
    np.testing.assert_allclose(recording.wrist_position, inside.wrist_position)
    write_film(recording, tmp_path / "refused.gif", size=64, device="cpu")
    with Image.open(tmp_path / "refused.gif") as film:
        assert frame_count(film) == 1


def test_a_film_shows_every_stage_and_the_verdict(held, tmp_path):
    write_film(held, tmp_path / "held.gif", size=96, device="cpu")
    frames, seconds = Studio(held, 96, "cpu").frames()
    assert {str(held.stage[frame]) for frame in frames} == set(stages(held.protocol))
    assert seconds[-1] == LAST
    with Image.open(tmp_path / "held.gif") as film:
        assert frame_count(film) == len(frames)
        shown = []
        for number in range(frame_count(film)):
            film.seek(number)
            shown.append((film.info["duration"], red(film.crop((0, 24, 96, 120)))))
    assert [duration for duration, _ in shown] == pytest.approx([1000.0 * value for value in seconds], abs=5.1)
    # The arrow is there when and only when something pulls, even where the hand hides it.
    for frame, (_, arrow) in zip(frames, shown, strict=True):
        assert (arrow >= 3) == (held.stage[frame] != "close"), (frame, arrow)


def test_the_camera_sees_all_that_moves(held, lost):
    for recording in (held, lost):
        studio = Studio(recording, 96, "cpu")
        near = np.linalg.norm(studio.points, axis=-1) < 0.3
        assert np.abs(studio._pixels()[near]).max() <= 48.0


def test_a_strip_has_a_picture_for_the_end_of_every_stage(held, lost, tmp_path):
    for recording, tiles in ((held, 8), (lost, 3)):
        assert len(stage_ends(recording)) == tiles - 1
        write_strip(recording, tmp_path / "strip.png", size=100, device="cpu")
        picture = Image.open(tmp_path / "strip.png")
        assert picture.size == (100 * tiles, 144)
        assert [red(picture.crop((100 * i, 0, 100 * i + 100, 100))) > 3 for i in range(tiles)] == [
            False,
            False,
            *[True] * (tiles - 2),
        ]


def test_smoothing_takes_grain_and_leaves_edges(rng):
    clean = np.zeros((40, 40, 3)) + np.where(np.arange(40) < 20, 60.0, 180.0)[None, :, None]
    noisy = np.clip(clean + rng.normal(scale=6.0, size=(40, 40, 1)), 0, 255).astype(np.uint8)
    smoothed = smooth(noisy).astype(float)
    assert np.abs(smoothed - clean).mean() < 0.4 * np.abs(noisy - clean).mean()
    assert np.abs(smoothed - clean)[:, 18:22].max() < 20.0


def test_what_is_passed_on_reaches_the_trial(tmp_path):
    (tmp_path / "other.xml").write_text(
        '<mujoco><worldbody><body><joint name="ghost"/><geom size="0.01"/></body></worldbody></mujoco>'
    )
    with pytest.raises(HandError, match="it has no joint"):
        record(panda_grip(), 0, tmp_path / "grip.npz", hand_mjcf=tmp_path / "other.xml")
    assert not (tmp_path / "grip.npz").exists()


@pytest.mark.parametrize("name", ["grip.mp4", "missing/grip.gif"])
def test_bad_names_are_refused(name, tmp_path):
    with pytest.raises(FileFormatError, match=r"a recording is a \.gif, \.png, \.npz file in a folder that exists"):
        record(panda_grip(), 0, tmp_path / name)


def test_bad_numbers_are_refused(tmp_path):
    with pytest.raises(OptionError, match="index must be from 0 to 0, got 1"):
        record(panda_grip(), 1, tmp_path / "grip.npz")
    with pytest.raises(OptionError, match="frame_rate must be positive"):
        record(panda_grip(), 0, tmp_path / "grip.npz", frame_rate=0.0)
