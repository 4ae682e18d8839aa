"""How connections are made: a name, its addresses, the first of them that may be and can be had.

    name ──► look up, in a thread that can be left ──► which may be connected to? ──► one after
                                                                                      the other

Who is connected to is decided on the very address that is connected to: a name that leads elsewhere
when it is looked up again (DNS rebinding) has no second chance.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from actors.storage.sources.watch import LOOK_S, Watch, on_duty
from actors.storage.sources.wire import Stream, reason
from protocol.errors import AssetUnavailable

Found = tuple[int, tuple[Any, ...]]
"""The family of an address, and the address as the operating system wants it."""
Resolve = Callable[[str, int], list[Found]]
"""A host and a port as addresses; raises ``socket.gaierror``. May block."""


def resolve(host: str, port: int) -> list[Found]:
    """By the operating system."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


class Backend(httpcore.NetworkBackend):
    """Opens connections. ``direct``: to the servers themselves, and not to a proxy."""

    def __init__(self, direct: bool, resolve: Resolve = resolve) -> None:
        self._direct = direct
        self._resolve = resolve

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        """A connection to the first address that takes one, of those that are admitted."""
        watch = on_duty()
        watch.fresh = True
        until = watch.clock.now() + watch.connect_timeout_s
        found = self._look_up(host, port, watch, until)
        if self._direct:
            found = _admitted(found, watch)
        failure: OSError | None = None
        for index, (family, address) in enumerate(found):
            now = watch.clock.now()
            # A share for each: the first may be one that swallows everything.
            share = now + (until - now) / (len(found) - index)
            try:
                sock = _connect(family, address, share, watch)
            except OSError as error:
                failure = error
                continue
            return Stream(sock, address[0], self._direct)
        if isinstance(failure, TimeoutError):
            raise AssetUnavailable(
                f"{self._called(host, port)} cannot be reached within {watch.connect_timeout_s:g} s"
            ) from failure
        raise AssetUnavailable(
            f"{self._called(host, port)} cannot be reached: "
            f"{reason(failure) if failure else 'it has no address'}; check the network"
        ) from failure

    def _look_up(self, host: str, port: int, watch: Watch, until: float) -> list[Found]:
        """The addresses of a name. A look-up cannot be taken back: it ends in a thread of its own,
        whether anybody still waits for it or not."""
        answers: queue.SimpleQueue[list[Found] | Exception] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(self._resolve(host, port))
            except Exception as error:  # noqa: BLE001 - raised again by who waits
                answers.put(error)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=LOOK_S)
                break
            except queue.Empty:
                watch.look()
            if watch.clock.now() >= until:
                raise AssetUnavailable(
                    f"the name {host} was not answered for within {watch.connect_timeout_s:g} s; "
                    "check the network"
                )
        if isinstance(answer, (OSError, UnicodeError)):
            raise AssetUnavailable(
                f"the name {host} cannot be looked up: {reason(answer)}; check the network"
            ) from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _called(self, host: str, port: int) -> str:
        return f"{host}:{port}" if self._direct else f"the proxy {host}:{port}"


def _admitted(found: list[Found], watch: Watch) -> list[Found]:
    """Those that may be connected to; raises what the last one is refused with if none may."""
    admitted, refusal = [], None
    for family, address in found:
        try:
            watch.admit(address[0])
        except AssetUnavailable as error:
            refusal = error
        else:
            admitted.append((family, address))
    if refusal is not None and not admitted:
        raise refusal
    return admitted


def _connect(family: int, address: tuple[Any, ...], until: float, watch: Watch) -> socket.socket:
    """Raises ``OSError``; ``TimeoutError`` at ``until``."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        begun = sock.connect_ex(address)
        if begun not in (0, errno.EINPROGRESS):
            raise OSError(begun, os.strerror(begun))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(LOOK_S * 1000):
            watch.look()
            if watch.clock.now() >= until:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except BaseException:
        sock.close()
        raise
    return sock
