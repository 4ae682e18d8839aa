"""Assets from a web server: any that hands out files, better one that hands out parts of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from actors.storage.sources.interface import Order, SourceSpec
from actors.storage.sources.urls import check_web_url, shown
from protocol.errors import MissingDependency

if TYPE_CHECKING:
    from actors.storage.sources.web import Web


class HttpSpec(SourceSpec):
    """A file at a URL."""

    kind: Literal["http"] = "http"
    url: Annotated[str, AfterValidator(check_web_url)]

    @classmethod
    def of_url(cls, url: str) -> HttpSpec:
        """``https://…`` or ``http://…``; ``ValueError`` where it cannot be asked."""
        return cls(url=url)

    def where(self) -> str:
        """See `SourceSpec.where`."""
        return shown(self.url)


class HttpSource:
    """Implements `Source` over `Web`; what a server may do is judged there.

    Args:
        make: gives the client whose connections are used; called at the first reading, so that a
            machine without httpx can have the other sources, and others need not import it.
    """

    ranged = True

    retries_itself = False

    def __init__(self, make: Callable[[], Web] | None = None) -> None:
        self._make = make or _default
        self._web: Web | None = None
        self._lock = threading.Lock()

    def space_needed(self, spec: HttpSpec, size: int) -> int:
        """Nothing is kept beside."""
        return 0

    def read(
        self, spec: HttpSpec, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        """See `Source.read`."""
        yield from self._connected().get(
            spec.url, offset=offset, size=size, total=order.size, versions=order.versions,
            cancelled=order.cancelled,
        )  # fmt: skip

    def _connected(self) -> Web:
        with self._lock:
            if self._web is None:
                try:
                    self._web = self._make()
                except ImportError as error:
                    raise MissingDependency(
                        'getting assets from web servers needs httpx: pip install "noyau[storage]"',
                        extra="storage",
                    ) from error
            return self._web


def _default() -> Web:
    from actors.storage.sources.web import Web

    return Web()
