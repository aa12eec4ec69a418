"""The mujoco-warp backend: what it says where it cannot run, its loads, and its steps against MuJoCo's."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import numpy as np
import pytest
import warp as wp
from tactile_scenes import BALL, DOME, ball, domes, gripper, held, turned

from warpgrasp import rotation, tactile
from warpgrasp.errors import OptionError, WarpgraspError
from warpgrasp.kernels import loads as kernels
from warpgrasp.physics.object_model import ObjectShape
from warpgrasp.rechecking import key
from warpgrasp.tactile import mujoco_flex, mujoco_warp_flex
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.mujoco_flex import MujocoFlex
from warpgrasp.tactile.mujoco_warp_flex import MujocoWarpFlex
from warpgrasp.tactile.options import Load
from warpgrasp.tactile.pads import dome_pad
from warpgrasp.tactile.result import AXES

FIRM = dataclasses.replace(SILICONE, poisson_ratio=0.4)


class ByGradients(MujocoFlex):
    """MuJoCo with the solver that the worlds have."""

    solver, iterations = MujocoWarpFlex.solver, MujocoWarpFlex.iterations


def options(hand, cells, **load) -> dict[str, Any]:
    return {
        "shape": ObjectShape("sphere", np.array([BALL])), "pads": domes(hand, dome_pad(DOME, cells)),
        "material": FIRM, "load": Load(force=4.0, **load), "device": "cpu",
    }  # fmt: skip


def stand_in(monkeypatch, **members) -> None:
    """A mujoco-warp that has these only."""
    module = types.ModuleType("mujoco_warp")
    vars(module).update({"__version__": "4.0.0", **members})
    monkeypatch.setitem(sys.modules, "mujoco_warp", module)


def test_without_mujoco_warp_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    assert tactile.find_backend("mujoco-warp") is MujocoWarpFlex
    available, reason = MujocoWarpFlex.is_available()
    assert not available and "pip install 'warpgrasp[gpu-sim]'" in reason and "\n" not in reason
    with pytest.raises(WarpgraspError, match=r"'mujoco-warp' is not available: .*needs mujoco-warp: pip install"):
        tactile.open(gripper(tmp_path), ball(), backend="mujoco-warp")


def test_an_older_mujoco_warp_is_refused(monkeypatch):
    stand_in(monkeypatch, __version__="3.17.1")
    assert MujocoWarpFlex.is_available() == (
        False, "it needs mujoco-warp 4.0, found 3.17.1; pip install 'mujoco-warp>=4.0'"
    )  # fmt: skip
    stand_in(monkeypatch)
    assert MujocoWarpFlex.is_available() == (True, "")


def test_what_mujoco_warp_does_not_support_is_named(tmp_path, monkeypatch):
    def put_model(model, batch_sizes):
        assert batch_sizes == {"eq_data": 1} and model.opt.solver == 1
        raise NotImplementedError("Flex-SDF collision is not implemented.")

    stand_in(monkeypatch, put_model=put_model)
    hand, obj = gripper(tmp_path), ball()
    backend = MujocoWarpFlex(hand, obj, **options(hand, (2, 2, 1)))
    with pytest.raises(WarpgraspError, match=r"\(Flex-SDF collision is not implemented\.\); use the backend 'mujoco'"):
        backend.run(held(hand, obj))


def test_room_and_batch_must_be_positive(tmp_path):
    hand, obj = gripper(tmp_path), ball()
    wrongs: list[dict[str, Any]] = [{"batch": 0}, {"contacts": 0}]
    for wrong in wrongs:
        with pytest.raises(OptionError, match="batch and contacts must be at least 1"):
            MujocoWarpFlex(hand, obj, **options(hand, (2, 2, 1)), **wrong)


def test_metrics_are_named_like_variables():
    assert key("mujoco-warp") == "tactile_mujoco_warp"


def test_loads_rise_and_stay(device, rng):
    """Against the same formula in NumPy, for 17 actuators."""
    worlds, ramp, body = 5, 0.05, 2
    time = np.array([0.0, 0.01, 0.05, 0.2, 0.03])
    force, weight = rng.normal(size=(worlds, 17)), rng.normal(size=(worlds, 3))
    raised = np.array([0, 0, 0, 1, 1])
    ctrl = wp.full((worlds, 17), np.nan, dtype=float, device=device)
    wrench = wp.array(np.full((worlds, 4, 6), 7.0), dtype=wp.spatial_vector, device=device)  # pyright: ignore
    wp.launch(
        kernels.raise_loads,
        dim=worlds,
        inputs=[
            wp.array(time, dtype=float, device=device), ramp, wp.array(raised, dtype=int, device=device),
            wp.array(force, dtype=float, device=device), wp.array(weight, dtype=wp.vec3, device=device), body,
        ],
        outputs=[ctrl, wrench],
        device=device,
    )  # fmt: skip
    share = np.minimum(1.0, time / ramp)
    np.testing.assert_allclose(ctrl.numpy(), np.where(raised == 1, 1.0, share)[:, None] * force, rtol=1e-6)
    expected = np.full((worlds, 4, 6), 7.0)
    expected[:, body] = np.concatenate([share[:, None] * weight, np.zeros((worlds, 3))], axis=1)
    np.testing.assert_allclose(wrench.numpy(), expected, rtol=1e-6)


def test_one_scene_serves_hands_that_come_from_anywhere(tmp_path, rng):
    """The object starts where the hand sees it, gravity pulls along the object's axes, joints follow their closure."""
    hand, obj = gripper(tmp_path, 3), ball()
    backend = MujocoFlex(hand, obj, **options(hand, (2, 2, 1)))
    quaternion = rng.normal(size=(4, 4))
    grasps = turned(held(hand, obj, count=4), quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True))
    grasps.wrist_position[:] = rng.normal(size=(4, 3))
    scene, presses = backend.scene, backend.presses(grasps)
    hand_turn = rotation.matrix_from_quaternion(grasps.wrist_quaternion)
    seen = presses.position[:, scene.object : scene.object + 7]
    center = np.einsum("nxy,ny->nx", hand_turn, seen[:, :3]) + grasps.wrist_position
    np.testing.assert_allclose(center, np.broadcast_to(obj.center_of_mass, (4, 3)), atol=1e-9)
    both = hand_turn @ rotation.matrix_from_quaternion(seen[:, 3:])
    np.testing.assert_allclose(both, np.broadcast_to(np.eye(3), (4, 3, 3)), atol=1e-9)
    weight = np.einsum("nxy,nky->nkx", hand_turn, presses.weight)
    np.testing.assert_allclose(weight, np.broadcast_to(0.981 * AXES, (4, 6, 3)), atol=1e-9)
    np.testing.assert_allclose(presses.equality[:, :3, 1], 1.0, atol=1e-9)
    assert presses.active[:, :3].all() and not presses.active[:, 3:].any()
    gone = presses.position[0].copy()
    gone[scene.joint] += [1e-3, 2e-3, 3e-3]
    np.testing.assert_allclose(scene.travel(presses[0], gone), [1e-3, 2e-3, 3e-3], atol=1e-12)


def test_a_world_that_diverges_fails_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(mujoco_flex, "CLOSE_STEPS", 2)
    monkeypatch.setattr(mujoco_flex, "PULL_STEPS", 1)
    look = mujoco_flex._Trial.look

    def diverged(trial):
        seen = look(trial)
        if trial.press.weight[0, 0] > -0.9:
            return seen
        nothing = {f.name: np.full_like(getattr(seen, f.name), np.nan) for f in dataclasses.fields(seen)
                   if f.name != "contact_body"}  # fmt: skip
        return dataclasses.replace(seen, **nothing)

    monkeypatch.setattr(mujoco_flex._Trial, "look", diverged)
    hand, obj = gripper(tmp_path), ball()
    grasps = turned(held(hand, obj, count=2), np.array([[1.0, 0.0, 0.0, 0.0], [0.6, 0.0, 0.0, 0.8]]))
    result = MujocoFlex(hand, obj, **options(hand, (2, 2, 1))).run(grasps)
    assert result.reason[0] == "not finite" and result.reason[1] != "not finite" and not result.passed.any()


@pytest.mark.slow
def test_worlds_go_as_mujoco_goes(tmp_path, monkeypatch):
    """Three grasps at once on Warp's CPU device, closed and pulled for a moment, and each alone in MuJoCo.

    mujoco-warp makes one contact of those within a millimetre, so that a patch sinks deeper into soft contacts: the
    bounds are a seventh of the travel and a fifth of the sag, and 2 % of the force.
    """
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed")
    for module in (mujoco_flex, mujoco_warp_flex):
        monkeypatch.setattr(module, "CLOSE_STEPS", 40)
        monkeypatch.setattr(module, "PULL_STEPS", 12)
    hand, obj = gripper(tmp_path), ball()
    half = 0.5 * np.array([0.0, 0.3, -0.2])
    quaternion = np.stack([np.cos(half), 0.0 * half, 0.0 * half, np.sin(half)], axis=1)
    grasps = turned(held(hand, obj, count=3), quaternion)
    one = ByGradients(hand, obj, **options(hand, (4, 4, 1))).run(grasps)
    other = MujocoWarpFlex(hand, obj, **options(hand, (4, 4, 1))).run(grasps)
    assert one.passed.all() and other.passed.all(), other.reason
    np.testing.assert_allclose(other.closure, one.closure, rtol=0.15)
    np.testing.assert_allclose(other.object_displacement, one.object_displacement, rtol=0.2)
    np.testing.assert_allclose(other.finger_wrench[..., :3], one.finger_wrench[..., :3], atol=0.08)
    np.testing.assert_allclose(other.pad_displacement, one.pad_displacement, atol=2.5e-4)
    np.testing.assert_allclose(other.object_position, one.object_position, atol=5e-5)
    np.testing.assert_allclose(other.object_quaternion, one.object_quaternion, atol=1e-3)
    # Its own books: the weight is carried, and the grip is in balance.
    np.testing.assert_allclose(other.carried, 1.0, atol=0.05)
    np.testing.assert_allclose(other.taxel_force.sum(axis=2), other.finger_wrench[..., :3], atol=1e-2)
    assert other.info["mujoco_warp"] and other.info["device"] == "cpu"


@pytest.mark.slow
def test_too_little_room_is_an_error_that_says_how_much_to_ask_for(tmp_path, monkeypatch):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed")
    monkeypatch.setattr(mujoco_warp_flex, "CLOSE_STEPS", 2)
    hand, obj = gripper(tmp_path), ball()
    backend = MujocoWarpFlex(hand, obj, **options(hand, (4, 4, 1)), contacts=1)
    with pytest.raises(WarpgraspError, match="more than 1 contacts in a world of mujoco-warp: pass contacts=2, or use"):
        backend.run(held(hand, obj))
