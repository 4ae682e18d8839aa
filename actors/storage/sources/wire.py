"""Connected sockets for httpcore that look up several times a second while they wait.

httpx ends an answer at its first time-out, so short ones cannot be had from above. Below it they
can: a read that finds nothing within `LOOK_S` asks the `Watch` whether to go on waiting, and the
layers above only ever see bytes, an end, or the watch's own error.

    Web ──► httpcore ──► Stream ──► socket
     └──────── Watch of the thread ──┘
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any

import httpcore

from actors.storage.sources.watch import LOOK_S, on_duty, patiently, within
from protocol.errors import AssetUnavailable


class Stream(httpcore.NetworkStream):
    """A connected socket."""

    def __init__(self, sock: socket.socket, address: str, direct: bool) -> None:
        self._sock = sock
        self._address = address
        self._direct = direct
        sock.settimeout(LOOK_S)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes, or none at the end."""
        try:
            return patiently(lambda: self._sock.recv(max_bytes))
        except OSError as error:
            raise httpcore.ReadError(reason(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of it."""
        rest = memoryview(buffer)
        try:
            while rest:
                rest = rest[patiently(lambda: self._sock.send(rest)) :]  # noqa: B023 - called at once
        except OSError as error:
            raise httpcore.WriteError(reason(error)) from error

    def close(self) -> None:
        """From any thread."""
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        """Agree on TLS. Raises ``AssetUnavailable`` when that fails."""
        watch = on_duty()
        if isinstance(self._sock, ssl.SSLSocket):
            raise AssetUnavailable(
                f"{watch.where} lies behind a proxy that is spoken to by TLS, and TLS inside TLS "
                "is not supported: name the proxy by http:// in HTTPS_PROXY"
            )
        sock: socket.socket = self._sock
        try:
            sock = ssl_context.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            sock.settimeout(LOOK_S)
            within(watch, sock.do_handshake)
        except BaseException as error:
            sock.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise AssetUnavailable(
                    f"{watch.where} has a certificate that is not trusted: {error.verify_message}; "
                    "give its authority to the system, or name it in SSL_CERT_FILE"
                ) from error
            if isinstance(error, TimeoutError):
                raise AssetUnavailable(
                    f"{watch.where} did not agree on TLS within {watch.connect_timeout_s:g} s"
                ) from error
            if isinstance(error, (OSError, ValueError)):
                raise AssetUnavailable(f"{watch.where} speaks no TLS: {reason(error)}") from error
            raise
        return Stream(sock, self._address, self._direct)

    def get_extra_info(self, info: str) -> Any:
        """``direct``: whether ``server_addr`` is the server's own, and not that of a proxy."""
        if info == "is_readable":
            return _is_readable(self._sock)
        known = {
            "direct": self._direct,
            "server_addr": self._address,
            "socket": self._sock,
            "ssl_object": self._sock if isinstance(self._sock, ssl.SSLSocket) else None,
        }
        return known.get(info)


def _is_readable(sock: socket.socket) -> bool:
    """Of an idle connection: whether its server has closed it, or speaks unasked."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def reason(error: Exception) -> str:
    """What the operating system, or OpenSSL, says of it."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
