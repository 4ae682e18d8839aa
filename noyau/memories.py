"""``noyau memories``: what noyau remembers for you, found again by its meaning."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, run
from noyau.times import age, when
from protocol.client import Client
from protocol.messages.memory import Forget, ListMemories, Recall, Remember

SOURCE = "command line"
WAIT_S = 600.0
"""The first start fetches the embedding model, 83 MB; waiting for it is cancelled by Ctrl-C."""

memories = typer.Typer(
    help="What noyau remembers: it is found by its meaning, and put into the prompt of every "
    "question that it fits.",
    no_args_is_help=True,
)


@memories.command()
def remember(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Without it, stdin is read.")
    ] = None,
    run_folder: RunFolder = None,
    source: Annotated[
        str, typer.Option("--source", "-s", help="Where it comes from, in your own words.")
    ] = SOURCE,
    as_json: AsJson = False,
) -> None:
    """Remember a text for good: it is on disk when this returns.

    What says nearly the same as something remembered is not stored twice.
    """
    said = " ".join(text) if text else "" if sys.stdin.isatty() else sys.stdin.read()
    run(lambda: _remember(run_folder, said.strip(), source, as_json))


async def _remember(run_folder: RunFolder, text: str, source: str, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        done = await client.ask(Remember(text=text, source=source), timeout_s=WAIT_S)
    if as_json:
        print(done.model_dump_json(indent=2))
    elif done.duplicate_of is None:
        errors.print(f"Remembered as {done.id}.", highlight=False)
    else:
        errors.print(
            f"{done.id} says the same already (similarity {done.score:.2f}).", highlight=False
        )
    return 0


@memories.command()
def recall(
    query: Annotated[list[str], typer.Argument(metavar="QUERY…")],
    run_folder: RunFolder = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 5,
    min_score: Annotated[
        float,
        typer.Option("--min-score", min=-1, max=1, help="Least similarity, from -1 to 1."),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show the memories whose meaning is nearest to the query, best first."""
    run(lambda: _recall(run_folder, " ".join(query), limit, min_score, as_json))


async def _recall(
    run_folder: RunFolder, query: str, limit: int, min_score: float, as_json: bool
) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(
            Recall(query=query, limit=limit, min_score=min_score), timeout_s=WAIT_S
        )
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    rows = _rows("similarity", "memory", "age", "source", "id")
    for hit in found.hits:
        rows.add_row(f"{hit.score:.2f}", hit.text, age(hit.age_s), hit.source, hit.id)
    Console().print(rows if found.hits else "Nothing like that is remembered.", markup=False)
    if found.unsearched:
        errors.print(f"{found.unsearched} memories cannot be searched yet.", style="dim")
    return 0


@memories.command("list")
def list_(
    run_folder: RunFolder = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show all memories, the newest first."""
    run(lambda: _list(run_folder, limit, as_json))


async def _list(run_folder: RunFolder, limit: int, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(ListMemories(limit=limit))
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    rows = _rows("id", "memory", "since", "source")
    for item in found.items:
        rows.add_row(item.id, item.text, when(item.created_at), item.source)
    empty = "Nothing is remembered yet: noyau memories remember TEXT"
    Console().print(rows if found.items else empty, markup=False)
    if found.total > len(found.items):
        errors.print(f"{found.total - len(found.items)} more: --limit {found.total}", style="dim")
    return 0


@memories.command()
def forget(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="As the other verbs show them.")],
    run_folder: RunFolder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Forget memories for good."""
    if not yes:
        typer.confirm(f"Forget {', '.join(ids)} for good?", abort=True, err=True)
    run(lambda: _forget(run_folder, ids))


async def _forget(run_folder: RunFolder, ids: list[str]) -> int:
    async with Client.connect(run_folder) as client:
        gone = await client.ask(Forget(ids=ids))
    if gone.count < len(ids):
        errors.print(f"{len(ids) - gone.count} of them were not there.", style="dim")
    errors.print(f"Forgotten: {gone.count}.", style="dim", highlight=False)
    return 0 if gone.count else 1


def _rows(*names: str) -> Table:
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        rows.add_column(name, no_wrap=name not in ("memory", "source"), overflow="fold")
    return rows
