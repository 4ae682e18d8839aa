"""HTTP to one server, by threads that block and can be told that nobody waits any more.

A thread that blocks in a socket cannot be told anything. So the sockets belong to an event loop in
a thread of its own, and who waits for it looks up now and then: giving up is the loop's cancelling
of a task, which closes the connection, in whatever state that is (name look-up, TLS, a body that
stopped in the middle), and so tells the server too.

Every request has a connection of its own: servers close idle ones after some seconds (llama-server
and uvicorn after five), just as the next question is on its way, and it could not be known whether
it was read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

import httpx

from actors.engine.backends.openai.errors import Place
from protocol.errors import Cancelled, EngineFailed

T = TypeVar("T")
Wanted = Callable[[], bool]
"""Whether who waits for it is still to."""

LOOK_S = 0.05
"""How often who waits looks whether he is still wanted."""
SMALL_ANSWER_S = 30.0
"""For a list of models or a number of tokens: milliseconds, unless the machine is swamped."""
MAX_BODY_BYTES = 16 * 2**20
"""Of an answer that is no stream: the tokens of a long text."""


def wanted_always() -> bool:
    """Of what is small."""
    return True


class Answer:
    """One answer whose head has come. To be closed."""

    def __init__(self, connection: Connection, response: httpx.Response) -> None:
        self._connection = connection
        self._response = response
        self._chunks: AsyncIterator[bytes] = response.aiter_bytes()
        self.status = response.status_code

    def header(self, name: str) -> str:
        """Empty where there is none."""
        return str(self._response.headers.get(name, ""))

    def next(self, wanted: Wanted) -> bytes | None:
        """What comes next of the body; None at its end. Raises `EngineFailed` when it breaks off,
        `Cancelled` when it is not ``wanted`` any more."""

        async def read() -> bytes | None:
            return await anext(self._chunks, None)

        return self._connection.wait(read(), wanted)

    def read(self, wanted: Wanted = wanted_always) -> bytes:
        """The whole body. Raises as `next`, and `EngineFailed` for one that is too large."""
        body = b""
        while (chunk := self.next(wanted)) is not None:
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise EngineFailed(f"an answer of more than {MAX_BODY_BYTES} bytes")
        return body

    def close(self) -> None:
        """Also in the middle; does not wait."""
        self._connection.begin(self._response.aclose())


class Connection:
    """To one server. `open` may be called from any thread."""

    def __init__(self, place: Place, connect_timeout_s: float) -> None:
        """Raises `EngineFailed` when the environment names a proxy that cannot be used."""
        self._place = place
        self._connect_timeout_s = connect_timeout_s
        headers = {"Accept-Encoding": "identity"}
        if place.key:
            headers["Authorization"] = f"Bearer {place.key}"
        try:
            self._client = httpx.AsyncClient(
                headers=headers,
                # What the system trusts, and what SSL_CERT_FILE names: a server in the house has
                # an authority of the house.
                verify=ssl.create_default_context(),
                # Proxies of the environment are for the way out, not for this machine.
                trust_env=not is_loopback(httpx.URL(place.url).host),
                follow_redirects=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        except (ImportError, ValueError) as error:
            raise EngineFailed(
                f"the proxy that the environment names cannot be used: {error}; correct it, or "
                "name the server in NO_PROXY"
            ) from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="openai-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def close(self) -> None:
        """Close all connections; nothing is called after it."""
        self.wait(self._client.aclose(), wanted_always)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def open(
        self,
        url: str,
        body: dict[str, Any] | None = None,
        wanted: Wanted = wanted_always,
        read_timeout_s: float | None = SMALL_ANSWER_S,
    ) -> Answer:
        """Ask, and wait for the head of the answer: a GET, or with a ``body`` a POST.

        Raises `EngineFailed` when the server cannot be reached, redirects, or does not answer in
        time (``read_timeout_s`` is from one byte to the next; None: that is for the caller to
        judge), and `Cancelled` when it is not ``wanted`` any more."""
        timeout = httpx.Timeout(None, connect=self._connect_timeout_s, read=read_timeout_s)
        request = self._client.build_request(
            "GET" if body is None else "POST", url, timeout=timeout,
            content=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        came: list[httpx.Response] = []

        async def send() -> httpx.Response:
            came.append(await self._client.send(request, stream=True))
            return came[0]

        try:
            response = self.wait(send(), wanted)
        except Cancelled:
            # It may have come at the very moment when it was given up.
            self.begin(_close(came))
            raise
        answer = Answer(self, response)
        if 300 <= response.status_code < 400:
            answer.close()
            there = self._place.hide(response.headers.get("Location", "nowhere"))
            raise EngineFailed(
                f"{url} redirects to {there}, which is not followed; give the right URL at once"
            )
        return answer

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Have it done by the loop; nobody waits for it."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def wait(self, coroutine: Coroutine[Any, Any, T], wanted: Wanted) -> T:
        """Have it done by the loop, and wait for it as long as it is ``wanted``."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        while not wait([future], LOOK_S).done:
            if not wanted():
                future.cancel()
                raise Cancelled("nobody waits for it any more")
        try:
            return future.result()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> EngineFailed:
        """``details["unreachable"]``: nobody listens there; it may still be starting."""
        url, root = self._place.url, _root(error)
        # asyncio's own words for what the system said are those of a programmer.
        system = isinstance(root, ConnectionError) and root.errno and os.strerror(root.errno)
        text = self._place.hide(system or str(root) or str(error) or type(error).__name__)
        if isinstance(error, httpx.ConnectTimeout):
            return EngineFailed(
                f"{url} cannot be reached within {self._connect_timeout_s:g} s; is its address "
                "right (url)? A slow line needs more (connect_timeout_s)",
                unreachable=True,
            )
        if isinstance(error, httpx.ReadTimeout):
            return EngineFailed(f"{url} accepts connections and does not answer")
        if isinstance(root, ssl.SSLCertVerificationError):
            return EngineFailed(
                f"{url} has a certificate that is not trusted: {text}; give its authority to the "
                "system, or name it in SSL_CERT_FILE"
            )
        # What is no system's error came after the connection: TLS was not agreed upon.
        if isinstance(error, httpx.ConnectError) and (
            isinstance(root, ssl.SSLError) or not isinstance(root, OSError)
        ):
            return EngineFailed(f"{url} speaks no TLS: {text}; write http:// if that is meant")
        if isinstance(error, httpx.ConnectError):
            return EngineFailed(
                f"{url} cannot be reached: {text}; start the server, or correct url",
                unreachable=True,
            )
        return EngineFailed(f"the connection to {url} broke: {text}")


def _root(error: BaseException) -> BaseException:
    """What it began with: the layers above say no more than that there was no connection."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            deeper: BaseException | None = error.exceptions[0]
        else:
            deeper = error.__cause__ or error.__context__
        if deeper is None:
            return error
        error = deeper


async def _close(responses: list[httpx.Response]) -> None:
    for response in responses:
        await response.aclose()


def is_loopback(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
