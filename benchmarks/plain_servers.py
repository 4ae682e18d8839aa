"""Plain llama.cpp servers that nobody watches, and programs that read their answers to the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.driven import Driven
from benchmarks.system import ROOT

TOKENS = 96
SLOTS, CONTEXT_TOKENS, BATCH_TOKENS = 1, 4096, 256
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a client got of an answer."""

    text: str
    finished: bool
    """Whether the server said how it ended."""
    error: str
    """What was raised; empty where the client took it for a whole answer."""
    tokens: int


class Servers:
    """Two servers, started again after they were killed."""

    def __init__(self, model: Path) -> None:
        self._command = [
            sys.executable, "-m", "benchmarks.bare_server", str(model),
            str(SLOTS), str(CONTEXT_TOKENS), str(BATCH_TOKENS),
            str(len(os.sched_getaffinity(0))),
        ]  # fmt: skip
        self._running: list[Driven] = []

    async def __aenter__(self) -> Self:
        self._running = [await self._start(), await self._start()]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for one in self._running:
            await one.__aexit__()

    async def _start(self) -> Driven:
        return await Driven(self._command, folder=ROOT).__aenter__()

    async def again(self) -> None:
        """Start the first one again, which was killed."""
        await self._running[0].__aexit__()
        self._running[0] = await self._start()

    @property
    def addresses(self) -> list[str]:
        """Where they listen."""
        return [str(one.hello["address"]) for one in self._running]

    @property
    def pid(self) -> int:
        """Of the first one."""
        return int(self._running[0].hello["pid"])


class Reading:
    """A stream of OpenAI's chat completions, line by line."""

    def __init__(self, kill: int, after: int) -> None:
        """``kill``: the process that is killed when ``after`` pieces of text have come; or 0."""
        self._kill, self._after = kill, after
        self._said: list[str] = []
        self._finished = False

    def take(self, line: str) -> None:
        """One line."""
        if not line.startswith("data: {"):
            return
        for choice in json.loads(line[6:])["choices"]:
            self._finished = self._finished or choice.get("finish_reason") is not None
            if text := choice["delta"].get("content"):
                self._said.append(text)
                if self._kill and len(self._said) == self._after:
                    os.kill(self._kill, signal.SIGKILL)

    def ended(self, error: str) -> Ended:
        """What there is of it."""
        return Ended("".join(self._said), self._finished, error, len(self._said))


def _body(prompt: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS, "temperature": 0, "stream": True,
    }  # fmt: skip


async def with_httpx(servers: Servers, prompt: str, kill: int, after: int) -> Ended:
    """As with most Python clients, which are built on it."""
    reading, error = Reading(kill, after), ""
    url = f"{servers.addresses[0]}/v1/chat/completions"
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("POST", url, json=_body(prompt)) as response,
        ):
            async for line in response.aiter_lines():
                reading.take(line)
    except httpx.HTTPError as raised:
        error = type(raised).__name__
    return reading.ended(error)


async def with_urllib(servers: Servers, prompt: str, kill: int, after: int) -> Ended:
    """With the standard library alone."""
    reading = Reading(kill, after)
    request = urllib.request.Request(
        f"{servers.addresses[0]}/v1/chat/completions", json.dumps(_body(prompt)).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip

    def read() -> str:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                for line in response:
                    reading.take(line.decode())
        except (OSError, ValueError) as raised:
            return type(raised).__name__
        return ""

    return reading.ended(await asyncio.to_thread(read))
