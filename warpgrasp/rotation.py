"""Rotations and rigid transforms in NumPy; quaternions are w x y z."""

from __future__ import annotations

import numpy as np


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternions w x y z, w >= 0, shape (..., 4), of rotation matrices of shape (..., 3, 3)."""
    from scipy.spatial.transform import Rotation

    matrix = np.asarray(matrix, float)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True)
    return np.roll(flat, 1, axis=-1).reshape(*matrix.shape[:-2], 4)


def matrix_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices, shape (..., 3, 3), of unit quaternions w x y z of shape (..., 4)."""
    w, x, y, z = np.moveaxis(np.asarray(quaternion, float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def matrix_from_axis_angle(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices, shape (..., 3, 3), about a unit axis of shape (3,) by angles [rad] of shape (...,)."""
    half = 0.5 * np.asarray(angle, float)[..., None]
    return matrix_from_quaternion(np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1))


def quaternion_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Unit quaternion w x y z of URDF's fixed-axis roll, pitch, yaw [rad]."""
    roll, pitch, yaw = rpy
    x, y, z = np.eye(3)
    product = matrix_from_axis_angle(z, yaw) @ matrix_from_axis_angle(y, pitch) @ matrix_from_axis_angle(x, roll)
    return quaternion_from_matrix(product)


def matrix(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Homogeneous transforms, shape (..., 4, 4)."""
    position = np.asarray(position, float)
    transform = np.zeros((*position.shape[:-1], 4, 4))
    transform[..., :3, :3] = matrix_from_quaternion(quaternion)
    transform[..., :3, 3] = position
    transform[..., 3, 3] = 1.0
    return transform


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions w x y z, shape (..., 4)."""
    return quaternion_from_matrix(matrix_from_quaternion(a) @ matrix_from_quaternion(b))


def inverse(transform: np.ndarray) -> np.ndarray:
    """Inverses of rigid transforms, shape (..., 4, 4)."""
    back = np.zeros_like(transform)
    back[..., :3, :3] = np.swapaxes(transform[..., :3, :3], -1, -2)
    back[..., :3, 3] = -(back[..., :3, :3] @ transform[..., :3, 3:])[..., 0]
    back[..., 3, 3] = 1.0
    return back


def slerp(first: np.ndarray, last: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From unit quaternions to others along the shorter arcs, shape (N, 4); shares of shape (N,)."""
    cosine = (first * last).sum(axis=1)
    last = np.where(cosine < 0.0, -1.0, 1.0)[:, None] * last
    angle = np.arccos(np.minimum(np.abs(cosine), 1.0))
    straight = angle < 1.0e-3
    weight = np.where(straight, 1.0 - share, np.sin((1.0 - share) * angle))
    other = np.where(straight, share, np.sin(share * angle))
    mixed = (weight[:, None] * first + other[:, None] * last) / np.where(straight, 1.0, np.sin(angle))[:, None]
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
