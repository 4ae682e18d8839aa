"""Server-sent events, from bytes as they come to the data of each event. Pure.

Lines are found in the bytes, not in text: a character may be cut between two reads, and what
Python takes for the end of a line (U+2028, U+0085) may stand inside of JSON. See the chapter on
server-sent events in the HTML standard.
"""

from __future__ import annotations

from protocol.errors import EngineFailed

MAX_EVENT_BYTES = 2**20
"""Of one event. A token is some hundred bytes, twenty likely others with each some thousand."""
DONE = "[DONE]"
"""The data of the event behind the last."""

_FIELDS = (b"data", b"event", b"id", b"retry", b"error")
"""All that the standard knows; and `error`, in which older llama-servers say what went wrong."""


class EventReader:
    """Of one stream."""

    def __init__(self) -> None:
        self._bytes = b""
        """The beginning of a line."""
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False
        """The bytes so far end in a carriage return, which a line feed may belong to."""

    def feed(self, chunk: bytes) -> list[str]:
        """Take what came; returns the data of the events that are complete with it. Raises
        `EngineFailed` for what is no stream of events, and for an event that is too large."""
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        self._after_return = chunk.endswith(b"\r")
        lines = (self._bytes + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._bytes = lines.pop()
        found = [data for line in lines for data in self._line(line)]
        if self._size + len(self._bytes) > MAX_EVENT_BYTES:
            raise EngineFailed(
                f"the server sent an event of more than {MAX_EVENT_BYTES} bytes: it is not "
                "believed to be an answer"
            )
        return found

    def _line(self, line: bytes) -> list[str]:
        """One line; returns the event that ends with it."""
        if not line:
            data, self._data, self._size = self._data, [], 0
            return [_text(b"\n".join(data))] if data else []
        name, _, value = line.partition(b":")
        if not name:
            return []  # A comment: a sign of life.
        if name not in _FIELDS:
            raise EngineFailed(f"the server sent what is no stream of events: {line[:80]!r}")
        if name in (b"data", b"error"):
            self._data.append(value.removeprefix(b" "))
            self._size += len(line)
        return []


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise EngineFailed(f"the server sent what is no UTF-8: {data[:80]!r}") from None
