"""``noyau conversations``: what was said, kept until it is forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, run
from noyau.times import when
from protocol.client import Client
from protocol.messages.memory import (
    Conversation,
    ForgetConversation,
    GetConversation,
    ListConversations,
)

ALL_TURNS = 10_000
conversations = typer.Typer(
    help="Conversations that were had with `noyau chat`: list, show, export, forget.",
    no_args_is_help=True,
)
Id = Annotated[str, typer.Argument(metavar="ID", help="As `noyau conversations list` shows it.")]


@conversations.command("list")
def list_(
    run_folder: RunFolder = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show all conversations, the latest first."""
    run(lambda: _list(run_folder, limit, as_json))


async def _list(run_folder: RunFolder, limit: int, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(ListConversations(limit=limit))
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("id", "title", "turns", "last"):
        rows.add_column(
            name, justify="right" if name == "turns" else "left", no_wrap=name != "title"
        )
    for one in found.items:
        rows.add_row(one.conversation, one.title, str(one.turns), when(one.updated_at))
    Console().print(rows if found.items else "No conversations yet: noyau chat", markup=False)
    if found.total > len(found.items):
        errors.print(f"{found.total - len(found.items)} more: --limit {found.total}", style="dim")
    return 0


@conversations.command()
def show(id_: Id, run_folder: RunFolder = None, as_json: AsJson = False) -> None:
    """Show what was said in a conversation."""
    run(lambda: _show(run_folder, id_, as_json))


async def _show(run_folder: RunFolder, id_: str, as_json: bool) -> int:
    found = await _whole(run_folder, id_)
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    console = Console(highlight=False)
    console.print(found.title, style="bold", markup=False)
    for turn in found.turns:
        console.print(f"\n{turn.role}, {when(turn.created_at)}", style="dim", markup=False)
        console.print(turn.content, markup=False)
    return 0


@conversations.command()
def export(
    id_: Id,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False,
                     help="Write there instead of to stdout; never over a file that is there."),
    ] = None,
    run_folder: RunFolder = None,
) -> None:  # fmt: skip
    """Write a conversation as JSON, with all metadata."""
    run(lambda: _export(run_folder, id_, output))


async def _export(run_folder: RunFolder, id_: str, output: Path | None) -> int:
    found = await _whole(run_folder, id_)
    text = json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        print(text, end="")
        return 0
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        errors.print(f"noyau: {output}: {error.strerror}", style="red", markup=False)
        return 1
    return 0


@conversations.command()
def forget(
    id_: Id,
    run_folder: RunFolder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Forget a conversation and all that was said in it."""
    if not yes:
        typer.confirm(f"Forget conversation {id_} for good?", abort=True, err=True)
    run(lambda: _forget(run_folder, id_))


async def _forget(run_folder: RunFolder, id_: str) -> int:
    async with Client.connect(run_folder) as client:
        gone = await client.ask(ForgetConversation(conversation=id_))
    errors.print(f"Forgotten: {gone.count} turns.", style="dim")
    return 0


async def _whole(run_folder: RunFolder, id_: str) -> Conversation:
    async with Client.connect(run_folder) as client:
        return await client.ask(GetConversation(conversation=id_, last=ALL_TURNS))
