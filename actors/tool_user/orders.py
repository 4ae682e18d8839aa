"""What the tool user and the processes below it tell each other: one order, one report. Pure.

The order goes down in a memory file, the report comes up through a pipe, which ends with the call::

    {"value": …} or {"error": …}            the tool itself, one line of JSON, unless it died
    {"status": 0, "printed": "…"}           its warden, when everything of the tool is gone
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from actors.tool_user.limits import Limits
from actors.tool_user.results import Shaped
from protocol.errors import InvalidRequest, NoyauError, RequestError, ToolFailed, error_from_body

PRINTED = 2000
"""Bytes of what a tool printed last that are told when it failed: the end of a traceback."""


@dataclass(frozen=True, slots=True)
class Order:
    """One call."""

    tool: str
    arguments: dict[str, Any]
    options: dict[str, Any]
    folder: str
    """Its working folder."""
    limits: Limits

    def packed(self) -> bytes:
        """Raises `InvalidRequest` for arguments that have no JSON form."""
        try:
            return msgspec.msgpack.encode(asdict(self))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"{self.tool} cannot take these arguments: {error}") from None


def unpacked(data: bytes) -> Order:
    """The order again. For the process it is meant for: nobody else writes there."""
    fields = msgspec.msgpack.decode(data)
    return Order(**(fields | {"limits": Limits(**fields["limits"])}))


def told_value(shaped: Shaped) -> bytes:
    """What the tool's process writes when its function returned."""
    return _line({"value": shaped.value, "text": shaped.text, "truncated": shaped.truncated})


def told_error(tool: str, error: BaseException, place: str) -> bytes:
    """What the tool's process writes when its function raised."""
    if isinstance(error, RequestError | ToolFailed):
        return _line({"error": error.to_body()})
    kind = type(error).__name__
    text = f"{tool} raised {kind}: {error}" if str(error) else f"{tool} raised {kind}"
    failed = ToolFailed(f"{text[:PRINTED]}{place}", tool=tool, kind=kind)
    return _line({"error": failed.to_body()})


def told_end(status: int, printed: bytes) -> bytes:
    """What the warden writes: a wait status as `os.waitstatus_to_exitcode` gives it."""
    return b"\n" + _line({"status": status, "printed": printed.decode("utf-8", "replace")})


def _line(value: dict[str, Any]) -> bytes:
    # Escaped to ASCII: no line break and no half character inside.
    return json.dumps(value).encode() + b"\n"


def most_bytes(output_bytes: int) -> int:
    """The longest report of a result within the limit: escaped, as value and as text."""
    return 2 * 6 * (output_bytes + 200) + 6 * PRINTED + 4096


def read_report(tool: str, limits: Limits, data: bytes) -> Shaped:
    """What came of the call. Raises the tool's own `RequestError`, or `ToolFailed`."""
    told, end = _split(data)
    if end is None:
        raise ToolFailed(f"{tool} was lost: it or its warden was killed", tool=tool, kind="lost")
    status, printed = end["status"], end["printed"]
    try:
        report = json.loads(told) if told else None
    except (ValueError, RecursionError):
        report = None
    if isinstance(report, dict) and status == 0:
        error = _raised(tool, report.get("error"), printed)
        if isinstance(error, RequestError | ToolFailed):
            raise error
        if report.keys() == {"value", "text", "truncated"}:
            return Shaped(report["value"], report["text"], report["truncated"])
    kind, how = _how_it_ended(status, limits)
    raise ToolFailed(f"{tool} {how}", tool=tool, kind=kind, printed=printed)


def _split(data: bytes) -> tuple[bytes, dict[str, Any] | None]:
    head, _, last = data.rstrip(b"\n").rpartition(b"\n")
    try:
        end = json.loads(last)
    except (ValueError, RecursionError):
        return data, None
    whole = isinstance(end, dict) and end.keys() == {"status", "printed"}
    return head.strip(b"\n"), end if whole else None


def _raised(tool: str, body: object, printed: str) -> NoyauError:
    error = error_from_body(body)
    error.remote = False
    if isinstance(error, ToolFailed):
        error.details |= {"tool": tool, "printed": printed}
    return error


def _how_it_ended(status: int, limits: Limits) -> tuple[str, str]:
    if status == 0:
        return "no result", "wrote something into the channel of its result; it must only return it"
    if status > 0:
        return "exit", f"ended its process with code {status} instead of returning a result"
    if -status == signal.SIGXCPU:
        return "cpu", (
            f"used more than its {limits.cpu_s} s of CPU time; a higher cpu_s in the settings of "
            "the tool user gives it more"
        )
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return "crash", f"was killed by {name}"
