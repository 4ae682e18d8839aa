"""The real model for tests: fetched once, through the same code that users run, and kept."""

from __future__ import annotations

import fcntl
import functools
import os
from pathlib import Path

from actors.storage.manifest import load_manifest
from actors.storage.store import AssetStore


def shared_assets() -> Path:
    """The folder of assets that all tests share: ``$TEST_ASSETS``, else one in the user's cache."""
    model_path()
    return _folder()


def _folder() -> Path:
    named = os.environ.get("TEST_ASSETS")
    return Path(named) if named else Path.home() / ".cache" / "noyau-tests" / "assets"


@functools.cache
def model_path() -> Path:
    """The default model's GGUF file, installed if it is not there yet."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    # Several processes run tests side by side; the first one fetches it for all of them.
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return AssetStore(folder, load_manifest(), boot_id=boot_id).install("default").path
