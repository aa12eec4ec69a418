"""A surface made ready for Phong's curvature: normals split at creases, edges halved where it would bulge (NumPy)."""

from __future__ import annotations

import dataclasses

import numpy as np

from .mesh import ObjectMesh, edge_counts, face_normals, mean_normals, unit

CREASE_ANGLE = np.radians(40.0)
"""Faces that meet at a larger angle do not share normals [rad]."""

BULGE = 1.0e-4
"""How far the curved surface may lie from the flat one [m]."""

FACE_LIMIT = 200_000
"""Faces beyond which nothing is halved any more."""

_PARTS = tuple(
    np.array(part)
    for part in (
        ((0, 1, 2),),
        ((0, 3, 2), (3, 1, 2)),
        ((1, 4, 0), (4, 2, 0)),
        ((3, 1, 4), (0, 3, 2), (3, 4, 2)),
        ((2, 5, 1), (5, 0, 1)),
        ((5, 0, 3), (2, 5, 1), (5, 3, 1)),
        ((4, 2, 5), (1, 4, 0), (4, 5, 0)),
        ((0, 3, 5), (3, 1, 4), (4, 2, 5), (3, 4, 5)),
    )
)
"""Triangles that replace a face whose edges in the bits of the position are halved; 3 + i is the middle of edge i."""


@dataclasses.dataclass(frozen=True)
class PhongSurface:
    """The same surface as that of an object, in smaller faces, with a normal for each corner."""

    obj: ObjectMesh
    """The object with the new vertices and faces."""

    corner_normals: np.ndarray
    """Unit outward normals at the corners, continuous over an edge unless it is a crease, shape (face, 3, 3)."""

    bulge: float
    """Upper bound of the distance between the flat and the curved surface [m]; above ``BULGE`` only where
    ``FACE_LIMIT`` was in the way."""


def phong_surface(obj: ObjectMesh, alpha: float) -> PhongSurface:
    """Split the normals of an object at its creases, then halve edges until the surface bulges by ``BULGE`` at most.

    A point of a face with barycentric weights u is lifted by alpha sum_(i<j) u_i u_j c_ij, with
    c_ij = (n_i . e) n_i - (n_j . e) n_j along the edge e from corner i to j. The sum of the u_i u_j is at most 1/3, so
    a third of the longest alpha c_ij bounds the bulge. New corners get the interpolated normals, so an edge halved has
    a quarter of the bulge, and flat parts stay as they are.
    """
    vertices, faces = obj.vertices, obj.faces
    normals = _creased_normals(vertices[faces], faces)
    limit = max(FACE_LIMIT, len(faces))
    while True:
        edge = edge_counts(faces)[0]
        bulge = np.zeros(int(edge.max()) + 1)
        np.maximum.at(bulge, edge, alpha / 3.0 * _tension(vertices[faces], normals).ravel())
        # an edge in two makes one face more on either side
        room = (limit - len(faces)) // 2
        halved = np.argsort(-bulge, kind="stable")[: min(room, int((bulge > BULGE).sum()))]
        if len(halved) == 0:
            break
        vertices, faces, normals = _halve(vertices, faces, normals, edge, halved)
    if len(faces) > len(obj.faces):
        smooth = mean_normals(vertices[faces], faces)
        obj = dataclasses.replace(obj, vertices=vertices, faces=faces.astype(np.int32), vertex_normals=smooth)
    return PhongSurface(obj, normals, float(bulge.max()))


def _creased_normals(triangles: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals at the corners, each the mean over the faces around the vertex up to the next crease, (face, 3, 3)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edge, count, net = edge_counts(faces)
    start = np.argsort(edge, kind="stable")
    start = start[((count == 2) & (net == 0))[edge[start]]].reshape(-1, 2)
    normal = face_normals(triangles)
    f, g = (start // 3).T
    start = start[(normal[f] * normal[g]).sum(axis=1) > np.cos(CREASE_ANGLE)]
    # the other face runs the edge backward: where it ends, this one starts
    end = start // 3 * 3 + (start + 1) % 3
    rows, columns = np.concatenate([start[:, 0], end[:, 0]]), np.concatenate([end[:, 1], start[:, 1]])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(edge.size, edge.size))
    group = connected_components(graph, directed=False)[1].reshape(-1, 3)
    mean = mean_normals(triangles, group)[group]
    own = np.broadcast_to(normal[:, None], mean.shape)
    # at the tip of a cone, the mean over all faces is the normal of none
    return np.where((mean * own).sum(axis=-1, keepdims=True) > np.cos(CREASE_ANGLE), mean, own)


def _tension(triangles: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Length of c_ij of the edges from corner i to i + 1 [m], shape (face, 3)."""
    along = np.roll(triangles, -1, axis=1) - triangles
    ahead = np.roll(normals, -1, axis=1)
    rise, fall = ((n * along).sum(axis=-1, keepdims=True) for n in (normals, ahead))
    return np.linalg.norm(rise * normals - fall * ahead, axis=-1)


def _halve(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, edge: np.ndarray, halved: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and corner normals with some edges in two; ``edge`` is the edge of each corner."""
    middle = np.full(int(edge.max()) + 1, -1)
    middle[halved] = len(vertices) + np.arange(len(halved))
    corner = np.full(len(middle), -1)
    corner[edge] = np.arange(len(edge))
    ends = np.stack([faces.ravel(), np.roll(faces, -1, axis=1).ravel()], axis=1)[corner[halved]]
    vertices = np.concatenate([vertices, vertices[ends].mean(axis=1)])

    middle = middle[edge].reshape(-1, 3)
    pattern = (middle >= 0) @ [1, 2, 4]
    points = np.concatenate([faces, middle], axis=1)
    around = np.concatenate([normals, unit(normals + np.roll(normals, -1, axis=1))], axis=1)
    parts = [np.nonzero(pattern == bits)[0][:, None, None] for bits in range(len(_PARTS))]
    faces = np.concatenate([points[f, part].reshape(-1, 3) for f, part in zip(parts, _PARTS, strict=True)])
    normals = np.concatenate([around[f, part].reshape(-1, 3, 3) for f, part in zip(parts, _PARTS, strict=True)])
    return vertices, faces, normals
