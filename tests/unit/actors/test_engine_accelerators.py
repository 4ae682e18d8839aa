"""Whether there may be a GPU, from the device files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.engine.accelerators import gpu_devices, require_gpu
from protocol.errors import MissingHardware


def test_a_machine_without_device_files_has_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "null").touch()
    (tmp_path / "nvidiactl").touch()
    assert gpu_devices(tmp_path) == []
    with pytest.raises(MissingHardware, match="no GPU"):
        require_gpu(tmp_path)


@pytest.mark.parametrize("device", ["nvidia0", "kfd", "dri/renderD128", "dxg"])
def test_each_kind_of_device_file_may_be_a_gpu(tmp_path: Path, device: str) -> None:
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    assert gpu_devices(tmp_path) == [tmp_path / device]
    require_gpu(tmp_path)
