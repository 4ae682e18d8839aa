"""Which models are loaded, and which make room for another. Pure.

The first one is loaded at the start; others when they are asked for. Room is made by those that
were used least recently and that nobody uses now; and those that nobody asked for within their
time go by themselves, the first one excepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocol.errors import Overloaded, UnusableModel

RETRY_AFTER_S = 0.5
"""For who wants a model for which others that are in use leave no room."""


@dataclass(slots=True)
class _Loaded:
    size_bytes: int
    used_at: float
    keep_alive_s: float
    users: int = 0


class Shelf:
    """Of one engine. Times are monotonic seconds, sizes bytes of memory."""

    def __init__(self, first: str, most: int, keep_alive_s: float) -> None:
        """``first``: the name of the model that stays; ``most``: so many are loaded at a time."""
        self._first = first
        self._most = most
        self._keep_alive_s = keep_alive_s
        self._loaded: dict[str, _Loaded] = {}

    def put(self, name: str, size_bytes: int, now: float) -> None:
        """It is loaded now."""
        self._loaded[name] = _Loaded(size_bytes, now, self._keep_alive_s)

    def remove(self, name: str) -> None:
        """It is loaded no more."""
        self._loaded.pop(name, None)

    def hold(self, name: str, now: float) -> None:
        """Somebody uses it: it stays until `release`."""
        one = self._loaded[name]
        one.users += 1
        one.used_at = now

    def release(self, name: str, now: float, keep_alive_s: float | None = None) -> None:
        """Somebody uses it no more; ``keep_alive_s``: for how long it stays after that, if that is
        another time than usual."""
        one = self._loaded.get(name)
        if one is None:
            return
        one.users -= 1
        one.used_at = now
        one.keep_alive_s = self._keep_alive_s if keep_alive_s is None else keep_alive_s

    def to_unload(self, name: str, size_bytes: int, free_bytes: int) -> list[str]:
        """Those that make room for one that needs so much, where so much memory is free.

        Raises `Overloaded` where those in use leave no room, and `UnusableModel` where there would
        be none without all others either.
        """
        idle = sorted(
            (one.used_at, other) for other, one in self._loaded.items() if not one.users
        )  # fmt: skip
        leaving: list[str] = []
        count = len(self._loaded)
        for _, other in idle:
            if count < self._most and free_bytes >= size_bytes:
                break
            leaving.append(other)
            count -= 1
            free_bytes += self._loaded[other].size_bytes
        if count < self._most and free_bytes >= size_bytes:
            return leaving
        in_use = sum(one.size_bytes for one in self._loaded.values() if one.users)
        if count >= self._most or free_bytes + in_use >= size_bytes:
            raise Overloaded(
                f"the models in use leave no room for {name}", retry_after_s=RETRY_AFTER_S
            )
        raise UnusableModel(
            f"the model {name} needs about {size_bytes / 1e9:.1f} GB, and with no other one loaded "
            f"{(free_bytes + in_use) / 1e9:.1f} GB of memory would be free; take a smaller one, or "
            "less context (context_tokens)",
            needed_bytes=size_bytes,
        )

    def due(self, now: float) -> list[str]:
        """Those whose time is over."""
        return [name for name, at in self._ends() if at <= now]

    @property
    def next_due(self) -> float | None:
        """When the next one's time is over; None where nobody's ever is."""
        return min((at for _, at in self._ends()), default=None)

    def _ends(self) -> Iterator[tuple[str, float]]:
        for name, one in self._loaded.items():
            if name != self._first and not one.users:
                yield name, one.used_at + one.keep_alive_s
