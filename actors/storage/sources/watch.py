"""Whether a request is still waited for: asked from below, several times a second.

Between who asks and the socket that waits stand layers that know nothing of cancelling. So the
watch of a thread is found by the thread: who waits is always who asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.sources.patience import Patience
from protocol.clock import Clock
from protocol.errors import AssetUnavailable, Cancelled

T = TypeVar("T")

LOOK_S: Final = 0.1
"""How often who waits looks up: a source must see a cancellation within a quarter of a second."""


class Watch:
    """Over one request, from the name to the last byte: whether it is still waited for."""

    def __init__(
        self, where: str, cancelled: IsCancelled, clock: Clock, patience: Patience,
        connect_timeout_s: float, stall_timeout_s: float,
    ) -> None:  # fmt: skip
        self.where = where
        """The URL, as people are shown it."""
        self.connect_timeout_s = connect_timeout_s
        self.clock = clock
        self.fresh = False
        """Whether the request has a connection that was made for it."""
        self.admit: Callable[[str], None] = _admit_all
        """Raises for an address that must not be connected to."""
        self._cancelled = cancelled
        self._patience = patience
        self._stall_timeout_s = stall_timeout_s

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """All that this thread waits for inside is waited for under this watch."""
        before = getattr(_duty, "watch", None)
        _duty.watch = self
        self._patience.wait(self.clock.now())
        try:
            yield
        finally:
            self._patience.came(0, self.clock.now())
            _duty.watch = before

    def came(self, count: int) -> None:
        """``count`` more bytes of the content are there."""
        self._patience.came(count, self.clock.now())

    def look(self) -> None:
        """Raise ``Cancelled`` once it is."""
        if self._cancelled():
            raise Cancelled(f"fetching {self.where} was cancelled")

    def look_at_server(self) -> None:
        """As `look`, and ``AssetUnavailable`` for a server that stalls or drips."""
        self.look()
        lost = self._patience.lost(self.clock.now())
        if lost == "stalled":
            raise AssetUnavailable(
                f"{self.where} sent nothing for {self._stall_timeout_s:g} s", stalled=True
            )
        if lost == "slow":
            raise AssetUnavailable(
                f"{self.where} sends less than minimum_bytes_per_s; a line that is always so slow "
                "needs a lower one", stalled=True,
            )  # fmt: skip


def _admit_all(_: str) -> None:
    """The address is in the manifest, or a proxy of the user's."""


_duty = threading.local()


def on_duty() -> Watch:
    """The watch of this thread: sockets are used by whoever waits for them, and under one alone."""
    watch: Watch = _duty.watch
    return watch


def patiently(act: Callable[[], T]) -> T:
    """``act`` on a socket, again and again until it has something or the watch has enough."""
    watch = on_duty()
    while True:
        watch.look_at_server()
        try:
            return act()
        except TimeoutError as error:
            _raise_if_broken(error)


def within(watch: Watch, act: Callable[[], object]) -> None:
    """As `patiently`, for as long as connecting may take."""
    until = watch.clock.now() + watch.connect_timeout_s
    while True:
        watch.look()
        try:
            act()
        except TimeoutError as error:
            _raise_if_broken(error)
            if watch.clock.now() >= until:
                raise
        else:
            return


def _raise_if_broken(error: TimeoutError) -> None:
    """The kernel's own time-out is the connection's end, and has a number; a look's has none."""
    if error.errno is not None:
        raise error
