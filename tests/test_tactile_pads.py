"""Pads as tetrahedra, materials, and what condensing them gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

import warpgrasp
from warpgrasp.errors import HandError, OptionError
from warpgrasp.tactile.condense import FOUR, condense, stiffness
from warpgrasp.tactile.material import MATERIALS, Material, find_material, gent_modulus
from warpgrasp.tactile.pads import PadMesh, box_pad, dome_pad, hand_pads, ray_hits
from warpgrasp.tactile.sensors import biotac3d, net1d, read_net1d

EDGE_MIDDLES = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]) / 2.0


@pytest.mark.parametrize("name", ["allegro", "barrett", "leap", "panda", "shadow"])
def test_pads_of_bundled_hands_have_the_surface_of_their_links(name):
    hand = warpgrasp.load_hand(name)
    pads = hand_pads(hand)
    assert [pad.link for pad in pads] == [pad.link for pad in hand.pads]
    for pad, given in zip(pads, hand.pads, strict=True):
        mesh = pad.mesh
        np.testing.assert_allclose(pad.pose[:3, :3] @ [0.0, 0.0, 1.0], given.normal, atol=1e-6)
        assert np.linalg.det(pad.pose[:3, :3]) == pytest.approx(1.0)
        skin = np.unique(mesh.faces)
        place = mesh.vertices[skin] @ pad.pose[:3, :3].T + pad.pose[:3, 3]
        distance = trimesh.proximity.closest_point(hand.link_surface(pad.link), place)[1]
        assert distance.max() < 5e-5
        # Nothing of the pad is outside the link but what curvature puts between vertices.
        assert (mesh.sample_normals[:, 2] > -0.2).all() and not mesh.glued[skin].any()
        assert 0.3e-6 < mesh.volume < 4e-6
        assert mesh.sample_areas.sum() > 2e-4


def test_a_hand_without_pads_gets_them_where_its_last_links_face_the_others():
    hand = warpgrasp.load_hand("allegro")
    bare = dataclasses.replace(hand, pads=())
    assert len(hand_pads(bare)) == 4
    with pytest.raises(HandError, match="neither pads nor fingers to put soft pads on"):
        hand_pads(dataclasses.replace(bare, fingers=()))


def test_a_pad_away_from_its_link_is_refused():
    hand = warpgrasp.load_hand("allegro")
    away = dataclasses.replace(hand.pads[0], position=hand.pads[0].position + np.array([0.0, 0.3, 0.0]))
    with pytest.raises(HandError, match="no pad can be made on 'index': the link has no closed surface"):
        hand_pads(dataclasses.replace(hand, pads=(away,)))
    with pytest.raises(OptionError, match="thickness of a pad must be positive"):
        hand_pads(hand, thickness=0.0)


def test_an_inverted_tetrahedron_is_refused():
    mesh = box_pad((0.02, 0.02, 0.01), (1, 1, 1))
    with pytest.raises(OptionError, match="6 flat or inverted tetrahedra"):
        PadMesh(mesh.vertices * [1.0, 1.0, -1.0], mesh.tetrahedra, mesh.glued, mesh.faces)


def test_volumes_and_areas_of_a_block():
    mesh = box_pad((0.02, 0.03, 0.01), (3, 4, 2), grading=1.5)
    assert mesh.volume == pytest.approx(6e-6)
    assert mesh.sample_areas.sum() == pytest.approx(6e-4)
    np.testing.assert_allclose(mesh.sample_normals, np.tile([0.0, 0.0, 1.0], (24, 1)), atol=1e-12)
    solid = trimesh.Trimesh(mesh.vertices, np.concatenate([mesh.tetrahedra[:, f] for f in
                            ([0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2])]))  # fmt: skip
    # Neighbours share faces: each inner face occurs twice, once from either side.
    _, count = np.unique(np.sort(solid.faces, axis=1), axis=0, return_counts=True)
    assert set(count) == {1, 2} and (count == 1).sum() == 2 * 2 * (3 * 4 + 3 * 2 + 4 * 2)


def test_rays_meet_a_sphere_where_they_should(rng):
    ball = trimesh.creation.icosphere(4, 0.01).triangles
    directions = rng.normal(size=(20, 3))
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        np.testing.assert_allclose(ray_hits(ball, np.zeros(3), direction), 0.01, rtol=2e-3)
    with pytest.raises(ValueError, match="no closed surface"):
        ray_hits(ball, np.array([0.0, 0.0, 0.02]), np.array([0.0, 0.0, 1.0]))


def test_presets_have_sources_and_the_modulus_of_their_hardness():
    assert all(material.source for material in MATERIALS.values())
    assert find_material("silicone").youngs_modulus == pytest.approx(gent_modulus(6.0), rel=0.05)
    assert find_material("rubber").youngs_modulus == pytest.approx(gent_modulus(40.0), rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"youngs_modulus": 0.0}, "youngs_modulus of 'mine' must be positive, got 0"),
        ({"youngs_modulus": -3e5}, "youngs_modulus of 'mine' must be positive, got -3"),
        ({"youngs_modulus": np.nan}, "youngs_modulus of 'mine' must be positive, got nan"),
        ({"poisson_ratio": 0.5}, r"poisson_ratio of 'mine' must be in \[0, 0.5\), got 0.5"),
        ({"poisson_ratio": -0.1}, r"must be in \[0, 0.5\)"),
        ({"friction": -1.0}, "friction of 'mine' must be 0 or larger"),
    ],
)
def test_impossible_materials_are_refused(change, message):
    good = {"name": "mine", "youngs_modulus": 3e5, "poisson_ratio": 0.4, "density": 1000.0, "friction": 0.8}
    with pytest.raises(OptionError, match=message):
        Material(**(good | change))


def test_an_unknown_material_is_named_with_the_nearest():
    with pytest.raises(OptionError, match=r"no material 'sillicone'\. Did you mean 'silicone'\?"):
        find_material("sillicone")


def test_a_bonded_plate_under_even_pressure_yields_by_its_height_times_p_over_e():
    """With a Poisson ratio of zero the answer is exact: u = p h / E everywhere, so k = E A / h."""
    mesh = box_pad((0.02, 0.02, 0.01), (4, 4, 2))
    compliance = condense(mesh, 0.0, samples=EDGE_MIDDLES)
    modulus, pressure = 3.0e5, 1.0e4
    force = np.zeros((len(compliance.position), 3))
    # Middles of edges with a third of the area each integrate quadratic shapes exactly.
    force[:, 2] = -pressure * np.repeat(mesh.sample_areas / 3.0, 3)
    moved = (compliance.matrix @ force.ravel()).reshape(-1, 3) / modulus
    stiffness_ratio = -force[:, 2].sum() / -moved[:, 2].mean() / (modulus * 4e-4 / 0.01)
    assert stiffness_ratio == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(moved[:, 2], -pressure * 0.01 / modulus, rtol=1e-3)
    strain = (compliance.strain @ force.ravel()).reshape(-1, 6) / modulus
    expected = np.tile([0.0, 0.0, -pressure / modulus, 0.0, 0.0, 0.0], (len(strain), 1))
    np.testing.assert_allclose(strain, expected, atol=1e-3 * pressure / modulus)


def test_stiffness_resists_no_rigid_motion_and_compliance_is_symmetric_and_positive():
    mesh = dome_pad((0.018, 0.022, 0.009), (4, 4, 2))
    for degree in (1, 2):
        matrix, node = stiffness(mesh, 0.45, degree)
        scale = abs(matrix).max()
        for motion in (np.tile([1.0, 2.0, -1.0], (len(node), 1)), 100.0 * np.cross([0.3, -0.2, 0.5], node)):
            assert np.abs(matrix @ motion.ravel()).max() < 1e-4 * scale
        compliance = condense(mesh, 0.45, degree=degree).matrix
        value = np.linalg.eigvalsh(compliance)
        assert value[0] > (0.0 if degree == 2 else -1e-12 * value[-1])
    with pytest.raises(OptionError, match=r"poisson_ratio must be in \[0, 0.5\)"):
        condense(mesh, 0.5)


def test_a_cube_under_even_traction_is_sheared_by_it_over_g():
    """A cube sheared by an even traction."""
    mesh = box_pad((0.01, 0.01, 0.01), (2, 2, 2))
    compliance = condense(mesh, 0.3)
    force = np.zeros((len(compliance.position), 3))
    force[:, 0] = mesh.sample_areas  # even shear of 1 Pa
    strain = (compliance.strain @ force.ravel()).reshape(-1, 6)
    # Engineering shear 2 eps_xz is stress over G = E / 2 (1 + nu), but for the free sides.
    shear = 2.0 * strain[:, 4].mean() / (2.0 * 1.3)
    assert shear == pytest.approx(1.0, rel=0.2)
    assert np.abs(strain[:, [0, 1, 2]].sum(axis=1).mean()) < 0.05


def layer_factor(radius: float, depth: float, height: float, nu: float) -> float:
    """How much stiffer a bonded layer is than a half space under a sphere. Source: Dimitriadis et al. 2002, eq. 14."""
    chi = np.sqrt(radius * depth) / height
    alpha = -(1.2876 - 1.4678 * nu + 1.3442 * nu**2) / (1.0 - nu)
    beta = (0.6387 - 1.0277 * nu + 1.5164 * nu**2) / (1.0 - nu)
    return (
        1.0
        - 2.0 * alpha / np.pi * chi
        + 4.0 * alpha**2 / np.pi**2 * chi**2
        - 8.0 / np.pi**3 * (alpha**3 + 4.0 * np.pi**2 / 15.0 * beta) * chi**3
        + 16.0 * alpha / np.pi**4 * (alpha**3 + 3.0 * np.pi**2 / 5.0 * beta) * chi**4
    )


@pytest.mark.slow
@pytest.mark.parametrize("nu", [0.3, 0.45, 0.49])
def test_a_sphere_pressed_into_a_bonded_layer_follows_hertz(nu):
    from scipy.optimize import nnls

    radius, height = 0.01, 0.015
    mesh = box_pad((0.03, 0.03, height), (8, 8, 5), grading=1.8)
    near = np.linalg.norm(mesh.samples[:, :2], axis=1) < 0.0047
    compliance = condense(PadMesh(mesh.vertices, mesh.tetrahedra, mesh.glued, mesh.faces[near]), nu, samples=FOUR)
    normal = compliance.matrix[2::3, 2::3]
    factor = np.linalg.cholesky(normal + 1e-6 * np.diag(normal).mean() * np.eye(len(normal)))
    for depth in (0.0005, 0.001):
        gap = radius - np.sqrt(radius**2 - (compliance.position[:, :2] ** 2).sum(axis=1)) - depth
        force, _ = nnls(factor.T, -np.linalg.solve(factor, gap), maxiter=50 * len(gap))
        hertz = 4.0 / 3.0 / (1.0 - nu**2) * np.sqrt(radius) * depth**1.5
        assert force.sum() == pytest.approx(hertz * layer_factor(radius, depth, height, nu), rel=0.08)


def test_taxels_take_every_force_once(rng):
    mesh = dome_pad((0.018, 0.022, 0.009))
    taxels = biotac3d(mesh)
    assert taxels.position.shape == (24, 3) and set(taxels.owner) == set(range(24))
    force = rng.normal(size=(5, len(mesh.samples), 3))
    np.testing.assert_allclose(taxels.read(force).sum(axis=1), force.sum(axis=1), atol=1e-12)
    own = biotac3d(mesh, position=taxels.position[:3])
    assert own.read(force).shape == (5, 3, 3)
    with pytest.raises(OptionError, match="can have 1 to 96 taxels, got 97"):
        biotac3d(mesh, 97)


def test_a_one_dimensional_sensor_feels_the_pressing_force_in_its_region():
    mesh = dome_pad((0.018, 0.022, 0.009))
    region = net1d(mesh)
    assert 4 < region.sum() < 60
    force = np.zeros((2, len(region), 3))
    force[0, :, 2] = -1.0
    force[1, ~region, 2] = -1.0
    np.testing.assert_allclose(read_net1d(region, force), [region.sum(), 0.0])
    with pytest.raises(OptionError, match="holds no sample"):
        net1d(mesh, share=0.0)
