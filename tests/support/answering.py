"""How the faulty server speaks HTTP: each answer is made right, changed by its faults, and sent."""

from __future__ import annotations

import re
import select
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from tests.support.faults import Fault, Reply

PIECE = 1 << 18


BOUNDARY = "between-two-stretches"


@dataclass
class Asked:
    """One request, and what was answered so far."""

    path: str
    """Without the slash in front, and without the query."""
    url: str
    """As it came: with the query, and with the host where it was sent to a proxy."""
    connection: int
    """The number of the connection, from 1."""
    headers: dict[str, str]
    """Names in lower case."""
    status: int = 0
    start: int = 0
    stop: int = 0
    sent: int = 0
    """Bytes of the body."""


class Owner(Protocol):
    """Of the connections: what an answer must know of the server as a whole."""

    folder: Path

    def connected(self, accepted: socket.socket) -> tuple[socket.socket, int]: ...
    def gone(self, accepted: socket.socket) -> None: ...
    def came(self, asked: Asked) -> None: ...
    def faults_for(self, asked: Asked) -> list[Fault]: ...
    def pause(self, seconds: float) -> None: ...


class Listener(ThreadingHTTPServer):
    daemon_threads = False  # so that ending waits for all of them
    request_queue_size = 128

    def __init__(self, host: str, port: int, owner: Owner) -> None:
        self.owner = owner
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Answering)

    def server_bind(self) -> None:
        # Not HTTPServer's: it looks up the machine's name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        address = self.socket.getsockname()
        self.server_address = address
        self.server_name, self.server_port = address[:2]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.owner.gone(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who goes in the middle is what many tests are about; anything else is a defect here."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Answering(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Listener
    connection: socket.socket

    def setup(self) -> None:
        self.owner = self.server.owner
        self.request, self.number = self.owner.connected(self.request)
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: object) -> None:
        """Tests look at ``asked`` instead."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path, self.path, self.number, headers)
        reply = self._right(asked)
        asked.start, asked.stop = reply.start, reply.stop
        self.owner.came(asked)
        for fault in self.owner.faults_for(asked):
            fault(reply)
        asked.status = reply.status
        self._send(reply, asked)

    do_HEAD = do_GET  # noqa: N815 - the name is the library's

    def do_CONNECT(self) -> None:
        """As a proxy: a tunnel, to the port of this machine whatever host is named."""
        host, _, port = self.path.rpartition(":")
        asked = Asked(host, self.path, self.number, {}, status=200)
        self.owner.came(asked)
        reply = Reply(None)
        for fault in self.owner.faults_for(asked):
            fault(reply)
        self.close_connection = True
        if reply.status != 200 or reply.silent:
            self._send(reply, asked)
            return
        with socket.create_connection(("127.0.0.1", int(port))) as there:
            self.connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            _join(self.connection, there)

    def _right(self, asked: Asked) -> Reply:
        """The answer as it should be."""
        file = (self.owner.folder / asked.path).resolve()
        if not file.is_file() or not file.is_relative_to(self.owner.folder.resolve()):
            missing = b"there is no such file\n"
            length = {"Content-Length": str(len(missing))}
            return Reply(None, status=404, headers=length, content=missing)
        stat = file.stat()
        size, tag = stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        reply = Reply(file, 0, size, headers={
            "Accept-Ranges": "bytes", "ETag": tag, "Content-Type": "application/octet-stream",
            "Last-Modified": formatdate(stat.st_mtime, usegmt=True), "Content-Length": str(size),
        })  # fmt: skip
        wanted = asked.headers.get("range", "")
        if re.fullmatch(r"bytes=[0-9]+-[0-9]+(, *[0-9]+-[0-9]+)+", wanted):
            return _several(reply, wanted, size)
        found = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", wanted)
        if found is None or not any(found.groups()) or asked.headers.get("if-range", tag) != tag:
            return reply
        if found[1]:
            reply.start = int(found[1])
            reply.stop = min(size, int(found[2]) + 1) if found[2] else size
        else:
            reply.start = max(0, size - int(found[2]))
        if reply.start >= reply.stop:
            return Reply(None, status=416, content=b"", headers={
                "Content-Range": f"bytes */{size}", "Content-Length": "0"})  # fmt: skip
        reply.status = 206
        reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.stop - 1}/{size}"
        reply.headers["Content-Length"] = str(reply.stop - reply.start)
        return reply

    def _send(self, reply: Reply, asked: Asked) -> None:
        self.owner.pause(reply.delay_s)
        if reply.silent:
            self._wait_for_their_end()
            return
        self.close_connection = self.close_connection or reply.closes
        if reply.raw is not None:
            self.connection.sendall(reply.raw)
            self.close_connection = True
            return
        self._send_head(reply)
        if self.command == "HEAD":
            return
        for piece in self._limited(reply):
            asked.sent += len(piece)
            if reply.chunked:
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self.connection.sendall(piece)
            self.owner.pause(reply.drip_s)
        if reply.stall_after is not None:
            self._wait_for_their_end()
        elif reply.cut_after is not None:
            self.close_connection = True
        elif reply.chunked:
            self.connection.sendall(b"0\r\n\r\n")

    def _send_head(self, reply: Reply) -> None:
        headers = dict(reply.headers)
        if reply.chunked:
            headers.pop("Content-Length", None)
            headers["Transfer-Encoding"] = "chunked"
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {reply.status} As told"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        if not reply.head_drip_s:
            self.connection.sendall(head)
            return
        for byte in head:
            self.connection.sendall(bytes([byte]))
            self.owner.pause(reply.head_drip_s)

    def _limited(self, reply: Reply) -> Iterator[bytes]:
        """The body as far as it comes, in the pieces that it comes in."""
        ends = [end for end in (reply.cut_after, reply.stall_after) if end is not None]
        left = min(ends, default=sys.maxsize)
        for piece in self._pieces(reply):
            if not left:
                return
            allowed = piece[:left]
            left -= len(allowed)
            if reply.drip_s:
                for byte in allowed:
                    yield bytes([byte])
            else:
                yield allowed

    def _pieces(self, reply: Reply) -> Iterator[bytes]:
        if reply.content is not None:
            yield reply.content
        elif reply.file is not None:
            yield from self._of_file(reply)
        if reply.extra:
            yield bytes(reply.extra)
        while reply.endless:
            yield bytes(PIECE)

    def _of_file(self, reply: Reply) -> Iterator[bytes]:
        assert reply.file is not None
        with reply.file.open("rb") as file:
            file.seek(reply.start)
            at = reply.start
            while piece := file.read(min(PIECE, reply.stop - at)):
                wrong = [offset - at for offset in reply.corrupt if at <= offset < at + len(piece)]
                if wrong:
                    changed = bytearray(piece)
                    for place in wrong:
                        changed[place] ^= 0xFF
                    piece = bytes(changed)
                yield piece
                at += len(piece)

    def _wait_for_their_end(self) -> None:
        self.close_connection = True
        while self.connection.recv(PIECE):
            pass


def _several(reply: Reply, wanted: str, size: int) -> Reply:
    """Several stretches in one answer (RFC 9110, 14.6), as zsync asks for them."""
    assert reply.file is not None
    parts = []
    with reply.file.open("rb") as file:
        for first, last in re.findall(r"([0-9]+)-([0-9]+)", wanted):
            start, stop = int(first), min(size, int(last) + 1)
            file.seek(start)
            head = (
                f"\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\n"
                f"Content-range: bytes {start}-{stop - 1}/{size}\r\n\r\n"
            )
            parts.append(head.encode() + file.read(stop - start))
    reply.content = b"".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()
    reply.status = 206
    reply.headers["Content-Type"] = f"multipart/byteranges; boundary={BOUNDARY}"
    reply.headers["Content-Length"] = str(len(reply.content))
    return reply


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hand over what either says to the other, until one ends."""
    while True:
        for speaker in select.select([one, other], [], [])[0]:
            said = speaker.recv(PIECE)
            if not said:
                return
            (other if speaker is one else one).sendall(said)
