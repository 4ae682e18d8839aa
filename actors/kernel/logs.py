"""Logs: JSON lines, one file for each process, with the correlation id of the work at hand."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog

from configs.sections import LogSettings
from protocol.context import CURRENT
from protocol.envelope import NO_ID


def _with_correlation(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = CURRENT.get()
    if context is not None and context.correlation != NO_ID:
        event.setdefault("correlation", context.correlation.hex())
    return event


class _RotatingFile:
    """What structlog writes to: a file that is put aside when it is full."""

    def __init__(self, path: Path, settings: LogSettings) -> None:
        self._handler = RotatingFileHandler(
            path, maxBytes=int(settings.max_file_mib * 2**20), backupCount=settings.kept_files,
            encoding="utf-8",
        )  # fmt: skip
        self._handler.terminator = ""

    def write(self, text: str) -> None:
        """One line, in one piece."""
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def flush(self) -> None:
        """Every line is flushed when it is written."""


def log_to(path: Path, settings: LogSettings, **always: Any) -> None:
    """Send this process's log to ``path``, each line with ``always``. Call once, at its start.

    At its largest size the file is put aside as ``path.1``, and those before it one further.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _configure(_RotatingFile(path, settings), structlog.processors.JSONRenderer())
    structlog.contextvars.bind_contextvars(**always)


def log_to_terminal(stream: TextIO) -> None:
    """Send this process's log to people."""
    _configure(stream, structlog.dev.ConsoleRenderer(colors=stream.isatty()))


def _configure(stream: Any, renderer: Any) -> None:
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
