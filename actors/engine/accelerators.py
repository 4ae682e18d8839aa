"""Whether there may be a GPU, found out without loading any library.

A model library that can use one takes a second and a hundred MB to load. Where the kernel has no
device of that kind, nobody needs to ask it.
"""

from __future__ import annotations

from pathlib import Path

from protocol.errors import MissingHardware

DEVICES = ("nvidia[0-9]*", "kfd", "dri/renderD*", "dxg")
"""Device files below /dev: of NVIDIA's driver, of AMD's compute driver, of any graphics card that
Vulkan may use, and of a GPU that Windows lends to Linux (WSL 2)."""


def gpu_devices(dev: Path = Path("/dev")) -> list[Path]:
    """The device files of what may be GPUs."""
    return sorted(path for pattern in DEVICES for path in dev.glob(pattern))


def require_gpu(dev: Path = Path("/dev")) -> None:
    """Raises `MissingHardware` when there is none."""
    if not gpu_devices(dev):
        raise MissingHardware("there is no GPU: the kernel has no device for one")
