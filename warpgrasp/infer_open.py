"""Inferring the open pose from which a hand closes."""

from __future__ import annotations

import numpy as np

from .hand import Pad
from .infer_fingers import in_frame_of, rest_position, tip_in
from .infer_palm import Motion


def infer_open(motion: Motion, pads: tuple[Pad, ...]) -> np.ndarray:
    """Joint vector of the open hand [rad or m], shape (J,).

    The pads surround the place where the fingertips meet and face it, a comfortable distance away, and the joints
    stay near a slightly bent rest pose. Joints that move no finger (a wrist) stay at zero.
    """
    from scipy.optimize import minimize

    posture = _Posture(motion, pads)
    hand = motion.hand
    bounds = list(zip(hand.free_lower, hand.free_upper, strict=True))
    results = [
        minimize(posture.cost_and_slope, x, jac=True, bounds=bounds, method="SLSQP", options={"maxiter": 60})
        for x in posture.starts()
    ]
    best = min(results, key=lambda result: result.fun)
    return hand.clamp(np.round(hand.joint_position(best.x), 2))


class _Posture:
    """What makes an open pose good, as a cost of the free coordinates."""

    def __init__(self, motion: Motion, pads: tuple[Pad, ...]) -> None:
        self.motion = motion
        self.pads = pads
        self.goal = motion.meeting_point
        hand = motion.hand
        length = np.linalg.norm(motion.tips - motion.bases, axis=-1).max(axis=0)
        self.clearance = np.where(self._slides(), np.inf, 0.65 * np.median(length))
        self.clearance = np.minimum(self.clearance, np.linalg.norm(motion.tips - self.goal, axis=-1).max(axis=0))
        self.apart = 0.25 * float(np.median(length))
        self.width = np.maximum(hand.free_upper - hand.free_lower, 1e-9)
        zero = hand.free_position(rest_position(hand))
        self.rest = np.where(self._in_finger(), 0.8 * zero + 0.1 * (hand.free_lower + hand.free_upper), zero)
        self.stiffness = self._stiffness()

    def starts(self) -> list[np.ndarray]:
        """The rest pose, and the pose in which every finger copies its own best sample."""
        return [self.rest, self._best_of_each()]

    def cost_and_slope(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Cost of free coordinates, and its gradient by differences, all poses at once."""
        step = 1e-5 * self.width
        poses = np.concatenate([x[None], x + np.diag(step), x - np.diag(step)])
        cost = self.cost(poses)
        count = len(x)
        return float(cost[0]), (cost[1 : count + 1] - cost[count + 1 :]) / (2.0 * step)

    def cost(self, x: np.ndarray) -> np.ndarray:
        """Cost of free coordinates of shape (pose, K), shape (pose,)."""
        hand = self.motion.hand
        transforms = in_frame_of(hand.link_transforms(hand.joint_position(x)), self.motion.palm)
        tips = np.stack([tip_in(transforms, finger) for finger in self.motion.fingers], axis=1)
        bent = self.stiffness * ((x - self.rest) / self.width) ** 2
        facing = self._facing(transforms, tips).sum(axis=1)
        return facing + self._opposition(transforms) + bent.sum(axis=1) + self._crowding(tips)

    def _facing(self, transforms: np.ndarray, tips: np.ndarray) -> np.ndarray:
        """How badly each pad faces the goal from the wanted distance, shape (pose, finger)."""
        towards = self.goal - tips
        distance = np.linalg.norm(towards, axis=-1)
        facing = (self._pad_normals(transforms) * towards).sum(axis=-1) / np.maximum(distance, 1e-6)
        return (distance / self.clearance - 1.0) ** 2 + 0.5 * (1.0 - facing)

    def _pad_normals(self, transforms: np.ndarray) -> np.ndarray:
        """Directions in which the pads face, shape (pose, finger, 3)."""
        return np.stack([transforms[:, pad.link, :3, :3] @ pad.normal for pad in self.pads], axis=1)

    def _opposition(self, transforms: np.ndarray) -> np.ndarray:
        """How far the thumb's pad is from facing the pads of the parallel fingers, shape (pose,)."""
        parallel = self.motion.parallel
        others = [k for k in range(len(self.pads)) if k not in parallel]
        if not parallel or not others:
            return np.zeros(len(transforms))
        normal = self._pad_normals(transforms)
        return (
            0.5 * len(others) * (1.0 + (normal[:, parallel].mean(axis=1) * normal[:, others].mean(axis=1)).sum(axis=-1))
        )

    def _crowding(self, tips: np.ndarray) -> np.ndarray:
        """Cost of fingertips that come too near to each other, shape (pose,)."""
        a, b = np.triu_indices(tips.shape[1], 1)
        distance = np.linalg.norm(tips[:, a] - tips[:, b], axis=-1)
        return (np.maximum(0.0, 1.0 - distance / self.apart) ** 2).sum(axis=1) * 10.0

    def _best_of_each(self) -> np.ndarray:
        cost = self._facing(self.motion.transforms, self.motion.tips)
        samples = self.motion.free[np.argmin(cost, axis=0)]
        x = self.rest.copy()
        for finger, sample in zip(self.motion.fingers, samples, strict=True):
            moved = self._moved_by(finger.joints)
            x[moved] = sample[moved]
        return x

    def _moved_by(self, joints: tuple[int, ...]) -> np.ndarray:
        """Free coordinates that move any of some joints, a mask of shape (K,)."""
        return (self.motion.hand.joint_map[list(joints)] != 0.0).any(axis=0)

    def _stiffness(self) -> np.ndarray:
        """How strongly each free coordinate is held at rest, shape (K,)."""
        stiffness = np.where(self._in_finger(), 0.5, 1e3)
        for k, finger in enumerate(self.motion.fingers):
            for j in finger.joints:
                moved = self._moved_by((j,))
                if self._slides()[k]:
                    stiffness[moved] = 0.0
                elif k in self.motion.parallel and not self._bends(j, k):
                    stiffness[moved] = 10.0
        return stiffness

    def _bends(self, joint: int, k: int) -> bool:
        """Whether a joint turns about the axis about which finger k bends, rather than spreads it."""
        axes = self.motion.transforms[:, joint + 1, :3, :3] @ self.motion.hand.joints[joint].axis
        return bool(np.abs(axes @ self.motion.bending_axes[k]).mean() > 0.7)

    def _in_finger(self) -> np.ndarray:
        return self._moved_by(tuple(j for finger in self.motion.fingers for j in finger.joints))

    def _slides(self) -> np.ndarray:
        """Which fingers only slide."""
        joints = self.motion.hand.joints
        return np.array([all(joints[j].kind == "prismatic" for j in finger.joints) for finger in self.motion.fingers])
