"""``noyau ask``: a question, its answer streamed as it is made."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from noyau.options import AsJson, RunFolder
from noyau.telling import tell
from noyau.terminal import run
from protocol.client import DEFAULT_QUERY_S, Client
from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage
from protocol.messages.orchestrator import Query


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
    memories: Annotated[
        bool,
        typer.Option("--memories/--no-memories", help="Whether what is remembered may be used."),
    ] = True,
    tools: Annotated[
        bool, typer.Option("--tools/--no-tools", help="Whether a tool that fits may answer.")
    ] = True,
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
        max_tokens=max_tokens, temperature=temperature, seed=seed, explain=explain,
        memories=memories, tools=tools,
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
        tell(stream.end, explain)
    return 0
