"""What the end of a call says of the one who was called: a table by class of error. Pure.

A breaker is to learn of broken engines, not of careless callers: a failure counts where another
engine, or the same one when it is well again, would have done better with the same request.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    AssetError,
    Cancelled,
    CircuitOpen,
    DeadlineExceeded,
    EngineCannotGoOn,
    EngineFailed,
    FrameTooLarge,
    InternalError,
    InvalidMessage,
    NotRunning,
    NoyauError,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    RequestError,
    SetupError,
    StreamBroken,
    ToolFailed,
    Unavailable,
    UnknownOperation,
    WouldBeDegraded,
)


class Verdict(StrEnum):
    """How a call counts."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    """It says nothing: it was taken back, or could not have succeeded anywhere."""


_FAILURE, _IGNORED = Verdict.FAILURE, Verdict.IGNORED

VERDICTS: Mapping[type[NoyauError], Verdict] = {
    # The caller's own doing.
    RequestError: _IGNORED,  # Poisoned is one: what died over it may well be the request's fault
    InvalidMessage: _IGNORED,
    UnknownOperation: _IGNORED,
    FrameTooLarge: _IGNORED,
    Cancelled: _IGNORED,
    DeadlineExceeded: _IGNORED,
    # Somebody else's: too much was asked at once, there is no noyau, a tool has a defect.
    Overloaded: _IGNORED,
    CircuitOpen: _IGNORED,
    WouldBeDegraded: _IGNORED,
    NotRunning: _IGNORED,
    ToolFailed: _IGNORED,
    EngineCannotGoOn: _IGNORED,
    # A further model cannot be had, which says nothing of those that are loaded.
    AssetError: _IGNORED,
    SetupError: _IGNORED,
    # The engine's.
    ActorUnavailable: _FAILURE,
    ActorDied: _FAILURE,
    Unavailable: _FAILURE,
    StreamBroken: _FAILURE,
    OutcomeUnknown: _FAILURE,
    EngineFailed: _FAILURE,
    InternalError: _FAILURE,
    ProtocolError: _FAILURE,
    NoyauError: _FAILURE,  # a newer peer's, which this side does not know
}
"""The verdict on a class and on those below it that have no row of their own."""


def classify(error: NoyauError | None, *, time_out: bool = False) -> Verdict:
    """The verdict on a call that ended with ``error``; None is a success.

    ``time_out``: the deadline that ran out was not the caller's but one that was set for the
    engine, such as a probe's. Then `DeadlineExceeded` is the engine's failure.
    """
    if error is None:
        return Verdict.SUCCESS
    if time_out and isinstance(error, DeadlineExceeded):
        return Verdict.FAILURE
    return next(VERDICTS[cls] for cls in type(error).__mro__ if cls in VERDICTS)
