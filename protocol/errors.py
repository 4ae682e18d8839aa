"""Every error noyau raises, one small tree. Each crosses the wire and comes back as itself.

::

    NoyauError
    ├── ProtocolError          the bytes break the protocol; sending them again cannot help
    │   ├── MalformedFrame         not an envelope
    │   ├── UnsupportedVersion     an envelope of a version this side does not speak
    │   ├── FrameTooLarge          more bytes than the receiver takes
    │   ├── UnknownOperation       no handler by that name
    │   ├── InvalidMessage         the body does not validate
    │   └── IllegalTransition      a message that the conversation's state does not allow
    ├── RequestError           the caller asked for something that cannot be done
    │   ├── NotAllowed             the peer's role is too low for the operation
    │   ├── NotFound               no such actor, asset, conversation …
    │   ├── InvalidRequest         well-formed but impossible (a prompt too long …)
    │   ├── QuotaExceeded          more than this owner may keep
    │   └── Poisoned               processes died over it again and again
    ├── Unavailable            nobody could do it now; a retry can help
    │   ├── NotRunning             no supervisor answers in the run folder
    │   ├── ActorUnavailable       the actor is starting, draining or failed
    │   ├── ActorDied              the actor died while it worked on the request
    │   ├── Overloaded             a queue is full; `retry_after_s` says when to come back
    │   ├── CircuitOpen            it failed again and again; `retry_after_s` says when it is tried
    │   └── WouldBeDegraded        it could be answered, but not as well as was asked for
    ├── DeadlineExceeded       the time the caller gave is over
    ├── Cancelled              the caller, or someone for him, took the request back
    ├── StreamBroken           a chunk is missing from a stream
    ├── OutcomeUnknown         an outside effect may or may not have happened
    ├── EngineFailed           the model's engine could not generate
    │   ├── EngineStalled          it did not get on, and was given up
    │   ├── EngineOutOfMemory      the device has no memory for it
    │   ├── EngineGarbage          what it makes is no text, or its numbers are none (NaN)
    │   └── EngineCannotGoOn       it knows no way to go on with an answer that another began
    ├── ToolFailed             a tool raised, crashed, or went over one of its limits
    ├── AssetError             a model file, stored file or other asset cannot be had
    │   ├── AssetUnavailable       no source could deliver it, or the disk did not do its part
    │   │   └── OptionalAssetMissing   what asked for it goes on without it
    │   ├── AssetCorrupt           its bytes are not what was promised
    │   ├── Untrusted              signatures or versions do not hold: no update is taken
    │   └── DiskFull               no room to write it
    ├── SetupError             the program cannot start as it was told to
    │   ├── InvalidSettings        wrong settings, all of them at once
    │   ├── MissingDependency      an optional library is not installed
    │   ├── MissingHardware        the machine lacks a device that an actor is for
    │   ├── UnusableModel          a model file that is none, or too large for this machine
    │   ├── UnusableKey            a key, or a list of them, that is none or lies open to others
    │   ├── AddressUnusable        nothing can listen at this address
    │   └── RunFolderUnusable      in use, not private, or too long for a local socket
    └── InternalError          a defect in noyau: the handler raised what it should not
"""

from __future__ import annotations

from typing import Any, ClassVar


class NoyauError(Exception):
    """Base of all errors.

    ``code`` is stable and is what crosses the wire; ``retryable`` says whether the same request,
    sent again later, can succeed. ``details`` holds plain msgpack-able values for programs.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    blames: ClassVar[bool] = True
    """Whether it speaks against the health of who raises it. Not where the caller's own wish or
    mistake is the cause, nor where too much is asked at once."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details
        self.remote = False
        """Whether it came over the wire: the other side met it, not this one."""

    def __str__(self) -> str:
        return self.message

    def to_body(self) -> dict[str, Any]:
        """The error as the body of an ``error`` message."""
        return {"code": self.code, "message": self.message, "details": self.details}


class ProtocolError(NoyauError):
    """The bytes break the protocol."""

    code = "protocol_error"


class MalformedFrame(ProtocolError):
    """The frame is not an envelope. ``conversation`` is its id where that could be read."""

    code = "malformed_frame"

    def __init__(self, message: str, *, conversation: bytes = b"", **details: Any) -> None:
        super().__init__(message, **details)
        self.conversation = conversation


class UnsupportedVersion(ProtocolError):
    """The envelope's version byte is not one this side speaks."""

    code = "unsupported_version"


class FrameTooLarge(ProtocolError):
    """The frame has more bytes than the receiver takes."""

    code = "frame_too_large"


class UnknownOperation(ProtocolError):
    """The receiver has no handler for the operation."""

    code = "unknown_operation"


class InvalidMessage(ProtocolError):
    """The body does not validate; ``details["errors"]`` lists every place and reason."""

    code = "invalid_message"


class IllegalTransition(ProtocolError):
    """An event that a state machine's table does not allow in its present state."""

    code = "illegal_transition"


class RequestError(NoyauError):
    """The caller asked for something that cannot be done."""

    code = "request_error"
    blames = False


class NotAllowed(RequestError):
    """The peer's role is too low for the operation."""

    code = "not_allowed"


class NotFound(RequestError):
    """There is nothing by that name."""

    code = "not_found"


class InvalidRequest(RequestError):
    """Well-formed, but impossible as asked."""

    code = "invalid_request"


class QuotaExceeded(RequestError):
    """It would be more than its owner may keep. ``details``: ``owner``, ``what`` (bytes or files),
    ``used``, ``reserved`` (of that, by open uploads), ``allowed``, ``needed``."""

    code = "quota_exceeded"


class Poisoned(RequestError):
    """Processes that worked on it died, one after the other: it is not tried again as it is.
    ``details["deaths"]`` names them as ``NAME.EPOCH``."""

    code = "poisoned"


class Unavailable(NoyauError):
    """Nobody could do it now; a retry can help."""

    code = "unavailable"
    retryable = True


class NotRunning(Unavailable):
    """No supervisor answers in the run folder."""

    code = "not_running"


class ActorUnavailable(Unavailable):
    """The actor is starting, draining or failed. ``details["refused"]``: it took nothing of the
    request, so that anything may be asked again; without that it may have begun with it."""

    code = "actor_unavailable"

    @property
    def refused(self) -> bool:
        """Whether nothing of the request was begun."""
        return self.details.get("refused") is True


class ActorDied(Unavailable):
    """The actor died, or the connection to it, while it worked on the request."""

    code = "actor_died"

    @property
    def process(self) -> str | None:
        """``NAME.EPOCH`` of the incarnation that was asked and died with this request in hand.
        None where it had not been asked yet, or tells of the death of another."""
        if self.remote or "epoch" not in self.details:
            return None
        return f"{self.details['actor']}.{self.details['epoch']}"


class Overloaded(Unavailable):
    """A bounded queue is full. ``details["retry_after_s"]`` says when to come back."""

    code = "overloaded"
    blames = False


class CircuitOpen(Unavailable):
    """It failed so often that it is not tried for a while. ``details["retry_after_s"]``."""

    code = "circuit_open"
    blames = False


class WouldBeDegraded(Unavailable):
    """The answer would be made in a way worse than the device profile promises, and whoever asks
    wants none of that kind. ``details["missing"]``: what it would lack."""

    code = "would_be_degraded"
    blames = False


class DeadlineExceeded(NoyauError):
    """The time the caller gave is over."""

    code = "deadline_exceeded"


class Cancelled(NoyauError):
    """The request was taken back."""

    code = "cancelled"
    blames = False


class StreamBroken(NoyauError):
    """A chunk is missing: the stream cannot be whole and says so instead of ending."""

    code = "stream_broken"
    retryable = True

    @property
    def not_kept(self) -> bool:
        """Whether its receiver, asked to resume it, has no more of it than its reader."""
        return bool(self.details.get("not_kept"))


class OutcomeUnknown(NoyauError):
    """An outside effect may or may not have happened; nobody retries for the caller."""

    code = "outcome_unknown"


class EngineFailed(NoyauError):
    """The engine could not load or generate. Another engine, or a later try, may."""

    code = "engine_failed"
    retryable = True


class EngineStalled(EngineFailed):
    """The engine did not get on within the time of what it does; whoever asked gave it up."""

    code = "engine_stalled"


class EngineOutOfMemory(EngineFailed):
    """The device has no memory left for this."""

    code = "engine_out_of_memory"


class EngineGarbage(EngineFailed):
    """What the engine makes is no text, or it computes with numbers that are none."""

    code = "engine_garbage"


class EngineCannotGoOn(EngineFailed):
    """The engine knows no way to go on with this answer, which another began. It is well, and the
    same request will never do better with it."""

    code = "engine_cannot_go_on"
    retryable = False
    blames = False


class ToolFailed(NoyauError):
    """A tool raised, crashed or went over a limit. ``details``: ``tool``, ``kind``, ``printed``."""

    code = "tool_failed"


class AssetError(NoyauError):
    """A model file, stored file or other asset cannot be had."""

    code = "asset_error"


class AssetUnavailable(AssetError):
    """No source could deliver the asset, or the disk did not do its part."""

    code = "asset_unavailable"
    retryable = True


class OptionalAssetMissing(AssetUnavailable):
    """An asset that its manifest calls optional cannot be had, for whatever reason: who asked goes
    on without it, and says so. ``asset``: its name."""

    code = "optional_asset_missing"
    blames = False


class AssetCorrupt(AssetError):
    """The bytes are not what was promised: by a manifest, or when the file was saved."""

    code = "asset_corrupt"


class Untrusted(AssetError):
    """Signatures, versions or dates do not hold: no update is taken, and what was trusted before
    stays. ``details["reason"]``: ``signature``, ``version``, ``expired``, ``hash``, ``length`` or
    ``malformed``."""

    code = "untrusted"


class DiskFull(AssetError):
    """There is no room to write it."""

    code = "disk_full"


class SetupError(NoyauError):
    """The program cannot start as it was told to."""

    code = "setup_error"


class InvalidSettings(SetupError):
    """Wrong settings; the message lists all of them, each with its place and remedy."""

    code = "invalid_settings"


class MissingDependency(SetupError):
    """An optional library is not installed; the message names the extra that brings it."""

    code = "missing_dependency"


class MissingHardware(SetupError):
    """The machine lacks a device that the actor is for. That is no failure: the actor's process
    waits in the state `unavailable`."""

    code = "missing_hardware"


class UnusableModel(SetupError):
    """A model file that is none, is damaged, or is too large for this machine. ``path``."""

    code = "unusable_model"
    blames = False


class UnusableKey(SetupError):
    """A key, or a list of keys, that is missing, broken, or lies open to others."""

    code = "unusable_key"


class AddressUnusable(SetupError):
    """Nothing can listen at the address for other machines."""

    code = "address_unusable"


class RunFolderUnusable(SetupError):
    """The run folder is in use, not private, or too long for a local socket."""

    code = "run_folder_unusable"


class InternalError(NoyauError):
    """A handler raised something that is no NoyauError: a defect in noyau."""

    code = "internal_error"


def _tree(cls: type[NoyauError]) -> dict[str, type[NoyauError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[NoyauError]] = _tree(NoyauError)


def error_from_body(body: object) -> NoyauError:
    """Rebuild an error from the body of an ``error`` message.

    A code this side does not know (a newer peer's) becomes a plain ``NoyauError`` whose
    ``details["code"]`` keeps it. A body that is no error at all becomes ``MalformedFrame``.
    """
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        return MalformedFrame(f"an error message without a code: {body!r:.200}")
    message, details = body.get("message"), body.get("details")
    cls = BY_CODE.get(body["code"])
    kept = {str(k): v for k, v in details.items()} if isinstance(details, dict) else {}
    if cls is None:
        cls, kept = NoyauError, kept | {"code": body["code"]}
    error = cls(message if isinstance(message, str) else body["code"])
    # Not as keywords: a detail may have the name of one of the class's own arguments.
    error.details.update(kept)
    error.remote = True
    return error
