"""The quasistatic backend against MuJoCo, which has nothing of it but the pads; and MuJoCo's own balance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
from tactile_scenes import BALL, DOME, ball, domes, gripper, held, labelled

import warpgrasp
from warpgrasp import tactile
from warpgrasp.physics.object_model import ObjectShape
from warpgrasp.pose import Pose
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.mujoco_flex import MujocoFlex
from warpgrasp.tactile.options import Load, Solver
from warpgrasp.tactile.pads import dome_pad
from warpgrasp.tactile.quasistatic import Quasistatic

WEIGHT = 0.981


@pytest.mark.slow
@pytest.mark.parametrize("modulus", [1.0e5, 3.0e5])
def test_travel_and_sag_are_those_of_mujoco(modulus, tmp_path):
    """Equal meshes, and linear elements in both: MuJoCo has no others."""
    hand, obj = gripper(tmp_path, 2), ball()
    material = dataclasses.replace(SILICONE, youngs_modulus=modulus, poisson_ratio=0.4)
    options = {"pads": domes(hand, dome_pad(DOME, (6, 8, 2))), "material": material, "load": Load(force=4.0)}
    grasps = held(hand, obj)
    other = MujocoFlex(hand, obj, shape=ObjectShape("sphere", np.array([BALL])), **options).run(grasps)
    ours = Quasistatic(hand, obj, solver=Solver(degree=1, gravity_steps=4), **options).run(grasps)
    assert ours.passed[0] and other.passed[0]
    np.testing.assert_allclose(ours.closure, other.closure, rtol=0.1)
    np.testing.assert_allclose(ours.object_displacement[0, 2:], other.object_displacement[0, 2:], rtol=0.1)
    np.testing.assert_allclose(ours.finger_wrench[..., :3], other.finger_wrench[..., :3], atol=0.05)
    np.testing.assert_allclose(ours.net_force, other.net_force, rtol=0.15)
    # MuJoCo's own books: taxels add up to the fingers' forces, which add up to the weight.
    np.testing.assert_allclose(other.taxel_force.sum(axis=2), other.finger_wrench[..., :3], atol=4e-3)
    np.testing.assert_allclose(other.carried, 1.0, atol=0.01)
    assert np.linalg.norm(other.contact_force[0].sum(axis=0)) < 0.01 * WEIGHT


@pytest.mark.slow
def test_mujoco_drops_what_the_quasistatic_backend_drops(tmp_path):
    hand, obj = gripper(tmp_path, 2), ball()
    slippery = dataclasses.replace(SILICONE, friction=0.08)
    options = {"pads": domes(hand, dome_pad(DOME, (4, 4, 2))), "material": slippery, "load": Load(force=4.0)}
    shape = ObjectShape("sphere", np.array([BALL]))
    for result in (
        MujocoFlex(hand, obj, shape=shape, **options).run(held(hand, obj)),
        Quasistatic(hand, obj, **options).run(held(hand, obj)),
    ):
        assert not result.passed[0] and result.reason[0].startswith("gravity -y: ")


@pytest.mark.slow
def test_mujoco_closes_a_real_hand(tmp_path):
    """Two fingers of one motor on a box; joints that mimic follow."""
    hand = warpgrasp.load_hand("panda")
    box = warpgrasp.load_object(trimesh.creation.box((0.03, 0.04, 0.05)))
    joints = np.full((1, 2), 0.0205)
    links = hand.link_transforms(joints[0])
    pads = np.array([links[pad.link, :3, :3] @ pad.position + links[pad.link, :3, 3] for pad in hand.pads])
    place = (-pads.mean(axis=0)[None], np.array([[1.0, 0.0, 0.0, 0.0]]))
    grasps = labelled(hand, box, Pose(*place, joints), Pose(*place, joints - 0.003))
    result = tactile.open(hand, box, backend="mujoco").run(grasps)
    assert result.passed[0], result.reason
    press = np.linalg.norm(result.finger_wrench[0, :, :3], axis=1)
    assert press.sum() == pytest.approx(Load().force, rel=0.03)
    assert np.ptp(result.joint_position[0]) < 1e-5
    checked = warpgrasp.recheck(grasps, backend="mujoco", results=result)
    assert checked.metrics["success_tactile_mujoco"] == [1]
    assert checked.metrics["qscore_tactile_mujoco"] > 0.8
