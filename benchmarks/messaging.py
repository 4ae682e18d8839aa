"""How fast do processes talk to each other, and what does the protocol cost over bare sockets?

    python -m benchmarks.messaging [--quick] [--runs N]

One noyau, a real supervisor and actors in processes of their own, over local sockets: the whole
stack, with Caller, envelope, ROUTER and DEALER, roles, pydantic at both ends, a deadline on each
request, the heartbeats of all actors. Its contestants take turns with it:

asks      requests and replies of 256 bytes, against bare pyzmq and msgpack (the floor), xoscar
          and Ray: `benchmarks.messaging_asks`

A figure against somebody is the median over the rounds of noyau divided by the other one in the
same round.
"""

from __future__ import annotations

import asyncio

from benchmarks import messaging_asks
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
)


async def measure(options: Options) -> dict[str, Figure]:
    """Measure all, print a table, and return the figures."""
    async with System(*without_default_actors(), *ACTORS) as system:
        beside_ray = await messaging_asks.measure_ray(system, options.part(0.4))
        asks = await messaging_asks.measure(system, options)
    return messaging_asks.report(asks | beside_ray)


if __name__ == "__main__":
    end_in_order()
    show_figures("messaging", asyncio.run(measure(parse_arguments(__doc__, runs=15, quick_runs=7))))
