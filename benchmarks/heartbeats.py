"""The floor of 200 actors' heartbeats: a drained socket that receives and unpacks them.

    python -m benchmarks.heartbeats receive ENDPOINT
    python -m benchmarks.heartbeats send ENDPOINT

Two plain processes. One has a connection for each actor and sends over it, at the actors' interval,
the very frames that they send; the other takes them as `benchmarks.bare` does, unpacks them with
msgpack and forgets them: nothing is validated, remembered, judged or looked at.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgpack
import zmq

from benchmarks.bare import Drained
from benchmarks.driven import Values, take_orders
from protocol.codec import Codec
from protocol.envelope import PREFIX, Envelope, Kind, new_id
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Heartbeat


def frame_of(name: str) -> bytes:
    """A heartbeat as an actor of this name sends it."""
    envelope = Envelope(
        new_id(), Kind.HEARTBEAT.value, Heartbeat.operation, name, "9e0f5656-123", "supervisor",
        body=Heartbeat(state=ActorState.READY),
    )  # fmt: skip
    return Codec().encode(envelope)


async def receive(endpoint: str) -> None:
    """Take what comes; each order says for how many seconds to count, and what that cost."""
    context: zmq.Context[Any] = zmq.Context()
    router = Drained(context, zmq.ROUTER)
    router.socket.bind(endpoint)
    recv, unpack, begin = router.socket.recv, msgpack.unpackb, len(PREFIX)
    received = 0

    def take() -> None:
        nonlocal received
        recv(zmq.NOBLOCK)
        unpack(recv(zmq.NOBLOCK)[begin:])
        received += 1

    async def count(order: Values) -> Values:
        before, used = received, time.process_time()
        began = time.perf_counter()
        await asyncio.sleep(order["seconds"])
        seconds = time.perf_counter() - began
        return {
            "share": (time.process_time() - used) / seconds,
            "per_s": (received - before) / seconds,
        }

    router.start(take)
    await take_orders(count)
    context.destroy(linger=0)


async def send(endpoint: str) -> None:
    """Send for as many actors, seconds and at the interval that an order says."""
    context: zmq.Context[Any] = zmq.Context()
    dealers: list[zmq.Socket[Any]] = []

    async def beat(order: Values) -> Values:
        while len(dealers) < order["actors"]:
            dealers.append(context.socket(zmq.DEALER))
            dealers[-1].connect(endpoint)
        frames = [frame_of(f"light_{number}") for number in range(len(dealers))]
        step = order["interval_s"] / len(dealers)
        due = time.perf_counter()
        until = due + order["seconds"]
        sent = 0
        while due < until:
            await asyncio.sleep(due - time.perf_counter())
            number = sent % len(dealers)
            dealers[number].send(frames[number], zmq.NOBLOCK)
            sent += 1
            due += step
        return {"sent": sent}

    await take_orders(beat)
    context.destroy(linger=0)


if __name__ == "__main__":
    asyncio.run({"receive": receive, "send": send}[sys.argv[1]](sys.argv[2]))
