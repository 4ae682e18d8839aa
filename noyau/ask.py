"""``noyau ask``: a question, its answer streamed as it is made."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, run
from protocol.client import DEFAULT_QUERY_S, Client
from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage
from protocol.messages.orchestrator import Answered, Query


def ask(
    question: Annotated[
        list[str] | None,
        typer.Argument(help="The question. What is piped in is put below it.", show_default=False),
    ] = None,
    run_folder: RunFolder = None,
    system: Annotated[
        str | None, typer.Option("--system", help="Instructions to the model.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", "-n", min=1, help="The longest answer.", show_default=False),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", "-t", min=0, max=5, show_default=False,
            help="0 always takes the likeliest token.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of the sampling.", show_default=False)
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until it is given up.")
    ] = DEFAULT_QUERY_S,
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say how the answer was made, on stderr.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Ask a question and stream the answer.

    \b
        noyau ask "Why is the sky blue?"
        git diff | noyau ask "Write a commit message for this:"

    The answer is complete when the exit code is 0; otherwise one sentence says what happened.
    """
    text = _question(question or [])
    messages = [ChatMessage(role="system", content=system)] if system else []
    query = Query(
        messages=[*messages, ChatMessage(role="user", content=text)],
        max_tokens=max_tokens, temperature=temperature, seed=seed,
    )  # fmt: skip
    run(lambda: _ask(run_folder, query, timeout, explain, as_json))


def _question(words: list[str]) -> str:
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    parts = [" ".join(words), piped.strip()]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise typer.BadParameter(
            'give a question, as in `noyau ask "Why is the sky blue?"`, or pipe one in'
        )
    return text


async def _ask(
    run_folder: RunFolder, query: Query, timeout_s: float, explain: bool, as_json: bool
) -> int:
    pieces: list[str] = []
    async with (
        Client.connect(run_folder) as client,
        client.stream(query, timeout_s=timeout_s) as stream,
    ):
        try:
            async for piece in stream:
                pieces.append(piece.text)
                if not as_json:
                    sys.stdout.write(piece.text)
                    sys.stdout.flush()
        finally:
            if pieces and not as_json:
                sys.stdout.write("\n")
                sys.stdout.flush()
    if stream.end is None:
        raise InvalidRequest("the answer was cancelled")
    if as_json:
        print(json.dumps({"text": "".join(pieces), "metadata": stream.end.model_dump()}, indent=2))
    else:
        _tell(stream.end, explain)
    return 0


def _tell(end: Answered, explain: bool) -> None:
    """What was degraded is told without being asked for; the rest on request."""
    for seam in end.seams:
        errors.print(
            f"[dim]noyau: {seam.lost} was lost after {seam.position} characters "
            f"({seam.reason}); the answer went on {seam.gap_ms:.0f} ms later[/]"
        )
    if any(use.backend == "simulated" for use in end.engines):
        errors.print("[dim]noyau: this text is simulated; no model made it[/]")
    if end.finish_reason == "length":
        errors.print("[dim]noyau: the answer reached its longest length (see --max-tokens)[/]")
    if explain:
        for use in end.engines:
            errors.print(
                f"[dim]{use.engine} ({use.device}, {use.backend}, {use.model_name}): prompt "
                f"{use.prompt_tokens} tokens in {use.prefill_ms:.0f} ms, {use.completion_tokens} tokens at "
                f"{use.tokens_per_s:.0f}/s[/]"
            )
        first = "-" if end.first_token_ms is None else f"{end.first_token_ms:.0f} ms"
        errors.print(
            f"[dim]query {end.query}: waited {end.queued_ms:.0f} ms, first text after {first}, "
            f"all after {end.total_ms:.0f} ms; {len(end.seams)} seams[/]"
        )
