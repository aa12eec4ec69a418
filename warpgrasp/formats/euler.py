"""The dictionary of named numbers that DexGraspNet and UniDexGrasp keep a pose in."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError
from ..hand import Hand
from ..pose import Pose
from .conventions import Convention

ROTATION = ("WRJRx", "WRJRy", "WRJRz")
"""Turns about the fixed axes x, y and z, in this order [rad]; transforms3d calls it sxyz."""

TRANSLATION = ("WRJTx", "WRJTy", "WRJTz")
"""[m]"""


def qpos(way: Convention, joint_names: tuple[str, ...], pose: Pose) -> list[dict[str, float]]:
    """One dictionary per grasp: joints, then rotation, then translation, an order that readers rely on."""
    position, quaternion, joints = way.export_pose(joint_names, pose)
    keys = (*way.joint_names, *ROTATION, *TRANSLATION)
    rows = np.concatenate([joints, angles(quaternion), position], axis=1)
    return [dict(zip(keys, row, strict=True)) for row in rows.tolist()]


def read_qpos(path: Path, way: Convention, hand: Hand, rows: Sequence[Mapping[str, Any]]) -> Pose:
    """The poses in such dictionaries.

    Raises:
        FileFormatError: A name is missing or its value is not a number.
    """
    keys = (*way.joint_names, *ROTATION, *TRANSLATION)
    for row in rows:
        missing = [key for key in keys if key not in row] if isinstance(row, Mapping) else keys[:1]
        if missing:
            raise FileFormatError(
                path, f"{missing[0]!r} is missing in qpos; the hand {way.name!r} needs {len(keys)} names"
            )
    try:
        values = np.array([[row[key] for key in keys] for row in rows], float)
    except (TypeError, ValueError) as error:
        raise FileFormatError(path, "some values in qpos are not numbers") from error
    k = len(way.joints)
    if not np.isfinite(values).all():
        raise FileFormatError(path, "some values in qpos are not finite")
    return way.import_pose(path, hand, values[:, k + 3 :], quaternions(values[:, k : k + 3]), values[:, :k])


def angles(quaternion: np.ndarray) -> np.ndarray:
    """Turns about the fixed axes x, y, z [rad], shape (N, 3), of quaternions w x y z."""
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        # With y at a right angle only the sum or difference of the others matters, and SciPy says so.
        warnings.simplefilter("ignore", UserWarning)
        return Rotation.from_quat(np.roll(quaternion, -1, axis=1)).as_euler("xyz")


def quaternions(turns: np.ndarray) -> np.ndarray:
    """Quaternions w x y z of turns about the fixed axes x, y, z [rad]."""
    from scipy.spatial.transform import Rotation

    return np.roll(Rotation.from_euler("xyz", turns).as_quat(canonical=True), 1, axis=1)
