"""Whether an engine may run on the GPU here, found out without loading any library.

A model library that can use one takes a second and a hundred MB to load. Where the kernel has no
device of that kind, nobody needs to ask it.
"""

from __future__ import annotations

from pathlib import Path

from configs.machine import gpu_devices
from configs.profiles import WantedProfile
from protocol.errors import MissingHardware


def require_profile(profile: WantedProfile, device: str) -> None:
    """Raises `MissingHardware` when the profile has no place for an engine on this device."""
    if profile == "micro":
        raise MissingHardware("the device profile micro runs no language model")
    if profile == "lite" and device == "gpu":
        raise MissingHardware("the device profile lite does without a GPU")


def require_gpu(dev: Path = Path("/dev")) -> None:
    """Raises `MissingHardware` when there is none."""
    if not gpu_devices(dev):
        raise MissingHardware("there is no GPU: the kernel has no device for one")
