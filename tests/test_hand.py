"""Hand: free coordinates, couplings, clamping, forward kinematics, hash."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from warpgrasp.errors import HandError, ShapeError
from warpgrasp.hand import Coupling, Hand, Mimic, Shape
from warpgrasp.hand_file import load_hand
from warpgrasp.projection import project

COUPLED = """<robot name="coupled">
  <link name="palm"/><link name="a"/><link name="b"/><link name="c">
    <collision><geometry><box size="0.01 0.01 0.01"/></geometry></collision></link>
  <joint name="ja" type="revolute"><parent link="palm"/><child link="a"/><origin xyz="0 0 0.1"/>
    <axis xyz="0 1 0"/><limit lower="-0.5" upper="1.5"/></joint>
  <joint name="jb" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0.05 0 0"/>
    <axis xyz="0 0 2"/><limit lower="0" upper="1"/><mimic joint="ja" multiplier="-2" offset="0.5"/></joint>
  <joint name="jc" type="prismatic"><parent link="b"/><child link="c"/>
    <axis xyz="1 0 0"/><limit lower="0" upper="0.02"/></joint>
</robot>"""


@pytest.fixture(scope="module")
def hand(tmp_path_factory) -> Hand:
    path = tmp_path_factory.mktemp("hand") / "coupled.urdf"
    path.write_text(COUPLED)
    return load_hand(path)


def free(hand: Hand, mimics: tuple[Mimic, ...], couplings: tuple[Coupling, ...]) -> Hand:
    return dataclasses.replace(hand, mimics=mimics, couplings=couplings)


def test_mimic_joints_follow_and_bound_the_free_ones(hand):
    assert hand.joint_names == ("ja", "jb", "jc")
    assert (hand.joint_count, hand.free_count) == (3, 2)
    assert hand.free_joints == (0, 2)
    # jb = 0.5 - 2 ja lies in [0, 1] only for ja in [-0.25, 0.25].
    np.testing.assert_allclose(hand.free_lower, [-0.25, 0.0])
    np.testing.assert_allclose(hand.free_upper, [0.25, 0.02])
    q = hand.joint_position(np.array([[0.1, 0.01], [-0.2, 0.0]]))
    np.testing.assert_allclose(q, [[0.1, 0.3, 0.01], [-0.2, 0.9, 0.0]])
    np.testing.assert_allclose(hand.free_position(q), [[0.1, 0.01], [-0.2, 0.0]])


def test_mimic_that_leaves_no_range_is_refused(hand):
    with pytest.raises(HandError, match=r"no value of joint 'ja' keeps it and the joints that mimic it \(jb\)"):
        free(hand, (Mimic("jb", "ja", 1.0, 5.0),), ())


def test_coupling_of_an_unknown_joint_is_refused(hand):
    with pytest.raises(HandError, match=r"there is no joint 'jaa'\. Did you mean 'ja'\?"):
        free(hand, (), (Coupling({"jaa": 1.0}, 0.0),))


def test_forward_kinematics_of_a_known_pose(hand):
    q = np.array([0.0, np.pi / 2, 0.02])
    poses = hand.link_transforms(np.stack([q, np.zeros(3)])[None])
    assert poses.shape == (1, 2, 4, 4, 4)
    np.testing.assert_allclose(poses[0, 0, 3, :3, 3], [0.05, 0.02, 0.1], atol=1e-15)
    np.testing.assert_allclose(hand.frame_transforms(q)["c"], poses[0, 0, 3])


def test_wrong_joint_count_is_refused(hand):
    with pytest.raises(ShapeError, match=r"joint_position has shape \(2,\), expected \(..., 3\)"):
        hand.link_transforms(np.zeros(2))


def test_clamp_projects_onto_a_line_of_mimics(hand):
    # Nearest point to (1, 0.5) on jb = 0.5 - 2 ja is at ja = 0.2.
    np.testing.assert_allclose(hand.clamp(np.array([1.0, 0.5, 0.0])), [0.2, 0.1, 0.0])


def test_clamp_lands_inside_and_stays(hand):
    rng = np.random.default_rng(0)
    couplings = (
        Coupling({"ja": 1.0, "jb": -1.0}, -0.3),
        Coupling({"jb": 2.0, "jc": 10.0}, 0.4),
        Coupling({"ja": -1.0, "jc": 5.0}, -0.5),
    )
    hand = free(hand, (), couplings)
    matrix, minimum = hand.coupling_matrix()
    q = rng.normal(scale=2.0, size=(40, 5, 3))
    clamped = hand.clamp(q)
    assert (clamped >= hand.lower - 1e-12).all() and (clamped <= hand.upper + 1e-12).all()
    assert (hand.free_position(clamped) @ matrix.T >= minimum - 1e-10).all()
    np.testing.assert_allclose(hand.clamp(clamped), clamped, atol=1e-10)
    # Nearest: no feasible point of a dense sample is nearer.
    samples = rng.uniform(hand.lower, hand.upper, (20000, 3))
    samples = samples[(samples @ matrix.T >= minimum).all(axis=1)]
    distance = np.linalg.norm(q.reshape(-1, 1, 3) - clamped.reshape(-1, 1, 3), axis=-1)[:, 0]
    nearest = np.array([np.linalg.norm(samples - x, axis=1).min() for x in q.reshape(-1, 3)])
    assert (distance <= nearest + 1e-9).all()


def test_clamp_says_when_couplings_exclude_each_other(hand):
    hand = free(hand, (), (Coupling({"ja": 1.0}, 10.0),))
    with pytest.raises(HandError, match="couplings and joint ranges exclude each other"):
        hand.clamp(np.zeros(3))


def test_projection_honours_weights():
    # Minimise 4 x² + y² on x + y >= 1: x = 0.2, y = 0.8.
    x = project(
        np.zeros(2),
        weight=np.array([4.0, 1.0]),
        lower=np.full(2, -5.0),
        upper=np.full(2, 5.0),
        matrix=np.ones((1, 2)),
        minimum=np.ones(1),
    )
    np.testing.assert_allclose(x, [0.2, 0.8])


def test_hash_follows_content_only(hand, tmp_path):
    path = tmp_path / "coupled.urdf"
    path.write_text(hand.path.read_text())
    assert load_hand(path).hash == hand.hash
    path.write_text(hand.path.read_text().replace("0.05 0 0", "0.0500001 0 0"))
    assert load_hand(path).hash != hand.hash


def test_unknown_frame_names_the_nearest(hand):
    with pytest.raises(HandError, match=r"there is no link 'palmm'\. Did you mean 'palm'\?"):
        hand.link_index("palmm")


@pytest.mark.parametrize(
    ("shape", "volume", "extent"),
    [
        (("box", [0.01, 0.02, 0.03]), 8 * 6e-6, 0.06),
        (("sphere", [0.01]), 4 / 3 * np.pi * 1e-6, 0.02),
        (("capsule", [0.01, 0.02]), np.pi * 1e-4 * 0.04 + 4 / 3 * np.pi * 1e-6, 0.06),
        (("cylinder", [0.01, 0.02]), np.pi * 1e-4 * 0.04, 0.04),
    ],
)
def test_surfaces_have_the_right_size_and_place(shape, volume, extent):
    kind, size = shape
    surface = Shape(kind, np.array(size), np.array([0.1, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])).trimesh()
    assert surface.is_watertight
    assert surface.volume == pytest.approx(volume, rel=0.03)
    assert np.ptp(surface.vertices[:, 2]) == pytest.approx(extent, rel=1e-6)
    np.testing.assert_allclose(surface.bounds.mean(axis=0), [0.1, 0.0, 0.0], atol=1e-9)
