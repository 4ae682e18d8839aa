"""What the machine has, from files that say so."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from actors.engine.accelerators import require_gpu, require_profile
from configs.machine import gpu_devices, this_machine
from protocol.errors import MissingHardware


def test_a_machine_without_device_files_has_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "null").touch()
    (tmp_path / "nvidiactl").touch()
    assert gpu_devices(tmp_path) == []
    assert not this_machine(dev=tmp_path).gpu
    with pytest.raises(MissingHardware, match="no GPU"):
        require_gpu(tmp_path)


@pytest.mark.parametrize("device", ["nvidia0", "kfd", "dri/renderD128", "dxg"])
def test_each_kind_of_device_file_may_be_a_gpu(tmp_path: Path, device: str) -> None:
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    assert gpu_devices(tmp_path) == [tmp_path / device]
    assert this_machine(dev=tmp_path).gpu
    require_gpu(tmp_path)


@pytest.mark.parametrize(
    ("limit", "memory"),
    [
        ("max\n", psutil.virtual_memory().total),
        ("", psutil.virtual_memory().total),
        (None, psutil.virtual_memory().total),
        (f"{2**60}\n", psutil.virtual_memory().total),
        ("536870912\n", 512 * 2**20),
    ],
)
def test_a_containers_limit_is_the_machines_memory(
    tmp_path: Path, limit: str | None, memory: int
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    assert this_machine(cgroup=tmp_path).memory_bytes == memory


def test_cores_are_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert this_machine().cores == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("profile", "device", "refused"),
    [
        ("auto", "gpu", None), ("auto", "cpu", None), ("full", "gpu", None), ("lite", "cpu", None),
        ("lite", "gpu", "without a GPU"), ("micro", "gpu", "no language model"),
        ("micro", "cpu", "no language model"),
    ],
)  # fmt: skip
def test_an_engine_runs_where_the_profile_has_a_place_for_it(
    profile: str, device: str, refused: str | None
) -> None:
    if refused is None:
        require_profile(profile, device)  # type: ignore[arg-type]
    else:
        with pytest.raises(MissingHardware, match=refused):
            require_profile(profile, device)  # type: ignore[arg-type]
