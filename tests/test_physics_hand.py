"""The simulated hand is the hand: poses, masses, exclusions, actuators."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp import hands, rotation
from warpgrasp.errors import HandError
from warpgrasp.physics import hand_model, scene
from warpgrasp.physics.engine import mujoco
from warpgrasp.physics.object_model import object_shape
from warpgrasp.physics.protocols import DGN6, FC6, LEVER

every_hand = pytest.mark.parametrize("name", hands.names())


def compiled(hand, protocol=FC6, **options):
    box = warpgrasp.load_object(trimesh.creation.box((0.03, 0.03, 0.03)))
    spec = scene.scene_spec(hand, box, object_shape(box), protocol, **options)
    return scene.compile_scene(spec, protocol)


def bodies(hand):
    return [hand_model.ROOT, *(hand_model.PREFIX + name for name in hand.link_names[1:])]


@every_hand
def test_links_are_where_the_hand_says(name, rng):
    hand = warpgrasp.load_hand(name)
    model = compiled(hand)
    data = mujoco().MjData(model)
    at = scene.Addresses.find(model, hand.joint_names)
    q = hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper))
    data.qpos[at.joints] = q
    mujoco().mj_kinematics(model, data)
    for body, transform in zip(bodies(hand), hand.link_transforms(q), strict=True):
        np.testing.assert_allclose(data.body(body).xpos, transform[:3, 3], atol=1e-9, err_msg=body)
        np.testing.assert_allclose(data.body(body).xmat.reshape(3, 3), transform[:3, :3], atol=1e-9, err_msg=body)


@every_hand
def test_mass_and_inertia_are_those_of_the_file(name):
    hand = warpgrasp.load_hand(name)
    model = compiled(hand)
    for body, link in zip(bodies(hand), hand.links, strict=True):
        entry = model.body(body)
        assert entry.mass[0] == pytest.approx(max(link.mass, hand_model.LEAST_MASS))
        axes = rotation.matrix_from_quaternion(entry.iquat)
        moments = np.linalg.eigvalsh(axes @ np.diag(entry.inertia) @ axes.T)
        assert (moments >= 0.99 * hand_model.LEAST_INERTIA).all()
        assert moments[2] <= moments[0] + moments[1] + 1e-12
        if np.linalg.eigvalsh(link.inertia)[0] > hand_model.LEAST_INERTIA:
            np.testing.assert_allclose(axes @ np.diag(entry.inertia) @ axes.T, link.inertia, atol=1e-9)


@every_hand
def test_neighbours_do_not_collide_and_the_open_hand_touches_nothing(name):
    hand = warpgrasp.load_hand(name)
    model = compiled(hand)
    assert model.nexclude == len(hand.neighbours)
    data = mujoco().MjData(model)
    at = scene.Addresses.find(model, hand.joint_names)
    data.qpos[at.joints] = hand.open_position
    data.qpos[at.object] = 10.0
    mujoco().mj_forward(model, data)
    assert all(contact.dist > -1e-3 for contact in data.contact)


def test_a_link_without_a_mass_gets_that_of_its_shapes():
    hand = warpgrasp.load_hand("panda")
    link = dataclasses.replace(hand.links[1], mass=0.0, inertia=np.zeros((3, 3)))
    model = compiled(dataclasses.replace(hand, links=(hand.links[0], link, hand.links[2])))
    volume = sum(shape.trimesh().volume for shape in link.shapes)
    assert model.body(hand_model.PREFIX + link.name).mass[0] == pytest.approx(hand_model.DENSITY * volume, rel=1e-3)


def test_mimic_joints_follow_and_have_no_motor():
    hand = warpgrasp.load_hand("panda")
    model = compiled(hand)
    assert (model.nu, model.neq) == (1, 2)
    assert model.actuator_gainprm[0, 0] == pytest.approx(FC6.stiffness / LEVER**2)


def test_coupled_actuators_pull_the_sum_of_two_joints():
    hand = warpgrasp.load_hand("shadow")
    alone, coupled = compiled(hand), compiled(hand, couple_actuators=True)
    assert alone.nu == 22
    assert coupled.nu == 18
    assert coupled.ntendon == 4


def test_limits_of_torque_follow_the_protocol():
    fc6, dgn6 = (compiled(warpgrasp.load_hand("shadow"), protocol) for protocol in (FC6, DGN6))
    assert (fc6.actuator_forcerange[:, 1] == 3.0).all()
    assert (dgn6.actuator_forcerange[:, 1] == [j.effort for j in warpgrasp.load_hand("shadow").joints]).all()
    assert not compiled(warpgrasp.load_hand("allegro")).actuator_forcelimited.any()


def test_a_hand_that_nothing_moves_is_refused():
    hand = warpgrasp.load_hand("panda")
    still = dataclasses.replace(
        hand, links=hand.links[:1], joints=(), mimics=(), couplings=(), actuators=(), neighbours=frozenset()
    )
    with pytest.raises(HandError, match="no actuated joint"):
        compiled(still)


def test_a_users_own_mjcf_is_simulated_as_it_is(shared):
    path = shared / "hands" / "allegro_mjcf" / "right_hand.xml"
    hand = warpgrasp.load_hand(path)
    model = compiled(hand, hand_mjcf=path)
    assert (model.nu, model.njnt) == (16, 18)
    assert (model.actuator_gainprm[:, 0] == FC6.stiffness).all()
    assert (model.geom_condim == FC6.condim).all()


def test_an_mjcf_of_another_hand_is_refused(shared):
    path = shared / "hands" / "allegro_mjcf" / "right_hand.xml"
    with pytest.raises(HandError, match="it has no joint 'FFJ4'"):
        compiled(warpgrasp.load_hand("shadow"), hand_mjcf=path)
