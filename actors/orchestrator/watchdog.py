"""How long an engine may be silent while it works on an answer, by what it is at. Pure.

=======  =====================================================  =========================
loading  its model, for a request that needs another one        `WatchdogSettings.load_s`
prefill  until its first text; each batch of the prompt shows   learnt, at most `prefill_s`
decode   between two pieces of text                             learnt, at most `decode_s`
=======  =====================================================  =========================

What is learnt is the longest step that was seen lately: a slow machine has longer ones, and gets
more time. How long a batch takes is learnt from whole ones alone: a prompt that is short, or was
read before, is done in no time and says nothing of the next. Between two pieces of text batches of
others' prompts may be read, and there is time for two of them. Waiting for the prompts of others
shows signs too. Whoever is silent for longer has stalled, and is given up by who asked; the
supervisor is told, and judges the process.
"""

from __future__ import annotations

from enum import StrEnum

from configs.answering import WatchdogSettings
from protocol.messages.engine import Stage, Tokens

LEARNT_STEPS = 5
"""Steps after which the longest says something of the engine's speed."""
BATCH_TOKENS = 32
"""Of a prompt, read since the last sign: fewer are no whole batch."""
BATCHES_BETWEEN = 2
"""Of others' prompts, between two pieces of text."""
UNKNOWN_BATCH_STEPS = 100
"""Steps of an answer that a batch of another's prompt may take, as long as none was seen: a token
of a prompt is read no slower than one is written, and a batch has 64 on a CPU."""
FORGETS = 0.99
"""What is left of the longest step with each further one: after 70 of them half of it."""


class Phase(StrEnum):
    """What an engine is at."""

    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"


class Pace:
    """How fast one incarnation of an engine was seen to be. Times are monotonic seconds."""

    def __init__(self, settings: WatchdogSettings) -> None:
        self._settings = settings
        self._steps = dict.fromkeys(Phase, 0)
        self._longest_s = dict.fromkeys(Phase, 0.0)
        self.heard_at = 0.0
        """When it last gave any sign, in whatever answer."""

    def step(self, phase: Phase, seconds: float, now: float, *, whole: bool = True) -> None:
        """A step took so long. Not ``whole``: the next may be longer, though none other is."""
        if whole:
            self._steps[phase] += 1
            self._longest_s[phase] *= FORGETS
        self._longest_s[phase] = max(seconds, self._longest_s[phase])
        self.heard_at = now

    def forget(self, phase: Phase) -> None:
        """It stalled, or is slower now than it ever was: what was learnt says nothing any more, and
        the next step has all the time that any may take."""
        self._steps[phase] = 0
        self._longest_s[phase] = 0.0

    def budget_s(self, phase: Phase) -> float:
        """Seconds that the next one may take."""
        settings = self._settings
        most_s = {
            Phase.LOADING: settings.load_s,
            Phase.PREFILL: settings.prefill_s,
            Phase.DECODE: settings.decode_s,
        }[phase]
        factor, between_s = settings.slow_factor, 0.0
        if phase is Phase.DECODE:
            # In between, batches of others' prompts are read.
            between_s = BATCHES_BETWEEN * self._longest_s[Phase.PREFILL]
            most_s = max(most_s, between_s)
            if self._steps[Phase.PREFILL] < LEARNT_STEPS:
                factor = max(factor, UNKNOWN_BATCH_STEPS)
        if phase is Phase.LOADING or self._steps[phase] < LEARNT_STEPS:
            return most_s
        learnt_s = max(factor * self._longest_s[phase], between_s)
        return min(most_s, max(settings.min_s, learnt_s))


class Vigil:
    """Over one answer of one engine."""

    def __init__(self, pace: Pace, now: float) -> None:
        self.pace = pace
        self.phase = Phase.PREFILL
        self._since = now
        self._read = 0

    def begin_wait(self, now: float) -> float:
        """The engine is waited for from now on; how many seconds at most."""
        self._since = now
        return self.pace.budget_s(self.phase)

    def heard(self, piece: Tokens, now: float) -> None:
        """It gave a sign."""
        # How long others take to be read says nothing of its own steps.
        stage = piece.stage
        if stage is None or stage.what == "reading":
            whole = self._is_whole(stage)
            self.pace.step(self.phase, now - self._since, now, whole=whole)
        else:
            self.pace.heard_at = now
        self.phase = _next_phase(stage)

    def _is_whole(self, stage: Stage | None) -> bool:
        if stage is None:
            return self.phase is not Phase.PREFILL
        read, self._read = stage.done - self._read, stage.done
        return read >= BATCH_TOKENS

    def is_alone(self, now: float) -> bool:
        """Whether the engine gave no sign in any other answer either while this one was waited
        for: then it is not this answer alone that stands still."""
        return self.pace.heard_at <= self._since or now - self.pace.heard_at >= (
            self.pace.budget_s(Phase.DECODE)
        )


def _next_phase(stage: Stage | None) -> Phase:
    if stage is None:
        return Phase.DECODE
    return Phase.LOADING if stage.what == "loading" else Phase.PREFILL
