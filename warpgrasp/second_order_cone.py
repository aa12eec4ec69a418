"""Second-order cones {(t, x): t >= |x|} of any dimension, in the last axis of arrays, for interior point methods."""

from __future__ import annotations

import numpy as np

INSIDE = 1.0e-15
"""Least relative distance from the boundary; rounding may not take a point out of the cone."""


def determinant(s: np.ndarray) -> np.ndarray:
    """t^2 - |x|^2, positive in the cone."""
    length = np.linalg.norm(s[..., 1:], axis=-1)
    return np.maximum(s[..., 0] - length, INSIDE * s[..., 0]) * (s[..., 0] + length)


def mirrored(s: np.ndarray) -> np.ndarray:
    """(t, -x)."""
    out = -s
    out[..., 0] = s[..., 0]
    return out


def reciprocal(s: np.ndarray) -> np.ndarray:
    """Gradient of log det / 2: (t, -x) / det."""
    return mirrored(s) / determinant(s)[..., None]


def largest_step(s: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Largest a for which s + a direction is in the cone; inf where all are."""
    product = s * mirrored(direction)
    a, b, c = (direction * mirrored(direction)).sum(axis=-1), product.sum(axis=-1), determinant(s)
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    q = -b - np.where(b >= 0.0, root, -root)
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([q / a, c / q, np.where(direction[..., 0] < 0.0, -s[..., 0] / direction[..., 0], np.inf)])
    crossing = (b * b >= a * c) & (np.abs(q) > 0.0)
    roots[:2] = np.where((roots[:2] > 0.0) & crossing, roots[:2], np.inf)
    return roots.min(axis=0)


class Scaling:
    """The scaling W that takes a dual point z to a primal point s: W z = W^-1 s.

    Source: Nesterov & Todd 1998; the formulas are those of Vandenberghe, The CVXOPT linear and quadratic cone program
    solvers (2010), section 4.
    """

    def __init__(self, s: np.ndarray, z: np.ndarray) -> None:
        size, dual_size = np.sqrt(determinant(s)), np.sqrt(determinant(z))
        unit, dual_unit = s / size[..., None], z / dual_size[..., None]
        middle = np.sqrt(0.5 * (1.0 + (unit * dual_unit).sum(axis=-1)))
        self.point = (unit + mirrored(dual_unit)) / (2.0 * middle[..., None])
        self.size = size / dual_size

    def square(self) -> np.ndarray:
        """W^2."""
        return self._square(self.point, self.size)

    def inverse_square(self) -> np.ndarray:
        """W^-2."""
        return self._square(mirrored(self.point), 1.0 / self.size)

    @staticmethod
    def _square(point: np.ndarray, size: np.ndarray) -> np.ndarray:
        out = 2.0 * point[..., :, None] * point[..., None, :]
        out += np.diag(np.append(-1.0, np.ones(point.shape[-1] - 1)))
        return size[..., None, None] * out
