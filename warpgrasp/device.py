"""Choosing a device, and moving poses between NumPy (w x y z) and Warp (x y z w)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import warp as wp

from . import rotation
from .errors import DeviceError

GPU_BATCH = 4096
"""Hands that are moved or measured at once on a GPU."""

CPU_BATCH = 256
"""Most hands that one core moves or measures at once."""


def choose(device: str | None) -> str:
    """Name of the Warp device to run on: the one asked for, else the first GPU, else the CPU.

    Raises:
        DeviceError: There is no such device; the message lists those that exist.
    """
    wp.config.log_level = wp.LOG_WARNING
    available = [d.alias for d in wp.get_devices()]
    if device is None:
        return next((name for name in available if name != "cpu"), "cpu")
    try:
        return wp.get_device(device).alias
    except (ValueError, RuntimeError):
        raise DeviceError(f"no device named {device!r}. Devices on this machine: {', '.join(available)}") from None


def batches(count: int, device: Any) -> Iterator[slice]:
    """Slices of so many hands, each few enough that their points fit into memory; one empty slice where there are none.

    A hand with 4096 points takes about 1 MB.
    """
    size = CPU_BATCH if wp.get_device(device).is_cpu else GPU_BATCH
    for begin in range(0, max(count, 1), size):
        yield slice(begin, begin + size)


def thread_count(work: int, device: Any) -> int:
    """Threads that share so many small pieces of work: one on a CPU, where starting another costs more than a piece."""
    return 1 if wp.get_device(device).is_cpu else work


def transforms(position: np.ndarray, quaternion: np.ndarray, device: str) -> wp.array:
    """Warp transforms from positions [m] (..., 3) and quaternions w x y z (..., 4)."""
    host = np.concatenate([position, np.roll(quaternion, -1, axis=-1)], axis=-1)
    return wp.array(host.astype(np.float32), dtype=wp.transform, device=device)


def transforms_from_matrices(matrix: np.ndarray, device: str) -> wp.array:
    """Warp transforms from homogeneous matrices (..., 4, 4)."""
    return transforms(matrix[..., :3, 3], rotation.quaternion_from_matrix(matrix[..., :3, :3]), device)


def positions_and_quaternions(transform: wp.array) -> tuple[np.ndarray, np.ndarray]:
    """Positions [m] (..., 3) and unit quaternions w x y z (..., 4), float64, of Warp transforms."""
    host = transform.numpy().astype(float)
    quaternion = np.roll(host[..., 3:], 1, axis=-1)
    return host[..., :3], quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
