"""Whether a run kept noyau's budget, and which line of it was broken. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from noyau.chaos.kinds import errors_of
from noyau.chaos.ledger import Account
from noyau.chaos.observing import Fault

ANSWERED_SHARE = 0.95
NOTICE_SPARE_S = 1.0
"""Beyond what the settings say, for a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was found when all was over."""

    orphans: list[str] = field(default_factory=list)
    """Processes that nobody answers for."""
    leaked: list[str] = field(default_factory=list)
    """Files of dead processes in the run folder."""
    unhealthy: str = ""
    """Why the system is not healthy again; empty when it is."""
    forgotten: int = 0
    """Memories that were acknowledged and are not there."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the budget."""

    promise: str
    held: bool
    found: str


def judge(
    account: Account, faults: Sequence[Fault], aftermath: Aftermath, *, interrupted: bool = False
) -> list[Line]:
    """Every line of the budget. A run that was interrupted could not see all of it to an end."""
    allowed = errors_of({fault.step.kind for fault in faults})
    strange = sorted(account.errors.keys() - allowed - {"cancelled"})
    late = [] if interrupted else [_name(fault) for fault in faults if _late(fault)]
    lost = [] if interrupted else [_name(fault) for fault in faults if not fault.over]
    share = account.answered_share
    return [
        Line("every request is accounted for", account.unaccounted == 0,
             "; ".join([f"{account.unaccounted} are not", *account.oddities[:3]])),
        Line("every stream has an end", account.streams_without_end == 0,
             f"{account.streams_without_end} have none"),
        Line("errors are of the kinds that the faults may cause", not strange,
             f"also {', '.join(strange)}"),
        Line(f"at least {ANSWERED_SHARE:.0%} are answered in the end", share >= ANSWERED_SHARE,
             f"{share:.1%}, {account.tasks_answered} of {account.tasks}"),
        Line("every fault is noticed in time", not late, "; ".join(late)),
        Line("every fault is recovered from", not lost, "; ".join(lost)),
        Line("what was acknowledged is there", aftermath.forgotten == 0,
             f"{aftermath.forgotten} memories are gone"),
        Line("no process is left behind", not aftermath.orphans, "; ".join(aftermath.orphans)),
        Line("nothing is left in the run folder", not aftermath.leaked,
             "; ".join(aftermath.leaked)),
        Line("all is healthy again", interrupted or not aftermath.unhealthy, aftermath.unhealthy),
    ]  # fmt: skip


def _late(fault: Fault) -> bool:
    """Whether it took the supervisor longer to know than its settings allow."""
    if fault.noticed_within_s is None:
        return False
    in_force_at = fault.at if fault.ordered_at is None else fault.ordered_at
    until = in_force_at + fault.noticed_within_s + NOTICE_SPARE_S
    # What was over sooner, as when the supervisor died meanwhile, needed no noticing.
    known_at = min(
        (at for at in (fault.noticed_at, fault.recovered_at) if at is not None), default=math.inf
    )
    return known_at > until


def _name(fault: Fault) -> str:
    took = "never" if fault.noticed_at is None else f"after {(fault.detect_ms or 0) / 1000:.1f} s"
    return f"{fault.step.kind} {fault.step.target} at {fault.step.at_s:.1f} s (noticed {took})"


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least this share of all does not exceed; None without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
