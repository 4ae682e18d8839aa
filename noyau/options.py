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
