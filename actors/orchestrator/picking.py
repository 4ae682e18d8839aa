"""The engine that is asked next: out of those that are READY, or as soon as one is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from actors.orchestrator.admission_terms import Capacity
from actors.orchestrator.choice import Candidate, Losses, choose
from actors.orchestrator.runtime import Runtime
from actors.orchestrator.wanted import Wanted
from configs import Settings
from configs.profiles import in_force
from protocol.caller import Caller
from protocol.clock import Clock
from protocol.directory import SUSPICION_S
from protocol.errors import ActorUnavailable, DeadlineExceeded, NoyauError, WouldBeDegraded
from protocol.messages.supervisor import DirectoryEntry

NotePassedOver = Callable[[str, str], None]
"""Called with the name of an engine that was passed over, and why."""

OFTEN = "it failed too often lately"


class Picker:
    """Of the engines that the settings name."""

    def __init__(self, caller: Caller, clock: Clock, settings: Settings, runtime: Runtime) -> None:
        self._caller = caller
        self._clock = clock
        self._names = settings.query.engines
        self._gpu_engines = settings.gpu_engines
        self._profile = settings.device.profile
        self._runtime = runtime

    async def pick(
        self, wanted: Wanted, lost: Losses, note: NotePassedOver | None = None
    ) -> DirectoryEntry:
        """The engine to ask, see `choose`; waits for one until the deadline.

        Raises `ActorUnavailable` when none of them will come back, or none came in time, and
        `WouldBeDegraded`.
        """
        while True:
            now = self._clock.now()
            gone: dict[str, str] = {}
            ready: list[DirectoryEntry] = []
            # Looked at anew each time: that there is no GPU here may turn out while it is waited.
            gpu_alone = wanted.undegraded and self._promises_gpu()
            for name in self._gpu_engines if gpu_alone else self._names:
                if name in lost.unable:
                    gone[name] = f"{name} cannot go on with the answer"
                    continue
                try:
                    entry = self._caller.directory.ready(name, now)
                except NoyauError as error:
                    gone[name] = error.message
                else:
                    ready += [entry] if entry is not None else []
            candidates = self._runtime.candidates(
                ready, now, wanted.step.model, whole=wanted.undegraded
            )
            if gpu_alone:
                candidates = self._well(candidates, gone)
            chosen = choose(candidates, lost)
            if chosen is not None:
                self._pass_over(chosen, candidates, note, now)
                return chosen.entry
            if len(gone) == len(self._names):
                reasons = "; ".join(gone.values()) or "none is set"
                raise ActorUnavailable(f"no engine can answer: {reasons}")
            if now >= wanted.until:
                raise DeadlineExceeded("no engine was ready in time")
            await self._caller.wait_for_news(min(wanted.until, now + SUSPICION_S))

    def others(self, lost: Losses) -> list[str]:
        """Engines that may know how to go on with the answer, and are not gone for good."""
        names = []
        for name in self._names:
            with contextlib.suppress(NoyauError):
                if name not in lost.unable:
                    self._caller.directory.ready(name, self._clock.now())
                    names.append(name)
        return names

    def is_another(self, wanted: Wanted, lost: Losses, besides: str) -> bool:
        """Whether an engine besides this one is READY and may go on with the answer."""
        gpu_alone = wanted.undegraded and self._promises_gpu()
        names = {*(self._gpu_engines if gpu_alone else self._names)} - {besides} - lost.unable
        return bool(self._ready(names))

    def _ready(self, names: Iterable[str]) -> list[DirectoryEntry]:
        """Those of them that are READY."""
        found = []
        for name in names:
            with contextlib.suppress(NoyauError):
                entry = self._caller.directory.ready(name, self._clock.now())
                found += [entry] if entry is not None else []
        return found

    def _promises_gpu(self) -> bool:
        """Whether an answer of the CPU is worse than promised."""
        entries = self._caller.directory.entries
        states = [entries[name].state for name in self._gpu_engines if name in entries]
        return in_force(self._profile, states) == "full"

    def _well(self, candidates: list[Candidate], gone: Mapping[str, str]) -> list[Candidate]:
        """Those GPU engines that are well. Raises `WouldBeDegraded` when there is none, nor one
        that is coming back."""
        well = [one for one in candidates if one.is_well]
        if not well and len(candidates) + len(gone) >= len(self._gpu_engines):
            sick = [f"{one.entry.name}: {OFTEN}" if not one.permitted
                    else f"{one.entry.name} is unhealthy" for one in candidates]  # fmt: skip
            missing = [*gone.values(), *sick]
            raise WouldBeDegraded(
                f"no GPU engine can answer, and a worse answer is not wanted: {'; '.join(missing)}",
                missing=missing,
            )
        return well

    def _pass_over(
        self,
        chosen: Candidate,
        candidates: Sequence[Candidate],
        note: NotePassedOver | None,
        now: float,
    ) -> None:
        """Note the better engines that were not asked because of their circuit breakers."""
        for one in candidates:
            if one is chosen:
                return
            if not one.permitted and chosen.permitted:
                self._runtime.refused(one.entry, now)
                if note is not None:
                    note(one.entry.name, OFTEN)

    def capacity(self) -> Capacity | None:
        """What the engines hold that answers are spread over now; None where none is READY."""
        ready = self._ready(self._names)
        return self._runtime.capacity(self._runtime.candidates(ready, self._clock.now()))
