"""The GPU's memory where there is none; with one it can only be read on a machine that has it."""

from __future__ import annotations

import os

import pytest

from serving.metrics import gpu_memory


def test_no_driver_means_no_figures_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    assert gpu_memory()() == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-12345678")
    assert gpu_memory()() == {}
