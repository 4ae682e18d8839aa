"""The same client over TCP with CURVE, as from another machine, and over the local socket.

The requests are those of `benchmarks.messaging_asks`: 256 bytes there and back, one at a time and
64 in flight. Over loopback, so that it shows what encryption and TCP cost, and no network.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.asking import ask_many
from benchmarks.harness import Figure, Options, System, alternate, median_ratio, show_table
from protocol.address import Address
from protocol.client import Client
from protocol.curve import ClientCurve, new_key_pair
from protocol.keyfiles import SERVER_FOLDER, AuthorizedKeys, server_key_pair
from protocol.keys import Authorized
from protocol.messages.actor import Ping
from protocol.messages.base import Role

ACTOR = "echo_b"
PAYLOAD_BYTES = 256
IN_FLIGHT = 64
CALLS, QUICK_CALLS = (2000, 10_000), (300, 2000)
"""One at a time, and `IN_FLIGHT`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a client did in one round."""

    serial_us: float
    """The median round trip."""
    each_us: float
    """Time for each request with `IN_FLIGHT` of them."""


Turns = dict[str, list[Turn]]


def free_port() -> int:
    """A port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening() -> str:
    """The setting that has a system listen to other machines."""
    return f"remote.listen=tcp://127.0.0.1:{free_port()}"


def remote_client(system: System, endpoint: str) -> Client:
    """A client of it with a key that is let in."""
    keys = AuthorizedKeys(system.data_folder / SERVER_FOLDER)
    own = new_key_pair()
    keys.write([Authorized("benchmark", own.public, Role.OPERATE)])
    server = server_key_pair(keys.path.parent, new_key_pair).public
    return Client(Address(endpoint, ClientCurve(server, own)))


def contestant(client: Client, calls: tuple[int, int]) -> Callable[[], Awaitable[Turn]]:
    """One round of a client."""
    ping = Ping(payload=bytes(PAYLOAD_BYTES))

    async def turn() -> Turn:
        _, latencies_us = await ask_many(lambda: client.ask(ping, to=ACTOR), calls[0], 1)
        seconds, _ = await ask_many(lambda: client.ask(ping, to=ACTOR), calls[1], IN_FLIGHT)
        return Turn(statistics.median(latencies_us), seconds / calls[1] * 1e6)

    return turn


async def measure(system: System, listens: str, options: Options) -> Turns:
    """The turns of both; ``listens`` is the setting that the system was started with."""
    endpoint = listens.partition("=")[2]
    calls = QUICK_CALLS if options.quick else CALLS
    async with contextlib.AsyncExitStack() as stack:
        remote = await stack.enter_async_context(remote_client(system, endpoint))
        clients = {"local": system.client, "curve": remote}
        return await alternate(
            {name: contestant(client, calls) for name, client in clients.items()}, options
        )


def report(turns: Turns) -> dict[str, Figure]:
    """Print what was measured, and return its figures."""
    labels = {"local": "local socket", "curve": "TCP with CURVE"}
    serial = {name: [turn.serial_us for turn in of] for name, of in turns.items()}
    each = {name: [turn.each_us for turn in of] for name, of in turns.items()}
    show_table(
        ["a client's request", "serial median µs", f"µs each, {IN_FLIGHT} in flight", "rounds"],
        [
            [
                label,
                f"{statistics.median(serial[name]):.1f}",
                f"{statistics.median(each[name]):.1f}",
                str(len(turns[name])),
            ]
            for name, label in labels.items()
        ],
    )
    return {
        "curve_cost": Figure(median_ratio(serial["curve"], serial["local"]), "x", "<= 2"),
        "curve_pipelined_cost": Figure(median_ratio(each["curve"], each["local"]), "x", "<= 2"),
    }
