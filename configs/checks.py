"""The rules that span more than one setting: who needs whom, and which number bounds which.

Pure functions over plain values, so that they can also be asked about settings that are wrong
elsewhere: a user gets those errors and these in one go.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class ActorView(NamedTuple):
    """What the rules look at in an actor's entry."""

    enabled: bool
    needs: Sequence[str]
    uses: Sequence[str] = ()


class CrossProblem(NamedTuple):
    """Settings that contradict each other; changing any of those involved can mend it."""

    involved: tuple[tuple[str, ...], ...]
    problem: str
    remedy: str


# (the smaller one, the larger one, the reason given to the user)
_NOT_LARGER = (
    (
        ("supervisor", "heartbeat_interval_s"),
        ("supervisor", "heartbeat_missed_after_s"),
        "every actor would look unhealthy between two heartbeats",
    ),
    (
        ("restart", "backoff_first_s"),
        ("restart", "backoff_max_s"),
        "the first wait would be longer than the longest",
    ),
    (
        ("health", "degraded_error_rate"),
        ("health", "unhealthy_error_rate"),
        "an actor would be unhealthy before it is degraded",
    ),
    (
        ("supervisor", "heartbeat_interval_s"),
        ("hang", "idle_s"),
        "every idle actor would be taken for hung between two heartbeats",
    ),
    (
        ("hang", "look_interval_s"),
        ("hang", "idle_s"),
        "an actor would be taken for hung at the first look",
    ),
    (
        ("hang", "stuck_s"),
        ("hang", "working_s"),
        "work that computes would have less time than work that does not",
    ),
)


def check_actors(actors: Mapping[str, ActorView], engines: Sequence[str]) -> list[CrossProblem]:
    """All names that lead nowhere and all cycles; disabled actors count as absent."""
    found = []
    enabled = {name: view for name, view in actors.items() if view.enabled}
    for name, view in enabled.items():
        for needed in dict.fromkeys(view.needs):
            if needed not in enabled:
                found.append(_lost(("actors", name, "needs"), needed, actors))
        for used in dict.fromkeys(view.uses):
            if used not in actors:
                found.append(_lost(("actors", name, "uses"), used, actors))
    # An engine that is switched off is passed over, as long as another one is left.
    no_engine = engines and not any(engine in enabled for engine in engines)
    for engine in dict.fromkeys(engines):
        if engine not in actors or (no_engine and engine not in enabled):
            found.append(_lost(("query", "engines"), engine, actors))
    cycle = find_cycle({name: [*view.needs, *view.uses] for name, view in enabled.items()})
    if cycle:
        found.append(
            CrossProblem(
                tuple(("actors", name, "needs") for name in cycle[:-1]),
                f"actors wait for each other: {' → '.join(cycle)}",
                "remove one of these needs",
            )
        )
    return found


def check_numbers(sections: Mapping[str, Any]) -> list[CrossProblem]:
    """All pairs of numbers that are the wrong way round. Values that are no numbers are skipped."""
    found = []
    for smaller, larger, reason in _NOT_LARGER:
        low, high = _number(sections, smaller), _number(sections, larger)
        if low is not None and high is not None and low > high:
            found.append(
                CrossProblem(
                    (larger, smaller),
                    f"{'.'.join(larger)} ({high:g}) is less than {'.'.join(smaller)} ({low:g}), "
                    f"so {reason}",
                    f"make {larger[-1]} at least {low:g}{_unit(larger[-1])}",
                )
            )
    return found


MAX_PORT = 65_535


def check_ports(actors: Mapping[str, ActorView], listen: Any) -> list[CrossProblem]:
    """Whether each of the actors finds a port above the one in ``remote.listen``."""
    _, _, port = listen.rpartition(":") if isinstance(listen, str) else ("", "", "")
    enabled = sum(view.enabled for view in actors.values())
    last = int(port) + enabled if port.isascii() and port.isdigit() else 0
    if last <= MAX_PORT or int(port) > MAX_PORT:
        return []
    return [
        CrossProblem(
            (("remote", "listen"),),
            f"each actor takes one of the ports above remote.listen, up to {last}, and there are "
            f"none above {MAX_PORT}",
            f"make its port {last - MAX_PORT} lower, at least",
        )
    ]


def _unit(name: str) -> str:
    return " seconds" if name.endswith("_s") else ""


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle as the names on it, the first repeated at the end; empty when there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for needed in needs.get(name, ()):
            cycle = walk(needed, [*path, name])
            if cycle:
                return cycle
        done.add(name)
        return []

    for name in sorted(needs):
        cycle = walk(name, [])
        if cycle:
            return cycle
    return []


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name most like the given one, or None when none is alike."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _lost(setting: tuple[str, ...], name: str, actors: Mapping[str, ActorView]) -> CrossProblem:
    if name in actors:
        where = ".".join(setting)
        return CrossProblem(
            (setting, ("actors", name, "enabled")),
            f"{where} names {name}, which is switched off",
            f"set actors.{name}.enabled=true, or take it out of {where}",
        )
    enabled = sorted(known for known, view in actors.items() if view.enabled)
    alike = nearest(name, enabled)
    remedy = f"did you mean {alike}?" if alike else f"there are: {', '.join(enabled) or 'none'}"
    return CrossProblem((setting,), f"there is no actor {name!r}", remedy)


def _number(sections: Mapping[str, Any], setting: tuple[str, ...]) -> float | None:
    value: Any = sections
    for part in setting:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
