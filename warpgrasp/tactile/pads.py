"""Soft fingertip pads as tetrahedra: the outermost layer of the last links, made without a mesher."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from ..errors import HandError, OptionError
from ..hand import Hand, Pad
from ..infer_palm import Motion, infer_pads

CELLS = (6, 8, 2)
"""Hexahedra across, along and through a pad; each becomes six tetrahedra."""

THICKNESS = 0.005
"""Of the soft layer along the rays that it is built on [m]."""

FAN = np.radians(55.0)
"""Half angle that a pad covers either way, seen from the core."""

LARGEST_CORE = 0.008
"""Largest half length of the core that the rays start from [m]; long links get a pad of this and the fan."""

LARGEST_DEPTH = 0.012
"""Largest depth of the core below the pad's point [m]."""

REACH = 0.03
"""Length of the rays [m]."""


@dataclass(frozen=True, eq=False)
class PadMesh:
    """Tetrahedra of one pad in a frame of its own: z out of the finger, y along it."""

    vertices: np.ndarray
    """[m], shape (vertex, 3)."""

    tetrahedra: np.ndarray
    """Corners, positively oriented, shape (tetrahedron, 4)."""

    glued: np.ndarray
    """Whether a vertex is held by the rigid link, bool, shape (vertex,)."""

    faces: np.ndarray
    """The skin that touches, counterclockwise from outside, shape (face, 3)."""

    def __post_init__(self) -> None:
        a, b, c, d = self.vertices[self.tetrahedra].transpose(1, 0, 2)
        volume = np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) / 6.0
        if not volume.min() > 0.0:
            raise OptionError(f"a pad has {int((volume <= 0.0).sum())} flat or inverted tetrahedra")

    @cached_property
    def volume(self) -> float:
        """In m³."""
        a, b, c, d = self.vertices[self.tetrahedra].transpose(1, 0, 2)
        return float(np.einsum("ij,ij->", np.cross(b - a, c - a), d - a) / 6.0)

    @cached_property
    def samples(self) -> np.ndarray:
        """Centres of the faces: where the pad may touch [m], shape (face, 3)."""
        return self.vertices[self.faces].mean(axis=1)

    @cached_property
    def sample_normals(self) -> np.ndarray:
        """Unit outward normals there, shape (face, 3)."""
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        return normal / np.linalg.norm(normal, axis=1, keepdims=True)

    @cached_property
    def sample_areas(self) -> np.ndarray:
        """Areas of the faces [m²], shape (face,)."""
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


@dataclass(frozen=True, eq=False)
class FingerPad:
    """A pad where it belongs."""

    name: str
    """Of its finger; of its link where no finger has it."""

    link: int

    pose: np.ndarray
    """Pad frame in the link frame, shape (4, 4)."""

    mesh: PadMesh


def layer(inner: np.ndarray, outer: np.ndarray, cells: int) -> PadMesh:
    """Tetrahedra between two grids of points: the inner one is glued, the outer one is the skin.

    Every cell is cut into six tetrahedra around its diagonal (Kuhn), which meets its neighbours' cuts.

    Args:
        inner: Points [m], shape (across, along, 3); seen from outside, across and along are right-handed.
        outer: Points above them, same shape.
        cells: Cells through the layer.
    """
    share = np.linspace(0.0, 1.0, cells + 1)[:, None]
    return grid_mesh(inner[:, :, None] + share * (outer - inner)[:, :, None])


def grid_mesh(points: np.ndarray) -> PadMesh:
    """The same of a grid of points (across, along, through, 3): glued at the first layer, skin at the last."""
    shape = points.shape[:3]
    number = np.arange(np.prod(shape)).reshape(shape)
    corner = number[:-1, :-1, :-1].ravel()
    steps = np.array([shape[1] * shape[2], shape[2], 1])
    # A path along the three axes visits four corners; that of an odd permutation is oriented the other way.
    cut = []
    for order in permutations(range(3)):
        path = np.concatenate([[0], np.cumsum(steps[list(order)])])
        odd = np.linalg.det(np.eye(3)[list(order)]) < 0.0
        cut.append(path[[0, 1, 3, 2]] if odd else path)
    tetrahedra = (corner[:, None, None] + np.array(cut)).reshape(-1, 4)
    top = number[:, :, -1]
    a, b, c, d = top[:-1, :-1], top[1:, :-1], top[1:, 1:], top[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
    glued = np.zeros(shape, bool)
    glued[:, :, 0] = True
    return PadMesh(points.reshape(-1, 3), tetrahedra, glued.ravel(), faces)


def box_pad(size: tuple[float, float, float], cells: tuple[int, int, int], *, grading: float = 1.0) -> PadMesh:
    """A block on the plane z = 0, to which it is glued [m].

    Args:
        size: Lengths along x, y and z [m].
        cells: Cells along them.
        grading: Exponent above one gathers cells under the middle of the skin.
    """
    x, y = (0.5 * s * np.sign(t) * np.abs(t) ** grading for s, t in zip(size, _ticks(cells[:2]), strict=False))
    z = size[2] * (1.0 - np.linspace(1.0, 0.0, cells[2] + 1) ** grading)
    return grid_mesh(np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1))


def dome_pad(size: tuple[float, float, float], cells: tuple[int, int, int] = CELLS, *, rim: float = 0.35) -> PadMesh:
    """A dome on the plane z = 0: an ellipse below, an ellipsoid above, ``rim`` of its height at the edge."""
    u, v = np.meshgrid(*_ticks(cells[:2]), indexing="ij")
    x, y = u * np.sqrt(1.0 - 0.5 * v * v), v * np.sqrt(1.0 - 0.5 * u * u)
    height = rim + (1.0 - rim) * np.sqrt(np.clip(1.0 - x * x - y * y, 0.0, 1.0))
    flat = np.stack([0.5 * size[0] * x, 0.5 * size[1] * y, np.zeros_like(x)], axis=-1)
    return layer(flat, flat + size[2] * height[..., None] * [0.0, 0.0, 1.0], cells[2])


def _ticks(cells: tuple[int, ...]) -> list[np.ndarray]:
    return [np.linspace(-1.0, 1.0, n + 1) for n in cells]


def hand_pads(hand: Hand, *, thickness: float = THICKNESS, cells: tuple[int, int, int] = CELLS) -> list[FingerPad]:
    """One soft pad on each fingertip: what lies within ``thickness`` under the link's own surface.

    Pads are where ``hand.pads`` has them, or else where the last links face the place at which the fingertips meet.

    Raises:
        HandError: The hand has neither pads nor fingers, or a pad's link has no surface near it.
        OptionError: ``thickness`` is not positive.
    """
    if not (thickness > 0.0 and np.isfinite(thickness)):
        raise OptionError(f"the thickness of a pad must be positive [m], got {thickness}")
    pads = hand.pads
    if not pads:
        if not hand.fingers:
            raise HandError(hand.path, "it has neither pads nor fingers to put soft pads on; give `pads` in hand.yaml")
        pads = infer_pads(Motion(hand, hand.palm.link, hand.fingers))
    names = {finger.links[-1]: finger.name for finger in hand.fingers}
    triangles: dict[int, np.ndarray] = {}
    made = []
    for pad in pads:
        if pad.link not in triangles:
            triangles[pad.link] = np.asarray(hand.link_surface(pad.link).triangles, float)
        name = names.get(pad.link, hand.links[pad.link].name)
        try:
            pose, mesh = _pad(triangles[pad.link], pad, _along(hand, pad), thickness, cells)
        except (ValueError, IndexError) as error:
            raise HandError(hand.path, f"no pad can be made on {name!r}: {error}") from error
        made.append(FingerPad(name, pad.link, pose, mesh))
    return made


def _along(hand: Hand, pad: Pad) -> np.ndarray:
    """Direction of the finger at a pad, in the link frame: from the joint to the tip, across the normal."""
    tips = [finger.tip_position for finger in hand.fingers if finger.links[-1] == pad.link]
    for candidate in (*tips, *np.eye(3)[np.argsort(np.abs(pad.normal))]):
        along = candidate - pad.normal * (pad.normal @ candidate)
        length = np.linalg.norm(along)
        if length > 1.0e-3:
            return along / length
    raise ValueError("its normal has no length")


def _pad(
    triangles: np.ndarray, pad: Pad, along: np.ndarray, thickness: float, cells: tuple[int, int, int]
) -> tuple[np.ndarray, PadMesh]:
    """Pose and mesh of a pad: rays fan out from a core inside the link and end at its surface."""
    normal = pad.normal / np.linalg.norm(pad.normal)
    axes = np.stack([np.cross(along, normal), along, normal], axis=1)
    through = ray_hits(triangles, pad.position + REACH * normal, -normal)
    through = through[through < 2.0 * REACH]
    if len(through) < 2:
        raise ValueError("its point is not on the link's surface")
    top = pad.position + (REACH - through.min()) * normal
    depth = min(0.5 * float(np.ptp(through)), LARGEST_DEPTH)
    core = top - depth * normal
    half = [
        np.clip(min(ray_hits(triangles, core, s * axes[:, i]).max() for s in (1, -1)) - depth, 0.0, LARGEST_CORE)
        for i in (0, 1)
    ]
    u, v = np.meshgrid(*_ticks(cells[:2]), indexing="ij")
    start = core + (u * half[0])[..., None] * axes[:, 0] + (v * half[1])[..., None] * axes[:, 1]
    slope = np.stack([np.tan(FAN * u), np.tan(FAN * v), np.ones_like(u)], axis=-1)
    direction = slope @ axes.T / np.linalg.norm(slope, axis=-1, keepdims=True)
    length = np.array(
        [ray_hits(triangles, s, d).max() for s, d in zip(start.reshape(-1, 3), direction.reshape(-1, 3), strict=True)]
    ).reshape(u.shape)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, top
    outer = (start + length[..., None] * direction - top) @ axes
    soft = np.minimum(thickness, 0.6 * length)[..., None]
    return pose, layer(outer - soft * direction @ axes, outer, cells[2])


def ray_hits(triangles: np.ndarray, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Distances at which a ray meets triangles (face, 3, 3) [m]; none is a ValueError.

    Source: Möller & Trumbore 1997.
    """
    a, b, c = triangles.transpose(1, 0, 2)
    across = np.cross(direction, c - a)
    determinant = ((b - a) * across).sum(axis=1)
    flat = np.abs(determinant) < 1.0e-18
    inverse = 1.0 / np.where(flat, 1.0, determinant)
    u = ((start - a) * across).sum(axis=1) * inverse
    other = np.cross(start - a, b - a)
    v = (other @ direction) * inverse
    distance = ((c - a) * other).sum(axis=1) * inverse
    slack = 1.0e-9
    hit = ~flat & (u >= -slack) & (v >= -slack) & (u + v <= 1.0 + slack) & (distance > 0.0) & (distance < 2.0 * REACH)
    if not hit.any():
        raise ValueError("the link has no closed surface around it")
    return distance[hit]
