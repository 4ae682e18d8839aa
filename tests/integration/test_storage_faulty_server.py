"""A published repository on a server of which a fifth of the answers go wrong: install, update and
repair all end right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue
from actors.storage.following import Following
from actors.storage.guardian import Guardian, State
from actors.storage.layout import Layout
from actors.storage.manifest import Manifest, write_manifest
from actors.storage.outcomes import StoreEvent
from actors.storage.publisher import prepare
from actors.storage.sources import HttpSource
from actors.storage.sources.web import Web
from actors.storage.store import AssetStore
from actors.storage.trust.client import TrustedRepository
from actors.storage.trust.download import from_anywhere
from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.signing import Repository
from protocol.clock import ManualClock
from protocol.errors import InvalidSettings, Untrusted
from tests.support import faults
from tests.support.faults import Reply
from tests.support.faulty_server import FaultyServer

WATCH = Watch(lambda _: None, lambda: False)
DRAWN = random.Random(21)
OLD = DRAWN.randbytes(6 << 20)
NEW = OLD[: 1 << 20] + DRAWN.randbytes(200_000) + OLD[1 << 20 :]
OTHER = DRAWN.randbytes(100_000)


def spoiled(reply: Reply) -> None:
    """A byte in the middle comes wrong."""
    reply.corrupt.add((reply.start + reply.stop) // 2)


class Publisher:
    """A folder that is published, again and again, and its keys."""

    def __init__(self, root: Path) -> None:
        self.source, self.out = root / "source", root / "out"
        self.keys = KeyFolder(root / "keys")
        self.repository = Repository(self.out, self.keys)
        self.root = self.repository.create([self.keys.new("root")], [self.keys.new("online")])

    def publish(self, **files: bytes) -> None:
        for name, data in files.items():
            path = self.source / "models" / f"{name}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        prepare(self.source, self.out, self.repository.publish, WATCH)


class Client:
    """Somebody who follows the publisher. His clock moves when he waits."""

    def __init__(self, root: Path, publisher: Publisher, url: str) -> None:
        own = root / "own.json"
        own.write_bytes(write_manifest(Manifest(version="0", assets=())))
        layout, clock, self.web = Layout(root / "assets"), ManualClock(), Web()
        catalogue = Catalogue(layout, own)
        self.events: list[StoreEvent] = []
        store = AssetStore(
            layout.folder, catalogue.manifest(), boot_id="boot",
            sources={"http": HttpSource(lambda: self.web)}, observe=self.events.append,
            clock=clock, pause=lambda seconds: self._wait(clock, seconds),
        )  # fmt: skip
        trusted = TrustedRepository(layout.trust, url, publisher.root, from_anywhere(self.web))
        following = Following(catalogue, store.fetcher, lambda: trusted, url)
        self.guardian = Guardian(store, catalogue, following)

    @staticmethod
    def _wait(clock: ManualClock, seconds: float) -> None:
        clock.advance(seconds)

    def bytes_of(self, name: str) -> bytes:
        return self.guardian.store.install(name).path.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_install_update_and_repair_end_right_though_a_fifth_of_the_answers_go_wrong(
    tmp_path: Path, seed: int
) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD, other=OTHER)
    with FaultyServer(publisher.out, seed=seed) as server:
        for fault in (faults.cut(after=700), spoiled, faults.delay(0.01)):
            server.inject("*", fault, share=0.07)
        client = Client(tmp_path, publisher, server.url(""))
        first = client.guardian.update(WATCH)
        assert first.applied
        assert (client.bytes_of("model"), client.bytes_of("other")) == (OLD, OTHER)
        publisher.publish(model=NEW)
        server.forget()
        second = client.guardian.update(WATCH)
        assert [change.after.name for change in second.changes] == ["model"]
        assert client.bytes_of("model") == NEW
        assert server.sent("files/*") < 1_500_000
        path = client.guardian.store.path_of("model")
        with path.open("r+b") as file:
            file.seek(3_000_000)
            file.write(bytes([NEW[3_000_000] ^ 1]))
        assert client.guardian.verify(["model"], WATCH)[0].state is State.DAMAGED
        server.forget()
        client.guardian.repair(["model"], WATCH)
        assert client.bytes_of("model") == NEW
        # One piece, at most of 64 KiB by its average and eight times that, and again where it
        # came wrong.
        assert server.sent("files/*") < 4 * 8 * (64 << 10)
        client.web.close()


def test_a_repair_fetches_nothing_but_the_damaged_pieces(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD)
    with FaultyServer(publisher.out) as server:
        client = Client(tmp_path, publisher, server.url(""))
        client.guardian.update(WATCH)
        asset = client.guardian.store.manifest.asset("model")
        damaged = [asset.chunks[5], asset.chunks[20]]
        with client.guardian.store.path_of("model").open("r+b") as file:
            for chunk in damaged:
                file.seek(chunk.offset)
                file.write(bytes([OLD[chunk.offset] ^ 128]))
        server.forget()
        client.guardian.repair(["model"], WATCH)
        assert sorted(server.ranges("files/*")) == [
            (chunk.offset, chunk.offset + chunk.size) for chunk in damaged
        ]
        client.web.close()


def test_a_server_that_always_spoils_one_piece_gives_an_error_and_harms_nothing(
    tmp_path: Path,
) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD)
    with FaultyServer(publisher.out) as server:
        client = Client(tmp_path, publisher, server.url(""))
        client.guardian.update(WATCH)
        publisher.publish(model=NEW)
        server.inject("files/*", faults.corrupt((1 << 20) + 1000))
        with pytest.raises(Exception, match="not what the manifest promises"):
            client.guardian.update(WATCH)
        assert client.bytes_of("model") == OLD
        client.web.close()


@pytest.mark.parametrize(
    "what", ["targets/*", "metadata/timestamp.json", "metadata/*.snapshot.json"]
)
def test_what_is_signed_and_always_comes_spoiled_is_not_taken(tmp_path: Path, what: str) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD)
    with FaultyServer(publisher.out) as server:
        client = Client(tmp_path, publisher, server.url(""))
        server.inject(what, spoiled)
        with pytest.raises(Untrusted):
            client.guardian.update(WATCH)
        assert client.guardian.catalogue.applied() is None
        client.web.close()


def test_a_manifest_for_a_newer_noyau_is_not_applied(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD)
    with FaultyServer(publisher.out) as server:
        client = Client(tmp_path, publisher, server.url(""))
        client.guardian.update(WATCH)
        applied = client.guardian.catalogue.applied()
        (publisher.source / "publish.toml").write_text('minClientVersion = "99"\n')
        publisher.publish(model=NEW)
        server.forget()
        with pytest.raises(InvalidSettings, match="99"):
            client.guardian.update(WATCH)
        assert client.guardian.catalogue.applied() == applied
        assert client.bytes_of("model") == OLD
        assert server.sent("files/*") == 0
        client.web.close()


def test_a_server_without_ranges_serves_all_the_same(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(model=OLD)
    with FaultyServer(publisher.out) as server:
        server.inject("files/*", faults.no_ranges())
        client = Client(tmp_path, publisher, server.url(""))
        client.guardian.update(WATCH)
        assert client.bytes_of("model") == OLD
        client.web.close()
