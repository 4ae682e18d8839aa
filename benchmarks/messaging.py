"""How fast do processes talk to each other, and what does the protocol cost over bare sockets?

    python -m benchmarks.messaging [--quick] [--runs N]

One noyau, a real supervisor and actors in processes of their own, over local sockets: the whole
stack, with Caller, envelope, ROUTER and DEALER, roles, pydantic at both ends, a deadline on each
request, the heartbeats of all actors. Its contestants take turns with it:

asks      requests and replies of 256 bytes, against bare pyzmq and msgpack (the floor), xoscar
          and Ray: `benchmarks.messaging_asks`
streams   chunks of 1 KiB and blobs of 1 MiB one way, against the floor:
          `benchmarks.messaging_streams`
clients   a ping with 1,000 other clients connected, against one without:
          `benchmarks.messaging_clients`
curve     a client over TCP with CURVE, against the local socket: `benchmarks.messaging_curve`
flood     more than a slow actor takes, from eight processes: `benchmarks.messaging_flood`

A figure against somebody is the median over the rounds of noyau divided by the other one in the
same round.
"""

from __future__ import annotations

import asyncio

from benchmarks import (
    messaging_asks,
    messaging_clients,
    messaging_curve,
    messaging_flood,
    messaging_streams,
)
from benchmarks.harness import (
    Figure,
    Options,
    System,
    end_in_order,
    parse_arguments,
    show_figures,
    without_default_actors,
)

ACTORS = (
    "actors.echo_a.class=benchmarks.echo:Echo",
    "actors.echo_b.class=benchmarks.echo:Echo",
    f"actors.{messaging_clients.ACTOR}.max_open_files={messaging_clients.ACTOR_OPEN_FILES}",
    f"actors.{messaging_flood.ACTOR}.class=benchmarks.slow:Slow",
)


async def measure(options: Options) -> dict[str, Figure]:
    """Measure all, print a table of each question, and return the figures."""
    listens = messaging_curve.listening()
    async with System(*without_default_actors(), *ACTORS, listens) as system:
        # First what takes as long as it takes: with --quick the others share the time that is left.
        flood = await messaging_flood.measure(system, options)
        beside_ray = await messaging_asks.measure_ray(system, options.part(0.4))
        asks = await messaging_asks.measure(system, options.part(0.5))
        streams = await messaging_streams.measure(system, options.part(0.6))
        curve = await messaging_curve.measure(system, listens, options.part(0.4))
        clients = await messaging_clients.measure(system, options)
    return {
        **messaging_asks.report(asks | beside_ray),
        **messaging_streams.report(streams),
        **messaging_curve.report(curve),
        **messaging_clients.report(clients),
        **messaging_flood.report(flood),
    }


if __name__ == "__main__":
    end_in_order()
    show_figures("messaging", asyncio.run(measure(parse_arguments(__doc__, runs=15, quick_runs=7))))
