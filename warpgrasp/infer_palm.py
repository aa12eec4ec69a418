"""Inferring where the palm faces, where an object lies in the hand, and where the fingertip pads are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .hand import Finger, Hand, Pad, Palm
from .infer_fingers import in_frame_of, rest_position, surface_points, tip_axes, tip_in

SAMPLES = 3000
"""Joint vectors whose fingertips are looked at."""


@dataclass
class Motion:
    """Where the fingertips of a hand can go, in the frame of the palm link."""

    hand: Hand

    palm: int
    """Palm link."""

    fingers: tuple[Finger, ...]

    free: np.ndarray = field(init=False)
    """Free coordinates of the samples [rad or m], shape (sample, K)."""

    transforms: np.ndarray = field(init=False)
    """Link poses in the palm link's frame, shape (sample, L, 4, 4)."""

    tips: np.ndarray = field(init=False)
    """Fingertip centres [m], shape (sample, finger, 3)."""

    def __post_init__(self) -> None:
        hand, rng = self.hand, np.random.default_rng(0)
        # Couplings matter little here, and projecting onto them would take most of the time.
        self.free = rng.uniform(hand.free_lower, hand.free_upper, (SAMPLES, hand.free_count))
        q = hand.joint_position(self.free)
        self.transforms = in_frame_of(hand.link_transforms(q), self.palm)
        self.tips = np.stack([tip_in(self.transforms, finger) for finger in self.fingers], axis=1)

    @cached_property
    def bases(self) -> np.ndarray:
        """Root of each finger [m], shape (finger, 3): its first joint, moved sideways to where the finger lies."""
        origin = np.stack([self.transforms[:, finger.links[0], :3, 3].mean(axis=0) for finger in self.fingers])
        offset = ((self.tips.mean(axis=0) - origin) * self.bending_axes).sum(axis=1, keepdims=True)
        return origin + self.bending_axes * offset

    @cached_property
    def reach(self) -> np.ndarray:
        """Mean vector from base to tip of each stretched and opened finger [m], shape (finger, 3).

        Stretched are the samples with the tip far from the base; opened those of them with the tip far from where
        the fingers meet. The mean evens out what spreads the finger sideways.
        """
        length = np.linalg.norm(self.tips - self.bases, axis=-1)
        length = np.where(length >= np.quantile(length, 0.9, axis=0), length, np.nan)
        opening = np.linalg.norm(self.tips - self.meeting_point, axis=-1) + 0.0 * length
        chosen = opening >= np.nanquantile(opening, 0.9, axis=0)
        return (self.tips * chosen[..., None]).sum(axis=0) / chosen.sum(axis=0)[:, None] - self.bases

    @property
    def unit_reach(self) -> np.ndarray:
        """Direction of ``reach``, shape (finger, 3)."""
        return self.reach / np.linalg.norm(self.reach, axis=1, keepdims=True)

    @cached_property
    def parallel(self) -> list[int]:
        """The largest group of fingers that reach within 37 degrees of one of them; none if they are a minority."""
        unit = self.unit_reach
        largest = max((np.flatnonzero(unit @ direction > 0.8) for direction in unit), key=len)
        return largest.tolist() if len(largest) >= max(2, 0.5 * len(unit)) else []

    @cached_property
    def meeting_point(self) -> np.ndarray:
        """Where the fingertips meet [m], shape (3,): their mean over the samples in which they are closest."""
        centre = self.tips.mean(axis=1)
        spread = ((self.tips - centre[:, None]) ** 2).sum(axis=(1, 2))
        closest = np.argsort(spread)[: SAMPLES // 25]
        return centre[closest].mean(axis=0)

    @cached_property
    def bending_axes(self) -> np.ndarray:
        """Unit axis, of either sign, about which each fingertip bends, shape (finger, 3).

        Zero for fingers that only slide and for fingers that bend about many axes because they swivel.
        """
        axes = np.zeros((len(self.fingers), 3))
        for k, moment in enumerate(self.bending_moments):
            share, vectors = np.linalg.eigh(moment)
            if share[-1] > 0.7:
                axes[k] = vectors[:, -1]
        return axes

    @cached_property
    def bending_moments(self) -> np.ndarray:
        """Mean of a aᵀ over the samples, a being the axis about which a fingertip bends, shape (finger, 3, 3).

        Zero for fingers that only slide.
        """
        moments = np.zeros((len(self.fingers), 3, 3))
        for k, finger in enumerate(self.fingers):
            if any(self.hand.joints[link - 1].kind == "revolute" for link in finger.links):
                side = self.transforms[:, finger.links[-1], :3, :3] @ tip_axes(self.hand, finger.links[-1])[1]
                moments[k] = side.T @ side / len(side)
        return moments


def infer_palm(motion: Motion) -> tuple[Palm, str]:
    """The palm, and a sentence on how it was found."""
    normal, fingers, how = _directions(motion)
    normal, fingers = _snap(normal, fingers)
    position = _palm_centre(motion, normal)
    return Palm(motion.palm, position, normal, fingers), how


def infer_pads(motion: Motion) -> tuple[Pad, ...]:
    """One pad per finger: where the last link faces the place at which the fingertips meet."""
    goal = motion.meeting_point
    return tuple(_pad(motion, finger, goal) for finger in motion.fingers)


def surface_point(points: np.ndarray, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Outermost of some surface points near the line through ``start`` along ``direction``, moved onto it."""
    offset = points - start
    height = offset @ direction
    distance = np.linalg.norm(offset - height[:, None] * direction, axis=1)
    near = distance <= max(0.003, float(np.sort(distance)[min(10, len(distance) - 1)]))
    return start + height[near].max() * direction


def _directions(motion: Motion) -> tuple[np.ndarray, np.ndarray, str]:
    """Palm normal and finger direction, orthogonal unit vectors in the palm link's frame.

    A hand with a palm has fingers that point the same way when stretched and all bend to one side: that side is
    the palm's. A gripper's fingers bend towards each other, so its palm faces where they point. Where the fingers
    point nowhere in common (they spread like a star), the palm faces the place at which they meet.
    """
    reach = motion.reach
    parallel = motion.parallel
    if not parallel:
        normal = _star_normal(motion)
        return normal, _closing_axis(motion, normal), "it faces where the spread fingers meet"
    along = motion.unit_reach[parallel].mean(axis=0)
    along /= np.linalg.norm(along)
    bend = ((motion.tips - motion.bases).mean(axis=0) - reach)[parallel]
    bend -= np.outer(bend @ along, along)
    together = np.linalg.norm(bend.sum(axis=0)) / max(np.linalg.norm(bend, axis=1).sum(), 1e-9)
    if together >= 0.6 and _bend_onto_others(motion, bend.sum(axis=0)):
        others = [k for k in range(len(motion.fingers)) if k not in parallel]
        across = motion.unit_reach[others].mean(axis=0)
        along += across / np.linalg.norm(across)
        along /= np.linalg.norm(along)
        together = 0.0
    if together < 0.6:
        return along, _closing_axis(motion, along), "the fingers close towards each other, so it faces where they point"
    axes = motion.bending_axes[parallel]
    sideways = np.linalg.eigh(axes.T @ axes)[1][:, -1]
    along -= sideways * (sideways @ along)
    along /= np.linalg.norm(along)
    normal = np.cross(along, sideways)
    normal *= np.sign(normal @ bend.sum(axis=0))
    return normal, along, "it faces the side to which the parallel fingers bend"


def _bend_onto_others(motion: Motion, bend: np.ndarray) -> bool:
    """Whether the parallel fingers bend straight towards the roots of the others, as in a gripper with a thumb."""
    others = [k for k in range(len(motion.fingers)) if k not in motion.parallel]
    if not others:
        return False
    across = motion.bases[others].mean(axis=0) - motion.bases[motion.parallel].mean(axis=0)
    return float(across @ bend) > 0.8 * float(np.linalg.norm(across) * np.linalg.norm(bend))


def _star_normal(motion: Motion) -> np.ndarray:
    """Direction to where the fingers meet; where they bend about axes of one plane, orthogonal to that plane."""
    towards = motion.meeting_point - motion.bases.mean(axis=0)
    towards /= np.linalg.norm(towards)
    share, vectors = np.linalg.eigh(motion.bending_moments.mean(axis=0))
    flat = share[0] < 0.05 and share[1] > 0.2 and abs(vectors[:, 0] @ towards) > 0.8
    return vectors[:, 0] * np.sign(vectors[:, 0] @ towards) if flat else towards


def _closing_axis(motion: Motion, normal: np.ndarray) -> np.ndarray:
    """Axis orthogonal to the normal along which fingers oppose each other, of either sign."""
    # Joint zero shows how a spreading hand is meant to be used; the mean pose helps where fingers touch at zero.
    at_zero = in_frame_of(motion.hand.link_transforms(rest_position(motion.hand)), motion.palm)
    tips = np.stack([tip_in(at_zero, finger) for finger in motion.fingers]) + 0.1 * motion.tips.mean(axis=0)
    offset = tips - tips.mean(axis=0)
    offset = offset - np.outer(offset @ normal, normal)
    axis = np.linalg.svd(offset)[2][0]
    axis = axis - normal * (axis @ normal)
    return axis / np.linalg.norm(axis) * (1.0 if axis[np.argmax(np.abs(axis))] > 0.0 else -1.0)


def _snap(normal: np.ndarray, fingers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions turned onto the link's own axes where they are near: designers draw palms along them."""
    normal = _snapped(normal)
    fingers = fingers - normal * (fingers @ normal)
    fingers = _snapped(fingers / np.linalg.norm(fingers))
    fingers = fingers - normal * (fingers @ normal)
    return normal, fingers / np.linalg.norm(fingers)


def _snapped(direction: np.ndarray) -> np.ndarray:
    axis = np.zeros(3)
    largest = int(np.argmax(np.abs(direction)))
    axis[largest] = np.sign(direction[largest])
    return axis if axis @ direction > np.cos(np.radians(12.0)) else direction


def _palm_centre(motion: Motion, normal: np.ndarray) -> np.ndarray:
    """Point of the palm link's surface amid the finger bases."""
    points = surface_points(motion.hand, motion.palm, 4000)
    return surface_point(points, motion.bases.mean(axis=0), normal)


def _pad(motion: Motion, finger: Finger, goal: np.ndarray) -> Pad:
    link = finger.links[-1]
    _, _, across = tip_axes(motion.hand, link)
    poses = motion.transforms[:, link]
    towards = goal - tip_in(motion.transforms, finger)
    facing = np.einsum("sij,j,si->s", poses[:, :3, :3], across, towards) / np.linalg.norm(towards, axis=1)
    normal = across if facing.mean() >= 0.0 else -across
    points = surface_points(motion.hand, link)
    return Pad(link, surface_point(points, finger.tip_position, normal), normal)
