"""The client of a published manifest: the newest one that is trusted, with a network and without.

    FOLDER/metadata/      of each role the newest that was verified: what a rollback is measured by
    FOLDER/last_trusted   the last manifest and all that speaks for it, in one file, so that it is
                          there whole even while metadata/ is half way to the next state

A manifest is never believed because it lies there: each time it is asked for, its signatures are
verified anew, from the root that the program brings along.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from tuf.api.exceptions import RepositoryError

from actors.storage.publishing import Pause, disk_errors, never, publish_bytes
from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.trust.chain import Evidence, Proven, first_root, following, prove
from actors.storage.trust.download import TARGET_MAX_BYTES, Download
from actors.storage.trust.folder import MetadataFolder, clear_way
from actors.storage.trust.workflow import WITHIN_S, Session, Workflow
from protocol.clock import Clock
from protocol.errors import AssetUnavailable, Untrusted, UnusableKey

MANIFEST: Final = "manifest.json"
KEPT_MAX_BYTES: Final = TARGET_MAX_BYTES + (64 << 20)
"""The largest manifest, and metadata of a hundred times the usual. What is longer is damage, and is
read as a file that was cut."""


@dataclass(frozen=True)
class TrustedManifest:
    """A manifest whose signatures hold."""

    content: bytes
    versions: Mapping[str, int]
    """Of the four roles: ``root``, ``timestamp``, ``snapshot``, ``targets``."""
    expires: datetime
    """When the first of them expires, in UTC."""
    expired: tuple[str, ...]
    """Those whose date had passed when this was asked for: trusted once, and since then nothing
    newer could be had. Go on with it, say so, take no update. Empty in all other cases."""

    @property
    def warning(self) -> str | None:
        """What to tell the user where something has expired."""
        if not self.expired:
            return None
        return (
            f"the manifest was last confirmed to be current until {self.expires:%Y-%m-%d %H:%M} "
            f"UTC ({', '.join(self.expired)} expired). It stays in use, because it is intact, but "
            "newer models or fixes may have been missed: connect to the repository and update"
        )


@dataclass(frozen=True)
class Refreshed:
    """What a refresh came to."""

    manifest: TrustedManifest
    newer: bool
    """Whether it differs from the one that was trusted here before, if any."""


class TrustedRepository:
    """The repository at ``base_url``, which is any folder on a web server or, by ``file:``, a disk.

    Safe for any number of threads and processes on one folder: a refresh waits for the one under
    way. Blocking; call it from a thread.

    Args:
        folder: where what was trusted is kept; made when it is first needed.
        base_url: the address of the folder with ``metadata/`` and ``targets/``.
        root: a root.json that came by another way than the repository: with the program, or from
            the publisher's hand. Raises `UnusableKey` where it is none.
        download: see `Download`.
        within_s: seconds after which a refresh is given up, beside what the manifest takes on a
            slow line.
        clock: what ``within_s`` is measured with.
        pause: waits the given seconds between two looks at the folder's lock.
    """

    def __init__(
        self,
        folder: Path,
        base_url: str,
        root: bytes,
        download: Download,
        *,
        within_s: float = WITHIN_S,
        clock: Clock | None = None,
        pause: Pause = time.sleep,
    ) -> None:
        try:
            first_root(root)
        except RepositoryError as error:
            raise UnusableKey(
                f"the root file for the repository {base_url} is none, or damaged: {error}. Get it "
                "again from the publisher, by a way that you trust"
            ) from error
        self._folder = folder.absolute()
        self._kept = self._folder / "last_trusted"
        self._root = root
        base = base_url.rstrip("/")
        self._workflow = Workflow(
            self._folder / "metadata", f"{base}/metadata/", f"{base}/targets/", root, download,
            within_s=within_s, clock=clock, pause=pause,
        )  # fmt: skip

    def refresh(self, cancelled: IsCancelled = never) -> Refreshed:
        """Ask the repository, and trust its newest manifest.

        Whatever is damaged in the folder is fetched again.

        Raises:
            Untrusted: signatures, versions, dates or hashes do not hold; nothing was taken.
            AssetUnavailable: no network, no repository there, or it was too slow.
            DiskFull: no room for the few kB that this needs.
            Cancelled: as asked.
        """
        with self._workflow.session(cancelled, self._usable) as session:
            before = session.known
            evidence = self._collect(session)
            proven = prove(evidence, self._root, MANIFEST)
            if evidence != before:
                clear_way(self._kept)
                publish_bytes(msgspec.msgpack.encode(evidence), self._kept)
        newer = before is None or before.content != evidence.content
        return Refreshed(_labelled(proven, datetime.now(UTC)), newer)

    def last_trusted(self, now: datetime) -> TrustedManifest:
        """The manifest of the last refresh, without a network, verified again from the first root.

        Args:
            now: aware; what has expired by then is told in the result.

        Raises:
            AssetUnavailable: nothing was trusted in this folder yet, or it cannot be read.
            Untrusted: what lies there is damaged, or was signed under roots that this program's
                own root does not lead to. A refresh mends both.
        """
        with disk_errors(self._folder):
            try:
                data = self._kept_bytes()
            except FileNotFoundError:
                raise AssetUnavailable(
                    f"no manifest was trusted in {self._folder} yet: connect to the repository and "
                    "update once"
                ) from None
        try:
            evidence = _read(data)
            return _labelled(prove(evidence, self._root, MANIFEST), now)
        except (RepositoryError, msgspec.DecodeError) as error:
            said = str(error) or type(error).__name__
            raise Untrusted(
                f"what was last trusted, in {self._kept}, does not hold any more ({said}): it is "
                "damaged, or older than this program's root. Connect to the repository and update; "
                "that fetches it again",
                reason="malformed",
                path=str(self._kept),
            ) from error

    def _usable(self) -> Evidence | None:
        """What was last trusted, if it still holds. If not, a refresh replaces it."""
        try:
            evidence = _read(self._kept_bytes())
            prove(evidence, self._root, MANIFEST)
        except (OSError, RepositoryError, msgspec.DecodeError):
            return None
        return evidence

    def _kept_bytes(self) -> bytes:
        with self._kept.open("rb") as file:
            return file.read(KEPT_MAX_BYTES)

    def _collect(self, session: Session) -> Evidence:
        """All that speaks for the newest manifest, which is downloaded unless it is known."""
        with tempfile.TemporaryDirectory(prefix=".manifest-", dir=session.metadata.path) as scratch:
            if session.known is not None:
                Path(scratch, MANIFEST).write_bytes(session.known.content)
            content = session.fetch(MANIFEST, Path(scratch)).read_bytes()
        metadata = session.metadata
        return Evidence(
            tuple(following(self._root, metadata.roots())),
            timestamp=_present(metadata, "timestamp.json"),
            snapshot=_present(metadata, "snapshot.json"),
            targets=_present(metadata, "targets.json"),
            content=content,
        )


def _present(metadata: MetadataFolder, name: str) -> bytes:
    data = metadata.read(name)
    if data is None:
        raise AssetUnavailable(f"{metadata.path / name} vanished while it was in use")
    return data


def _read(data: bytes) -> Evidence:
    return msgspec.msgpack.decode(data, type=Evidence)


def _labelled(proven: Proven, now: datetime) -> TrustedManifest:
    expired = tuple(role for role, expires in proven.expires.items() if expires <= now)
    return TrustedManifest(proven.content, proven.versions, min(proven.expires.values()), expired)
