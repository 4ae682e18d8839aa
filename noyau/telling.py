"""How an answer was made, told to people on stderr."""

from __future__ import annotations

from noyau.terminal import errors
from protocol.messages.orchestrator import Answered


def tell(end: Answered, explain: bool) -> None:
    """What was degraded is told without being asked for; the rest on request."""
    if end.expert:
        _say(f"answered by the expert {end.expert}")
    for seam in end.seams:
        _say(
            f"{seam.lost} was lost after {seam.position} characters ({seam.reason}); the answer "
            f"went on {seam.gap_ms:.0f} ms later"
        )
    for what in end.missing:
        _say(what)
    if end.dropped_turns:
        _say(f"the oldest {end.dropped_turns} turns did not fit into the model's context")
    if any(use.backend == "simulated" for use in end.engines):
        _say("this text is simulated; no model made it")
    if end.finish_reason == "length":
        _say("the answer reached its longest length (see --max-tokens)")
    if end.finish_reason == "repetition":
        _say("the answer was ended, as it said the same over and over")
    if explain:
        _explain(end)


def _explain(end: Answered) -> None:
    for turn in end.prompt:
        _say(f"prompt, {turn.role}: {turn.content}")
    for memory in end.memories:
        _say(f"memory {memory.id} ({memory.score:.2f}): {memory.text}")
    if end.tool is not None:
        arguments = ", ".join(f"{name}={value!r}" for name, value in end.tool.arguments.items())
        how = "no model was asked" if end.tool.how == "exact" else "the model was told what it says"
        _say(f"tool {end.tool.name}({arguments}) in {end.tool.took_ms:.0f} ms; {how}")
    for lost in end.failovers:
        _say(f"{lost.engine} did not answer, at character {lost.position}: {lost.reason}")
    for use in end.engines:
        _say(
            f"{use.engine} ({use.device}, {use.backend}, {use.model_name}): prompt "
            f"{use.prompt_tokens} tokens in {use.prefill_ms:.0f} ms, "
            f"{use.completion_tokens} tokens at {use.tokens_per_s:.0f}/s"
        )
    first = "-" if end.first_token_ms is None else f"{end.first_token_ms:.0f} ms"
    _say(
        f"query {end.query}: waited {end.queued_ms:.0f} ms, first text after {first}, all after "
        f"{end.total_ms:.0f} ms; {len(end.seams)} seams; profile {end.profile}"
    )


def _say(text: str) -> None:
    errors.print(f"noyau: {text}", style="dim", markup=False, soft_wrap=True)
