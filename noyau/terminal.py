"""What the verbs share: the run folder's option, errors as sentences, exit codes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from protocol.errors import NotRunning, NoyauError, SetupError

EXIT_ERROR = 1
EXIT_NOT_RUNNING = 3
EXIT_SETUP = 78
EXIT_INTERRUPTED = 130

errors = Console(stderr=True, highlight=False)

RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run-folder",
        "-r",
        metavar="DIR",
        envvar="NOYAU_RUN__FOLDER",
        help="The run folder of the noyau meant, where it is not the default one.",
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


def fail(error: NoyauError) -> NoReturn:
    """Say what went wrong, in its own words, and end with the exit code of its kind."""
    errors.print(f"[red]noyau:[/] {error.message}", markup=True, soft_wrap=True)
    if isinstance(error, NotRunning):
        sys.exit(EXIT_NOT_RUNNING)
    sys.exit(EXIT_SETUP if isinstance(error, SetupError) else EXIT_ERROR)


def run(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a verb to its exit code. No error of noyau's reaches a user as a traceback."""
    try:
        code = asyncio.run(work())
    except NoyauError as error:
        fail(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has stopped; so do we, without a word.
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
    sys.exit(code)
