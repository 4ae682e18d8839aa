"""The publisher's folder: reads what is published, verified, and puts the next files there.

The publisher believes its folder as little as a client does: whoever can write to the web server
must not get his files signed by the next ``renew``. What the present keys have not signed is
damage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from actors.storage.publishing import publish, publish_bytes
from actors.storage.trust.chain import following, last_root, signed
from protocol.errors import AssetCorrupt, NotFound

_NEXT: Final = ".timestamp.json.next"
_FIRST: Final = frozenset({"1.root.json", "1.targets.json", "1.snapshot.json"})
"""What is there before the first timestamp.json, and nobody has asked for yet."""

Stage = Literal["none", "begun", "published"]


def stage_of(names: Collection[str]) -> Stage:
    """How far a repository with these files of metadata has come. One that lost its timestamp is
    published, and damaged: it must not be begun anew over what clients have seen."""
    if not names:
        return "none"
    return "begun" if "1.root.json" in names and _FIRST.issuperset(names) else "published"


@dataclass
class State:
    """What is published. To be changed in place into what is published next."""

    root: Root
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp


class PublishedFolder:
    """``metadata/`` and ``targets/`` in a folder. Methods raise ``OSError`` where the disk does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._metadata = folder / "metadata"

    def exists(self) -> bool:
        """Whether something was published here, if only an empty repository."""
        return (self._metadata / "timestamp.json").exists()

    def stage(self) -> Stage:
        """How far the repository has come."""
        return stage_of([path.name for path in self._files()])

    def require(self) -> None:
        """Raise `NotFound` where there is no repository, not even a damaged one."""
        if not self._files():
            raise NotFound(
                f"there is no repository in {self.path}: create one first (`noyau assets publish` "
                "does)"
            )

    def newest_root(self) -> Root:
        """The one that counts, verified. Raises what `roots` does."""
        with self._damage():
            return _newest(self.roots())

    def roots(self) -> list[bytes]:
        """All roots, the oldest first; not verified. Raises `NotFound` where there is none, and
        `AssetCorrupt` where one is missing: what follows it must not be made a second time."""
        self.require()
        count = max(1, sum(path.name.endswith(".root.json") for path in self._files()))
        with self._damage():
            return [self._read(f"{version}.root.json") for version in range(1, count + 1)]

    def load(self) -> State:
        """What timestamp.json leads to, all of it signed by keys that the newest root names; dates
        do not count. Raises `NotFound` and `AssetCorrupt`."""
        roots = self.roots()
        with self._damage():
            root = _newest(roots)
            timestamp = signed(root, Timestamp, self._read("timestamp.json"))
            snapshot = signed(root, Snapshot, self._named("snapshot", timestamp.snapshot_meta))
            _require(snapshot, timestamp.snapshot_meta)
            meta = snapshot.meta.get("targets.json")
            if meta is None:
                raise RepositoryError("its snapshot does not name targets.json")
            targets = signed(root, Targets, self._named("targets", meta))
            _require(targets, meta)
            return State(root, targets, snapshot, timestamp)

    def finish(self) -> None:
        """Finish or forget a change of keys that was killed between its two last files.

        Raises `AssetCorrupt` where the roots are damaged.
        """
        prepared = self._metadata / _NEXT
        if not prepared.exists():
            return
        with self._damage():
            root = _newest(self.roots())
        if _holds(root, prepared) and not _holds(root, self._metadata / "timestamp.json"):
            publish(prepared, self._metadata / "timestamp.json")
        else:
            prepared.unlink()

    def write(self, name: str, data: bytes) -> None:
        """Put a file of metadata there."""
        publish_bytes(data, self._metadata / name)

    def write_target(self, name: str, data: bytes) -> None:
        """Put a target there."""
        publish_bytes(data, self.path / "targets" / name)

    def write_root_and_timestamp(self, version: int, root: bytes, timestamp: bytes) -> None:
        """For a timestamp that the root before does not allow. Between the two files clients are
        refused, and a death there is made good by `finish`."""
        prepared = self._metadata / _NEXT
        publish_bytes(timestamp, prepared)
        self.write(f"{version}.root.json", root)
        publish(prepared, self._metadata / "timestamp.json")

    def _files(self) -> list[Path]:
        """Of metadata, but for what is being written."""
        return [path for path in self._metadata.glob("*.json") if not path.name.startswith(".")]

    def _read(self, name: str) -> bytes:
        return (self._metadata / name).read_bytes()

    def _named(self, role: str, meta: MetaFile) -> bytes:
        data = self._read(f"{meta.version}.{role}.json")
        meta.verify_length_and_hashes(data)
        return data

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (RepositoryError, FileNotFoundError) as error:
            raise AssetCorrupt(
                f"the repository in {self.path} is not as it was published: "
                f"{str(error) or type(error).__name__}. Bring the folder back from a copy"
            ) from error


def _newest(roots: list[bytes]) -> Root:
    root = last_root(roots[0], following(roots[0], roots[1:]))
    if root.version != len(roots):
        raise RepositoryError(f"its root {root.version + 1} does not follow the one before")
    return root


def _holds(root: Root, path: Path) -> bool:
    try:
        signed(root, Timestamp, path.read_bytes())
    except (RepositoryError, FileNotFoundError):
        return False
    return True


def _require(role: Snapshot | Targets, meta: MetaFile) -> None:
    if role.version != meta.version:
        raise BadVersionNumberError(f"its {role.type} has version {role.version}")
