"""From a pad's tetrahedra to what its skin feels: linear elasticity, condensed to the points that may touch.

Quadratic displacements: linear ones lock when the material is nearly incompressible and are a fifth too stiff on pads
of useful size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
import warp as wp
from warp import fem

from ..errors import OptionError
from .pads import PadMesh

METRE = 100.0
"""Lengths in the assembly's units: centimetres keep single precision of the geometry healthy."""

REMEMBERED = 32
"""Condensed pads that are kept; one takes about 4 MB."""

EDGES = np.array([[0, 1], [1, 2], [2, 0], [0, 3], [1, 3], [2, 3]])
"""Corners at the ends of an element's edges, in the order of the nodes in their middles."""

CENTROID = np.full((1, 3), 1.0 / 3.0)
"""One sample in the middle of each face."""

FOUR = np.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0], [2.0, 2.0, 2.0]]) / 6.0
"""Four, in the middles of the faces that halving the edges gives."""


def _energy(s: fem.Sample, u: fem.Field, v: fem.Field, lame: float, shear: float):  # pyright: ignore
    """2 mu eps(u) : eps(v) + lambda tr eps(u) tr eps(v)."""
    strain, test = fem.D(u, s), fem.D(v, s)  # pyright: ignore
    return 2.0 * shear * wp.ddot(strain, test) + lame * wp.trace(strain) * wp.trace(test)


_elasticity: Any = fem.integrand(_energy)


@dataclass(frozen=True, eq=False)
class Compliance:
    """What forces at the samples of a pad do, for a Young's modulus of 1 Pa; divide by the modulus."""

    position: np.ndarray
    """Samples in the pad frame [m], shape (sample, 3)."""

    matrix: np.ndarray
    """Displacements of the samples per force there [1/m], symmetric, shape (3 sample, 3 sample)."""

    strain: np.ndarray
    """Strain of each tetrahedron's middle per force, xx yy zz yz zx xy (tensor, not engineering) [1/N Pa], float32,
    shape (6 tetrahedron, 3 sample)."""


def stiffness(mesh: PadMesh, poisson_ratio: float, degree: int = 2) -> tuple[sp.csc_matrix, np.ndarray]:
    """Stiffness of a pad for a modulus of 1 Pa [m], and its nodes in Warp's order [m], shape (node, 3)."""
    geometry = fem.Tetmesh(
        tet_vertex_indices=wp.array(mesh.tetrahedra.astype(np.int32), dtype=int, device="cpu"),
        positions=wp.array((METRE * mesh.vertices).astype(np.float32), dtype=wp.vec3, device="cpu"),
    )
    space = fem.make_polynomial_space(geometry, degree=degree, dtype=wp.vec3)
    domain = fem.Cells(geometry)
    matrix: Any = fem.integrate(
        _elasticity,
        fields={"u": fem.make_trial(space, domain=domain), "v": fem.make_test(space, domain=domain)},
        values={
            "lame": poisson_ratio / ((1.0 + poisson_ratio) * (1.0 - 2.0 * poisson_ratio)),
            "shear": 0.5 / (1.0 + poisson_ratio),
        },
        output_dtype=wp.float64,
    )
    count = matrix.nnz_sync()
    assembled = sp.bsr_matrix(
        (matrix.values.numpy()[:count], matrix.columns.numpy()[:count], matrix.offsets.numpy()),
        shape=(3 * matrix.nrow, 3 * matrix.ncol),
    ).tocsc()
    node = space.node_positions().numpy().astype(float) / METRE
    return assembled / METRE, node


def _element_nodes(mesh: PadMesh, node: np.ndarray) -> np.ndarray:
    """The ten nodes of each quadratic element, corners then ``EDGES``, by where they are, shape (tetrahedron, 10).

    With linear elements there is no node in the middle of an edge; what is found there is not to be used.
    """
    from scipy.spatial import KDTree

    corner = mesh.vertices[mesh.tetrahedra]
    wanted = np.concatenate([corner, corner[:, EDGES].mean(axis=2)], axis=1)
    return np.asarray(KDTree(node).query(wanted)[1])


def condense(mesh: PadMesh, poisson_ratio: float, *, samples: np.ndarray = CENTROID, degree: int = 2) -> Compliance:
    """Condense a pad to samples on its skin; the last few results are remembered.

    Args:
        mesh: The pad.
        poisson_ratio: In [0, 0.5).
        samples: Barycentric coordinates of the samples on each face, shape (sample, 3).
        degree: Of the displacements. 1 is for comparisons with others only: such pads are too stiff.

    Raises:
        OptionError: The ratio is out of range.
    """
    if not 0.0 <= poisson_ratio < 0.5:
        raise OptionError(f"poisson_ratio must be in [0, 0.5), got {poisson_ratio}")
    digest = hashlib.sha256()
    for array in (mesh.vertices.round(9) + 0.0, mesh.tetrahedra, mesh.faces, mesh.glued, samples):
        digest.update(np.ascontiguousarray(array).tobytes())
    return _remembered(_Request(mesh, samples, (float(poisson_ratio), degree, digest.hexdigest())))


class _Request:
    """What a compliance depends on; pads compare by their numbers."""

    def __init__(self, mesh: PadMesh, samples: np.ndarray, key: tuple[float, int, str]) -> None:
        self.mesh, self.samples, self.key = mesh, samples, key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=REMEMBERED)
def _remembered(request: _Request) -> Compliance:
    mesh, barycentric = request.mesh, request.samples
    degree = request.key[1]
    matrix, node = stiffness(mesh, request.key[0], degree)
    element = _element_nodes(mesh, node)
    held = np.zeros(len(node), bool)
    ends = [(corner, corner) for corner in range(4)] + (list(EDGES) if degree == 2 else [])
    for number, (a, b) in enumerate(ends):
        both = mesh.glued[mesh.tetrahedra[:, a]] & mesh.glued[mesh.tetrahedra[:, b]]
        held[element[both, number]] = True
    rows = _sample_rows(mesh, node, barycentric, degree)
    free = np.flatnonzero(np.repeat(~held, 3))
    rows = sp.kron(rows, sp.eye(3)).tocsr()[:, free]
    solve = spl.splu(matrix[free][:, free].tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0).solve
    # One by one: with many right sides at once SuperLU takes ten times as long.
    moved = np.stack([solve(column) for column in rows.toarray()], axis=1)
    compliance = rows @ moved
    strain = (_strain_rows(mesh, element, len(node), degree)[:, free] @ moved).astype(np.float32)
    position = np.einsum("sk,fkx->fsx", barycentric, mesh.vertices[mesh.faces]).reshape(-1, 3)
    return Compliance(position, 0.5 * (compliance + compliance.T), strain)


def _sample_rows(mesh: PadMesh, node: np.ndarray, barycentric: np.ndarray, degree: int) -> sp.csr_matrix:
    """Shape functions at the samples, shape (sample, node)."""
    from scipy.spatial import KDTree

    place, weight = mesh.vertices[mesh.faces], barycentric
    if degree == 2:
        place = np.concatenate([place, 0.5 * (place + np.roll(place, -1, axis=1))], axis=1)
        edge = 4.0 * barycentric * np.roll(barycentric, -1, axis=1)
        weight = np.concatenate([barycentric * (2.0 * barycentric - 1.0), edge], axis=1)
    nodes = np.asarray(KDTree(node).query(place)[1])
    count = len(barycentric)
    rows = np.repeat(np.arange(len(nodes) * count), weight.shape[1])
    columns = np.repeat(nodes, count, axis=0).ravel()
    shape = (len(nodes) * count, len(node))
    return sp.csr_matrix((np.tile(weight, (len(nodes), 1)).ravel(), (rows, columns)), shape)


def _strain_rows(mesh: PadMesh, element: np.ndarray, node_count: int, degree: int) -> sp.csr_matrix:
    """Strain in the middle of each tetrahedron per node's displacement, shape (6 tetrahedron, 3 node)."""
    corner = mesh.vertices[mesh.tetrahedra]
    edges = (corner[:, 1:] - corner[:, :1]).transpose(0, 2, 1)
    slope = np.linalg.inv(edges)
    slope = np.concatenate([-slope.sum(axis=1, keepdims=True), slope], axis=1)
    # In the middle every barycentric coordinate is 1/4: d(L (2 L - 1)) = 0, d(4 L_a L_b) = grad L_a + grad L_b.
    gradient = slope
    if degree == 2:
        gradient = np.concatenate([np.zeros_like(slope), slope[:, EDGES].sum(axis=2)], axis=1)
    count, nodes = gradient.shape[:2]
    element = element[:, :nodes]
    blocks = np.zeros((count, 6, nodes, 3))
    for row in range(3):
        blocks[:, row, :, row] = gradient[:, :, row]
    for row, (i, j) in enumerate(((1, 2), (2, 0), (0, 1)), start=3):
        blocks[:, row, :, i] = 0.5 * gradient[:, :, j]
        blocks[:, row, :, j] = 0.5 * gradient[:, :, i]
    rows = np.broadcast_to(np.arange(6 * count).reshape(count, 6, 1, 1), blocks.shape)
    columns = np.broadcast_to((3 * element[:, :, None] + np.arange(3))[:, None], blocks.shape)
    return sp.csr_matrix((blocks.ravel(), (rows.ravel(), columns.ravel())), (6 * count, 3 * node_count))
