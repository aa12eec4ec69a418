"""Every kernel compiles for an H100 (sm_90), on machines without a GPU too."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import warp as wp

import warpgrasp.kernels

ARCH = 90
NAMES = sorted(module.name for module in pkgutil.iter_modules(warpgrasp.kernels.__path__, "warpgrasp.kernels."))


def test_kernel_modules_are_found():
    assert "warpgrasp.kernels.render" in NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.rpartition(".")[2])
def test_kernels_compile_for_sm_90(name, tmp_path):
    if ARCH not in wp.get_cuda_supported_archs():
        pytest.skip(f"this build of Warp has no compiler for sm_{ARCH}")
    module = importlib.import_module(name)
    if not any(isinstance(value, wp.Kernel) for value in vars(module).values()):
        pytest.skip("has functions only; they are compiled with the kernels that call them")
    artifacts = wp.compile_aot_module(module, arch=ARCH, module_dir=str(tmp_path), use_ptx=False)
    assert [path for path in map(str, artifacts) if path.endswith(".cubin")], artifacts
