"""What tactile sensors read from the forces on a pad's skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import OptionError
from ..surface import farthest_points
from .pads import PadMesh

TAXELS = 24
"""Of a ``biotac3d`` pad; a BioTac has 19 electrodes, a BioTac SP 24."""

REGION = 0.4
"""Radius of the region of a ``net1d`` sensor, as a share of the pad's larger half extent."""


@dataclass(frozen=True, eq=False)
class Taxels:
    """Sensing places of a ``biotac3d`` pad: each takes the forces of the samples nearest to it."""

    owner: np.ndarray
    """Taxel of each sample, shape (sample,)."""

    position: np.ndarray
    """On the undeformed skin, pad frame [m], shape (taxel, 3)."""

    normal: np.ndarray
    """Unit outward normals there, shape (taxel, 3)."""

    def read(self, force: np.ndarray) -> np.ndarray:
        """Three-dimensional forces (..., taxel, 3) of forces on the samples (..., sample, 3), in the same frame [N].

        Their sum is the net force on the pad.
        """
        out = np.zeros((*force.shape[:-2], len(self.position), 3))
        for sample, taxel in enumerate(self.owner):
            out[..., taxel, :] += force[..., sample, :]
        return out


def biotac3d(pad: PadMesh, count: int | None = None, *, position: np.ndarray | None = None) -> Taxels:
    """Taxels spread evenly over a pad, three force components each.

    Args:
        pad: The pad.
        count: Taxels; ``TAXELS``, or one per sample where there are fewer, where omitted.
        position: Places of your own in the pad frame [m] instead, shape (taxel, 3).

    Raises:
        OptionError: There are more taxels than places on the skin, or none.
    """
    samples, normals = pad.samples, pad.sample_normals
    if position is None:
        count = min(TAXELS, len(samples)) if count is None else count
        if not 1 <= count <= len(samples):
            raise OptionError(f"a pad of {len(samples)} samples can have 1 to {len(samples)} taxels, got {count}")
        first = int(np.argmin(np.linalg.norm(samples - pad.vertices[pad.faces].mean(axis=(0, 1)), axis=1)))
        chosen = farthest_points(samples, count, first)
        position = samples[chosen]
    nearest = np.linalg.norm(samples[:, None] - position, axis=2)
    return Taxels(nearest.argmin(axis=1), position, normals[nearest.argmin(axis=0)])


def net1d(pad: PadMesh, *, share: float = REGION) -> np.ndarray:
    """Samples of the one region in the middle of a pad that a one-dimensional sensor feels, bool, shape (sample,).

    Raises:
        OptionError: ``share`` leaves no sample.
    """
    inside = np.linalg.norm(pad.samples[:, :2], axis=1) <= region_radius(pad, share)
    if not inside.any():
        raise OptionError(f"a region of {share} of the pad holds no sample")
    return inside


def region_radius(pad: PadMesh, share: float = REGION) -> float:
    """Radius of that region about the pad's middle [m]."""
    return share * 0.5 * float(np.ptp(pad.samples[:, :2], axis=0).max())


def read_net1d(region: np.ndarray, force: np.ndarray) -> np.ndarray:
    """Net pressing force of a region: the sum of its forces against the pad's outward axis z, >= 0 [N].

    Args:
        region: Its samples, bool, shape (sample,).
        force: On the samples in the pad frame [N], shape (..., sample, 3).
    """
    return np.maximum(-force[..., region, 2].sum(axis=-1), 0.0)
