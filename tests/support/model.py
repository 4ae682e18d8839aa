"""The real model for tests: fetched once, through the same code that users run, and kept."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from actors.memory.conversion import convert, converted_path
from actors.storage.manifest import load_manifest
from actors.storage.store import AssetStore
from configs.actor_settings import MemorySettings


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
    with _alone() as store:
        return store.install("default").path


@functools.cache
def embedding_model_path() -> Path:
    """The GGUF file that memory makes of its model, made if it is not there yet."""
    options = MemorySettings()
    with _alone() as store:
        weights, vocabulary = (
            store.install(name) for name in (options.weights, options.vocabulary)
        )
        path = converted_path(store.layout.folder.parent, weights.sha256, vocabulary.sha256)
        if not path.exists():
            convert(weights.path, vocabulary.path, path, lambda _: None)
        return path


@contextlib.contextmanager
def _alone() -> Iterator[AssetStore]:
    """The assets: several processes run tests side by side, and the first one fetches for all."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield AssetStore(folder, load_manifest(), boot_id=boot_id)
