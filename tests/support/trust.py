"""A real published repository, a real client of it, and in a test's hand the network between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.sources.interface import NotThere
from actors.storage.trust.chain import Evidence
from actors.storage.trust.client import TrustedRepository
from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.roles import Lifetimes
from actors.storage.trust.signing import Repository

BASE: Final = "https://models.example/repository"
OLD: Final = b'{"models": "the first ones"}'
NEW: Final = b'{"models": "better ones"}'

Answer = Callable[[], Iterable[bytes]]
Change = Callable[[Any], object]


class Network:
    """A `Download` from a folder. ``answers`` replaces what lies at a path, ``before`` runs ahead
    of each request, and ``asked`` is what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Answer] = {}
        self.before: Callable[[str], object] = lambda _: None
        self.asked = list[str]()

    def __call__(self, url: str, most: int, cancelled: IsCancelled) -> Generator[bytes, None, None]:
        name = url.removeprefix(f"{BASE}/")
        self.asked.append(name)
        self.before(name)
        if name in self.answers:
            yield from self.answers[name]()
            return
        try:
            yield (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise NotThere(f"there is no {name}") from None


class Stage:
    """A publisher, his network and one client, in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        time: datetime | None = None,
        root_keys: int = 1,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        self.folder = folder
        self.published = folder / "published"
        self.keys = KeyFolder(folder / "keys")
        self.time = time or datetime.now(UTC)
        """The publisher's clock. The client's is the machine's."""
        self.repository = Repository(
            self.published, self.keys, now=lambda: self.time, lifetimes=lifetimes
        )
        self.root_keys = [self.keys.new("root") for _ in range(root_keys)]
        self.online_key = self.keys.new("online")
        self.first = self.repository.create(
            self.root_keys, [self.online_key], root_threshold=root_keys
        )
        self.repository.publish(OLD)
        self.network = Network(self.published)
        self.client = self.new_client()

    def new_client(self, name: str = "client", **options: Any) -> TrustedRepository:
        """One that has its own folder, or shares it."""
        root = options.pop("root", self.first)
        return TrustedRepository(self.folder / name, BASE, root, self.network, **options)

    @property
    def signer(self) -> Signer:
        """The online key's: what a thief would have."""
        found = self.keys.find(self.online_key.id)
        assert found is not None
        return self.keys.signer(found)

    def path(self, role: str, version: int | None = None) -> Path:
        """Where a file of metadata lies; the newest version by default."""
        if role == "timestamp":
            return self.published / "metadata" / "timestamp.json"
        if version is None:
            version = {one.role: one.version for one in self.repository.overview()}[role]
        return self.published / "metadata" / f"{version}.{role}.json"

    def name(self, role: str) -> str:
        """As the client asks for it: the newest version's, ``manifest`` for the target."""
        if role == "manifest":
            (target,) = read(Targets, self.path("targets").read_bytes()).targets.values()
            return f"targets/{target.get_prefixed_paths()[0]}"
        return f"metadata/{self.path(role).name}"

    def trusted(self, now: datetime | None = None) -> bytes:
        """The manifest that the client goes on with when it has no network."""
        return self.client.last_trusted(now or datetime.now(UTC)).content

    def forge(self, by: Mapping[str, Signer] | None = None, **changes: Change) -> None:
        """Publish the next state with these changes to ``targets``, ``snapshot`` or ``timestamp``,
        each named by the next with its right hash. Signed with the online key, as if it had been
        stolen, but for the roles that ``by`` names another signer for."""
        timestamp = read(Timestamp, self.path("timestamp").read_bytes())
        snapshot = read(Snapshot, self.path("snapshot").read_bytes())
        targets = read(Targets, self.path("targets").read_bytes())

        def put(role: Any) -> MetaFile:
            role.version += 1
            changes.get(role.type, lambda _: None)(role)
            data = sign(role, (by or {}).get(role.type, self.signer))
            name = "timestamp.json" if role is timestamp else f"{role.version}.{role.type}.json"
            (self.published / "metadata" / name).write_bytes(data)
            return MetaFile.from_data(role.version, data, ["sha256"])

        snapshot.meta["targets.json"] = put(targets)
        timestamp.snapshot_meta = put(snapshot)
        put(timestamp)

    def trusted_long_ago(self, name: str = "client") -> None:
        """Leave in a client's folder what it would have, had it refreshed before all expired."""
        timestamp, snapshot, targets = (
            self.path(role).read_bytes() for role in ("timestamp", "snapshot", "targets")
        )
        manifest = (self.published / self.name("manifest")).read_bytes()
        evidence = Evidence((), timestamp, snapshot, targets, manifest)
        folder = self.folder / name
        (folder / "metadata").mkdir(parents=True)
        (folder / "last_trusted").write_bytes(msgspec.msgpack.encode(evidence))
        for role in ("timestamp", "snapshot", "targets"):
            (folder / "metadata" / f"{role}.json").write_bytes(self.path(role).read_bytes())


def read(role: type[Any], data: bytes) -> Any:
    """The signed part of metadata, of this role, whoever signed it."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    assert isinstance(metadata.signed, role)
    return metadata.signed


def sign(role: Root | Timestamp | Snapshot | Targets, *signers: Signer) -> bytes:
    """Metadata, signed by these."""
    metadata = Metadata[Any](role)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def stranger() -> CryptoSigner:
    """A key that nobody trusts."""
    return CryptoSigner.generate_ed25519()
