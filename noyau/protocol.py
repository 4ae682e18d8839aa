"""``noyau protocol``: for those who write a client in another language."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import asdict
from rich.console import Console
from rich.table import Table

from noyau.options import AsJson
from noyau.terminal import fail
from protocol.batch import split
from protocol.catalogue import catalogue
from protocol.codec import Codec
from protocol.envelope import Kind, Priority
from protocol.errors import InvalidRequest, NotFound, NoyauError

protocol = typer.Typer(
    help="The protocol that noyau's processes and clients speak, for those who write a client in "
    "another language: see docs/protocol.md.",
    no_args_is_help=True,
)


@protocol.command()
def operations(as_json: AsJson = False) -> None:
    """List every operation: its shape, the role that it needs, and what it is for."""
    found = catalogue()["operations"]
    if as_json:
        print(json.dumps(found))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("operation", "shape", "role", "says"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(one["name"], one["shape"], one["role"], one["meaning"])
    Console().print(table)


@protocol.command()
def schema(
    operation: Annotated[
        str | None, typer.Argument(metavar="[OPERATION]", help="Only this one, as `actor.ping`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it to this file.")
    ] = None,
) -> None:
    """Print the JSON Schema of every message, with all kinds, roles and error codes.

    \b
    noyau protocol schema -o noyau.schema.json
    noyau protocol schema orchestrator.query
    """
    try:
        text = json.dumps(_schema_of(operation), indent=2, ensure_ascii=False) + "\n"
    except NoyauError as error:
        fail(error)
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text)
    except OSError as error:
        fail(InvalidRequest(f"{out}: {error.strerror}; name a file that can be written"))


def _schema_of(operation: str | None) -> dict[str, Any]:
    found = catalogue()
    if operation is None:
        return found
    for one in found["operations"]:
        if one["name"] == operation:
            used = _used(one, found["$defs"])
            return {**one, "$defs": {name: found["$defs"][name] for name in sorted(used)}}
    raise NotFound(f"there is no operation {operation!r}: see `noyau protocol operations`")


def _used(value: Any, definitions: dict[str, Any]) -> set[str]:
    """The definitions that a schema needs, and those that these need."""
    names: set[str] = set()
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, list):
            rest += one
        elif isinstance(one, dict):
            rest += one.values()
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in names:
                names.add(name)
                rest.append(definitions[name])
    return names


@protocol.command()
def decode(
    hexadecimal: Annotated[
        str, typer.Argument(metavar="HEX", help="The bytes in hexadecimal; `-` reads them.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say what the frames of one message of the transport mean, or what is wrong with them.

    Ends with 1 when one of them is no envelope.

    \b
    noyau protocol decode 6e019dc410…
    """
    text = sys.stdin.read() if hexadecimal == "-" else hexadecimal
    try:
        message = bytes.fromhex("".join(text.split()))
    except ValueError as error:
        raise typer.BadParameter(f"these are no bytes in hexadecimal: {error}") from None
    found = [_decoded(frame) for frame in split(message)]
    if as_json:
        print(json.dumps(found))
    else:
        for one in found:
            _show(one)
    if any("error" in one for one in found):
        raise typer.Exit(1)


def _decoded(frame: bytes) -> dict[str, Any]:
    try:
        envelope = Codec().decode(frame)
    except NoyauError as error:
        return {"error": error.code, "message": error.message}
    kind, priority = Kind(envelope.kind), Priority(envelope.priority)
    named = {"kind": kind.name.lower(), "priority": priority.name.lower()}
    shown: dict[str, Any] = _printable(asdict(envelope) | named)
    return shown


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _show(one: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in one.items():
        table.add_row(name, value if isinstance(value, str) else json.dumps(value))
    Console().print(table)
    Console().print()
