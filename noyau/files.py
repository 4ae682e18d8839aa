"""``noyau files``: what noyau's own processes keep on disk, looked at and deleted by a person."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.table import Table

from actors.kernel.files import Files
from actors.storage.stored.names import check_name, check_owner
from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, fail, run
from noyau.times import when
from protocol.client import Client
from protocol.errors import InvalidRequest, NoyauError
from protocol.messages.storage import DeleteFile, FileUsage, ListFiles, OwnerUsage, StoredFiles

READ_S = 3600.0
"""For one file, however large and however slow whoever reads it."""

files = typer.Typer(
    help="Stored files: what the processes of noyau keep on disk, such as traces and results of "
    "jobs, each under names of its own and within a quota. `noyau files list` shows who keeps how "
    "much, `noyau files list OWNER` which files.",
    no_args_is_help=True,
)
Owner = Annotated[str, typer.Argument(metavar="OWNER", help="As `noyau files list` shows it.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `noyau files list OWNER` shows it.")]


@files.command("list")
def list_(
    owner: Annotated[
        str,
        typer.Argument(
            metavar="[OWNER]", show_default=False,
            help="The process whose files are meant, such as job_worker. Without it: all "
            "processes that keep some, and how much they may.",
        ),
    ] = "",
    run_folder: RunFolder = None,
    prefix: Annotated[
        str, typer.Option("--prefix", "-p", help="Only names that begin with this.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show who keeps files, or the files of one, in the order of their names."""
    if owner:
        run(lambda: _list(run_folder, owner, prefix, limit, as_json))
    run(lambda: _usage(run_folder, as_json))


async def _usage(run_folder: Path | None, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(FileUsage())
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    rows = _rows("owner", "files", "of", "size", "of", "uploads")
    for one in found.items:
        rows.add_row(*_usage_row(one))
    Console().print(rows if found.items else "Nobody keeps any files yet.", markup=False)
    return 0


def _usage_row(one: OwnerUsage) -> tuple[str, ...]:
    return (
        one.owner, f"{one.files:,}", f"{one.allowed_files:,}",
        _size(one.used_bytes), _size(one.allowed_bytes), f"{one.open_uploads}",
    )  # fmt: skip


async def _list(run_folder: Path | None, owner: str, prefix: str, limit: int, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(ListFiles(owner=owner, prefix=prefix, limit=limit))
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    Console().print(_table(found) if found.items else f"{owner} keeps no such files.", markup=False)
    if found.more:
        errors.print("There are more: --limit, or a longer --prefix", style="dim")
    return 0


def _table(found: StoredFiles) -> Table:
    rows = _rows("name", "size", "saved", "expires", "checksum")
    for one in found.items:
        expires = when(one.expires_at) if one.expires_at is not None else ""
        rows.add_row(
            one.name, _size(one.size), when(one.saved_at), expires, one.checksum[:19] + "…"
        )
    return rows


@files.command()
def read(
    owner: Owner,
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False,
                     help="Write there instead of to stdout; never over a file that is there. What "
                     "is not proved to be right does not stay there."),
    ] = None,
    run_folder: RunFolder = None,
) -> None:  # fmt: skip
    """Write the content of a file to stdout, or to a file.

    Only with the exit code 0 it is to the byte what was saved.
    """
    run(lambda: _read(run_folder, owner, name, output))


async def _read(run_folder: Path | None, owner: str, name: str, output: Path | None) -> int:
    if output is None:
        if sys.stdout is None:
            raise InvalidRequest(
                "there is no standard output to write to: name a file with --output, or a pipe"
            )
        await _copy(run_folder, owner, name, sys.stdout.buffer)
        return 0
    try:
        with output.open("xb") as file:
            try:
                await _copy(run_folder, owner, name, file)
            except BaseException:
                output.unlink()
                raise
    except OSError as error:
        errors.print(f"noyau: {output}: {error.strerror}", style="red", markup=False)
        return 1
    return 0


async def _copy(run_folder: Path | None, owner: str, name: str, to: BinaryIO) -> None:
    came = 0
    async with Client.connect(run_folder) as client:
        pieces = Files(client.caller).read(name, owner=owner, timeout_s=READ_S)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    came += to.write(piece)
        except NoyauError:
            if came:
                errors.print(f"The {came:,} bytes that came are not to be used:", style="red")
            raise
    to.flush()


@files.command()
def delete(
    owner: Owner,
    names: Annotated[list[str], typer.Argument(metavar="NAME…")],
    run_folder: RunFolder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete files of a process for good. It is told nothing of that."""
    try:
        _check(owner, names)
    except NoyauError as error:
        fail(error)
    if not yes:
        typer.confirm(f"Delete {', '.join(names)} of {owner} for good?", abort=True, err=True)
    run(lambda: _delete(run_folder, owner, names, as_json))


def _check(owner: str, names: list[str]) -> None:
    """Before the first one is deleted. Raises `InvalidRequest`."""
    try:
        check_owner(owner)
        for name in names:
            check_name(name)
    except InvalidRequest as error:
        raise InvalidRequest(f"nothing was deleted: {error.message}") from error


async def _delete(run_folder: Path | None, owner: str, names: list[str], as_json: bool) -> int:
    count = 0
    async with Client.connect(run_folder) as client:
        for number, name in enumerate(names):
            try:
                count += (await client.ask(DeleteFile(owner=owner, name=name))).deleted
            except NoyauError:
                if number:
                    errors.print(
                        f"Deleted: {count}. That may be so of {name!r}, and of what stands behind "
                        "it nothing was:", style="red", markup=False, soft_wrap=True,
                    )  # fmt: skip
                raise
    if as_json:
        print(json.dumps({"deleted": count}))
        return 0 if count else 1
    if count < len(names):
        errors.print(f"{len(names) - count} of them were not there.", style="dim")
    errors.print(f"Deleted: {count}.", style="dim", highlight=False)
    return 0 if count else 1


def _rows(*names: str) -> Table:
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        numeric = name in ("files", "of", "size", "uploads")
        rows.add_column(name, justify="right" if numeric else "left", no_wrap=name != "name",
                        overflow="fold")  # fmt: skip
    return rows


def _size(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:,.0f} kB" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"
