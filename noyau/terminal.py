"""What the verbs share: errors as sentences, exit codes, and output that cannot be written."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.markup import escape

from protocol.errors import NotRunning, NoyauError, SetupError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_SETUP = 78
EXIT_INTERRUPTED = 130

_NOT_WRITTEN: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE,
)  # fmt: skip
"""What the system says where stdout takes no more. Of a file that has a name it says the name."""

errors = Console(stderr=True, highlight=False)
"""What is said beside the output, and what is drawn there while work lasts."""
# Where it goes into a file or a pipe, nobody draws, and a line is found by the words in it.
errors.soft_wrap = not errors.is_terminal


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
    sys.exit(code)


@contextlib.contextmanager
def written() -> Iterator[None]:
    """All output of the work inside is written, or the command ends with `EXIT_ERROR`."""
    try:
        try:
            yield
        finally:
            # None: it was closed before we began.
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        _let_go_of_output()
        if error.errno != errno.EPIPE:
            # Whoever stopped reading knows it; what is full, nobody may know.
            errors.print(f"[red]noyau:[/] the output cannot be written: {error.strerror}")
        sys.exit(EXIT_ERROR)


def _let_go_of_output() -> None:
    """What is left of it would be tried again, and told again, when the interpreter ends."""
    if sys.__stdout__ is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())
        os.close(nowhere)
