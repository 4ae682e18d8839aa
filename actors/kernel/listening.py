"""Listening to other machines, where the settings say so."""

from __future__ import annotations

import resource

from actors.kernel.serving import Server
from configs.schema import Settings
from protocol.curve import ServerCurve, new_key_pair
from protocol.keyfiles import server_key_pair
from protocol.transport import ZmqTransport


def listen_to_others(
    server: Server, transport: ZmqTransport, settings: Settings, name: str
) -> None:
    """Listen to other machines, unless nobody wants that or it is done already. Raises
    `AddressUnusable`, and `UnusableKey` where this noyau's own key cannot be had."""
    endpoint = settings.remote_endpoint(name)
    if endpoint and server.remote is None:
        _allow_files(settings, name)
        keys = server_key_pair(settings.data.keys_folder, new_key_pair)
        transport.server = ServerCurve(keys, door=server)
        server.attach_remote(transport.listen(endpoint, server.on_frame))


def _allow_files(settings: Settings, name: str) -> None:
    """Have as many files as the system lets this process, unless the settings say how many: each
    connection is one, also a stranger's until he is cut off."""
    actor = settings.actors.get(name)
    if actor is not None and actor.max_open_files is not None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
