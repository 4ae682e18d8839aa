"""Logs: JSON lines, one file for each process, with the correlation id of the work at hand."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import MutableMapping
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from configs.sections import LogSettings
from protocol.context import CURRENT
from protocol.envelope import NO_ID


def _with_correlation(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = CURRENT.get()
    if context is not None and context.correlation != NO_ID:
        event.setdefault("correlation", context.correlation.hex())
    return event


class RotatingFile:
    """A file of lines that is put aside when it is full, and those before it one further.

    A line that cannot be written is lost, and the terminal is told: no program ends for its log.
    """

    def __init__(self, path: Path, settings: LogSettings) -> None:
        """It is opened at its first line."""
        self._handler = _Handler(path, settings)

    def open(self) -> None:
        """Open it now. Raises OSError."""
        self._handler.open()

    def write(self, text: str) -> None:
        """One line, in one piece."""
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def flush(self) -> None:
        """Every line is flushed when it is written."""

    def close(self) -> None:
        """There are no more lines."""
        self._handler.close()


class _Handler(RotatingFileHandler):
    """Its files are their owner's alone, as what people say to an assistant may be in them."""

    terminator = ""

    def __init__(self, path: Path, settings: LogSettings) -> None:
        super().__init__(
            path, maxBytes=int(settings.max_file_mib * 2**20), backupCount=settings.kept_files,
            encoding="utf-8", delay=True,
        )  # fmt: skip
        self._failed = self._told = False

    def open(self) -> None:
        self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return cast(
            TextIOWrapper,
            open(self.baseFilename, self.mode, encoding=self.encoding, opener=private),
        )

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        self._told = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """In place of a traceback for each line: one line for all that cannot be written."""
        self._failed = True
        if not self._told:
            reason = getattr(sys.exc_info()[1], "strerror", None) or sys.exc_info()[1]
            # Where the terminal is gone too there is nobody to be told.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"noyau: {self.baseFilename} cannot be written: {reason}\n")


def log_to(path: Path, settings: LogSettings, **always: Any) -> None:
    """Send this process's log to ``path``, each line with ``always``. Call once, at its start.

    At its largest size the file is put aside as ``path.1``, and those before it one further.
    Raises OSError when it cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = RotatingFile(path, settings)
    file.open()
    _configure(file, structlog.processors.JSONRenderer())
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
