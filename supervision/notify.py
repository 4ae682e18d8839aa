"""Tells a service manager how the supervisor does: the protocol of sd_notify(3).

One datagram to the socket that ``$NOTIFY_SOCKET`` names, with lines ``NAME=VALUE``. Whatever
becomes of that socket does no harm here: what could not be sent waits, the newest of each name, and
is tried again at the next look.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import structlog

from supervision.child import Child
from supervision.health import Verdict, judge_system
from supervision.notices import Notices

log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Service:
    """What a service manager told this process."""

    address: str
    """Path of its socket; ``@`` begins a name in the abstract namespace."""
    watchdog_s: float | None = None
    """It ends this process when it hears nothing for so long; None when it does not."""


def take_service(environ: MutableMapping[str, str], pid: int) -> Service | None:
    """The service manager of this process, None without one. What it said is removed from the
    environment: it is meant for this process, and for none that this one starts."""
    address = environ.pop("NOTIFY_SOCKET", "")
    watchdog_us = environ.pop("WATCHDOG_USEC", "")
    meant = environ.pop("WATCHDOG_PID", str(pid))
    if not address.startswith(("/", "@")):
        # Systemd has others, of virtual machines, which are no business of a user's program.
        return None
    watched = meant == str(pid) and watchdog_us.isdecimal() and int(watchdog_us) > 0
    return Service(address, int(watchdog_us) / 1e6 if watched else None)


class Notifier:
    """Tells it, from the supervisor's event loop; without one it does nothing."""

    def __init__(self, service: Service | None) -> None:
        self._service = service
        self._notices = Notices()
        self._unsent: dict[str, str] = {}
        self._failed = False
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        if service is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def start(self) -> None:
        """Show that the event loop turns, twice as often as is asked for."""
        if self._service is not None and self._service.watchdog_s is not None:
            self._next = self._loop.call_later(self._service.watchdog_s / 2, self.start)
            self._tell({"WATCHDOG": "1"})

    def look(
        self, now: float, children: Mapping[str, Child], verdicts: Mapping[str, Verdict]
    ) -> None:
        """How everybody does at ``now`` (monotonic seconds)."""
        if self._service is not None:
            self._tell(self._notices.look(now, children, judge_system(verdicts.items())))

    def stopping(self) -> None:
        """Everything is being stopped. Calling it again changes nothing."""
        if self._service is not None:
            self._tell(self._notices.stopping())

    def stop(self) -> None:
        """Tell nothing more."""
        if self._next is not None:
            self._next.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, news: Mapping[str, str]) -> None:
        self._unsent |= news
        if not self._unsent or self._socket is None or self._service is None:
            return
        address = self._service.address
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        lines = "".join(f"{name}={value}\n" for name, value in self._unsent.items())
        try:
            self._socket.sendto(lines.encode(), address)
        except OSError as error:
            if not self._failed:
                log.warning("service_manager_not_told", error=str(error))
            self._failed = True
            return
        self._failed = False
        self._unsent.clear()
