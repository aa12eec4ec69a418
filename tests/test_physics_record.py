"""Recordings of trials."""

from __future__ import annotations

import numpy as np
import pytest
from physics_grasps import BOX_WIDTH, panda_grip

from warpgrasp.errors import FileFormatError, OptionError
from warpgrasp.physics.record import record
from warpgrasp.validation import validate


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


def test_an_object_that_falls_is_seen_to_fall(tmp_path):
    outcome = record(panda_grip(away=0.5), 0, tmp_path / "lost.npz", frame_rate=100.0)
    assert outcome.failed_pull == "-x"
    with np.load(tmp_path / "lost.npz") as motion:
        assert motion["object_pose"][-1, 0, 3] < -0.1


def test_bad_recordings_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="a recording is a"):
        record(panda_grip(), 0, tmp_path / "grip.mp4")
    with pytest.raises(OptionError, match="index must be from 0 to 0, got 1"):
        record(panda_grip(), 1, tmp_path / "grip.npz")
