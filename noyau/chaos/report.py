"""The report of a run: one object for programs, tables for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from noyau.chaos.ledger import Account
from noyau.chaos.observing import Fault, Observations
from noyau.chaos.verdict import Aftermath, Line, judge, percentile


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known of a run when it is over."""

    seed: int
    seconds: float
    account: Account
    observed: Observations
    aftermath: Aftermath
    interrupted: bool = False

    @property
    def lines(self) -> list[Line]:
        """The budget, line by line."""
        return judge(
            self.account, self.observed.faults, self.aftermath, interrupted=self.interrupted
        )

    @property
    def held(self) -> bool:
        """Whether the whole budget was kept."""
        return all(line.held for line in self.lines)


def as_object(report: Report) -> dict[str, Any]:
    """The report for programs. Times are in milliseconds, None where nothing was measured."""
    account, faults = report.account, report.observed.faults
    return {
        "faults": {
            "total": len(faults),
            "by_kind": dict(Counter(fault.step.kind for fault in faults)),
            "by_target": dict(Counter(fault.step.target for fault in faults)),
        },
        "requests": {
            "sent": account.sent,
            "answered": account.answered,
            "typed_errors": account.typed_errors,
            "unaccounted": account.unaccounted,
        },
        "streams_without_end": account.streams_without_end,
        "orphans": len(report.aftermath.orphans),
        "leaked": len(report.aftermath.leaked),
        "detect_ms": _spread(fault.detect_ms for fault in faults),
        "recover_ms": _spread(fault.recover_ms for fault in faults),
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "interrupted": report.interrupted,
        "answered_share": round(account.answered_share, 4),
        "errors": account.errors,
        "skipped": report.observed.skipped,
        "kinds": {
            kind: {
                "count": len(some),
                "detect_ms": _spread(fault.detect_ms for fault in some),
                "recover_ms": _spread(fault.recover_ms for fault in some),
            }
            for kind, some in _by_kind(faults).items()
        },
        "held": report.held,
        "broken": [f"{line.promise}: {line.found}" for line in report.lines if not line.held],
    }


def _spread(values: Iterable[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    found = {"p50": percentile(known, 0.5), "p99": percentile(known, 0.99)}
    return {name: None if value is None else round(value, 1) for name, value in found.items()}


def _by_kind(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = {}
    for fault in faults:
        found.setdefault(fault.step.kind, []).append(fault)
    return found


def as_tables(report: Report) -> RenderableType:
    """The report for people."""
    account = report.account
    errors = ", ".join(f"{count} {code}" for code, count in sorted(account.errors.items()))
    parts: list[RenderableType] = [
        _faults(report.observed.faults),
        Text(
            f"\n{account.sent} requests: {account.answered} answered, "
            f"{account.typed_errors} typed errors{f' ({errors})' if errors else ''}, "
            f"{account.unaccounted} unaccounted for; {account.answered_share:.1%} of what clients "
            "wanted was answered in the end"
        ),
    ]
    if report.observed.skipped:
        parts.append(
            Text(f"{len(report.observed.skipped)} faults found no process to hit", style="dim")
        )
    parts.append(Text(f"seed {report.seed}, {report.seconds:.0f} s\n", style="dim"))
    parts += [_line(line) for line in report.lines]
    said = ("the budget held", "bold green") if report.held else ("the budget broke", "bold red")
    return Group(*parts, Text(*said))


def _faults(faults: Sequence[Fault]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("fault", style="bold", header_style="dim")
    for name in ("count", "noticed p50", "p99", "recovered p50", "p99 "):
        table.add_column(name, justify="right", header_style="dim")
    kinds = _by_kind(faults)
    for kind, some in kinds.items():
        table.add_row(kind, *_row(some))
    if len(kinds) != 1:
        table.add_row("all", *_row(faults))
    return table


def _row(faults: Sequence[Fault]) -> list[str]:
    detect = _spread(fault.detect_ms for fault in faults)
    recover = _spread(fault.recover_ms for fault in faults)
    return [str(len(faults)), *(_ms(one) for one in (*detect.values(), *recover.values()))]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _line(line: Line) -> Text:
    if line.held:
        return Text.assemble(("✓ ", "green"), line.promise)
    return Text.assemble(("✗ ", "red"), (f"{line.promise}: {line.found}", "red"))
