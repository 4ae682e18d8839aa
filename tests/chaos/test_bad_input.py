"""Bytes that no client of ours would send, thrown at every process of a real system."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from msgspec.structs import asdict

from noyau import Query
from protocol.codec import Codec
from protocol.endpoints import endpoint
from protocol.envelope import NO_ID, PREFIX, Envelope, Kind, new_id
from protocol.errors import error_from_body
from protocol.messages.supervisor import Status
from protocol.transport import ZmqTransport
from tests.support.system import connect, running, status_when
from tests.support.vectors import vectors

COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
ID, PROBE = new_id(), new_id()


def envelope(**changes: object) -> bytes:
    """A frame that is right but for the changes."""
    fields = asdict(Envelope(ID, Kind.REQUEST, "actor.ping", body={})) | changes
    packed: bytes = msgpack.packb(list(fields.values()))
    return PREFIX + packed


TOO_LARGE = {
    "hex": (PREFIX + bytes(9 << 20)).hex(), "error": "frame_too_large", "answers": NO_ID.hex(),
}  # fmt: skip
BROKEN = [*vectors("malformed"), TOO_LARGE]
"""Whoever gets these answers with these errors."""
REFUSED = vectors("refused")
"""And the supervisor with these."""


async def answers_to(
    frames: list[bytes], address: str, enough_of: Callable[[list[Envelope]], bool]
) -> list[Envelope]:
    """Send frames on one connection and take answers until there are enough."""
    transport = ZmqTransport()
    answers: list[Envelope] = []
    enough = asyncio.Event()

    def take(frame: bytes) -> None:
        answers.append(Codec().decode(frame))
        if enough_of(answers):
            enough.set()

    link = transport.connect(address, take, lambda reason: enough.set())
    for frame in frames:
        link.send(frame)
    await asyncio.wait_for(enough.wait(), 20)
    transport.close()
    return answers


def addresses(run_folder: Path, found: Status) -> list[str]:
    """Of the supervisor and every actor."""
    actors = [endpoint(run_folder, a.name, a.epoch) for a in found.actors]
    return [endpoint(run_folder, "supervisor"), *actors]


async def test_every_broken_frame_gets_its_typed_error_and_hurts_nobody() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        for address in addresses(system.run_folder, before):
            sent = [*BROKEN, *REFUSED] if address.endswith("/supervisor") else BROKEN
            frames = [bytes.fromhex(vector["hex"]) for vector in sent]
            answers = await answers_to(frames, address, lambda a: len(a) == len(frames))  # noqa: B023
            assert {answer.kind for answer in answers} == {Kind.ERROR}
            codes = [error_from_body(answer.body).code for answer in answers]
            assert codes == [vector["error"] for vector in sent]
            # Where the id could be read, the sender is told which of his frames it was.
            assert [answer.id.hex() for answer in answers] == [v["answers"] for v in sent]
        after = await status_when(client, _counted)
        assert [a.pid for a in after.actors] == [a.pid for a in before.actors]
        assert after.strangers >= len(BROKEN) + len(REFUSED) - 1
        assert (await client.ask(Query(text="count", max_tokens=3))).text == "0 1 2 "


def _counted(found: Status) -> bool:
    return all(actor.counters.rejected >= len(BROKEN) for actor in found.actors)


def _last_is_the_probes(answers: list[Envelope]) -> bool:
    return answers[-1].id == PROBE


@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes_hurt_nobody(seed: int) -> None:
    chance = random.Random(seed)
    mutate: list[Callable[[bytearray], None]] = [
        lambda f: f.__setitem__(chance.randrange(2, len(f)), chance.randrange(256)),
        lambda f: f.__delitem__(slice(chance.randrange(2, len(f)), None)),
        lambda f: f.extend(chance.randbytes(chance.randrange(1, 9))),
    ]
    frames = []
    for _ in range(500):
        frame = bytearray(envelope(body={"payload": chance.randbytes(20)}))
        chance.choice(mutate)(frame)
        frames.append(bytes(frame))
    probe = envelope(id=PROBE, body={"payload": b"still there?"})
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        for address in addresses(system.run_folder, before):
            answers = await answers_to([*frames, probe], address, _last_is_the_probes)
            assert answers[-1].kind == Kind.REPLY
        after = await client.status()
        assert [a.pid for a in after.actors] == [a.pid for a in before.actors]
        assert (await client.ask(Query(text="count", max_tokens=3))).text == "0 1 2 "


# --- what is not even ZMTP ------------------------------------------------------------------

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x05READY\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
READY = b"\x04" + bytes((len(_READY),)) + _READY
"""A DEALER's part of the handshake; see the ZMTP 3.0 specification, rfc.zeromq.org/spec/23."""


def long_frame(length: int, *, more: bool = False) -> bytes:
    """The head of a frame of so many bytes, which need not follow."""
    return bytes((0x03 if more else 0x02,)) + length.to_bytes(8, "big")


HALF_SAID = {
    "nothing": b"",
    "half a greeting": GREETING[:20],
    "a greeting of another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a greeting and no handshake": GREETING,
    "half a message": GREETING + READY + long_frame(100) + b"n\x01\x9d",
    "the first of two parts": GREETING + READY + long_frame(5, more=True) + b"hello",
    "a message of 2^62 bytes": GREETING + READY + long_frame(1 << 62) + bytes(1000),
    "a message over zmq's own limit": GREETING + READY + long_frame(1 << 27) + bytes(1000),
    "a length with its highest bit set": GREETING + READY + long_frame((1 << 63) + 1),
}


async def test_peers_that_never_finish_what_they_begin_hold_up_nobody() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        writers = []
        for address in addresses(system.run_folder, before):
            for said in HALF_SAID.values():
                _, writer = await asyncio.open_unix_connection(address.removeprefix("ipc://"))
                writer.write(said)
                await writer.drain()
                writers.append(writer)
        # All of them are still connected, but for those that zmq has thrown out.
        assert (await client.ask(Query(text="count", max_tokens=100))).text.endswith(" 99 ")
        after = await client.status()
        assert [a.pid for a in after.actors] == [a.pid for a in before.actors]
        assert memory_of(after) < memory_of(before) + 64 * 2**20
        for writer in writers:
            writer.close()


def memory_of(found: Status) -> int:
    """Of all but the memory actor, which loads its model meanwhile."""
    actors = [actor for actor in found.actors if actor.name != "memory"]
    return sum(one.rss_bytes or 0 for one in actors) + (found.supervisor.rss_bytes or 0)
