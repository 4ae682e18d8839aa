"""Logs: JSON lines, one file for each process, with the correlation id of the work at hand."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from protocol.context import CURRENT
from protocol.envelope import NO_ID


def _with_correlation(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = CURRENT.get()
    if context is not None and context.correlation != NO_ID:
        event.setdefault("correlation", context.correlation.hex())
    return event


def log_to(path: Path, **always: Any) -> None:
    """Send this process's log to ``path``, each line with ``always``. Call once, at its start.

    The file is opened for appending and each line is one write, so processes may share a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _configure(path.open("a", buffering=1, encoding="utf-8"), structlog.processors.JSONRenderer())
    structlog.contextvars.bind_contextvars(**always)


def log_to_terminal(stream: TextIO) -> None:
    """Send this process's log to people."""
    _configure(stream, structlog.dev.ConsoleRenderer(colors=stream.isatty()))


def _configure(stream: TextIO, renderer: Any) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _with_correlation,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=False,
    )
