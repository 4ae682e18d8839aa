"""noyau, a local AI runtime that keeps answering. Users' programs import this package alone.

::

    from noyau import Client, SyncClient

    with SyncClient.connect() as client:
        print(client.ask("Why is the sky blue?"))
"""

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
