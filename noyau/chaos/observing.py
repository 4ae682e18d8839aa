"""What followed each fault: the first sign that the supervisor knows, the first answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from noyau.chaos.kinds import KINDS
from noyau.chaos.plan import Step

SIGNS = (
    "actor.died", "actor.hung", "actor.killed", "actor.failed", "actor.too_large",
    "actor.stopped", "spawner.died", "spawner.silent", "guard.died", "guard.failed",
)  # fmt: skip
"""Events that tell of a fault in whom they name."""


@dataclass(slots=True)
class Fault:
    """One that was put in. Times are monotonic seconds."""

    step: Step
    at: float
    epoch: str = ""
    """Of the process that was hit."""
    replaces: bool = False
    """Whether another process is to take its place."""
    noticed_within_s: float | None = None
    """After so long the supervisor has to know; None where it need not."""
    ordered_at: float | None = None
    """When the answer to its order came: it is in force by then, and that time is counted from
    here."""
    noticed_at: float | None = None
    sign: str = ""
    """What told that the supervisor knows."""
    recovered_at: float | None = None
    by: str = ""
    """The epoch, boot or process id that answered."""

    def begins(self, now: float) -> None:
        """It is put in at this moment, and not before: what was seen till now is not of it."""
        self.at, self.noticed_at, self.sign = now, None, ""

    @property
    def detect_ms(self) -> float | None:
        """From the fault to the first sign of it."""
        return None if self.noticed_at is None else (self.noticed_at - self.at) * 1000

    @property
    def recover_ms(self) -> float | None:
        """From the fault to the first answer after it."""
        return None if self.recovered_at is None else (self.recovered_at - self.at) * 1000

    @property
    def over(self) -> bool:
        """Whether nothing more is waited for."""
        return self.recovered_at is not None


@dataclass(slots=True)
class Observations:
    """All faults of a run, and those that could not be put in."""

    faults: list[Fault] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Why, for each: its process was not there at that moment."""

    def begun(self, step: Step, now: float) -> Fault:
        """A fault is put in at this moment."""
        fault = Fault(step, now)
        self.faults.append(fault)
        return fault

    def withdrawn(self, fault: Fault, why: str) -> None:
        """It could not be put in."""
        self.faults.remove(fault)
        self.skipped.append(f"{fault.step.kind} {fault.step.target}: {why}")

    def told(self, name: str, what: str, text: str, now: float) -> None:
        """An event of the supervisor's came."""
        if what in SIGNS or (
            what == "health.changed" and not text.startswith(f"{name} is healthy")
        ):
            self._sign(name, text, now)

    def entry(self, name: str, epoch: str, *, well: bool, state: str, now: float) -> None:
        """The directory says this of an actor; ``well``: READY and healthy."""
        for fault in self.faults:
            if fault.step.target == name and fault.noticed_at is None and not fault.over:
                if epoch != fault.epoch and fault.epoch:
                    self._notice(fault, f"{name} is {state}, {fault.epoch} is gone", now)
                elif not well:
                    self._notice(fault, f"{name} is {state}", now)

    def supervisor_lost(self, now: float) -> None:
        """The connection to the supervisor was cut."""
        self._sign("supervisor", "the connection to the supervisor was cut", now)

    def _sign(self, name: str, text: str, now: float) -> None:
        for fault in self.faults:
            if fault.step.target == name and fault.noticed_at is None and not fault.over:
                self._notice(fault, text, now)

    def _notice(self, fault: Fault, text: str, now: float) -> None:
        # A sign of a fault that leaves none is one of something else.
        if KINDS[fault.step.kind].seen:
            fault.noticed_at, fault.sign = now, text

    def recovered(self, fault: Fault, by: str, now: float) -> None:
        """The process that was hit, or the next one, answered."""
        if fault.recovered_at is None:
            fault.recovered_at, fault.by = now, by

    @property
    def pending(self) -> list[Fault]:
        """Those that have not been recovered from yet."""
        return [fault for fault in self.faults if not fault.over]
