"""The two processes of one call, forked below the fork server.

::

    fork server ─► warden ─► tool ─► whatever the tool starts
                   sub-reaper: whoever below it loses its parent becomes its child

The tool runs the function. The warden waits for it, kills all that it left, says how it ended, and
does the same at once on SIGTERM: from the tool user, or from the kernel when the fork server dies.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from actors.tool_user.catalogue import Catalogue
from actors.tool_user.orders import PRINTED, Order, told_end, told_error, told_value, unpacked
from actors.tool_user.results import NoJson, shape
from protocol.errors import ToolFailed
from supervision.processes import (
    become_subreaper,
    close_all_but,
    die_with_parent,
    gain_nothing,
    kill_descendants,
    set_name,
)

_EXIT_OSERR = 71
"""EX_OSERR of sysexits.h: it could not even begin."""

_FIRST_FREE = 3
"""Descriptors from here on are nobody's but the report's."""


def be_warden(server: int, catalogue: Catalogue, report: int, order_file: int) -> NoReturn:
    """In the first fork. ``report`` is the pipe's end, ``order_file`` holds the packed order."""
    code = _EXIT_OSERR
    try:
        os.setsid()
        become_subreaper()
        signal.signal(signal.SIGTERM, _sweep_and_end)
        die_with_parent(server, signal.SIGTERM)
        set_name("noyau-warden")
        printed = os.memfd_create("printed")
        warden = os.getpid()
        tool = os.fork()
        if tool == 0:
            _be_tool(warden, catalogue, report, order_file, printed)
        status = os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1])
        kill_descendants()
        size = os.fstat(printed).st_size
        tail = os.pread(printed, PRINTED, max(0, size - PRINTED))
        _write(report, told_end(status, tail))
        code = 0
    except BrokenPipeError:
        code = 0  # the tool user no longer wants to know
    except BaseException as error:  # noqa: BLE001 - a fork must never return into the server's loop
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _sweep_and_end(number: int, frame: FrameType | None) -> NoReturn:
    kill_descendants()
    os._exit(0)


def _be_tool(
    warden: int, catalogue: Catalogue, report: int, order_file: int, printed: int
) -> NoReturn:
    """In the second fork: run the function, tell what came of it."""
    code = _EXIT_OSERR
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # SIGKILL, as a hung tool would ignore anything milder.
        die_with_parent(warden, signal.SIGKILL)
        os.setsid()
        order = _read_order(order_file)
        set_name(f"tool-{order.tool}")
        report = _own_descriptors(report, printed)
        _settle(order.folder)
        gain_nothing()
        order.limits.apply()
        _write(report, _outcome(catalogue, order))
        code = 0
    except BaseException as error:  # noqa: BLE001 - a fork must never return into the warden
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _read_order(order_file: int) -> Order:
    return unpacked(os.pread(order_file, os.fstat(order_file).st_size, 0))


def _own_descriptors(report: int, printed: int) -> int:
    """Standard input from nowhere, all that is printed into ``printed``, the report, no more."""
    null = os.open(os.devnull, os.O_RDONLY)
    kept = os.dup(report)
    os.dup2(null, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    # Appending, as two descriptors of one file have one position but a program may seek.
    os.dup2(kept, _FIRST_FREE, inheritable=False)
    close_all_but(_FIRST_FREE)
    return _FIRST_FREE


def _settle(folder: str) -> None:
    """Nothing of this process's surroundings is the tool's, but a folder to work in."""
    os.environ.clear()
    os.environ.update(
        PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8", HOME=folder, TMPDIR=folder
    )
    os.umask(0o077)
    os.chdir(folder)


def _outcome(catalogue: Catalogue, order: Order) -> bytes:
    try:
        value = catalogue.get(order.tool).call(order.arguments, order.options)
        return told_value(shape(value, order.limits.output_bytes))
    except MemoryError:
        return told_error(order.tool, _too_much_memory(order), "")
    except NoJson as error:
        failed = ToolFailed(f"the result of {order.tool} has no JSON form: {error}", kind="no JSON")
        return told_error(order.tool, failed, "")
    except OSError as error:
        too_long = error.errno == errno.EFBIG
        return told_error(order.tool, _too_long(order) if too_long else error, _place(error))
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its answer
        return told_error(order.tool, error, _place(error))
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)


def _flush(stream: object) -> None:
    try:
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        # The tool printed past its limit, or closed or replaced the stream: nothing to be told.
        return


def _too_much_memory(order: Order) -> ToolFailed:
    return ToolFailed(
        f"{order.tool} needs more than its {order.limits.memory_mib} MiB of memory; a higher "
        "memory_mib in the settings of the tool user gives it more",
        kind="memory",
    )


def _too_long(order: Order) -> ToolFailed:
    return ToolFailed(
        f"{order.tool} printed or wrote more than {order.limits.file_mib} MiB into one file; a "
        "higher file_mib in the settings of the tool user gives it more",
        kind="file",
    )


def _place(error: BaseException) -> str:
    """Where in the tool's own file it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).name != Path(__file__).name]
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""


def _write(to: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(to, view) :]
