"""Files from the web, whatever the server does: the one home of httpx in this actor.

    get ──► ask ──► redirect? ──► may it lead there? ──► ask there, five times at most
                        no
                        └──► judge the head ──► same version as before? ──► bytes, counted

A server may be slow, cut off, lie about lengths, hand over another stretch, send us elsewhere or
never end. What comes out is what was asked for, or one error that says what was wrong; whether it
is the right file, its hash says.

httpx's own client is left out: it keeps cookies, logs whole URLs, and raises at a redirect that it
is told not to follow. Connections are kept by `actors.storage.sources.pools`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import Final

import httpcore
import httpx

from actors.storage.publishing import never
from actors.storage.sources.addresses import Depth, depth_of, depth_of_host
from actors.storage.sources.answers import (
    REDIRECTS,
    Head,
    Wanted,
    changed,
    check_end,
    cut,
    judge,
    stretch_of,
    too_long,
)
from actors.storage.sources.connecting import Resolve, resolve
from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.sources.interface import NotThere, Versions
from actors.storage.sources.patience import Patience
from actors.storage.sources.pools import Pools
from actors.storage.sources.urls import (
    MOST_REDIRECTS,
    SETTING,
    check_redirect,
    check_web_url,
    inside,
    place_of,
    refused,
    shown,
)
from actors.storage.sources.watch import Watch
from actors.storage.sources.wire import reason
from protocol.clock import Clock, MonotonicClock
from protocol.errors import AssetUnavailable

MOST_BYTES: Final = 64 << 20
"""Of an answer of which nobody knows how long it is: as many as a manifest may have."""
_DRAINED: Final = 64 << 10
"""Of a redirect's own page: reading it away costs less than a new connection, up to here."""
_HEADERS: Final = {"User-Agent": "noyau", "Accept": "*/*", "Accept-Encoding": "identity"}
_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError)


class Web:
    """Asks web servers. One object serves any number of threads, and keeps connections for them.

    Args:
        connect_timeout_s: for the name, the connection and TLS, each. A lost packet is sent again
            after 1, 3 and 7 s: this waits for the third.
        stall_timeout_s: without one byte of the content, also before the first. Whoever resumes
            loses nothing by a new connection, so it need not be long.
        minimum_bytes_per_s: less than this over ``rate_window_s`` of waiting is given up. Eight
            connections over the slowest line in use (EDGE, 30 kB/s) have more each; a server that
            sends a byte now and then, for which a stall time-out is no bound, has not.
        allow_private_redirects: whether a server of the internet may send us on to an address of a
            private network or of this machine.
        clock: what all of these are measured with.
        resolve: names as addresses.
        depth_of: how far inside an address lies.
    """

    def __init__(
        self, *, connect_timeout_s: float = 15.0, stall_timeout_s: float = 30.0,
        minimum_bytes_per_s: float = 1024.0, rate_window_s: float = 30.0,
        allow_private_redirects: bool = False, clock: Clock | None = None,
        resolve: Resolve = resolve, depth_of: Callable[[str], Depth] = depth_of,
    ) -> None:  # fmt: skip
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._minimum_bytes_per_s = minimum_bytes_per_s
        self._rate_window_s = rate_window_s
        self._allow_private_redirects = allow_private_redirects
        self._clock = clock or MonotonicClock()
        self._depth_of = depth_of
        self._pools = Pools(resolve)

    def close(self) -> None:
        """All connections. Nobody reads or asks any more by then."""
        self._pools.close()

    def get(
        self, url: str, *, offset: int | None = None, size: int | None = None,
        most: int | None = None, total: int | None = None, versions: Versions | None = None,
        cancelled: IsCancelled = never,
    ) -> Generator[bytes, None, None]:  # fmt: skip
        """What lies at ``url``, or the ``size`` bytes of it that begin at ``offset``, in pieces.

        Whoever stops early closes the generator; the connection is closed then. It tries once.

        Args:
            offset: given together with ``size``, or not at all.
            most: bytes of the whole, at most, where ``total`` is not known; `MOST_BYTES` if not
                given.
            total: bytes of the whole, where they are known: a server that has others is wrong.
            versions: what earlier answers of the same file said of its version.
            cancelled: is asked at least four times a second.

        Raises:
            AssetUnavailable: nothing came, or too little, or too slowly, or another version than
                before (``changed`` in its details). ``retry_after_s`` where the server said so.
            NotThere: it has no such file or not for us, or sends us to where it must not
                (`RedirectRefused`), or ``url`` is none.
            NoRanges: only the whole can be had.
            AssetCorrupt: what comes cannot be what was asked for.
            MissingDependency: the environment names a proxy that needs another library.
            Cancelled: as asked.
        """
        stretch = stretch_of(offset, size, total)
        try:
            check_web_url(url)
        except ValueError as error:
            raise NotThere(f"{shown(url)!r:.200} cannot be asked: {error}") from None
        watch = self._watch(url, cancelled)
        answer = self._follow(url, stretch, watch)
        try:
            wanted = Wanted(watch.where, most or total or MOST_BYTES, total, stretch)
            head = judge(answer.status, answer.headers, wanted, datetime.now(UTC))
            if versions is not None:
                name = versions.changed(place_of(str(answer.url)), head.version)
                if name is not None:
                    raise changed(wanted, name)
            yield from _content(answer, head, wanted, watch)
        finally:
            answer.close()

    def _watch(self, url: str, cancelled: IsCancelled) -> Watch:
        patience = Patience(self._stall_timeout_s, self._minimum_bytes_per_s, self._rate_window_s)
        return Watch(
            shown(url), cancelled, self._clock, patience, self._connect_timeout_s,
            self._stall_timeout_s,
        )  # fmt: skip

    def _follow(self, url: str, stretch: tuple[int, int] | None, watch: Watch) -> _Answer:
        """The answer that is no redirect, however many led there."""
        here, allowed = url, Depth.LOCAL
        for followed in range(MOST_REDIRECTS + 1):
            answer = self._ask(here, stretch, watch)
            try:
                depth = self._depth(answer)
                if followed == 0 and not self._allow_private_redirects:
                    allowed = depth
                if depth > allowed:
                    # A connection that was open already: the others are judged as they are made.
                    raise refused(url, here, inside(answer.url.host, depth), SETTING)
                if answer.status not in REDIRECTS or "location" not in answer.headers:
                    return answer
                there = _join(answer, url)
                check_redirect(url, here, there, allowed)
                _drain(answer, watch)
            except BaseException:
                answer.close()
                raise
            answer.close()
            here = there
            watch.where = f"{shown(here)} (where {shown(url)} led to)"
            watch.admit = self._gate(url, here, allowed)
        raise refused(url, here, f"more than {MOST_REDIRECTS} redirects, one after the other")

    def _gate(self, asked: str, there: str, allowed: Depth) -> Callable[[str], None]:
        """What a redirect's addresses are held against before one is connected to."""

        def admit(address: str) -> None:
            depth = self._depth_of(address)
            if depth > allowed:
                raise refused(asked, there, inside(address, depth), SETTING)

        return admit

    def _depth(self, answer: _Answer) -> Depth:
        """Of who really answered. Behind a proxy only the name is known, and the proxy decides."""
        if answer.stream.get_extra_info("direct"):
            return self._depth_of(answer.stream.get_extra_info("server_addr"))
        return depth_of_host(answer.url.host)

    def _ask(self, url: str, stretch: tuple[int, int] | None, watch: Watch) -> _Answer:
        """The answer's head. Raises ``AssetUnavailable`` and what the watch raises."""
        headers = dict(_HEADERS)
        if stretch is not None:
            headers["Range"] = f"bytes={stretch[0]}-{sum(stretch) - 1}"
        request = httpx.Request("GET", url, headers=headers)
        while True:
            watch.fresh = False
            try:
                with watch.waiting():
                    return _Answer(request.url, self._send(request))
            except _BROKEN as error:
                # A server may close an idle connection at the very moment when it is used again.
                if watch.fresh:
                    raise AssetUnavailable(
                        f"{watch.where} gave no answer: {reason(error)}"
                    ) from error
            except httpcore.ProxyError as error:
                raise AssetUnavailable(
                    f"the proxy on the way to {watch.where} refuses: {reason(error)}"
                ) from error

    def _send(self, request: httpx.Request) -> httpcore.Response:
        url = request.url
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        pool = self._pools.toward(url.scheme, url.host, port)
        return pool.handle_request(
            httpcore.Request(request.method, target, headers=request.headers.raw)
        )


class _Answer:
    """Whose head has come. To be closed: its connection is used again if all of it was read."""

    def __init__(self, url: httpx.URL, response: httpcore.Response) -> None:
        self.url = url
        self.status = response.status
        self.headers = httpx.Headers(response.headers)
        self.stream: httpcore.NetworkStream = response.extensions["network_stream"]
        self.content = response.iter_stream()
        self.close = response.close


def _content(answer: _Answer, head: Head, wanted: Wanted, watch: Watch) -> Iterator[bytes]:
    """All that was promised, and not a byte more."""
    allowed, done = wanted.most if head.size is None else head.size, 0
    while True:
        try:
            with watch.waiting():
                piece = next(answer.content, None)
        except _BROKEN as error:
            raise cut(done, head.size, wanted) from error
        if piece is None:
            break
        if done + len(piece) > allowed:
            raise too_long(wanted, allowed)
        watch.came(len(piece))
        done += len(piece)
        yield piece
    check_end(done, head, wanted)


def _drain(answer: _Answer, watch: Watch) -> None:
    """Read a redirect's own page, so that its connection can be used again."""
    length = answer.headers.get("content-length", "")
    if not (length.isdecimal() and int(length) <= _DRAINED):
        return
    try:
        with watch.waiting():
            for _ in answer.content:
                pass
    except _BROKEN as error:
        raise AssetUnavailable(f"{watch.where} was cut while redirecting") from error


def _join(answer: _Answer, asked: str) -> str:
    """Where a redirect leads, as a whole URL."""
    location = answer.headers["location"]
    try:
        return str(answer.url.join(location).copy_with(fragment=None))
    except httpx.InvalidURL as error:
        written = location[:200].encode("ascii", "backslashreplace").decode()
        raise refused(asked, written, f"it is no URL ({error})") from None
