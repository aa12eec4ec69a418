"""The Isaac Gym backend against a stand-in of its API: files, calls, their order, and what is made of the answers."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tactile_scenes import DOME, ball, domes, gripper, held

import warpgrasp
from warpgrasp import tactile
from warpgrasp.errors import WarpgraspError
from warpgrasp.tactile.isaac import VARIABLE, WORKER, IsaacGym
from warpgrasp.tactile.isaac_files import write_hand
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.pads import dome_pad, hand_pads

STAND_IN = Path(__file__).with_name("isaacgym_stand_in")


def interpreter(folder: Path) -> Path:
    """A program that is this Python with the stand-in for Isaac Gym."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{STAND_IN}" exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


def state(path: Path, backend: IsaacGym, grasps, pressure: float) -> None:
    """What the stand-in plays back: undeformed pads under even pressure, where the targets put them."""
    place = backend.hand.link_transforms(backend._targets(grasps))
    vertices = [
        np.einsum("nxy,vy->nvx", (place[:, pad.link] @ pad.pose)[:, :3, :3], pad.mesh.vertices)
        + (place[:, pad.link] @ pad.pose)[:, None, :3, 3]
        for pad in backend.pads
    ]
    middle = int(np.linalg.norm(backend.pads[0].mesh.vertices[:, :2], axis=1).argmin())
    np.savez(
        path, vertices=np.concatenate(vertices, axis=1), stress=-pressure * np.eye(3), contact_force=2.0,
        middle=middle, compliance=1.0e-3,
    )  # fmt: skip


def test_the_worker_does_what_isaac_gym_asks_for(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(interpreter(tmp_path)))
    monkeypatch.setenv("STAND_IN_STATE", str(tmp_path / "state.npz"))
    monkeypatch.setenv("STAND_IN_CALLS", str(tmp_path / "calls.txt"))
    assert IsaacGym.is_available() == (True, "")
    hand, obj = gripper(tmp_path, 3), ball()
    grasps = held(hand, obj, count=2)
    pads = domes(hand, dome_pad(DOME, (4, 4, 1)))
    backend = tactile.open(hand, obj, backend="isaacgym", pads=pads)
    assert isinstance(backend, IsaacGym)
    pressure = 1.0e4
    state(tmp_path / "state.npz", backend, grasps, pressure)
    result = backend.run(grasps)

    mesh = pads[0].mesh
    net = -pressure * (mesh.sample_areas[:, None] * mesh.sample_normals).sum(axis=0)
    np.testing.assert_allclose(result.finger_wrench[..., :3], np.broadcast_to(net, (2, 3, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.taxel_force.sum(axis=2), result.finger_wrench[..., :3], atol=1e-9)
    # Three fingers around the axis: nothing is left over, and each pushes the object towards the axis.
    np.testing.assert_allclose(result.contact_force.sum(axis=1), 0.0, atol=1e-6)
    assert ((result.contact_force * result.contact_position).sum(axis=2) < 0.0).all()
    np.testing.assert_allclose(result.joint_position, backend._targets(grasps), atol=1e-7)
    # The object has moved by a millimetre per newton of its weight; the soft contact is in the middle of the pads.
    np.testing.assert_allclose(result.object_displacement, 0.981e-3, rtol=1e-4)
    np.testing.assert_allclose(result.net_force, 2.0)
    np.testing.assert_allclose(result.pad_displacement, 0.0, atol=1e-7)
    assert result.passed.all() and (result.fingers_touching == 3).all()

    calls = (tmp_path / "calls.txt").read_text().split()
    first = {name: calls.index(name) for name in calls}
    order = [
        "create_sim", "load_asset", "get_asset_soft_body_count", "create_env", "create_actor",
        "set_actor_soft_materials", "set_actor_dof_properties", "set_actor_dof_states", "prepare_sim",
        "acquire_particle_state_tensor", "set_actor_dof_position_targets", "simulate", "fetch_results",
        "refresh_particle_state_tensor", "get_sim_tetrahedra", "get_actor_tetrahedra_range", "get_soft_contacts",
        "apply_body_forces",
    ]  # fmt: skip
    assert [first[name] for name in order] == sorted(first[name] for name in order)
    assert calls[-1] == "destroy_sim" and calls.count("create_sim") == 1
    assert calls.count("simulate") == calls.count("fetch_results")


def test_springs_press_no_harder_than_the_load_allows(tmp_path):
    hand, obj = gripper(tmp_path, 2), ball()
    grasps = held(hand, obj, press=0.01)
    backend = IsaacGym(hand, obj, pads=domes(hand, dome_pad(DOME, (2, 2, 1))))
    # 2 N/mm: 5 N are 2.5 mm.
    np.testing.assert_allclose(backend._targets(grasps) - grasps.joint_position, 0.0025, rtol=1e-6)


def test_the_worker_is_written_for_python_3_6():
    ast.parse(WORKER.read_text(), feature_version=(3, 6))


def test_a_real_hand_is_written_whole(tmp_path):
    hand = warpgrasp.load_hand("shadow")
    write_hand(hand, hand_pads(hand), SILICONE, tmp_path)
    again = warpgrasp.load_hand(tmp_path / "hand.urdf")
    assert again.joint_names == hand.joint_names
    middle = hand.clamp(0.5 * (hand.lower + hand.upper))
    ours = hand.link_transforms(middle)
    theirs = again.frame_transforms(middle)
    for link in range(len(hand.links)):
        np.testing.assert_allclose(theirs[f"link_{link}"], ours[link], atol=1e-6)
    assert len(list(tmp_path.glob("pad_*.tet"))) == 5


def test_without_isaac_gym_one_line_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    hand, obj = gripper(tmp_path, 2), ball()
    with pytest.raises(WarpgraspError, match="is not available: set WARPGRASP_ISAACGYM_PYTHON to the Python"):
        tactile.open(hand, obj, backend="isaacgym")
    for path, message in (
        (tmp_path / "nothing", "which is no program"),
        (tmp_path, "which is no program"),
        (sys.executable, "cannot import Isaac Gym .*No module named 'isaacgym'"),
        ("/bin/true", "cannot import Isaac Gym"),
    ):
        monkeypatch.setenv(VARIABLE, str(path))
        with pytest.raises(WarpgraspError, match=message) as caught:
            tactile.open(hand, obj, backend="isaacgym")
        assert "\n" not in str(caught.value) and VARIABLE in str(caught.value)


def test_a_worker_that_fails_gives_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(interpreter(tmp_path)))
    monkeypatch.setenv("STAND_IN_NO_GPU", "1")
    hand, obj = gripper(tmp_path, 2), ball()
    backend = tactile.open(hand, obj, backend="isaacgym", pads=domes(hand, dome_pad(DOME, (2, 2, 1))))
    with pytest.raises(WarpgraspError, match="worker failed: RuntimeError: Isaac Gym made no simulation"):
        backend.run(held(hand, obj))
    assert os.environ[VARIABLE]
