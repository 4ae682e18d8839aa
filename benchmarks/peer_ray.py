"""The same requests between two Ray actors: run by the peers' own environment.

    .venv-peers/bin/python -m benchmarks.peer_ray

Each actor is a process of its own. Ray's services (its control store, its node manager and its
agents) run beside them on this machine, with Ray's own defaults but for what keeps them to it:
they listen on loopback only, without a dashboard, and report nothing to anybody.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any

from benchmarks.asking import ask_many
from benchmarks.driven import Values, take_orders

ENVIRON = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else it listens on every address, also where it is told 127.0.0.1: it takes that for a wish
    # to be found by other machines.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
OBJECTS_BYTES = 100 << 20
"""Of the shared memory for large objects, which no payload here needs; Ray takes no less than
75 MiB."""


class Echo:
    """Gives back what it is given."""

    def ping(self, payload: bytes) -> bytes:
        """The payload."""
        return payload


class Driver:
    """Asks the other one."""

    async def run(self, order: Values, echo: Any) -> Values:
        """Make ``calls`` requests, ``in_flight`` at a time; latencies where that is one."""
        payload = bytes(order["payload_bytes"])
        seconds, latencies_us = await ask_many(
            lambda: echo.ping.remote(payload), order["calls"], order["in_flight"]
        )
        return {"seconds": seconds, "latencies_us": latencies_us}


async def main() -> None:
    """Take orders until stdin ends."""
    os.environ.update(ENVIRON)
    # Only now, as it reads them when it is imported.
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(
            address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=OBJECTS_BYTES, _temp_dir=folder,
        )  # fmt: skip
        try:
            actor = ray.remote(num_cpus=0)
            echo, driver = actor(Echo).remote(), actor(Driver).remote()

            async def run(order: Values) -> Values:
                answer: Values = await driver.run.remote(order, echo)
                return answer

            await take_orders(run, {"version": ray.__version__})
        finally:
            ray.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
