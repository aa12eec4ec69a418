"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import warp as wp

DEVICES = ["cpu", *(device.alias for device in wp.get_cuda_devices())]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Runs the test on the CPU and on every GPU there is."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with test objects that are not part of the repository."""
    if not (SHARED / "objects" / "manifest.json").is_file():
        pytest.skip("needs the folder `shared` with test objects next to the checkout")
    return SHARED
