"""An answer in the making: the text so far, the seams in it, and how it was made. Pure.

It holds all that is needed to go on with another engine, or another incarnation of this one, and
to say afterwards what happened. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from protocol.errors import EngineFailed, NoyauError
from protocol.lifecycle import Profile
from protocol.messages.engine import ChatMessage, Continuation, Generated, Tokens
from protocol.messages.orchestrator import (
    Answered,
    Begun,
    EngineUse,
    Failover,
    Seam,
    Text,
    ToolUse,
    Usage,
)


class AnswerInProgress:
    """One query's answer."""

    def __init__(
        self, id_: str, query: str, now: float, max_losses: int, begun: Begun | None = None
    ) -> None:
        self._id = id_
        self._query = query
        self._began = now
        self._max_losses = max_losses
        self._text: list[str] = [begun.text] if begun is not None and begun.text else []
        self._length = len(begun.text) if begun is not None else 0
        self._resumed = bool(self._text)
        # Ids are exact only while all text came with them, from one model.
        self._tokens: list[int] | None = None if self._text else []
        self._model = ""
        self._count = self._count_when_asked = 0
        self._losses = 0
        self.losses_in_a_row = 0
        """Since the last piece of text."""
        self._seams: list[Seam] = list(begun.seams) if begun is not None else []
        self._engines: list[EngineUse] = []
        self._first_at: float | None = None
        self._admitted_at: float | None = None
        self._lost_at: float | None = None
        self._pending: Seam | None = None
        self._finish_reason: Literal["stop", "length", "repetition"] = "stop"
        self._failovers: list[Failover] = []
        self._by = self._device = ""
        self._devices: list[str] = []
        self.missing: list[str] = []
        """What engines made it without."""
        self.tool: ToolUse | None = None
        """The tool that said it, where one did."""
        self.prompt: list[ChatMessage] = []
        """What the engine was given."""
        self.dropped_turns = 0
        """Turns of the conversation that did not fit into the engine's context."""
        if begun is not None and begun.text:
            self._lost_at = now - begun.gap_ms / 1000
            self._pending = Seam(position=self._length, lost=begun.lost, reason=begun.reason)

    def admitted(self, now: float) -> None:
        """It has a slot; the waiting is over. A second slot, after a tool was asked, counts as
        working."""
        if self._admitted_at is None:
            self._admitted_at = now

    def made_without(self, lacks: Iterable[str]) -> None:
        """What comes next of it is made without these."""
        self.missing = list(dict.fromkeys([*self.missing, *lacks]))

    def continuation(self) -> Continuation | None:
        """What an engine is to go on with, or None at the beginning."""
        if not self._text:
            return None
        tokens = self._tokens or []
        return Continuation(
            text="".join(self._text), tokens=tokens, model=self._model,
            count=len(tokens) or (0 if self._resumed else self._count),
        )  # fmt: skip

    def asked(self, engine: str, device: str) -> None:
        """This engine is asked for it, or for more of it."""
        self._by, self._device = engine, device
        self._count_when_asked = self._count

    def take(self, piece: Tokens, now: float, model: str = "") -> Text:
        """A piece from the engine that runs ``model``; returns what the client gets."""
        seam = self._close_seam(now)
        self.losses_in_a_row = 0
        if self._device and self._device not in self._devices:
            self._devices.append(self._device)
        if self._first_at is None:
            self._first_at = now
        if self._tokens is not None and piece.tokens and self._model in ("", model):
            self._tokens.extend(piece.tokens)
            self._model = model
        else:
            self._tokens = None
        self._text.append(piece.text)
        self._length += len(piece.text)
        self._count += piece.count
        return Text(text=piece.text, count=piece.count, seam=seam, logprobs=piece.logprobs)

    def _close_seam(self, now: float) -> Seam | None:
        if self._pending is None or self._lost_at is None:
            return None
        gap_ms = (now - self._lost_at) * 1000
        seam = self._pending.model_copy(update={"gap_ms": round(gap_ms, 1)})
        self._seams.append(seam)
        self._pending = self._lost_at = None
        return seam

    def lost(self, engine: str, loss: NoyauError, now: float) -> None:
        """The engine is gone before its end. Raises `EngineFailed` when that was once too often.

        An answer that had not begun has no seam: nobody can see one.
        """
        self._losses += 1
        self.losses_in_a_row += 1
        self._failovers.append(
            Failover(engine=engine, code=loss.code, reason=loss.message, position=self._length)
        )
        if self._losses > self._max_losses:
            raise EngineFailed(
                f"gave up after {self._losses} lost engines, last {engine}: {loss.message}",
                position=self._length,
            )
        if self._length and self._pending is None:
            self._lost_at = now
            self._pending = Seam(position=self._length, lost=engine, reason=loss.message)

    def passed_over(self, engine: str, reason: str) -> None:
        """An engine that is better was not asked, as its circuit breaker is open."""
        if any(one.engine == engine for one in self._failovers):
            return
        self._failovers.append(
            Failover(engine=engine, code="circuit_open", reason=reason, position=self._length)
        )

    def cut_short(self) -> None:
        """It says the same over and over, and is ended here."""
        self._finish_reason = "repetition"

    @property
    def failovers(self) -> list[Failover]:
        """The engines that were lost or passed over."""
        return self._failovers

    @property
    def length(self) -> int:
        """Characters of the answer so far."""
        return self._length

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._text)

    def ended_by(self, engine: str, end: Generated) -> None:
        """An engine said that the answer is complete."""
        self._finish_reason = end.finish_reason
        self._engines.append(
            EngineUse(
                engine=engine, device=end.device, backend=end.backend, model_name=end.model_name,
                prompt_tokens=end.prompt_tokens, completion_tokens=end.completion_tokens,
                prefill_ms=round(end.prefill_ms, 1), decode_ms=round(end.decode_ms, 1),
                tokens_per_s=round(end.tokens_per_s, 1), cached_tokens=end.cached_tokens,
                load_ms=round(end.load_ms, 1), drafted_tokens=end.drafted_tokens,
                accepted_tokens=end.accepted_tokens,
            )
        )  # fmt: skip

    def said_by_tool(self, use: ToolUse, text: str, now: float) -> Text:
        """A tool said it all; returns what the client has not got of it yet."""
        self.tool = use
        return self.take(Tokens(text=text.removeprefix(self.text), count=0), now)

    def finish(self, now: float, profile: Profile) -> Answered:
        """The answer is complete."""
        # An engine lost after its last piece and before its end leaves a seam with nothing
        # behind it.
        self._close_seam(now)
        first = None if self._first_at is None else round((self._first_at - self._began) * 1000, 1)
        waited = 0.0 if self._admitted_at is None else self._admitted_at - self._began
        return Answered(
            id=self._id, query=self._query, finish_reason=self._finish_reason,
            profile=profile, engines=self._engines, seams=self._seams, tokens=self._count,
            engine=self._by, device=self._device, devices=self._devices,
            failovers=self._failovers, usage=self._used(),
            tool=self.tool,
            dropped_turns=self.dropped_turns,
            queued_ms=round(waited * 1000, 1),
            first_token_ms=first, total_ms=round((now - self._began) * 1000, 1),
        )  # fmt: skip

    def _used(self) -> Usage:
        """The prompt of the engine that ended it, less what it went on from."""
        if not self._engines:
            return Usage(completion_tokens=self._count)
        last = self._engines[-1]
        prompt = max(0, last.prompt_tokens - self._count_when_asked)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=self._count,
            cached_tokens=min(last.cached_tokens, prompt),
        )
