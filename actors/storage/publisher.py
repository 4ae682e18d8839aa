"""The publisher's side: a folder of files becomes a folder that any static web server can serve.

    DIR/models/x.gguf ──► chunks, hashes ──► OUT/files/HASH/x.gguf
    DIR/publish.toml                          OUT/patches/FROM-TO.zst    (where one is smaller)
                                              OUT/manifest.json          (as it was signed)
                                              OUT/metadata/, targets/    (signatures, see trust)

Published again, files that did not change cost a reading; those that did keep the way they were
cut, so that clients find in theirs what stayed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from actors.storage.building import Watch
from actors.storage.chunking import best_chunking, chunks_of
from actors.storage.manifest import Asset, Manifest, Patch, name_of, read_manifest
from actors.storage.patches import can_patch, make_patch
from actors.storage.publishing import (
    disk_errors,
    fsync_folder,
    make_folders,
    publish,
    publish_bytes,
    staging,
    try_lock,
)
from actors.storage.release import DESCRIPTION, About, Description, read_release
from actors.storage.sources import PIECE_BYTES, Progress
from protocol.errors import AssetUnavailable, Cancelled, InvalidSettings, Overloaded

MANIFEST: Final = "manifest.json"
LOCK: Final = ".publish.lock"
"""In the published folder: held for a whole publication. Another than the repository's, so that a
timer can renew meanwhile."""
PATCH_SHARE: Final = 0.5
"""A patch is published where it has less than this share of the bytes that the changed chunks have:
it is made of the whole file, and a client that lacks one bit of the old one cannot use it."""
_ANYWHERE: Final = "https://publisher.example/"
"""Stands for wherever the folder will be served from, while the manifest is checked."""


@dataclass(slots=True)
class Report:
    """What a publication did."""

    version: str = ""
    files: int = 0
    changed: list[str] = field(default_factory=list)
    """Names of files that are new, or have other bytes than before."""
    removed: list[str] = field(default_factory=list)
    """Names of files that the version before had, and this one lacks."""
    chunks: int = 0
    manifest_bytes: int = 0
    patches: dict[str, int] = field(default_factory=dict)
    """Bytes of each patch, by the file's name."""


def check_apart(folder: Path, out: Path, keys: Path) -> None:
    """Raise ``InvalidSettings`` where the published folder, or the keys, would be published."""
    whole = folder.resolve()
    for what, path in (("the published folder", out), ("the folder of keys", keys)):
        if path.resolve().is_relative_to(whole):
            raise InvalidSettings(
                f"{what} {path} lies in {folder}, all of which is published: choose another place"
            )


def prepare(folder: Path, out: Path, sign: Callable[[bytes], object], watch: Watch) -> Report:
    """Publish the files of ``folder`` into ``out``; ``sign`` is given the manifest's text, last.

    Until then whoever reads ``out`` has the version before, whole.

    Raises:
        InvalidSettings: `read_release` refuses the folder, or its files cannot be in one manifest.
        AssetUnavailable, DiskFull: the disk did not do its part.
        Overloaded: another process publishes into ``out``.
    """
    paths, description = read_release(folder)
    with disk_errors(out):
        make_folders(out)
        with try_lock(out / LOCK) as mine:
            if not mine:
                raise Overloaded(
                    f"another `publish` is at work in {out}: try again when it is done"
                )
            return _prepare(folder, paths, description, out, sign, watch)


def _prepare(
    folder: Path, paths: Sequence[str], description: Description, out: Path,
    sign: Callable[[bytes], object], watch: Watch,
) -> Report:  # fmt: skip
    before = _before(out)
    report = Report(version=description.version or _next_version(before), files=len(paths))
    known = {asset.path: asset for asset in before.assets} if before else {}
    entries = [
        _entry(
            folder / path,
            path,
            description.files.get(path, About()),
            known,
            out,
            report,
            watch,
        )
        for path in paths
    ]
    names = {entry["name"] for entry in entries}
    report.removed = [name for name in _names(before) if name not in names]
    data: dict[str, Any] = {
        "version": report.version,
        "minClientVersion": description.min_client_version,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": entries,
    }
    if description.default_model:
        data["defaultModel"] = description.default_model
    # Without a space too many: what every client fetches at each update is this, mostly.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    read_manifest(text, where="the manifest to be published", base=_ANYWHERE)
    report.manifest_bytes = len(text)
    sign(text)
    publish_bytes(text, out / MANIFEST)
    return report


def _before(out: Path) -> Manifest | None:
    try:
        text = (out / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    return read_manifest(text, where=str(out / MANIFEST), base=_ANYWHERE)


def _names(manifest: Manifest | None) -> list[str]:
    return [asset.name for asset in manifest.assets] if manifest else []


def _next_version(before: Manifest | None) -> str:
    if before is None:
        return "1"
    if not before.version.isdigit():
        raise InvalidSettings(
            f"the version before is {before.version!r}, which cannot be counted up: say the next "
            f'one in {DESCRIPTION} (version = "…")'
        )
    return str(int(before.version) + 1)


def _entry(
    path: Path,
    relative: str,
    about: About,
    known: Mapping[str, Asset],
    out: Path,
    report: Report,
    watch: Watch,
) -> dict[str, Any]:
    """One file's entry in the manifest; its bytes are in ``out`` by then."""
    name = about.name or name_of(path.stem)
    sha256, size = _hash(path, name, watch)
    before = known.get(relative)
    entry: dict[str, Any] = {
        "name": name, "path": relative, "size": size, "hash": f"sha256-{sha256}",
        "sources": [_url(f"files/{sha256}/{path.name}")],
        **about.model_dump(by_alias=True, exclude={"name"}, exclude_defaults=True),
    }  # fmt: skip
    chunking = best_chunking(path, size, before.chunking if before else None)
    if before is not None and before.sha256 == sha256 and before.chunking == chunking:
        chunks = before.chunks
    else:
        chunks = chunks_of(path, chunking, cancelled=watch.cancelled)
        if before is None or before.sha256 != sha256:
            report.changed.append(name)
    entry["chunking"] = chunking.model_dump(by_alias=True)
    entry["chunks"] = [chunk.model_dump() for chunk in chunks]
    report.chunks += len(chunks)
    _copy(path, out / "files" / sha256 / path.name, sha256, watch)
    if before is not None:
        missing = {chunk.hash for chunk in chunks} - {chunk.hash for chunk in before.chunks}
        fetched = sum(chunk.size for chunk in chunks if chunk.hash in missing)
        patches = _patches(before, sha256, size, fetched, path, out, report, name)
        if patches:
            entry["patches"] = patches
    return entry


def _patches(
    before: Asset, sha256: str, size: int, fetched: int, path: Path, out: Path, report: Report,
    name: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """A patch from the version before, where it is worth it."""
    if before.sha256 == sha256:
        return [_dumped(patch) for patch in before.patches]
    old = out / "files" / before.sha256 / Path(before.path).name
    if not can_patch(before.size, size) or not old.is_file() or not fetched:
        return []
    relative = f"patches/{before.sha256[:16]}-{sha256[:16]}.zst"
    final = out / relative
    make_folders(final.parent)
    with staging(final) as staged:
        with staged.open("wb") as file:
            make_patch(old, path, file)
            file.flush()
            os.fsync(file.fileno())
        if staged.stat().st_size >= PATCH_SHARE * fetched:
            return []
        digest, patch_size = _hash_of(staged), staged.stat().st_size
        publish(staged, final)
    report.patches[name] = patch_size
    return [
        {
            "method": "zstd", "from": before.hash, "hash": f"sha256-{digest}", "size": patch_size,
            "sources": [_url(relative)],
        }
    ]  # fmt: skip


def _dumped(patch: Patch) -> dict[str, Any]:
    """A patch as it was written: its sources relative again."""
    return {
        "method": patch.method, "from": patch.from_hash, "hash": patch.hash, "size": patch.size,
        "sources": [source.where().removeprefix(_ANYWHERE) for source in patch.sources],
    }  # fmt: skip


def _hash(path: Path, name: str, watch: Watch) -> tuple[str, int]:
    """The file's sha256 and size."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    if not total:
        raise InvalidSettings(f"{path} is empty: there is nothing to publish in it")
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if watch.cancelled():
                raise Cancelled("publishing was cancelled")
            digest.update(piece)
            done += len(piece)
            watch.report(Progress(name, "verifying", min(done, total), total))
    return digest.hexdigest(), done


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(path: Path, final: Path, sha256: str, watch: Watch) -> None:
    """Have the file's bytes in ``out``. What is there under its hash is it."""
    if final.is_file() and final.stat().st_size == path.stat().st_size:
        return
    make_folders(final.parent)
    # Named by the hash: the file's own name may be as long as names can be.
    with staging(final.parent) as staged:
        shutil.copyfile(path, staged)
        with staged.open("rb+") as file:
            os.fsync(file.fileno())
        if _hash_of(staged) != sha256:
            raise AssetUnavailable(f"{path} changed while it was published; try again")
        publish(staged, final)
    fsync_folder(final.parent.parent)
    watch.check("publishing")


def _url(relative: str) -> str:
    """A relative URL of a path whose parts may hold anything."""
    return quote(relative)


def unused(out: Path, keep: Sequence[str]) -> list[Path]:
    """Files below ``out/files`` of none of these sha256."""
    folder = out / "files"
    return [path for path in folder.iterdir() if path.name not in keep] if folder.is_dir() else []
