"""How much of a conversation an engine is given: what its context holds, counted by itself where
that matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.choice import LOSSES
from actors.orchestrator.history import History
from protocol.caller import Caller
from protocol.errors import ActorDied
from protocol.messages.engine import ChatMessage, CountTokens, Generate
from protocol.messages.supervisor import DirectoryEntry

TEMPLATE_TOKENS = 8
"""What a chat template puts around a turn: at most this in the templates in common use."""
ANSWER_SHARE = 4
"""An answer keeps at most a quarter of the context free for itself: the history is worth more."""


class Fitter:
    """Asks engines to count."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def fitting(
        self,
        engine: DirectoryEntry,
        step: Generate,
        answer: AnswerInProgress,
    ) -> list[ChatMessage]:
        """The turns that fit into this engine's context, the oldest left out. Raises `ActorDied`
        when the engine dies over them."""
        turns = step.messages
        context = int(engine.info.get("context_tokens", 0))
        budget = context - min(step.sampling.max_tokens, context // ANSWER_SHARE)
        sizes = [len(turn.content.encode()) + TEMPLATE_TOKENS for turn in turns]
        # No token is shorter than a byte, so most conversations need not be counted.
        if not context or len(turns) == 1 or sum(sizes) <= budget:
            return list(turns)
        try:
            texts = [turn.content for turn in turns]
            # Once: should it die over this, that counts as if it had died over the answer.
            counted = await self._caller.ask(
                engine.name, CountTokens(texts=texts, model=step.model), again=False
            )
        except ActorDied:
            raise
        except LOSSES:
            # It is lost, and whoever generates finds that out; bytes are on the safe side.
            counts = sizes
        else:
            counts = [count + TEMPLATE_TOKENS for count in counted.counts]
        return self._trim(turns, counts, budget, answer)

    def _trim(
        self,
        turns: Sequence[ChatMessage],
        counts: Sequence[int],
        budget: int,
        answer: AnswerInProgress,
    ) -> list[ChatMessage]:
        cost = {id(turn): count for turn, count in zip(turns, counts, strict=True)}
        history: History[ChatMessage] = History(budget, lambda turn: cost[id(turn)])
        trimmed = history.trim(turns)
        answer.dropped_turns = len(trimmed.dropped)
        return trimmed.kept
