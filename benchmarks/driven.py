"""Contestants in processes of their own, which get their orders on stdin and answer on stdout.

One JSON value a line each way. It imports nothing but the standard library, so that a peer's
script in another environment can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_LINE_BYTES = 1 << 24
"""Longest line: a round's latencies are thousands of numbers."""
_STOP_S = 10.0

Values = Mapping[str, Any]


class Driven:
    """``async with Driven([…]) as contestant``: its process, ready to take orders."""

    def __init__(self, command: Sequence[str], *, folder: Path) -> None:
        self.hello: Values = {}
        """What it said when it was ready."""
        self._command = command
        self._folder = folder
        self._process: Process | None = None
        self._busy = False

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._folder, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES,
            # Ctrl-C ends the benchmark, and that ends this in order.
            process_group=0,
        )  # fmt: skip
        try:
            self.hello = await self._read(self._process)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if self._busy and process.returncode is None:
            # In the middle of an order it does not look whether its stdin has ended.
            process.terminate()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
        finally:
            # With whatever it has started and left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def order(self, values: Values) -> Values:
        """Give an order and wait for the answer. Raises RuntimeError when its process ends."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self._busy = True
        process.stdin.write(json.dumps(values).encode() + b"\n")
        await process.stdin.drain()
        answer = await self._read(process)
        self._busy = False
        return answer

    async def _read(self, process: Process) -> Values:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with {await process.wait()}")
        answer: Values = json.loads(line)
        return answer


async def take_orders(
    answer: Callable[[Values], Awaitable[Values]], hello: Values | None = None
) -> None:
    """The contestant's end: say that it is ready, then answer each order until stdin ends."""
    _say(hello or {})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await answer(json.loads(line)))


def _say(values: Values) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def _nothing(values: Values) -> Values:
    return values


async def serve_until_told() -> None:
    """For a contestant's process that serves another one: stay until stdin ends."""
    await take_orders(_nothing)
