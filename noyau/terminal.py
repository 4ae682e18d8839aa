"""What the verbs share: errors as sentences, and exit codes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from protocol.errors import NotRunning, NoyauError, SetupError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_SETUP = 78
EXIT_INTERRUPTED = 130

errors = Console(stderr=True, highlight=False)


def fail(error: NoyauError) -> NoReturn:
    """Say what went wrong, in its own words, and end with the exit code of its kind."""
    errors.print(f"[red]noyau:[/] {escape(error.message)}", markup=True, soft_wrap=True)
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
