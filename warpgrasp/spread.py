"""How much the grasps of one object differ from each other."""

from __future__ import annotations

import numpy as np

from . import rotation
from .errors import OptionError, ShapeError
from .hand import Hand
from .pose import Pose
from .result import Grasps


def diversity(grasps: Grasps | Pose, hand: Hand | None = None) -> dict[str, float]:
    """Spread of a set of grasps of one object, one number per measure.

    Everything is in the object's frame: turn grasps that were found on a moved object back first. Grasps whose pose
    is not finite are left out. What fewer than two grasps leave, or a hand without such joints, is NaN.

    Keys of the result:
        grasp_count: Grasps that were compared.
        pca1_share, pca2_share, ... pca5_share: Share of the variance of (translation [m], axis-angle vector [rad],
            joints [rad or m]) that the first component, the first two, ... explain; lower is more diverse. The
            units are mixed as DexGraspBench mixes them, so radians outweigh metres.
        sigma_translation_m: Root mean square distance of the wrist to its mean position.
        sigma_rotation_deg: Root mean square angle between the wrist's rotation and the mean rotation, the mean being
            the one with the least summed squared chordal (Frobenius) distance. 131.8 for uniform rotations.
        sigma_joint_rad: Root mean square, over grasps and revolute joints, of the deviation from the joint's mean.
        sigma_joint_m: The same over prismatic joints.
        sigma_keypoint_m: Root mean square, over grasps and keypoints, of a keypoint's distance to its mean position;
            keypoints are the palm's centre and the fingertips, or the origins of all links of a hand without fingers.

    Args:
        grasps: Grasps, or the poses of hands.
        hand: The hand; that of the grasps when omitted.

    Raises:
        ShapeError: The poses have another number of joints than the hand.
        OptionError: Only poses were given, and no hand.

    Source: PCA share as in Chen et al. 2025, DexGraspBench (``get_diversity``).
    """
    if hand is None:
        if not isinstance(grasps, Grasps):
            raise OptionError("diversity of poses needs the hand too: diversity(pose, hand)")
        hand = grasps.hand
    pose = _finite(grasps.pose if isinstance(grasps, Grasps) else grasps)
    if pose.joint_position.shape[1] != hand.joint_count:
        raise ShapeError("joint_position", f"(N, {hand.joint_count})", pose.joint_position.shape)
    revolute = np.array([joint.kind == "revolute" for joint in hand.joints], bool)
    shares = pca_shares(_features(pose))
    return {
        "grasp_count": float(len(pose)),
        **{f"pca{i + 1}_share": float(share) for i, share in enumerate(shares[:5])},
        "sigma_translation_m": rms_distance(pose.wrist_position[:, None]),
        "sigma_rotation_deg": float(np.degrees(rms_angle(pose.wrist_quaternion))),
        "sigma_joint_rad": rms_distance(pose.joint_position[:, revolute, None]),
        "sigma_joint_m": rms_distance(pose.joint_position[:, ~revolute, None]),
        "sigma_keypoint_m": rms_distance(keypoints(hand, pose)),
    }


def pca_shares(features: np.ndarray) -> np.ndarray:
    """Share of the variance that the first 1, 2, ... principal components explain, shape (5,).

    Args:
        features: One row per grasp, shape (N, feature); NaN comes back where N < 2 or all rows are equal.
    """
    shares = np.full(max(features.shape[1], 5), np.nan)
    if len(features) >= 2:
        variance = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
        # Rows that are equal leave rounding noise, which has directions but no meaning.
        if variance.sum() > 1e-24 * max((features**2).sum(), 1e-300):
            shares[:] = 1.0
            shares[: len(variance)] = np.cumsum(variance) / variance.sum()
    return shares[:5]


def rms_distance(position: np.ndarray) -> float:
    """Root mean square distance of points to their mean over the grasps; NaN for fewer than two grasps or no point.

    Args:
        position: Points of each grasp, shape (N, point, dimension).
    """
    if len(position) < 2 or position.shape[1] == 0:
        return float("nan")
    return float(np.sqrt(((position - position.mean(axis=0)) ** 2).sum(axis=-1).mean()))


def rms_angle(quaternion: np.ndarray) -> float:
    """Root mean square angle to the mean rotation [rad]; NaN for fewer than two.

    Args:
        quaternion: Unit quaternions w x y z, shape (N, 4); q and -q are the same rotation.

    Source: Markley et al. 2007, Averaging quaternions, for the mean.
    """
    if len(quaternion) < 2:
        return float("nan")
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_quat(np.roll(quaternion, -1, axis=1))
    return float(np.sqrt(((turns.mean().inv() * turns).magnitude() ** 2).mean()))


def keypoints(hand: Hand, pose: Pose) -> np.ndarray:
    """Palm centre and fingertips in the object frame [m], shape (N, point, 3); link origins where no finger is known.

    Args:
        hand: The hand.
        pose: Wrist and joints of each grasp.
    """
    links = hand.link_transforms(pose.joint_position)
    wrist = rotation.matrix(pose.wrist_position, pose.wrist_quaternion)
    if hand.fingers:
        link = [hand.palm.link, *(finger.links[-1] for finger in hand.fingers)]
        local = np.stack([hand.palm.position, *(finger.tip_position for finger in hand.fingers)])
    else:
        link, local = list(range(len(hand.links))), np.zeros((len(hand.links), 3))
    frames = wrist[:, None] @ links[:, link]
    return np.einsum("npij,pj->npi", frames[..., :3, :3], local) + frames[..., :3, 3]


def _features(pose: Pose) -> np.ndarray:
    """Translation [m], axis-angle vector [rad] of at most half a turn, joints [rad or m], shape (N, 6 + J)."""
    from scipy.spatial.transform import Rotation

    if len(pose) == 0:
        return np.zeros((0, 6 + pose.joint_position.shape[1]))
    turn = Rotation.from_quat(np.roll(pose.wrist_quaternion, -1, axis=1)).as_rotvec()
    return np.concatenate([pose.wrist_position, turn, pose.joint_position], axis=1)


def _finite(pose: Pose) -> Pose:
    rows = [pose.wrist_position, pose.wrist_quaternion, pose.joint_position]
    return pose[np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))]
