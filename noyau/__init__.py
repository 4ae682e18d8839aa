"""noyau, a local AI runtime that keeps answering. Users' programs import this package alone.

::

    from noyau import Client, SyncClient

    with SyncClient.connect() as client:
        print(client.ask("Why is the sky blue?"))

The names are imported when they are first used: the command must not wait for those it does not
need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol import errors
    from protocol.client import Answer, Client, ResumingStream, SyncClient, SyncStream
    from protocol.errors import NoyauError
    from protocol.messages.engine import ChatMessage
    from protocol.messages.orchestrator import Answered, Query, Seam, Text
    from protocol.messages.supervisor import Status

__all__ = [
    "Answer",
    "Answered",
    "ChatMessage",
    "Client",
    "NoyauError",
    "Query",
    "ResumingStream",
    "Seam",
    "Status",
    "SyncClient",
    "SyncStream",
    "Text",
    "errors",
]

_HOMES = {
    "protocol.client": ("Answer", "Client", "ResumingStream", "SyncClient", "SyncStream"),
    "protocol.errors": ("NoyauError",),
    "protocol.messages.engine": ("ChatMessage",),
    "protocol.messages.orchestrator": ("Answered", "Query", "Seam", "Text"),
    "protocol.messages.supervisor": ("Status",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("protocol.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'noyau' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
