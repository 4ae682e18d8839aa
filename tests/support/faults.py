"""What can be wrong with a web server's answer: each a change of the right one.

server.inject("*.gguf", faults.cut(after=1000), times=1)
server.inject("*", faults.status(503, retry_after="2"), share=0.1)
server.inject("a.bin", faults.chunked(), faults.longer(by=10))
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Reply:
    """One answer, right until a fault has changed it. Counts are of bytes of the body."""

    file: Path | None
    start: int = 0
    stop: int = 0
    """Of the file: the stretch that is sent."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    """In place of the file."""
    raw: bytes | None = None
    """In place of all of it, the head too."""
    delay_s: float = 0.0
    """Before the head."""
    silent: bool = False
    """Not even a head comes."""
    head_drip_s: float = 0.0
    """Between two bytes of the head."""
    drip_s: float = 0.0
    """Between two bytes of the body."""
    corrupt: set[int] = field(default_factory=set)
    """Offsets in the file of bytes that are sent wrong."""
    cut_after: int | None = None
    stall_after: int | None = None
    extra: int = 0
    """Bytes sent behind the right ones."""
    endless: bool = False
    chunked: bool = False
    closes: bool = False
    """The connection, at the end."""

    def whole(self) -> bytes:
        """The body in one piece."""
        if self.content is not None:
            return self.content
        if self.file is None:
            return b""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


Fault = Callable[[Reply], None]


def cut(after: int) -> Fault:
    """The connection is closed after so many bytes of what was promised."""

    def change(reply: Reply) -> None:
        reply.cut_after = after

    return change


def truncated(by: int) -> Fault:
    """The file is shorter than it should be, and the server says so: it was not uploaded whole."""

    def change(reply: Reply) -> None:
        reply.content = reply.whole()[:-by]
        reply.headers["Content-Length"] = str(len(reply.content))

    return change


def longer(by: int) -> Fault:
    """More comes than was asked for, and the server says so."""

    def change(reply: Reply) -> None:
        reply.extra = by
        reply.headers["Content-Length"] = str(reply.stop - reply.start + by)

    return change


def corrupt(*offsets: int) -> Fault:
    """These bytes of the file are wrong, in every answer that has them."""

    def change(reply: Reply) -> None:
        reply.corrupt |= set(offsets)

    return change


def delay(seconds: float) -> Fault:
    """The answer begins so much later."""

    def change(reply: Reply) -> None:
        reply.delay_s = seconds

    return change


def silence() -> Fault:
    """The request is taken, and nothing comes for ever."""

    def change(reply: Reply) -> None:
        reply.silent = True

    return change


def stall(after: int = 0) -> Fault:
    """The head comes and so many bytes, then nothing for ever."""

    def change(reply: Reply) -> None:
        reply.stall_after = after

    return change


def drip(every_s: float) -> Fault:
    """The body comes byte by byte."""

    def change(reply: Reply) -> None:
        reply.drip_s = every_s

    return change


def slow_head(every_s: float) -> Fault:
    """The head comes byte by byte."""

    def change(reply: Reply) -> None:
        reply.head_drip_s = every_s

    return change


def endless() -> Fault:
    """The body has no end, and no length."""

    def change(reply: Reply) -> None:
        reply.endless = reply.chunked = True

    return change


def chunked() -> Fault:
    """The body's length is not told beforehand."""

    def change(reply: Reply) -> None:
        reply.chunked = True

    return change


def no_length() -> Fault:
    """The body ends where the connection does, as in HTTP/1.0."""

    def change(reply: Reply) -> None:
        reply.headers.pop("Content-Length", None)
        reply.closes = True

    return change


def no_ranges() -> Fault:
    """The server hands over whole files alone."""

    def change(reply: Reply) -> None:
        if reply.status == 206 and reply.file is not None:
            reply.status, reply.start, reply.stop = 200, 0, reply.file.stat().st_size
            reply.headers.pop("Content-Range")
            reply.headers["Content-Length"] = str(reply.stop)

    return change


def wrong_range(by: int = 1) -> Fault:
    """Another stretch than the one that was asked for, truthfully announced."""

    def change(reply: Reply) -> None:
        if reply.file is not None:
            reply.start, reply.stop = reply.start + by, reply.stop + by
            total = reply.file.stat().st_size
            reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.stop - 1}/{total}"

    return change


def wrong_length(by: int) -> Fault:
    """Content-Length is a lie: by so many bytes more than come, or (negative) fewer."""

    def change(reply: Reply) -> None:
        reply.headers["Content-Length"] = str(int(reply.headers["Content-Length"]) + by)
        reply.closes = by > 0

    return change


def header(name: str, value: str | None) -> Fault:
    """A field has another value; None: it is missing."""

    def change(reply: Reply) -> None:
        reply.headers.pop(name, None)
        if value is not None:
            reply.headers[name] = value

    return change


def status(code: int, retry_after: str | None = None) -> Fault:
    """An error, with a page of its own."""

    def change(reply: Reply) -> None:
        reply.status, reply.content = code, f"status {code}\n".encode()
        reply.headers = {"Content-Length": str(len(reply.content))}
        if retry_after is not None:
            reply.headers["Retry-After"] = retry_after

    return change


def redirect(location: str, code: int = 302) -> Fault:
    """To anywhere."""

    def change(reply: Reply) -> None:
        status(code)(reply)
        reply.headers["Location"] = location

    return change


def gzipped() -> Fault:
    """The body is compressed though nobody asked for that."""

    def change(reply: Reply) -> None:
        reply.content = gzip.compress(reply.whole())
        reply.headers |= {
            "Content-Encoding": "gzip",
            "Content-Length": str(len(reply.content)),
        }

    return change


def multipart() -> Fault:
    """One part, packed as if several had been asked for."""

    def change(reply: Reply) -> None:
        head = f"--x\r\nContent-Range: {reply.headers.pop('Content-Range')}\r\n\r\n".encode()
        reply.content = head + reply.whole() + b"\r\n--x--\r\n"
        reply.headers |= {
            "Content-Type": "multipart/byteranges; boundary=x",
            "Content-Length": str(len(reply.content)),
        }

    return change


def raw(data: bytes) -> Fault:
    """Bytes that need not be HTTP, then the end of the connection."""

    def change(reply: Reply) -> None:
        reply.raw = data

    return change
