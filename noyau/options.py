"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run-folder",
        "-r",
        metavar="DIR",
        help="The run folder of the noyau meant, where it is not the default one "
        "(env var: NOYAU_RUN__FOLDER).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings (TOML), laid over the defaults."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, such as actors.cpu_engine.settings.threads=2. May be repeated.",
    ),
]


def check_text(text: str) -> None:
    """Raises `typer.BadParameter` for what is no UTF-8: a terminal, or a file that is piped in, may
    hold any bytes, and they come as halves of characters that cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter(
            f"the text is no valid UTF-8, at its character {error.start + 1}; convert it first, as "
            "with `iconv -f LATIN1 -t UTF-8`"
        ) from None
