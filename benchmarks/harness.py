"""What every benchmark shares: its arguments, alternating rounds, statistics and the report.

A benchmark's contestants take turns within one run, so that whatever else the machine does hits
all of them alike, and it compares them round by round. Its last line on stdout is JSON::

    {"name": …, "figures": {KEY: {"value": NUMBER or null, "unit": TEXT, "reach": TEXT or null}}}
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from benchmarks.system import System, without_default_actors

__all__ = [
    "Figure",
    "Options",
    "System",
    "alternate",
    "end_in_order",
    "median_ratio",
    "p99",
    "parse_arguments",
    "progress",
    "show_figures",
    "show_table",
    "takes_part",
    "without_default_actors",
]

T = TypeVar("T")

QUICK_S = 45.0
"""What a benchmark may take with ``--quick``, all its starting and stopping included."""
_RESERVE_S = 8.0
"""Of that, what is left for stopping when no further round is begun."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly to measure."""

    quick: bool
    runs: int
    """Rounds, besides the one that warms up."""
    began: float = field(default_factory=time.monotonic)
    latest: float = math.inf
    """When a part of a benchmark must be over, in monotonic seconds."""

    @property
    def until(self) -> float:
        """When no further round may be under way, in monotonic seconds."""
        return min(self.latest, self.began + QUICK_S - _RESERVE_S) if self.quick else math.inf

    @property
    def is_over(self) -> bool:
        """Whether no further round is to be begun."""
        return time.monotonic() > self.until

    def part(self, share: float, *, most_runs: int | None = None) -> Options:
        """The same for a part of a benchmark: with ``--quick`` it may take ``share`` of the time
        that is left, and in any case no more than ``most_runs`` rounds."""
        now = time.monotonic()
        return replace(
            self,
            runs=min(self.runs, most_runs or self.runs),
            latest=now + share * (self.until - now) if self.quick else math.inf,
        )


def parse_arguments(
    description: str | None, *, runs: int, quick_runs: int, arguments: Sequence[str] | None = None
) -> Options:
    """The command line of a benchmark whose usual number of rounds is ``runs``."""
    summary = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument(
        "--quick", action="store_true", help=f"a rougher figure, within {QUICK_S:g} s"
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help=f"rounds (default: {runs})")
    given = parser.parse_args(arguments)
    return Options(given.quick, given.runs or (quick_runs if given.quick else runs))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def end_in_order() -> None:
    """Have SIGTERM end this benchmark as Ctrl-C does: everything it started ends, its folders go.

    Without it what runs ends too, as the kernel tells it, but leaves its folders.
    """
    # A script's background job starts with it ignored, and would not end at SIGTERM either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


async def alternate(
    contestants: Mapping[str, Callable[[], Awaitable[T]]],
    options: Options,
    *,
    warm_up: bool = True,
    rounds: Mapping[str, int] | None = None,
) -> dict[str, list[T]]:
    """Have each contestant do one round in turn, ``options.runs`` times over.

    Returns every contestant's results, as many for each. ``rounds`` names those whose rounds take
    long and how many of them are enough: they sit out the other turns, evenly over the run. With
    ``warm_up`` the others take one more turn first, which is not counted. With ``--quick`` it ends
    early rather than late.
    """
    fewer = rounds or {}
    results: dict[str, list[T]] = {name: [] for name in contestants}
    longest = dict.fromkeys(contestants, 0.0)
    for turn in range(-1 if warm_up else 0, options.runs):
        if turn < 0:
            names = [name for name in contestants if name not in fewer]
        else:
            wanted = {name: fewer.get(name, options.runs) for name in contestants}
            names = [n for n, count in wanted.items() if takes_part(turn, options.runs, count)]
        if turn > 0 and time.monotonic() + sum(longest[name] for name in names) > options.until:
            break
        for name in names:
            began = time.monotonic()
            result = await contestants[name]()
            longest[name] = max(longest[name], time.monotonic() - began)
            if turn >= 0:
                results[name].append(result)
    return results


def takes_part(turn: int, turns: int, rounds: int) -> bool:
    """Whether one who takes ``rounds`` of all turns takes this one; the first is always taken."""
    return rounds >= turns or turn * rounds % turns < rounds


def progress(text: str) -> None:
    """One line on a long work, beside the report: to standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)


def p99(values: Sequence[float]) -> float:
    """The value that 99 % of the values do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


def median_ratio(ours: Sequence[float], others: Sequence[float]) -> float | None:
    """The median over the rounds of ours divided by theirs; None where they did not take part.
    Both took part in the same turns.

    Round by round, because a machine that is busy for a while slows both sides of a round.
    """
    ratios = [mine / theirs for mine, theirs in zip(ours, others, strict=False)]
    return statistics.median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. ``reach`` is what it should reach, such as ``>= 0.45``; None for a plain fact."""

    value: float | None
    unit: str
    reach: str | None = None

    @property
    def reached(self) -> bool | None:
        """Whether it is; None where nothing is to be reached or nothing was measured."""
        if self.value is None or self.reach is None:
            return None
        comparison, _, target = self.reach.partition(" ")
        return _COMPARISONS[comparison](self.value, float(target))


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, all others, numbers mostly, to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
    print()


def show_figures(name: str, figures: Mapping[str, Figure]) -> None:
    """Print the figures as a table, then as the JSON line that ends a benchmark's output."""
    verdicts = {True: "yes", False: "no", None: "-"}
    show_table(
        [f"{name}: figure", "value", "unit", "to reach", "reached"],
        [
            [key, _text(one.value), one.unit, one.reach or "-", verdicts[one.reached]]
            for key, one in figures.items()
        ],
    )
    print(
        f"{os.cpu_count()} cores with a load of {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}: compare ratios, not absolute values."
    )
    print(
        json.dumps(
            {
                "name": name,
                "figures": {
                    key: {"value": _rounded(one.value), "unit": one.unit, "reach": one.reach}
                    for key, one in figures.items()
                },
            }
        ),
        flush=True,
    )


def _rounded(value: float | None) -> float | None:
    """Four digits: more would be noise."""
    return None if value is None else float(f"{value:.4g}")


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
