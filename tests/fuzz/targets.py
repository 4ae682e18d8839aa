"""What is fuzzed: each target takes bytes, and raises when something is wrong with what noyau made
of them. A typed error is right; anything else is not."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

from actors.kernel.serving import Server
from protocol.batch import PREFIX, join, split
from protocol.blobs import Blob, load
from protocol.clock import ManualClock
from protocol.codec import Codec
from protocol.connection import Connection, Speaker
from protocol.envelope import Envelope, Kind
from protocol.errors import InvalidMessage, NoyauError, ProtocolError
from protocol.messages.actor import Ping
from protocol.messages.supervisor import WatchEvents
from protocol.pending import OutgoingStream, PendingAsk
from protocol.ports import Peer
from protocol.timers import Timers
from tests.support.owners import Echo
from tests.support.vectors import vectors

Target = Callable[[bytes], None]

ID = bytes.fromhex(vectors("streams")[0]["frames"][0])[5:21]
"""The conversation of the vectors."""
PEER = b"peer"
_CODEC = Codec(max_frame_bytes=1 << 20)


def codec(data: bytes) -> None:
    """A frame is an envelope or a protocol error; and an envelope survives being sent again."""
    try:
        envelope = _CODEC.decode(data)
    except ProtocolError:
        return
    try:
        frame = _CODEC.encode(envelope)
    except InvalidMessage:
        # What no sender of ours can make, as an extension type in a body.
        return
    again = _CODEC.decode(frame)
    assert same(envelope, again), f"{envelope} became {again}"


def same(one: Any, other: Any) -> bool:
    """Equal, where what is no number equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Envelope) and isinstance(other, Envelope):
        return all(same(getattr(one, f), getattr(other, f)) for f in one.__struct_fields__)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        # A key may be NaN too; then it is enough that as many are there.
        return len(one) == len(other) and all(k not in other or same(one[k], other[k]) for k in one)
    return type(one) is type(other) and bool(one == other)


def batch(data: bytes) -> None:
    """A message of the transport is some frames, and a batch of them is those again."""
    frames = split(data)
    assert frames, "a message of no frames"
    if frames != [data]:
        assert data.startswith(PREFIX)
        assert split(join(frames)) == frames


GOOD = _CODEC.encode(Envelope(ID, Kind.REQUEST.value, "actor.ping", body={}))


def blobs(data: bytes) -> None:
    """A frame with parts behind it is an envelope that holds no other parts, or a protocol error;
    and it leaves nothing behind for the next one."""
    count, data = data[0] % 4 if data else 0, data[1:]
    cut = max(0, len(data) - 3 * count)
    parts = [memoryview(data[cut + 3 * number : cut + 3 * number + 3]) for number in range(count)]
    try:
        envelope = _CODEC.decode(load(data[:cut], parts))
    except ProtocolError:
        pass
    else:
        met = _blobs_in(envelope.body)
        # Of equal keys of a map one is left.
        assert {*map(bytes, met)} <= {*map(bytes, parts)}
    assert _CODEC.decode(GOOD).operation == "actor.ping"


def _blobs_in(value: Any) -> list[Blob]:
    if isinstance(value, Blob):
        return [value]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return [blob for one in value for blob in _blobs_in(one)] if isinstance(value, list) else []


class _Peer:
    """A listener whose peers take everything."""

    endpoint = "nowhere"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, peer: Peer, frame: bytes) -> None:
        """See `Listener.send`."""
        assert peer == PEER
        self.sent.append(frame)

    def close(self) -> None:
        """See `Listener.close`."""


class Serving:
    """A server that answers whatever comes, and goes on: it is one for all inputs."""

    MOST_OPEN = 64

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._peer = _Peer()
        self._clock = ManualClock()
        self._server = self._loop.run_until_complete(self._make())

    async def _make(self) -> Server:
        server = Server(
            Echo(), name="probe", epoch="1", secret=b"secret", clock=self._clock, codec=_CODEC,
            max_open_per_peer=self.MOST_OPEN,
        )  # fmt: skip
        server.attach(self._peer)
        return server

    def __call__(self, data: bytes) -> None:
        """What comes is answered by what can be read, and nothing of it stays."""
        self._peer.sent.clear()
        self._loop.run_until_complete(self._exchange(data))
        for frame in self._peer.sent:
            answer = _CODEC.decode(frame)
            assert answer.kind in (Kind.REPLY, Kind.CHUNK, Kind.END, Kind.ERROR)

    async def _exchange(self, data: bytes) -> None:
        frames = split(data)
        for frame in frames:
            self._server.on_frame(PEER, frame)
        # Coroutines and streams have a turn; a stream that waits for credit waits.
        for _ in range(4):
            await asyncio.sleep(0)
        assert self._server.in_flight <= self.MOST_OPEN
        for request in list(self._server._open.values()):
            self._server.on_frame(PEER, _cancel(request.id))
        await self._server.idle.wait()


def _cancel(conversation: bytes) -> bytes:
    return _CODEC.encode(Envelope(conversation, Kind.CANCEL.value, "", body=None))


class _Deaf:
    """A link whose other side takes everything."""

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """See `Link.send`."""

    def close(self) -> None:
        """See `Link.close`."""


class Calling:
    """A connection with an ask and a stream open; both have the id of the vectors."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        """Whatever comes ends them or does not; it never breaks the connection."""
        self._loop.run_until_complete(self._exchange(data))

    async def _exchange(self, data: bytes) -> None:
        for streams in (False, True):
            clock = ManualClock()
            timers = Timers(clock, self._loop)
            speaker = Speaker("client", "", _CODEC, clock, timers, self._loop)
            connection = Connection(speaker, "probe", "1")
            connection.link = _Deaf()
            if streams:
                watch = WatchEvents()
                stream = OutgoingStream(watch, None, self._loop, "1", _ignore, _ignore)
                stream.id = ID
                connection.request(stream, watch, "")
            else:
                ask = PendingAsk(Ping(), 60.0, self._loop)
                ask.id = ID
                connection.request(ask, Ping(), "")
            for frame in split(data):
                connection.on_frame(frame)
            connection.drop("the fuzzer is done with it")
            if streams:
                await _read(stream)
            else:
                assert ask.future.done()
                with contextlib.suppress(NoyauError):
                    ask.future.result()
            timers.close()


def _ignore(*_: object) -> None:
    """Credit, or giving up."""


async def _read(stream: OutgoingStream[Any, Any]) -> None:
    """It ends, with its end or with an error."""
    try:
        async for _ in stream:
            pass
    except NoyauError:
        return
    assert stream.end is not None


TARGETS: dict[str, Callable[[], Target]] = {
    "codec": lambda: codec,
    "batch": lambda: batch,
    "blobs": lambda: blobs,
    "server": Serving,
    "caller": Calling,
}
"""Each makes a target."""


def seeds() -> list[bytes]:
    """Where the fuzzer begins: the bytes of all test vectors."""
    found: list[str] = []
    for name in ("envelopes", "malformed", "refused", "batches"):
        found += [vector["hex"] for vector in vectors(name)]
    for vector in vectors("streams"):
        found += vector["frames"]
    for vector in vectors("blobs"):
        # As the target takes it apart, but for parts of another length.
        found.append(f"{len(vector['parts']) - 1:02x}" + "".join(vector["parts"]))
    probes = ("probe.say", "probe.look", "probe.count", "probe.told", "probe.whisper")
    made = [Envelope(ID, Kind.REQUEST.value, name, body={"text": "a"}) for name in probes]
    made.append(Envelope(ID, Kind.REQUEST.value, "probe.count", body={"upto": 200}))
    made.append(Envelope(ID, Kind.CREDIT.value, "probe.count", sequence=128))
    frames = [_CODEC.encode(one) for one in made]
    several = join([frames[-2], frames[-1], _cancel(ID)])
    return sorted({*map(bytes.fromhex, found), *frames, several})
