"""Joint vectors drawn at random within the ranges and couplings of a hand (NumPy only)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .errors import HandError, OptionError
from .hand import Hand
from .projection import coupled_rows

ROUNDS = 1000
"""Times that draws which break a coupling are repeated before giving up."""


def truncated_normal(
    mean: np.ndarray, deviation: np.ndarray, lower: np.ndarray, upper: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Independent draws of normal distributions that are cut off at both ends, by inversion.

    Args:
        mean: Of the distributions before they are cut, shape (K,).
        deviation: Standard deviations before they are cut, shape (K,); where 0, the draw is the mean, put into range.
        lower: Lower ends, shape (K,).
        upper: Upper ends, shape (K,).
        count: Number of draws.
        rng: Random numbers.

    Returns:
        Draws within the ends, shape (count, K).
    """
    from scipy.special import ndtr, ndtri

    scale = np.where(deviation > 0.0, deviation, 1.0)
    low, high = (lower - mean) / scale, (upper - mean) / scale
    # Above the mean the distribution function is near 1 and loses digits, so there the mirror image is drawn from.
    mirrored = low > 0.0
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    share = ndtr(low) + rng.random((count, len(mean))) * (ndtr(high) - ndtr(low))
    z = np.clip(ndtri(share), low, high) * np.where(mirrored, -1.0, 1.0)
    return np.clip(np.where(deviation > 0.0, mean + scale * z, mean), lower, upper)


def sample_joints(
    hand: Hand, count: int, rng: np.random.Generator, *, spread: float, mean: Literal["open", "middle"] = "open"
) -> np.ndarray:
    """Joint vectors of truncated normal distributions within the ranges, given that the couplings hold.

    Every free joint has its own distribution. Joints that couplings tie together are drawn anew, together, until
    their couplings hold: that is the exact conditional distribution, and does not crowd the couplings' boundaries as
    moving draws onto them would.

    Args:
        hand: The hand.
        count: Number of joint vectors.
        rng: Random numbers.
        spread: Standard deviation before the cut, as a share of each joint's range.
        mean: Where the distributions have their peaks: the open hand, or the middle of the ranges.

    Returns:
        Joint vectors [rad or m], shape (count, J).

    Raises:
        OptionError: ``spread`` is negative.
        HandError: Practically no draw fulfils the couplings.
    """
    if spread < 0.0:
        raise OptionError(f"spread must not be negative, got {spread}")
    lower, upper = hand.free_lower, hand.free_upper
    peak = hand.free_position(hand.open_position) if mean == "open" else 0.5 * (lower + upper)
    deviation = spread * (upper - lower)

    def draw(number: int) -> np.ndarray:
        return truncated_normal(peak, deviation, lower, upper, number, rng)

    if spread == 0.0:
        return np.repeat(hand.clamp(hand.joint_position(draw(1))), count, axis=0)
    x = draw(count)
    matrix, minimum = hand.coupling_matrix()
    for rows in coupled_rows(matrix):
        columns = (matrix[rows] != 0.0).any(axis=0)
        wrong = np.arange(count)
        for _ in range(ROUNDS):
            wrong = wrong[(x[wrong] @ matrix[rows].T < minimum[rows]).any(axis=1)]
            if not len(wrong):
                break
            x[np.ix_(wrong, columns)] = draw(len(wrong))[:, columns]
        else:
            names = ", ".join(hand.joints[hand.free_joints[k]].name for k in np.flatnonzero(columns))
            raise HandError(hand.path, f"the couplings of {names} leave next to nothing of their ranges to draw from")
    return hand.joint_position(x)
