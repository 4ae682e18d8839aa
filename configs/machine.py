"""What the machine has, found out without loading any library."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dri/renderD*", "dxg")
"""Device files below /dev: of NVIDIA's driver, of AMD's compute driver, of any graphics card that
Vulkan may use, and of a GPU that Windows lends to Linux (WSL 2)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use of it."""

    memory_bytes: int
    cores: int
    gpu: bool
    """Whether there may be one: whether a library can use it, only that can tell."""


def this_machine(*, cgroup: Path = Path("/sys/fs/cgroup"), dev: Path = Path("/dev")) -> Machine:
    """Asks the kernel. A container's limit counts as the machine's memory."""
    memory = psutil.virtual_memory().total
    # Where it is not limited the file says "max"; an older kernel has none.
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int((cgroup / "memory.max").read_text()))
    return Machine(memory, len(os.sched_getaffinity(0)), bool(gpu_devices(dev)))


def gpu_devices(dev: Path = Path("/dev")) -> list[Path]:
    """The device files of what may be GPUs."""
    return sorted(path for pattern in GPU_DEVICES for path in dev.glob(pattern))
