"""Stored files over the wire: whose they are, who may do what, and how streams of them end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.kernel import Surroundings, handles
from actors.kernel.files import Files
from actors.kernel.request import Request
from actors.storage.stored.handlers import FileKeeper
from configs.answering import QuerySettings
from configs.incarnation import Incarnation
from configs.schema import Settings
from configs.sections import DataSettings, LimitSettings
from protocol.blobs import Blob
from protocol.caller import Caller
from protocol.clock import ManualClock
from protocol.codec import Codec
from protocol.envelope import Kind
from protocol.errors import (
    AssetCorrupt,
    InvalidMessage,
    InvalidRequest,
    MissingDependency,
    NotAllowed,
    NotFound,
    NoyauError,
    Overloaded,
    QuotaExceeded,
    StreamBroken,
    error_from_body,
)
from protocol.messages.base import Event
from protocol.messages.storage import (
    MOST_PART_BYTES,
    AbandonUpload,
    DeleteFile,
    FileSaved,
    FileUsage,
    ListFiles,
    ReadFile,
    SaveFile,
)
from protocol.messages.supervisor import Happened
from tests.support.network import Network, Node
from tests.support.waiting import eventually
from tests.support.wirings import LoopbackWiring, Wiring, ZmqWiring

LARGE = os.urandom(3 * MOST_PART_BYTES + 12_345)
SMALL = b"small"


class Quiet(Caller):
    """The connection of a storage that has no supervisor: what it tells is kept."""

    def __init__(self) -> None:
        self.told: list[Happened] = []

    def tell_supervisor(self, event: Event) -> None:
        """Keep it."""
        assert isinstance(event, Happened)
        self.told.append(event)


class Halting(FileKeeper):
    """Writes the second part of a file, but does not answer it before it goes on."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self.halted, self.goes_on = asyncio.Event(), asyncio.Event()

    @handles(SaveFile)
    async def save_file(self, message: SaveFile, request: Request) -> FileSaved:
        saved = await super().save_file(message, request)
        if message.offset:
            self.halted.set()
            await self.goes_on.wait()
        return saved


class Place:
    """A storage that keeps files in a folder, on a network of one process."""

    def __init__(self, network: Network, folder: Path, options: dict[str, object]) -> None:
        self.network = network
        self.folder = folder
        self.max_frame_bytes = 4 * MOST_PART_BYTES
        self.told: list[Happened] = []
        self._options = options
        self._count = 0

    async def start(self, cls: type[FileKeeper] = FileKeeper) -> None:
        """Its next incarnation."""
        self._count += 1
        settings = Settings(
            data=DataSettings(folder=self.folder), query=QuerySettings(engines=[]), actors={},
            limits=LimitSettings(max_frame_bytes=self.max_frame_bytes),
        )  # fmt: skip
        incarnation = Incarnation(
            name="storage", epoch=f"b-{self._count}", class_path="", options=self._options,
            settings=settings,
        )  # fmt: skip
        caller = Quiet()
        caller.told = self.told
        self.keeper = cls(Surroundings(incarnation, caller, ManualClock(), lambda: None))
        await self.keeper.on_start()
        self.node: Node = self.network.start(
            self.keeper, name="storage", epoch=incarnation.epoch, codec=Codec(self.max_frame_bytes)
        )

    async def die(self) -> None:
        """Its end, as far as one process can: what it held of the folder is free."""
        await self.node.die()
        await self.keeper.on_stop()

    async def files(self, name: str = "telemetry") -> tuple[Files, Caller]:
        """Those of an actor."""
        caller = await self.network.caller(
            self.network.identity(name=name, epoch=name), codec=Codec(self.max_frame_bytes)
        )
        return Files(caller), caller

    def on_disk(self, owner: str = "telemetry") -> list[Path]:
        return list((self.folder / "files" / owner).iterdir())


@contextlib.asynccontextmanager
async def place(
    folder: Path, wiring: type[Wiring] = LoopbackWiring, **options: object
) -> AsyncIterator[Place]:
    wires = wiring()
    try:
        async with Network(wires) as network:
            made = Place(network, folder, options)
            await made.start()
            yield made
            await made.keeper.on_stop()
    finally:
        wires.close()


async def read(files: Files, name: str, **more: object) -> bytes:
    pieces = files.read(name, **more)  # type: ignore[arg-type]
    return b"".join([bytes(piece) async for piece in pieces])


@pytest.mark.parametrize("wiring", [LoopbackWiring, ZmqWiring])
@pytest.mark.parametrize("data", [b"", SMALL, LARGE[:MOST_PART_BYTES], LARGE], ids=len)
async def test_what_an_actor_saves_it_reads_to_the_byte(
    tmp_path: Path, wiring: type[Wiring], data: bytes
) -> None:
    async with place(tmp_path, wiring) as it:
        files, _ = await it.files()
        saved = await files.save("a/b.bin", data, ttl_s=1000)
        assert (saved.owner, saved.name, saved.size) == ("telemetry", "a/b.bin", len(data))
        assert saved.expires_at is not None
        assert await read(files, "a/b.bin") == data
        assert [file async for file in files.list("a/")] == [saved]
        assert await read(files, "a/b.bin", offset=2, size=7) == data[2:9] if data else True
        assert await files.delete("a/b.bin")
        assert not await files.delete("a/b.bin")


async def test_what_lies_in_a_file_is_saved_from_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", source)
        assert await read(files, "a") == LARGE
        with pytest.raises(FileNotFoundError):
            await files.save("b", tmp_path / "none")


async def test_a_file_is_its_senders_whatever_he_says_of_himself(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        mine, _ = await it.files("telemetry")
        yours, asker = await it.files("jobs")
        await mine.save("a", b"mine")
        await yours.save("a", b"yours")
        assert (await read(mine, "a"), await read(yours, "a")) == (b"mine", b"yours")
        assert await read(yours, "a", owner="telemetry") == b"mine"
        with pytest.raises(NotAllowed, match="jobs may delete its own files, and not telemetry's"):
            await asker.ask("storage", DeleteFile(owner="telemetry", name="a"))
        assert await read(mine, "a") == b"mine"


async def test_who_is_no_actor_saves_nothing_and_may_look_and_delete(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", SMALL)
        person = await it.network.caller()
        with pytest.raises(NotAllowed, match="needs the role internal"):
            await person.ask("storage", SaveFile(name="a", data=Blob(b"x")))
        listed = await person.ask("storage", ListFiles(owner="telemetry"))
        assert [item.name for item in listed.items] == ["a"]
        assert await read(Files(person), "a", owner="telemetry") == SMALL
        with pytest.raises(InvalidRequest, match="say whose files are meant"):
            await person.ask("storage", ListFiles())
        with pytest.raises(InvalidRequest, match="say whose files are meant"):
            await read(Files(person), "a")
        gone = await person.ask("storage", DeleteFile(owner="telemetry", name="a"))
        assert gone.deleted


async def test_the_usage_tells_what_each_owner_keeps_and_may_keep(tmp_path: Path) -> None:
    quotas = {"jobs": {"files_mib": 8, "max_files": 7}}
    async with place(tmp_path, files_mib=2.0, max_files=5, file_quotas=quotas) as it:
        telemetry, _ = await it.files("telemetry")
        jobs, asker = await it.files("jobs")
        await telemetry.save("a", SMALL)
        await jobs.save("a", LARGE)
        part = SaveFile(name="b", data=Blob(b"x"), upload="u", last=False, size=1000)
        await asker.ask("storage", part)
        found = (await asker.ask("storage", FileUsage())).items
        assert [one.model_dump() for one in found] == [
            {
                "owner": "jobs", "used_bytes": len(LARGE), "allowed_bytes": 8 << 20,
                "reserved_bytes": 1000, "files": 1, "allowed_files": 7, "reserved_files": 1,
                "open_uploads": 1,
            },
            {
                "owner": "telemetry", "used_bytes": 5, "allowed_bytes": 2 << 20,
                "reserved_bytes": 0, "files": 1, "allowed_files": 5, "reserved_files": 0,
                "open_uploads": 0,
            },
        ]  # fmt: skip
        (one,) = (await asker.ask("storage", FileUsage(owner="nobody"))).items
        assert (one.used_bytes, one.allowed_bytes) == (0, 2 << 20)


async def test_what_does_not_fit_the_quota_is_refused_and_leaves_no_upload(tmp_path: Path) -> None:
    async with place(tmp_path, files_mib=2.0) as it:
        files, asker = await it.files()
        await files.save("a", SMALL)
        with pytest.raises(QuotaExceeded) as caught:
            await files.save("a", LARGE)
        assert caught.value.details["allowed"] == 2 << 20
        assert await read(files, "a") == SMALL
        (one,) = (await asker.ask("storage", FileUsage(owner="telemetry"))).items
        assert (one.open_uploads, one.reserved_bytes) == (0, 0)


async def test_a_stream_of_a_damaged_file_ends_in_an_error_and_that_is_told(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", LARGE)
        (path,) = it.on_disk()
        with path.open("r+b") as file:
            file.write(bytes([LARGE[0] ^ 1]))
        with pytest.raises(AssetCorrupt):
            await read(files, "a")
        with pytest.raises(NotFound):
            await read(files, "a")
        await eventually(lambda: it.told)
        (told,) = it.told
        assert told.what == "file.quarantined"
        assert ".quarantine" in told.text


async def test_a_reader_that_leaves_early_leaves_nothing_open(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", LARGE)
        (path,) = it.on_disk()
        async with contextlib.aclosing(files.read("a")) as pieces:
            async for piece in pieces:
                assert piece == LARGE[: len(piece)]
                break
        await eventually(lambda: str(path) not in open_files())
        await eventually(lambda: it.node.server.in_flight == 0)


def open_files() -> list[str]:
    links = Path("/proc/self/fd").iterdir()
    found = []
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


async def test_a_reading_is_not_kept_for_a_reader_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.kernel.serving.PROBE_S", 0.02)
    token = "0123456789abcdef" * 2
    body = {"owner": "telemetry", "name": "a"}
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", os.urandom(100 * 2**18))
        wire = it.network.wire(it.node)
        wire.send(Kind.REQUEST, ReadFile.operation, body, idempotency_key=token)
        assert (await wire.next()).kind == Kind.CHUNK
        wire.link.close()
        # Nothing of what was sent is kept either.
        await eventually(lambda: it.node.server.in_flight == 0)
        back = it.network.wire(it.node)
        back.send(Kind.REQUEST, ReadFile.operation, body, idempotency_key=token, sequence=1)
        error = error_from_body((await back.next()).body)
        assert isinstance(error, StreamBroken)
        assert error.not_kept


async def test_a_file_that_becomes_shorter_while_it_is_saved_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    async with place(tmp_path) as it:
        files, asker = await it.files()
        await it.die()
        await it.start(Halting)
        saving = asyncio.ensure_future(files.save("a", source))
        assert isinstance(it.keeper, Halting)
        await it.keeper.halted.wait()
        os.truncate(source, 10)
        it.keeper.goes_on.set()
        with pytest.raises(InvalidRequest, match="became shorter"):
            await saving
        (one,) = (await asker.ask("storage", FileUsage(owner="telemetry"))).items
        assert (one.files, one.open_uploads) == (0, 0)


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, float("nan"), 1e12])
async def test_a_time_to_live_that_is_none_is_refused_before_anything_is_sent(
    tmp_path: Path, ttl_s: float
) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        with pytest.raises(InvalidMessage, match="ttl_s"):
            await files.save("a", SMALL, ttl_s=ttl_s)


async def test_who_finds_too_many_uploads_open_comes_back_when_he_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.stored.receiving.RETRY_S", 0.01)
    async with place(tmp_path, max_uploads=1) as it:
        files, asker = await it.files()
        await asker.ask("storage", SaveFile(name="b", data=Blob(b"x"), upload="u", last=False))
        with pytest.raises(Overloaded):
            await asker.ask("storage", SaveFile(name="a", data=Blob(SMALL)))
        saving = asyncio.ensure_future(files.save("a", SMALL))
        await eventually(lambda: it.node.server.counters().handled >= 5)
        await asker.ask("storage", AbandonUpload(upload="u"))
        assert (await saving).size == 5


async def test_a_slow_reader_is_sent_no_more_than_its_credit(tmp_path: Path) -> None:
    data = os.urandom(100 * 2**18)
    async with place(tmp_path, ZmqWiring) as it:
        files, caller = await it.files()
        await files.save("a", data)
        before = it.keeper.progress
        stream = await caller.stream("storage", ReadFile(name="a"))
        async with stream:
            first = await anext(stream)
            assert len(first.data) == 2**18
            # 64 are under way, the next one is in hand; no more until some of them are read.
            await eventually(lambda: it.keeper.progress == before + 65)
            await caller.ask("storage", FileUsage())
            assert it.keeper.progress == before + 65
            found = bytes(first.data) + b"".join([bytes(part.data) async for part in stream])
        assert found == data
        assert stream.end is not None
        assert stream.end.file.size == len(data)


async def test_a_part_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        _, caller = await it.files()
        with pytest.raises(InvalidRequest, match="are the most"):
            await caller.ask("storage", SaveFile(name="a", data=Blob(bytes(MOST_PART_BYTES + 1))))


@pytest.mark.parametrize("name", ["", "../a", "A", "x" * 121])
async def test_a_name_that_is_none_is_refused_with_what_would_be_right(
    tmp_path: Path, name: str
) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        for act in (files.save(name, b"x"), files.delete(name), read(files, name)):
            with pytest.raises(InvalidRequest, match="lower-case letters"):
                await act


async def test_where_frames_have_to_be_small_so_are_the_parts(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        await it.die()
        it.max_frame_bytes = 64 * 1024
        await it.start()
        files, _ = await it.files()
        await files.save("a", LARGE)
        assert await read(files, "a") == LARGE


async def test_only_so_many_parts_wait_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.stored.handlers.MOST_PARTS", 0)
    async with place(tmp_path) as it:
        _, caller = await it.files()
        with pytest.raises(Overloaded) as caught:
            await caller.ask("storage", SaveFile(name="a", data=Blob(SMALL)))
        assert caught.value.details["retry_after_s"] > 0


async def test_what_has_expired_goes_from_the_disk_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.stored.handlers.OPEN_FILES_S", 0.01)
    monkeypatch.setattr("actors.storage.stored.handlers.COLLECT_S", 0.01)
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", SMALL, ttl_s=0.1)
        await files.save("b", SMALL)
        await eventually(lambda: len(it.on_disk()) == 1)


async def test_without_its_library_storage_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("blake3", "actors.storage.stored.receiving", "actors.storage.stored.store"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "blake3", None)
    monkeypatch.delitem(sys.modules, "actors.storage.stored.reading", raising=False)
    async with place(tmp_path) as it:
        files, _ = await it.files()
        with pytest.raises(MissingDependency, match=r"noyau\[storage\]"):
            await files.save("a", SMALL)
        with pytest.raises(MissingDependency, match=r"noyau\[storage\]"):
            await files.save("a", LARGE)


async def test_only_so_many_files_are_read_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.stored.handlers.MOST_READERS", 1)
    data = os.urandom(70 * 2**18)
    async with place(tmp_path) as it:
        files, caller = await it.files()
        await files.save("a", data)
        async with await caller.stream("storage", ReadFile(name="a")) as stream:
            await anext(stream)
            second = await caller.stream("storage", ReadFile(name="a"))
            with pytest.raises(Overloaded):
                await anext(second)
            waiting = asyncio.ensure_future(read(files, "a"))
        assert await waiting == data


# --- storage dies ---------------------------------------------------------------------------


async def test_a_file_that_was_being_saved_is_sent_again_to_the_next_incarnation(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as it:
        await it.die()
        await it.start(Halting)
        files, _ = await it.files()
        saving = asyncio.ensure_future(files.save("a", LARGE))
        assert isinstance(it.keeper, Halting)
        await it.keeper.halted.wait()
        await it.die()
        await it.start()
        assert (await saving).size == len(LARGE)
        assert await read(files, "a") == LARGE
        assert len(it.on_disk()) == 1


async def test_a_read_goes_on_with_the_next_incarnation_where_it_stopped(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        data = os.urandom(100 * 2**18)
        await files.save("a", data)
        found = b""
        async for piece in files.read("a"):
            if not found:
                await it.die()
                await it.start()
            found += piece
        assert found == data


async def test_a_read_of_what_was_replaced_meanwhile_is_never_of_two_contents(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", os.urandom(100 * 2**18))
        pieces = files.read("a")
        await anext(pieces)
        await it.die()
        await it.start()
        await files.save("a", os.urandom(100 * 2**18))
        with pytest.raises(NotFound, match="was replaced"):
            await exhaust(pieces)


async def exhaust(pieces: AsyncIterator[memoryview]) -> None:
    async for _ in pieces:
        pass


async def test_a_folder_that_another_process_has_is_told_until_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.stored.handlers.OPEN_FILES_S", 0.01)
    async with place(tmp_path) as it:
        files, _ = await it.files()
        await files.save("a", SMALL)
        other = Place(it.network, tmp_path, {})
        other._count = 10
        await other.start()
        more, _ = await other.files("jobs")
        with pytest.raises(NoyauError, match="another process has the stored files"):
            await more.save("a", SMALL)
        await eventually(lambda: other.told)
        assert other.told[0].what == "storage.failed"
        await it.keeper.on_stop()
        await more.save("a", SMALL)
        await it.start()
        await other.keeper.on_stop()
