"""Where the microseconds of a request and its reply go, hop by hop, against the bare floor.

    python -m benchmarks.hops [--quick] [--runs N]

In one process and without sockets: what noyau's own code does for one request of 256 bytes and its
reply, each step by itself, and both sides as a whole with links that take frames and do nothing.
Beside each step what the floor (`benchmarks.bare`) does in its place. Steps take turns, and each
figure is the least of its rounds: whatever else the machine does only ever adds.
"""

from __future__ import annotations

import asyncio
import timeit
from collections.abc import Callable
from dataclasses import dataclass

import msgpack

from actors.kernel.handlers import handles
from actors.kernel.serving import Server
from benchmarks.harness import Figure, Options, parse_arguments, show_figures, show_table
from protocol.batch import MAX_FRAMES, join, split
from protocol.caller import Caller
from protocol.clock import MonotonicClock
from protocol.codec import Codec
from protocol.connection import Connection
from protocol.envelope import Envelope, Kind, new_id
from protocol.loopback import Loopback
from protocol.messages.actor import Ping, Pong
from protocol.messages.base import reader
from protocol.pending import PendingAsk
from protocol.ports import Peer
from protocol.timers import Timers

PAYLOAD = bytes(256)
LOOPS = 5000
IN_FLIGHT = 64
PEER = b"peer"


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and what the floor does in its place."""

    side: str
    what: str
    do: Callable[[], object]
    floor: Callable[[], object] | None = None


class Sink:
    """A link and a listener that keep what they are to send."""

    endpoint = "nowhere"

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """See `Link.send`."""
        self.frames.append(frame)

    def close(self) -> None:
        """See `Link.close`."""


class Replies(Sink):
    """The same as a listener."""

    def send(self, peer: Peer, frame: bytes) -> None:  # type: ignore[override]
        """See `Listener.send`."""
        self.frames.append(frame)


class Owner:
    """Answers pings."""

    @handles(Ping)
    def ping(self, message: Ping) -> Pong:
        """The payload."""
        return Pong(name="echo", epoch="1", payload=message.payload)


def steps(loop: asyncio.AbstractEventLoop) -> list[Step]:
    """All of them, in the order of a request's way."""
    codec, clock = Codec(), MonotonicClock()
    timers = Timers(clock, loop)
    ping, pong = Ping(payload=PAYLOAD), Pong(name="echo", epoch="1", payload=PAYLOAD)
    id_ = new_id()

    def asked() -> bytes:
        return codec.encode(
            Envelope(id_, Kind.REQUEST.value, "actor.ping", "asker", "1", "echo", id_, 0, 30_000,
                     2, "", "", ping.__dict__)
        )  # fmt: skip

    def answered() -> bytes:
        return codec.encode(
            Envelope(id_, Kind.REPLY.value, "actor.ping", "echo", "1", "", body=pong.__dict__)
        )

    request, reply = asked(), answered()
    read_ping, read_pong = reader(Ping), reader(Pong)
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    bare = pack((1, PAYLOAD))
    batch = join([request] * MAX_FRAMES)

    def packs() -> object:
        return pack((1, PAYLOAD))

    def unpacks() -> object:
        return unpack(bare)

    def files() -> None:
        timers.remove(timers.file(clock.now() + 30, id_, files), id_)

    return [
        Step("asker", "make the message (pydantic)", lambda: Ping(payload=PAYLOAD)),
        Step("asker", "make the conversation: id, future", lambda: PendingAsk(ping, 30.0, loop)),
        Step("asker", "file its deadline, and take that out again", files),
        Step("asker", "envelope and packing", asked, packs),
        Step("both", "share a zmq message with others: join and split, each frame",
             lambda: split(join([request] * MAX_FRAMES))),
        Step("asked", "unpack the envelope, check its header", lambda: codec.decode(request),
             unpacks),
        Step("asked", "validate the message (pydantic)", lambda: read_ping(ping.__dict__)),
        Step("asked", "make the reply (pydantic)",
             lambda: Pong(name="echo", epoch="1", payload=PAYLOAD)),
        Step("asked", "envelope and packing of the reply", answered, packs),
        Step("asker", "unpack the reply's envelope", lambda: codec.decode(reply), unpacks),
        Step("asker", "validate the reply (pydantic)", lambda: read_pong(pong.__dict__)),
        Step("both", "split a batch alone, each frame", lambda: split(batch)),
    ]  # fmt: skip


def least_us(do: Callable[[], object]) -> float:
    """Of one round: microseconds for each call."""
    return timeit.timeit(do, number=LOOPS) / LOOPS * 1e6


async def sides_us() -> tuple[float, float]:
    """Of one round: all that the asker and the asked do for each request, in microseconds."""
    loop = asyncio.get_running_loop()
    replies, link = Replies(), Sink()
    server = Server(Owner(), name="echo", epoch="1", secret=b"", clock=MonotonicClock())
    server.attach(replies)
    caller = Caller(Loopback(), "memory://nowhere")
    connection = Connection(caller._speaker, "echo", "1")
    connection.link = link
    caller._routes["echo"] = connection
    rounds = LOOPS // IN_FLIGHT
    asker_s = asked_s = 0.0

    async def ask() -> None:
        for _ in range(rounds):
            await caller.ask("echo", Ping(payload=PAYLOAD), timeout_s=30)

    def give(frames: list[bytes]) -> None:
        for frame in frames:
            connection.on_frame(frame)

    began = timeit.default_timer()
    tasks = [asyncio.ensure_future(ask()) for _ in range(IN_FLIGHT)]
    await asyncio.sleep(0)
    asker_s += timeit.default_timer() - began
    for _ in range(rounds):
        requests, link.frames = link.frames, []
        began = timeit.default_timer()
        for frame in requests:
            server.on_frame(PEER, frame)
        asked_s += timeit.default_timer() - began
        answers, replies.frames = replies.frames, []
        began = timeit.default_timer()
        # By the loop, as a socket's news come.
        loop.call_soon(give, answers)
        await asyncio.sleep(0)
        asker_s += timeit.default_timer() - began
    await asyncio.gather(*tasks)
    requests_made = rounds * IN_FLIGHT
    return asker_s / requests_made * 1e6, asked_s / requests_made * 1e6


async def measure(options: Options) -> tuple[list[list[str]], dict[str, Figure]]:
    """The table's rows, and the figures."""
    found = steps(asyncio.get_running_loop())
    ours = [float("inf")] * len(found)
    floor = [float("inf")] * len(found)
    asker = asked = float("inf")
    for _ in range(options.runs):
        for number, step in enumerate(found):
            ours[number] = min(ours[number], least_us(step.do))
            if step.floor is not None:
                floor[number] = min(floor[number], least_us(step.floor))
        one, other = await sides_us()
        asker, asked = min(asker, one), min(asked, other)
    rows = []
    bare = {"asker": 0.0, "asked": 0.0, "both": 0.0}
    for step, us, floor_us in zip(found, ours, floor, strict=True):
        each = us / MAX_FRAMES if step.side == "both" else us
        beside = "-"
        if step.floor is not None:
            bare[step.side] += floor_us
            beside = f"{floor_us:.2f}"
        rows.append([step.what, step.side, f"{each:.2f}", beside])
    rows.append(["all of the asking side", "asker", f"{asker:.2f}", f"{bare['asker']:.2f}"])
    rows.append(["all of the answering side", "asked", f"{asked:.2f}", f"{bare['asked']:.2f}"])
    return rows, {"asker": Figure(asker, "µs"), "asked": Figure(asked, "µs")}


def main() -> None:
    """Measure and show."""
    options = parse_arguments(__doc__, runs=15, quick_runs=5)
    rows, figures = asyncio.run(measure(options))
    show_table(["step, of one request of 256 bytes", "side", "noyau µs", "floor µs"], rows)
    show_figures("hops", figures)


if __name__ == "__main__":
    main()
