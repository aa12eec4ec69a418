"""The quasistatic backend: equilibrium, Coulomb's law and sensors, against arithmetic in double precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import trimesh
import warp as wp
from tactile_scenes import BALL, DOME, ball, domes, gripper, held, labelled, turned

import warpgrasp
from warpgrasp import rotation, tactile
from warpgrasp.errors import FileFormatError, HandError, OptionError
from warpgrasp.kernels import tactile as kernels
from warpgrasp.pose import Pose
from warpgrasp.tactile.closing import find_closures, free_groups
from warpgrasp.tactile.condense import condense
from warpgrasp.tactile.material import SILICONE
from warpgrasp.tactile.options import Load, Solver
from warpgrasp.tactile.pads import CELLS, dome_pad, hand_pads
from warpgrasp.tactile.quasistatic import Quasistatic

FIRM = dataclasses.replace(SILICONE, poisson_ratio=0.4)
WEIGHT = 0.981


def pinch(folder, count=2, *, material=FIRM, grasps=1, cells=(4, 6, 2), device="cpu", **load: Any):
    """A ball between sliding fingers that press with 4 N each."""
    hand, obj = gripper(folder, count), ball()
    pads = domes(hand, dome_pad(DOME, cells))
    backend = Quasistatic(hand, obj, pads=pads, material=material, load=Load(**{"force": 4.0, **load}), device=device)
    return backend, held(hand, obj, count=grasps)


@pytest.fixture(scope="module")
def pinched(tmp_path_factory):
    backend, grasps = pinch(tmp_path_factory.mktemp("pinch"), 3)
    return backend, grasps, backend.run(grasps)


def test_the_product_of_tiles_is_that_of_numpy(rng, device):
    pads, rows, entries = 3, 32, 288
    left, matrix = rng.normal(size=(pads * rows, entries)), rng.normal(size=(pads * entries, entries))
    out = wp.full((pads * rows, entries), wp.inf, dtype=float, device=device)
    arrays = [wp.array(a.astype(np.float32), dtype=float, device=device) for a in (matrix, left)]
    wp.launch_tiled(
        kernels.multiply, dim=(pads, rows // 16, entries // 32), inputs=[*arrays, rows], outputs=[out], block_dim=64,
        device=device,
    )  # fmt: skip
    expected = np.einsum("pri,pij->prj", left.reshape(pads, rows, -1), matrix.reshape(pads, entries, -1))
    np.testing.assert_allclose(out.numpy(), expected.reshape(out.shape), atol=1e-4)


def test_the_ball_is_in_balance_and_every_sensor_agrees(pinched):
    backend, _, result = pinched
    assert result.passed.all() and result.fingers_touching[0] == 3
    force = result.finger_wrench[0, :, :3]
    np.testing.assert_allclose(np.linalg.norm(force, axis=1), 4.0, rtol=2e-3)
    # On the object: forces and torques cancel, to less than a hundredth of its weight.
    on_object, position = result.contact_force[0], np.nan_to_num(result.contact_position[0])
    assert np.linalg.norm(on_object.sum(axis=0)) < 0.01 * WEIGHT
    assert np.linalg.norm(np.cross(position, on_object).sum(axis=0)) < 0.01 * WEIGHT * BALL
    np.testing.assert_allclose(result.carried, 1.0, atol=0.002)
    # Taxels add up to the finger's wrench, and the pads' forces are those on the object.
    taxels = result.taxel_force[0].sum(axis=1)
    np.testing.assert_allclose(taxels, force, atol=1e-3 * 4.0)
    for pad, (finger, mine) in enumerate(zip(backend.pads, force, strict=True)):
        place = backend.hand.link_transforms(result.joint_position[0])[finger.link] @ finger.pose
        world = rotation.matrix_from_quaternion(result.object_quaternion[0]).T @ place[:3, :3] @ mine
        seen = -on_object[result.contact_pad == pad].sum(axis=0)
        np.testing.assert_allclose(world, seen, atol=2e-3)
    assert 0.8 * 4.0 < result.net_force[0].min() < 4.0
    assert 0.5e-3 < result.indentation.min() and result.indentation.max() < 2e-3
    assert 0.05 < result.strain.max() < 0.3


def test_coulombs_law_holds_at_every_contact(tmp_path):
    """One step from rest under a push, checked in double precision: cones, no penetration, slip against friction."""
    backend, grasps = pinch(tmp_path, 3, cells=CELLS)
    batch, closing = backend._close(grasps.pose, grasps.squeeze)
    before = batch.read()
    batch.lock(np.ones(closing.shape, bool))
    wrench = np.array([[0.6, -0.9, -2.2, 0.0, 0.0, 0.02]])
    batch.step(closing, wrench, 1500)
    motion = batch.motion.numpy()[0, batch.closure.shape[1] :].astype(float)
    after = batch.read()
    pads = batch.pad_contacts
    force, old = batch.force.numpy()[0].astype(float), before["pad_force"][0]
    turn = rotation.matrix_from_quaternion(np.roll(batch.turn.numpy()[0].astype(float), 1, axis=-1))
    normal, arm = batch.normal.numpy()[0, :pads].astype(float), batch.arm.numpy()[0, :pads].astype(float)
    yielded = (
        np.concatenate(
            [
                (c.matrix @ (force[i * 96 : i * 96 + 96] - old[i * 96 : i * 96 + 96]).ravel()).reshape(-1, 3)
                for i, c in enumerate(backend.pad_model.compliances)
            ]
        )
        / FIRM.youngs_modulus
    )
    shift = np.einsum("cyx,y->cx", turn[:pads], motion[:3])
    spin = np.einsum("cyx,y->cx", turn[:pads], motion[3:] / batch.torque_length)
    move = yielded - shift - np.cross(spin, arm)
    pressing = (force[:pads] * normal).sum(axis=1)
    tangent = force[:pads] - pressing[:, None] * normal
    friction = np.linalg.norm(tangent, axis=1)
    assert (pressing >= -1e-6).all() and (friction <= FIRM.friction * pressing + 1e-5).all()
    # The gap stays open, is closed where there is force, and what slides does so against its friction.
    gap = batch.gap.numpy()[0, :pads] + (move * normal).sum(axis=1)
    scale = np.abs(move).max()
    assert gap.min() > -0.02 * scale
    loaded = pressing > 0.02
    assert loaded.sum() > 20 and np.abs(gap[loaded]).max() < 0.02 * scale
    slide = move - (move * normal).sum(axis=1, keepdims=True) * normal
    speed = np.linalg.norm(slide, axis=1)
    sliding = loaded & (friction > 0.999 * FIRM.friction * pressing)
    sticking = loaded & (friction < 0.99 * FIRM.friction * pressing)
    assert sliding.sum() > 3 and sticking.sum() > 10
    assert speed[sticking].max() < 0.02 * scale
    moving = sliding & (speed > 0.05 * scale)
    cosine = (slide * tangent).sum(axis=1)[moving] / (speed * friction)[moving]
    assert moving.any() and cosine.max() < -0.95
    # The object carries the push.
    np.testing.assert_allclose(-after["force"][0].sum(axis=0), -wrench[0, :3], atol=2e-3)


@pytest.mark.parametrize(("share", "holds"), [(0.97, False), (1.03, True)])
def test_two_fingers_hold_a_ball_from_the_friction_of_its_weight_on(share, holds, tmp_path):
    """2 mu F = m g is the limit: mu = 0.1226 for 4 N."""
    material = dataclasses.replace(FIRM, friction=share * WEIGHT / 8.0)
    backend, grasps = pinch(tmp_path, material=material, cells=CELLS)
    result = backend.run(grasps)
    assert result.passed[0] == holds
    assert (result.reason[0] == "") == holds
    if not holds:
        # Along the fingers' own axis the ball is held without any friction.
        assert result.reason[0].startswith("gravity -y") and result.carried[0, :2].min() > 0.999


def test_softer_pads_travel_and_sag_more_and_rotating_the_scene_changes_nothing(tmp_path):
    soft = dataclasses.replace(FIRM, youngs_modulus=1e5)
    firm, _ = pinch(tmp_path)
    backend, _ = pinch(tmp_path, material=soft)
    quaternion = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.9, 0.3, -0.2, 0.1]])
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    many = turned(held(backend.hand, backend.object, count=3), quaternion)
    one, other = firm.run(many), backend.run(many)
    for result in (one, other):
        assert result.passed.all()
        # A ball of faces is not quite round: corners fall differently on the pads' samples.
        for array, slack in ((result.closure, 0.02), (result.indentation, 0.05)):
            np.testing.assert_allclose(array / array[:1], 1.0, rtol=slack)
    assert (other.closure > 1.5 * one.closure).all()
    assert (other.object_displacement[0] > 1.5 * one.object_displacement[0]).all()


def test_a_grasp_is_the_same_alone_and_in_a_batch(tmp_path):
    backend, grasps = pinch(tmp_path, 3, grasps=19)
    rng = np.random.default_rng(0)
    quaternion = np.array([1.0, 0, 0, 0]) + 0.1 * rng.normal(size=(19, 4))
    many = turned(grasps, quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True))
    together = backend.run(many)
    alone = backend.run(many[[17]])
    np.testing.assert_allclose(together.finger_wrench[[17]], alone.finger_wrench, atol=1e-4)
    np.testing.assert_allclose(together.object_displacement[[17]], alone.object_displacement, atol=1e-6)
    assert together.passed.all()


def test_a_pad_that_does_not_touch_is_left_out_and_said(tmp_path):
    backend, grasps = pinch(tmp_path)
    grasps.joint_position[0, 1] = grasps.squeeze.joint_position[0, 1] = -0.04
    result = backend.run(grasps)
    assert result.reason[0] == "closing pushes the object away" and not result.passed[0]
    assert abs(result.closure[0, 1]) < 1e-6
    far = dataclasses.replace(grasps, wrist_position=np.array([[1.0, 0.0, 0.0]]))
    nothing = backend.run(far)
    assert nothing.reason[0] == "0 fingers touch, needs 2"
    assert np.isfinite(nothing.finger_wrench).all() and np.isnan(nothing.contact_position).all()


def test_poses_that_are_not_finite_are_reported_and_disturb_nobody(tmp_path):
    backend, grasps = pinch(tmp_path, grasps=3)
    clean = backend.run(grasps)
    grasps.joint_position[1, 0] = np.nan
    result = backend.run(grasps)
    assert list(result.reason) == ["", "not finite", ""]
    np.testing.assert_allclose(result.finger_wrench[[0, 2]], clean.finger_wrench[[0, 2]], atol=1e-5)


def test_no_grasps_are_no_work(tmp_path):
    backend, grasps = pinch(tmp_path)
    assert len(backend.run(grasps[:0])) == 0


def test_results_are_kept_in_a_file(pinched, tmp_path):
    _, _, result = pinched
    result.save(tmp_path / "touch.npz")
    again = tactile.load_tactile(tmp_path / "touch.npz")
    for item in dataclasses.fields(result):
        one, other = getattr(result, item.name), getattr(again, item.name)
        if item.name == "info":
            assert other["material"]["youngs_modulus"] == 3e5
        else:
            np.testing.assert_array_equal(one, other, err_msg=item.name)
    with pytest.raises(FileFormatError, match=r"ends in \.npz"):
        result.save(tmp_path / "touch.txt")
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "touch.npz").read_bytes()[:1000])
    for name in ("damaged.npz", "missing.npz"):
        with pytest.raises(FileFormatError, match="no file of tactile results, or it is damaged"):
            tactile.load_tactile(tmp_path / name)


def test_a_real_hand_closes_as_its_squeeze_says(tmp_path):
    """Shadow around a ball: pads and other links touch, coupled joints move together."""
    hand = warpgrasp.load_hand("panda")
    assert free_groups(hand) == [([0, 1], [0])]
    allegro = warpgrasp.load_hand("allegro")
    assert [fingers for fingers, _ in free_groups(allegro)] == [[0], [1], [2], [3]]
    barrett = warpgrasp.load_hand("barrett")
    assert all(len(fingers) == 1 and len(free) == 2 for fingers, free in free_groups(barrett))

    box = warpgrasp.load_object(trimesh.creation.box((0.03, 0.04, 0.05)))
    joints = np.full((1, 2), 0.021)
    links = hand.link_transforms(joints[0])
    pads = np.array([links[pad.link, :3, :3] @ pad.position + links[pad.link, :3, 3] for pad in hand.pads])
    place = (-pads.mean(axis=0)[None], np.array([[1.0, 0.0, 0.0, 0.0]]))
    grasps = labelled(hand, box, Pose(*place, joints), Pose(*place, joints - 0.003))
    result = tactile.open(hand, box).run(grasps)
    assert result.passed[0], result.reason
    # One motor, 6 N of springs behind both fingers, which share it.
    press = np.linalg.norm(result.finger_wrench[0, :, :3], axis=1)
    np.testing.assert_allclose(press, press[0], rtol=1e-3)
    assert press.sum() == pytest.approx(Load().force, rel=1e-3)
    assert (np.diff(result.joint_position[0]) == 0.0).all()


def test_closing_moves_pads_as_kinematics_does(rng):
    hand = warpgrasp.load_hand("shadow")
    pads = hand_pads(hand)
    middle = hand.clamp(0.5 * (hand.lower + hand.upper) + 0.1 * rng.normal(size=(2, hand.joint_count)))
    turn = rng.normal(size=(2, 4))
    pose = Pose(rng.normal(size=(2, 3)), turn / np.linalg.norm(turn, axis=1, keepdims=True), middle)
    squeeze = Pose(pose.wrist_position, pose.wrist_quaternion, hand.clamp(middle + 0.1))
    closures = find_closures(hand, pads, pose, squeeze, force=5.0, toward=np.zeros((2, 5, 3)))
    assert closures.force.max(axis=1) == pytest.approx([5.0, 5.0])
    base, small = rotation.matrix(pose.wrist_position, pose.wrist_quaternion), 1e-6
    for g in range(len(closures.names)):
        ends = []
        for sign in (1.0, -1.0):
            free = closures.start + sign * small * closures.direction[:, g]
            ends.append(base[:, None] @ hand.link_transforms(hand.joint_position(free)))
        point = np.array([0.01, -0.02, 0.03])
        for link in np.flatnonzero(closures.of_link == g):
            a, b = (end[:, link, :3, :3] @ point + end[:, link, :3, 3] for end in ends)
            twist = closures.link_twist[:, link]
            np.testing.assert_allclose(
                (a - b) / (2.0 * small), twist[:, 3:] + np.cross(twist[:, :3], 0.5 * (a + b)), atol=1e-4
            )
    idle = find_closures(hand, pads, pose, pose, force=5.0, toward=np.tile([0.0, 0.0, 1.0], (2, 5, 1)))
    assert (idle.force > 0.0).any()  # a grasp without a squeeze closes towards the object


def test_bad_input_is_refused(tmp_path):
    hand, obj = gripper(tmp_path, 2), ball()
    with pytest.raises(OptionError, match=r"no tactile backend 'quasi'\. Did you mean 'quasistatic'\?"):
        tactile.open(hand, obj, backend="quasi")
    with pytest.raises(HandError, match="there is no pad"):
        tactile.open(hand, obj, pads=[])
    changes: list[tuple[dict[str, Any], str]] = [
        ({"mass": 0.0}, "mass must be positive"),
        ({"force": np.nan}, "force must be positive"),
        ({"hold": "somehow"}, "hold must be 'position' or 'force'"),
        ({"rigid_friction": -0.1}, "rigid_friction must be 0 or larger"),
    ]
    for change, message in changes:
        with pytest.raises(OptionError, match=message):
            Load(**change)
    with pytest.raises(OptionError, match="iterations must be at least 1"):
        Solver(iterations=0)
    with pytest.raises(OptionError, match="penalty must be positive"):
        Solver(penalty=0.0)


def test_condensed_pads_are_remembered(tmp_path):
    pads = domes(gripper(tmp_path, 2))
    assert condense(pads[0].mesh, 0.4) is condense(domes(gripper(tmp_path, 3))[0].mesh, 0.4)
    assert condense(pads[0].mesh, 0.4) is not condense(pads[0].mesh, 0.41)
