"""Inferring which pairs of links overlap by construction, so that self-collision must not count them."""

from __future__ import annotations

import itertools

import numpy as np

from . import rotation
from .hand import Hand, Shape
from .infer_fingers import chain, rest_position, surface_points

Pairs = frozenset[tuple[int, int]]

DEPTH = 5e-4
"""Overlaps that are shallower are touch, not construction [m]."""

FACETS = 200
"""Facets of a mesh's hull that are looked at; leaving out small ones makes the hull a little larger."""

SAMPLES = 40
"""Random joint vectors at which overlap is looked for."""


def adjacent(hand: Hand) -> Pairs:
    """Links and their parents. Links without a shape are looked through: what hangs on them is adjacent too."""
    pairs = set()
    for link in range(1, len(hand.links)):
        for parent in reversed(chain(hand, link)[:-1]):
            pairs.add((parent, link))
            if hand.links[parent].shapes:
                break
    return frozenset(pairs)


def infer_neighbours(hand: Hand) -> Pairs:
    """Pairs of links that are not adjacent, but overlap in most poses, or both at the open pose and at zero."""
    rng = np.random.default_rng(0)
    random = hand.clamp(hand.joint_position(rng.uniform(hand.free_lower, hand.free_upper, (SAMPLES, hand.free_count))))
    poses = np.stack([hand.open_position, rest_position(hand), *random])
    return frozenset(pair for pair, deep in overlaps(hand, poses).items() if deep[:2].all() or deep[2:].mean() > 0.5)


def overlaps(hand: Hand, joint_position: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """In which poses links overlap that are not adjacent: a mask of shape (pose,) for each pair that ever does.

    Args:
        hand: The hand.
        joint_position: Joint vectors [rad or m], shape (pose, J).
    """
    transforms = hand.link_transforms(joint_position)
    shaped = [link for link in range(len(hand.links)) if hand.links[link].shapes]
    points = {link: surface_points(hand, link, 150) for link in shaped}
    solids = {link: [_Solid(shape) for shape in hand.links[link].shapes] for link in shaped}
    known, found = adjacent(hand), {}
    for a, b in itertools.combinations(shaped, 2):
        if (a, b) in known:
            continue
        into_b = rotation.inverse(transforms[:, b]) @ transforms[:, a]
        deep = _overlap(points[a], solids[b], into_b) | _overlap(points[b], solids[a], rotation.inverse(into_b))
        if deep.any():
            found[a, b] = deep
    return found


def _overlap(points: np.ndarray, solids: list[_Solid], pose: np.ndarray) -> np.ndarray:
    """In which poses, of shape (pose, 4, 4), some point of one link lies in another one, shape (pose,)."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    radius = np.linalg.norm(points - centre, axis=1).max()
    moved_centre = pose[:, :3, :3] @ centre + pose[:, :3, 3]
    deep = np.zeros(len(pose), bool)
    for solid in solids:
        near = np.linalg.norm(moved_centre - solid.centre, axis=1) < radius + solid.radius
        if near.any():
            moved = np.einsum("pij,nj->pni", pose[near, :3, :3], points) + pose[near, None, :3, 3]
            deep[near] |= (solid.depth(moved) > DEPTH).any(axis=1)
    return deep


class _Solid:
    """The inside of a shape; meshes count with their convex hull."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.to_shape = rotation.inverse(rotation.matrix(shape.position, shape.quaternion))
        self.planes = self._hull_planes() if shape.kind == "mesh" else np.zeros((0, 4))
        self.centre, self.radius = self._ball()

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Depth below the surface of points in the link frame [m], positive inside; a bound for boxes and hulls."""
        local = points @ self.to_shape[:3, :3].T + self.to_shape[:3, 3]
        size = self.shape.size
        match self.shape.kind:
            case "box":
                return (size - np.abs(local)).min(axis=-1)
            case "sphere":
                return size[0] - np.linalg.norm(local, axis=-1)
            case "capsule":
                beyond = np.maximum(np.abs(local[..., 2]) - size[1], 0.0)
                return size[0] - np.hypot(np.linalg.norm(local[..., :2], axis=-1), beyond)
            case "cylinder":
                return np.minimum(size[0] - np.linalg.norm(local[..., :2], axis=-1), size[1] - np.abs(local[..., 2]))
            case _:
                return -(local @ self.planes[:, :3].T + self.planes[:, 3]).max(axis=-1)

    def _hull_planes(self) -> np.ndarray:
        """Outward planes (normal, offset) of the hull's largest facets, shape (plane, 4)."""
        import trimesh

        hull = trimesh.Trimesh(self.shape.vertices, self.shape.faces).convex_hull
        facets = np.concatenate([hull.face_normals, np.zeros((len(hull.faces), 1))], axis=1)
        facets[:, 3] = -(hull.face_normals * hull.triangles[:, 0]).sum(axis=1)
        largest = np.argsort(-hull.area_faces)[:FACETS]
        # Rounding merges the triangles of one facet.
        return np.unique(np.round(facets[largest], 4), axis=0)

    def _ball(self) -> tuple[np.ndarray, float]:
        """A ball in the link frame that holds the shape."""
        corners = self.shape.trimesh().vertices
        centre = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
        return centre, float(np.linalg.norm(corners - centre, axis=1).max())
