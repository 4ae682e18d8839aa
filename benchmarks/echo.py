"""The actor of the messaging benchmark: it asks another actor process, and is asked by one.

What it asks is ``actor.ping``, which every actor answers: the answering side is the kernel as it
is. `Drive` is this file's own message, a model of what adding one takes.
"""

from __future__ import annotations

import asyncio
import time

from pydantic import Field

from actors.kernel import Actor, handles
from protocol.messages.actor import Ping
from protocol.messages.base import Ask, Message, Role

ASK_S = 30.0
"""The deadline of each single request."""


class Driven(Message):
    """How long it took."""

    seconds: float
    latencies_us: list[float] = Field(default_factory=list)
    """Of each request, in the order they were made, where one was in flight at a time."""


class Drive(Ask[Driven], operation="echo.drive", role=Role.ASK):
    """Ask another actor many times and say how long it took."""

    target: str
    calls: int = Field(ge=1)
    in_flight: int = Field(ge=1)
    payload_bytes: int = Field(ge=0)


class Echo(Actor):
    """Asks on order."""

    @handles(Drive)
    async def drive(self, message: Drive) -> Driven:
        """Have ``in_flight`` askers make ``calls`` requests together."""
        payload = bytes(message.payload_bytes)
        latencies_us: list[float] = []
        left = iter(range(message.calls))

        async def ask_on() -> None:
            for _ in left:
                await self.caller.ask(message.target, Ping(payload=payload), timeout_s=ASK_S)

        async def ask_and_time() -> None:
            for _ in left:
                sent_at = time.perf_counter()
                await self.caller.ask(message.target, Ping(payload=payload), timeout_s=ASK_S)
                latencies_us.append((time.perf_counter() - sent_at) * 1e6)

        ask = ask_and_time if message.in_flight == 1 else ask_on
        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(message.in_flight)))
        return Driven(seconds=time.perf_counter() - began, latencies_us=latencies_us)
