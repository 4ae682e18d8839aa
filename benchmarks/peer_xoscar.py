"""The same requests between two xoscar actors: run by the peers' own environment.

    .venv-peers/bin/python -m benchmarks.peer_xoscar

One actor in each of two processes of a pool, on this machine, with xoscar's own defaults: its
local transport and uvloop, which it installs and chooses by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import xoscar

from benchmarks.asking import ask_many
from benchmarks.driven import Values, take_orders


class Echo(xoscar.Actor):  # type: ignore[misc]
    """Gives back what it is given."""

    def ping(self, payload: bytes) -> bytes:
        """The payload."""
        return payload


class Driver(xoscar.Actor):  # type: ignore[misc]
    """Asks the other one."""

    async def run(self, order: Values, echo: Any) -> Values:
        """Make ``calls`` requests, ``in_flight`` at a time; latencies where that is one."""
        payload = bytes(order["payload_bytes"])
        seconds, latencies_us = await ask_many(
            lambda: echo.ping(payload), order["calls"], order["in_flight"]
        )
        return {"seconds": seconds, "latencies_us": latencies_us}


async def main() -> None:
    """Take orders until stdin ends."""
    pool = await xoscar.create_actor_pool("127.0.0.1:0", n_process=2)
    async with pool:
        first, second = pool.sub_processes
        driver = await xoscar.create_actor(Driver, address=first, uid="driver")
        echo = await xoscar.create_actor(Echo, address=second, uid="echo")
        await take_orders(lambda order: driver.run(order, echo), {"version": xoscar.__version__})


if __name__ == "__main__":
    asyncio.run(main())
