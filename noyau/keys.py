"""``noyau keys``: who may come in from other machines, and the key to go there with."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noyau.here import data_folder
from noyau.options import AsJson, Assignments, Config, RunFolder
from noyau.terminal import errors, fail, run
from protocol.curve import new_key_pair
from protocol.endpoints import SERVER_KEY_VARIABLE, SERVER_VARIABLE
from protocol.errors import NotFound, NoyauError, UnusableKey
from protocol.keyfiles import (
    DEFAULT_NAME,
    SERVER_FOLDER,
    AuthorizedKeys,
    client_key_path,
    server_key_pair,
    write_key_pair,
)
from protocol.keys import Authorized, parse_key, parse_name, parse_role

keys = typer.Typer(
    help="Keys for using noyau from another machine, and the list of those that may.\n\n"
    "There: [bold]noyau keys new[/]. Here, with the key that it shows: [bold]noyau keys authorize "
    "KEY --name laptop[/], and the setting [bold]remote.listen[/]. See docs/remote.md.",
    no_args_is_help=True,
)


@keys.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="What to call it on this machine.")
    ] = DEFAULT_NAME,
    as_json: AsJson = False,
) -> None:
    """Make a key for this machine, to go to others with.

    The secret half stays in a file that only you can read; the public half is shown, and is what
    the other machine has to know.
    """
    try:
        path = client_key_path(parse_name(name))
        pair = new_key_pair()
        write_key_pair(path, pair)
    except NoyauError as error:
        fail(error)
    if as_json:
        print(json.dumps({"name": name, "key": pair.public, "file": str(path)}, indent=2))
        return
    print(pair.public)
    errors.print(
        f"The secret half is in {path}. On the machine that noyau runs on:\n"
        f"  noyau keys authorize {pair.public} --name NAME",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


@keys.command()
def authorize(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The public key that `new` showed.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Whose it is, in one word.")],
    role: Annotated[
        str,
        typer.Option(
            "--role",
            help="What it may do. observe: look; ask: use noyau, too; operate: restart and stop "
            "it, too.",
        ),
    ] = "ask",
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Let a key in, or give it another role. Holds at once, also while noyau runs."""
    run(lambda: _authorize(key, name, role, run_folder, config, assignments or []))


async def _authorize(
    key: str, name: str, role: str,
    run_folder: Path | None, config: Path | None, assignments: list[str],
) -> int:  # fmt: skip
    today = datetime.date.today().isoformat()
    one = Authorized(parse_name(name), parse_key(key), parse_role(role), today)
    listed = await _listed(run_folder, config, assignments)
    with listed.changing() as keys_:
        if any(other.name == name and other.key != one.key for other in keys_):
            raise UnusableKey(
                f"another key is called {name}: choose another --name, or first `noyau keys revoke "
                f"{name}`"
            )
        keys_[:] = [*(other for other in keys_ if other.key != one.key), one]
    own = server_key_pair(listed.path.parent, new_key_pair).public
    errors.print(
        f"{name} may {role}, from now on. There, for a noyau that listens to other machines "
        f"(--set remote.listen=tcp://ADDRESS:5570):\n"
        f"  export {SERVER_VARIABLE}=tcp://ADDRESS:5570 {SERVER_KEY_VARIABLE}={own}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


@keys.command("list")
def list_(
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Show this noyau's own public key, and the keys that may come in."""
    run(lambda: _list(run_folder, config, assignments or [], as_json))


async def _list(
    run_folder: Path | None, config: Path | None, assignments: list[str], as_json: bool
) -> int:
    listed = await _listed(run_folder, config, assignments)
    own = server_key_pair(listed.path.parent, new_key_pair).public
    found = listed.read()
    if as_json:
        entries = [
            {"name": one.name, "key": one.key, "role": one.role.name.lower(), "since": one.since}
            for one in found
        ]
        print(json.dumps({"server_key": own, "keys": entries}, indent=2))
        return 0
    console = Console()
    console.print(f"server key  {own}", highlight=False, soft_wrap=True)
    if not found:
        console.print("No key may come in: noyau keys authorize KEY --name NAME", markup=False)
    # No table, which would break a key in two where the terminal is narrow.
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        line = f"{one.name:{width}}  {one.role.name.lower():7}  {one.since:10}  {one.key}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


@keys.command()
def revoke(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Names or keys, as `list` shows them.")
    ],
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Let keys in no more. Whoever has one is refused from his next message on."""
    run(lambda: _revoke(names, run_folder, config, assignments or []))


async def _revoke(
    names: list[str], run_folder: Path | None, config: Path | None, assignments: list[str]
) -> int:
    listed = await _listed(run_folder, config, assignments)
    with listed.changing() as found:
        known = {one.name for one in found} | {one.key for one in found}
        unknown = [name for name in names if name not in known]
        if unknown:
            there = ", ".join(one.name for one in found) or "none"
            raise NotFound(f"there is no key {unknown[0]!r}; there are: {there}")
        found[:] = [one for one in found if not {one.name, one.key} & {*names}]
    errors.print(f"Revoked: {', '.join(names)}.", highlight=False)
    return 0


async def _listed(
    run_folder: Path | None, config: Path | None, assignments: list[str]
) -> AuthorizedKeys:
    return AuthorizedKeys(await data_folder(run_folder, config, assignments) / SERVER_FOLDER)
