"""What a service manager is told, and when: the variables of sd_notify(3). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from supervision.child import Child, ChildState
from supervision.health import Verdict

STATUS_S = 1.0
"""The same health with another reason is told at most so often: some reasons have numbers in them
that change all the time."""


def at_rest(children: Mapping[str, Child]) -> bool:
    """Whether every actor has come as far as it can without help: it is READY, or this machine
    lacks what it needs, or it says what keeps it from starting, or waits for one of these."""
    return all(_rests(child, children) for child in children.values())


def _rests(child: Child, children: Mapping[str, Child]) -> bool:
    match child.state:
        case ChildState.READY | ChildState.UNAVAILABLE | ChildState.FAILED | ChildState.STOPPED:
            return True
        case ChildState.STARTING:
            # It tries again by itself, which may take until somebody plugs the network in.
            return bool(child.reason)
        case ChildState.WAITING:
            needed = [children[name] for name in child.needs]
            return any(
                one.state is not ChildState.READY and _rests(one, children) for one in needed
            )
    return False


class Notices:
    """Remembers what was told. Times are monotonic seconds; what is returned is to be sent."""

    def __init__(self) -> None:
        self._ready = False
        self._stopping = False
        self._verdict: Verdict | None = None
        self._told_at = 0.0

    def look(self, now: float, children: Mapping[str, Child], whole: Verdict) -> dict[str, str]:
        """How all of them and the whole do now."""
        news = {}
        if not self._ready and not self._stopping and at_rest(children):
            self._ready = True
            news["READY"] = "1"
        if self._is_news(now, whole):
            self._verdict, self._told_at = whole, now
            # One line: a line is a variable.
            why = " ".join(whole.reason.split())
            news["STATUS"] = f"{whole.health.value}{f': {why}' if why else ''}"
        return news

    def _is_news(self, now: float, whole: Verdict) -> bool:
        if self._verdict is None or whole.health is not self._verdict.health:
            return True
        return whole.reason != self._verdict.reason and now - self._told_at >= STATUS_S

    def stopping(self) -> dict[str, str]:
        """Everything is being stopped."""
        if self._stopping:
            return {}
        self._stopping = True
        return {"STOPPING": "1"}
