"""The nearest point of a box cut by a few half-spaces (NumPy only)."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-12


def project(
    point: np.ndarray,
    *,
    weight: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    matrix: np.ndarray,
    minimum: np.ndarray,
) -> np.ndarray:
    """Nearest points x with ``lower <= x <= upper`` and ``matrix @ x >= minimum``.

    Args:
        point: Points to project, shape (..., K).
        weight: Weight of each coordinate's squared distance, positive, shape (K,).
        lower: Lower ends of the box, shape (K,).
        upper: Upper ends of the box, shape (K,).
        matrix: Rows of the half-spaces, shape (C, K).
        minimum: Bounds of the half-spaces, shape (C,).

    Returns:
        Projected points, shape (..., K).

    Raises:
        ValueError: No point fulfils all of it.
    """
    x = np.clip(point, lower, upper).reshape(-1, point.shape[-1])
    # Clipping is the exact projection onto the box; where it also meets the half-spaces nothing is left to do.
    violated = (x @ matrix.T < minimum - TOLERANCE).any(axis=1)
    coupled = (matrix != 0.0).any(axis=0)
    for row in np.flatnonzero(violated):
        start = point.reshape(x.shape)[row, coupled]
        x[row, coupled] = _nearest(
            start,
            weight=weight[coupled],
            lower=lower[coupled],
            upper=upper[coupled],
            matrix=matrix[:, coupled],
            minimum=minimum,
        )
    return x.reshape(point.shape)


def _nearest(
    point: np.ndarray,
    *,
    weight: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    matrix: np.ndarray,
    minimum: np.ndarray,
) -> np.ndarray:
    """Least-distance programming by non-negative least squares, for one point.

    Source: Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    from scipy.optimize import nnls

    scale = np.sqrt(weight)
    identity = np.eye(len(point))
    rows = np.concatenate([matrix, identity, -identity])
    bound = np.concatenate([minimum, lower, -upper]) - rows @ point
    finite = np.isfinite(bound)
    rows, bound = rows[finite] / scale, bound[finite]
    # Distances of order one keep the test for infeasibility below well scaled.
    size = max(np.abs(bound).max(), TOLERANCE)
    system = np.concatenate([rows.T, bound[None] / size])
    multiplier, _ = nnls(system, np.append(np.zeros(len(point)), 1.0))
    residual = system @ multiplier - np.append(np.zeros(len(point)), 1.0)
    if np.linalg.norm(residual) < 1e-9:
        raise ValueError("the half-spaces and the box do not meet")
    shift = -residual[:-1] / residual[-1] * size
    return np.clip(point + shift / scale, lower, upper)


def coupled_rows(matrix: np.ndarray) -> list[np.ndarray]:
    """Rows of a matrix (C, K) in groups that share no column: their indices."""
    from scipy.sparse.csgraph import connected_components

    if not len(matrix):
        return []
    tied = matrix != 0.0
    number, group = connected_components(tied.astype(int) @ tied.T.astype(int), directed=False)
    return [np.flatnonzero(group == g) for g in range(number)]
