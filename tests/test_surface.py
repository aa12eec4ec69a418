"""Points on the hand's skin: by area, evenly, outside every other part."""

from __future__ import annotations

import numpy as np
import pytest
from reference_grasp import shape_distance
from scipy.spatial import KDTree

from warpgrasp.hand import Hand
from warpgrasp.hand_file import load_hand
from warpgrasp.surface import farthest_points, grasping_links, sample_triangles, surface_points

HANDS = ("allegro", "shadow", "panda")


def world(hand: Hand, link: np.ndarray, position: np.ndarray) -> np.ndarray:
    frames = hand.link_transforms(hand.open_position)[link]
    return np.einsum("nij,nj->ni", frames[:, :3, :3], position) + frames[:, :3, 3]


@pytest.mark.parametrize("name", HANDS)
def test_points_lie_on_their_link_and_in_no_other_part(name):
    """Against closed forms of the shapes; facets lie up to 0.1 mm inside a round shape."""
    hand = load_hand(name)
    points = surface_points(hand, 300)
    assert points.link.shape == (300,)
    assert (np.diff(points.link) >= 0).all(), "sorted by link"
    frames = hand.link_transforms(hand.open_position)
    for link, p in zip(points.link, world(hand, points.link, points.position), strict=True):
        distance = {
            (i, j): shape_distance(shape, frames[i][:3, :3].T @ (p - frames[i][:3, 3]))
            for i, part in enumerate(hand.links)
            for j, shape in enumerate(part.shapes)
        }
        assert min(distance.values()) > -4e-4
        assert min(abs(d) for (i, _), d in distance.items() if i == link) < 1.5e-4


@pytest.mark.parametrize("name", HANDS)
def test_points_are_spread_evenly(name):
    """No two are closer than half of what a perfect hexagonal spread would give, and areas are alike."""
    hand = load_hand(name)
    points = surface_points(hand, 300)
    position = world(hand, points.link, points.position)
    spacing = np.sqrt(2.0 / np.sqrt(3.0) * points.area.mean())
    nearest = KDTree(position).query(position, k=2)[0][:, 1]
    assert nearest.min() > 0.5 * spacing
    assert np.quantile(points.area, 0.05) > 0.3 * points.area.mean()
    assert np.quantile(points.area, 0.95) < 2.0 * points.area.mean()


def test_area_is_that_of_the_bare_skin():
    """The areas of many points and of few add up to the same."""
    hand = load_hand("allegro")
    few, many = surface_points(hand, 200).area.sum(), surface_points(hand, 3000, even=False).area.sum()
    assert few == pytest.approx(many, rel=0.02)


def test_points_can_be_kept_to_the_palm_and_beyond():
    hand = load_hand("shadow_wrist")
    links = grasping_links(hand)
    assert [hand.link_names[link] for link in set(range(len(hand.links))) - set(links)] == ["forearm", "wrist"]
    points = surface_points(hand, 200, links=links)
    assert set(points.link) <= set(links)
    palm_alone = load_hand("shadow")
    assert points.area.sum() == pytest.approx(surface_points(palm_alone, 200).area.sum(), rel=0.1)


def test_samples_follow_the_area():
    triangles = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [3, 0, 1], [0, 3, 1]]], float)
    face, position = sample_triangles(triangles, 1000)
    assert np.bincount(face).tolist() == [100, 900]
    assert (position[face == 0].sum(axis=1) <= 1.0 + 1e-12).all()
    assert position[face == 1].mean(axis=0) == pytest.approx([1.0, 1.0, 1.0], abs=0.02)


def test_farthest_points_of_a_line_are_its_ends_then_its_middle():
    line = np.linspace([0.0, 0, 0], [1.0, 0, 0], 11)
    assert farthest_points(line, 3).tolist() == [0, 10, 5]


def test_equal_requests_are_sampled_once():
    """By what the hand is, not by which object it is; and nobody can change what others get."""
    first = surface_points(load_hand("panda"), 100, links=[0, 1])
    assert surface_points(load_hand("panda"), 100, links=(0, 1)) is first
    for other in (
        surface_points(load_hand("panda"), 101, links=[0, 1]),
        surface_points(load_hand("panda"), 100),
        surface_points(load_hand("panda"), 100, links=[0, 1], even=False),
        surface_points(load_hand("allegro"), 100, links=[0, 1]),
    ):
        assert other is not first
    with pytest.raises(ValueError, match="read-only"):
        first.position[0] = 0.0


def test_farthest_points_match_the_definition(rng):
    position = rng.normal(size=(300, 3))
    chosen = [4]
    for _ in range(39):
        apart = np.linalg.norm(position[:, None] - position[chosen], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    assert farthest_points(position, 40, first=4).tolist() == chosen
