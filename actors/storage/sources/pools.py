"""Open connections that are used again, by the way they take: direct, or through a proxy.

Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), as every
program on the machine has them. They are for the way out, not for this machine.
"""

from __future__ import annotations

import importlib.util
import ssl
import threading
import urllib.request
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore

from actors.storage.sources.addresses import Depth, depth_of_host
from actors.storage.sources.connecting import Backend, Resolve, resolve
from protocol.errors import AssetUnavailable, MissingDependency

MOST_IDLE: Final = 16
"""Connections kept for the next request: as many as fetch at a time, on two hosts."""
IDLE_S: Final = 15.0
"""Kept so long: fewer seconds than most servers do, and more than a chunk's checking takes."""


class Pools:
    """Thread-safe."""

    def __init__(self, resolve: Resolve = resolve) -> None:
        # What the system trusts, and what SSL_CERT_FILE names: a server in the house has an
        # authority of the house.
        self._ssl = ssl.create_default_context()
        self._resolve = resolve
        self._lock = threading.Lock()
        self._pools: dict[str, httpcore.ConnectionPool] = {}

    def toward(self, scheme: str, host: str, port: int) -> httpcore.ConnectionPool:
        """The pool whose connections lead there. Raises ``AssetUnavailable`` or
        ``MissingDependency`` for a proxy that cannot be used."""
        proxy = _proxy(scheme, host, port)
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._through(proxy) if proxy else self._direct()
            return self._pools[proxy]

    def close(self) -> None:
        """All connections; whoever reads from one gets an error."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()

    def _direct(self) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(**self._options(direct=True))

    def _through(self, proxy: str) -> httpcore.ConnectionPool:
        parts = _parts(proxy)
        auth = None
        if parts.username is not None:
            auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
        url = httpcore.URL(
            scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target="/"
        )
        options = self._options(direct=False)
        if parts.scheme.startswith("socks5"):
            if importlib.util.find_spec("socksio") is None:
                raise MissingDependency(
                    "the environment names a SOCKS proxy, which needs one more library: "
                    'pip install "httpx[socks]"'
                )
            return httpcore.SOCKSProxy(url, proxy_auth=auth, **options)
        return httpcore.HTTPProxy(url, proxy_auth=auth, **options)

    def _options(self, direct: bool) -> dict[str, Any]:
        return {
            "ssl_context": self._ssl,
            # As many as threads ask: who limits the threads limits these.
            "max_connections": None,
            "max_keepalive_connections": MOST_IDLE,
            "keepalive_expiry": IDLE_S,
            "network_backend": Backend(direct, self._resolve),
        }


def _proxy(scheme: str, host: str, port: int) -> str:
    """The proxy on the way there; empty for none."""
    if depth_of_host(host) is Depth.LOCAL:
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    return "" if not proxy or urllib.request.proxy_bypass(f"{host}:{port}") else proxy


def _parts(proxy: str) -> SplitResult:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        known = parts.scheme in ("http", "https", "socks5", "socks5h")
        if known and parts.hostname and parts.port != 0:
            return parts
        why = "it is none of http, https, socks5" if not known else "it names no host"
    except ValueError:
        why = "it is written wrongly"
    # Neither the proxy nor the error's own words: they may hold a password.
    raise AssetUnavailable(
        f"the proxy that the environment names cannot be used: {why}; correct HTTPS_PROXY, "
        "HTTP_PROXY or ALL_PROXY, or name the server in NO_PROXY"
    )
