"""The actor of the messaging benchmark: it asks another actor process, and is asked by one.

What it asks is ``actor.ping``, which every actor answers: the answering side is the kernel as it
is. `Drive` is this file's own message, a model of what adding one takes.
"""

from __future__ import annotations

from pydantic import Field

from actors.kernel import Actor, handles
from benchmarks.asking import ask_many
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
        """Make ``calls`` requests, ``in_flight`` at a time."""
        payload = bytes(message.payload_bytes)
        seconds, latencies_us = await ask_many(
            lambda: self.caller.ask(message.target, Ping(payload=payload), timeout_s=ASK_S),
            message.calls,
            message.in_flight,
        )
        return Driven(seconds=seconds, latencies_us=latencies_us)
