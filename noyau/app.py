"""The command's verbs, one file for each. A new verb is a file and a word here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from protocol.endpoints import KEY_VARIABLE, SERVER_KEY_VARIABLE, SERVER_VARIABLE

VERBS = (
    "up",
    "ask",
    "chat",
    "conversations",
    "memories",
    "models",
    "files",
    "assets",
    "status",
    "events",
    "logs",
    "restart",
    "drain",
    "reload",
    "down",
    "demo",
    "chaos",
    "keys",
    "protocol",
)


def make_app(verbs: Sequence[str] = VERBS) -> typer.Typer:
    """The command with these verbs."""
    app = typer.Typer(
        name="noyau",
        help="A local AI runtime that keeps answering.\n\n"
        "Start it with [bold]noyau up[/], ask with [bold]noyau ask[/] in another terminal, and "
        "kill any of its processes while it answers: the answer goes on.",
        epilog="Exit codes: 0 done · 1 a typed error · 2 wrong usage · 3 noyau is not running · "
        "78 it cannot start with these settings · 130 interrupted.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in verbs:
        found = getattr(importlib.import_module(f"noyau.{verb}"), verb)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=verb)
        else:
            app.command()(found)
    app.callback()(_common)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"noyau {version('noyau')}")
        raise typer.Exit


def _common(
    show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help=f"A noyau on another machine (env var: {SERVER_VARIABLE}).",
        ),
    ] = None,
    server_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help=f"Its public key (env var: {SERVER_KEY_VARIABLE})."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name or file of your own key for it; else the one called default "
            f"(env var: {KEY_VARIABLE}).",
        ),
    ] = None,
) -> None:
    del show
    named = {SERVER_VARIABLE: server, SERVER_KEY_VARIABLE: server_key, KEY_VARIABLE: key}
    os.environ.update({variable: value for variable, value in named.items() if value})
