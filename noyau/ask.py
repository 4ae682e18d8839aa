"""``noyau ask``: a question, its answer streamed as it is made."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from noyau.options import AsJson, RunFolder, check_text
from noyau.telling import tell
from noyau.terminal import run
from protocol.client import DEFAULT_QUERY_S, Client
from protocol.envelope import Priority
from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage, Format
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
    priority: Annotated[
        Literal["critical", "high", "normal", "low"],
        typer.Option("--priority", "-p", help="How soon it has its turn where many wait."),
    ] = "normal",
    fail_if_degraded: Annotated[
        bool,
        typer.Option("--fail-if-degraded", help="Refuse an answer that would be made in a worse "
                     "way than this machine's profile promises."),
    ] = False,
    expert: Annotated[
        str, typer.Option("--expert", metavar="NAME", show_default=False,
                          help="Have it answered by an expert of the settings."),
    ] = "",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", show_default=False,
                          help="One of the models that the engines' settings name."),
    ] = "",
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="Text that ends the answer. May be repeated."),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE", show_default=False,
                     help="A file with the JSON schema that the answer has to fit."),
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
        noyau ask --priority high --fail-if-degraded "Is the pump on?"
        noyau ask --schema person.json "Invent a person."

    The answer is complete when the exit code is 0; otherwise one sentence says what happened.
    """
    text = _question(question or [])
    for given in (system or "", expert, model, *(stop or ())):
        check_text(given)
    messages = [ChatMessage(role="system", content=system)] if system else []
    if not math.isfinite(timeout):
        raise typer.BadParameter("--timeout takes a number of seconds")
    try:
        query = Query(
            messages=[*messages, ChatMessage(role="user", content=text)],
            max_tokens=max_tokens, temperature=temperature, seed=seed, explain=explain,
            memories=memories, tools=tools, fail_if_degraded=fail_if_degraded, expert=expert,
            model=model, stop=stop or [],
            format=None if schema is None else Format(json_schema=_schema(schema)),
        )  # fmt: skip
    except ValidationError as error:
        raise typer.BadParameter(_problems(error)) from None
    how = How(timeout, Priority[priority.upper()], explain, as_json)
    run(lambda: _ask(run_folder, query, how))


@dataclass(frozen=True, slots=True)
class How:
    """How it is asked and told."""

    timeout_s: float
    priority: Priority
    explain: bool
    as_json: bool


def _problems(error: ValidationError) -> str:
    """What is out of bounds, by the names of the options."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in found)


def _schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} holds no JSON: {error}") from None
    if not isinstance(schema, dict):
        raise typer.BadParameter(f"{path} holds no JSON schema, which is an object")
    return schema


def _question(words: list[str]) -> str:
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    parts = [" ".join(words), piped.strip()]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise typer.BadParameter(
            'give a question, as in `noyau ask "Why is the sky blue?"`, or pipe one in'
        )
    check_text(text)
    return text


async def _ask(run_folder: RunFolder, query: Query, how: How) -> int:
    pieces: list[str] = []
    async with (
        Client.connect(run_folder) as client,
        client.stream(query, timeout_s=how.timeout_s, priority=how.priority) as stream,
    ):
        try:
            async for piece in stream:
                pieces.append(piece.text)
                if not how.as_json:
                    print(piece.text, end="", flush=True)
        finally:
            if pieces and not how.as_json:
                print(flush=True)
    if stream.end is None:
        raise InvalidRequest("the answer was cancelled")
    if how.as_json:
        print(json.dumps({"text": "".join(pieces), "metadata": stream.end.model_dump()}, indent=2))
    else:
        tell(stream.end, how.explain)
    return 0
