"""Writes the test vectors: ``python tests/vectors/make.py``. With nothing of noyau, on purpose.

The bytes come from the specification (docs/protocol.md) and a plain msgpack library; so noyau's own
codec is tested against something that it did not make itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack

HERE = Path(__file__).parent

ID = bytes.fromhex("0192a1b2c3d47e5f8011223344556677")
OTHER_ID = bytes.fromhex("0192a1b2c3d47e5f8011223344556678")
NO_ID = bytes(16)
FIELDS = (
    "id", "kind", "operation", "source", "epoch", "target", "correlation", "sequence",
    "deadline_ms", "priority", "idempotency_key", "traceparent", "body",
)  # fmt: skip
REQUEST, REPLY, CHUNK, END, ERROR, CANCEL, CREDIT, EVENT, HEARTBEAT = range(1, 10)

Vector = dict[str, Any]


def fields(**given: Any) -> dict[str, Any]:
    """All fields of an envelope; those that are not given have their defaults."""
    plain: dict[str, Any] = {
        "id": ID, "kind": REQUEST, "operation": "actor.ping", "source": "", "epoch": "",
        "target": "", "correlation": NO_ID, "sequence": 0, "deadline_ms": None, "priority": 2,
        "idempotency_key": "", "traceparent": "", "body": {},
    }  # fmt: skip
    assert set(given) <= set(FIELDS), given
    return plain | given


def packed(envelope: dict[str, Any]) -> bytes:
    """The frame of an envelope."""
    array: bytes = msgpack.packb([envelope[name] for name in FIELDS])
    return b"n\x01" + array


def frame(**given: Any) -> bytes:
    """The same, from the fields that differ from their defaults."""
    return packed(fields(**given))


def spliced(*parts: bytes, **given: Any) -> bytes:
    """A frame whose first fields are these bytes; the rest is as it should be."""
    rest = [fields(**given)[name] for name in FIELDS[len(parts) :]]
    return b"n\x01\x9d" + b"".join(parts) + b"".join(msgpack.packb(one) for one in rest)


def printable(value: Any) -> Any:
    """As JSON can hold it: bytes become ``{"bytes": "hex"}``."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {key: printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [printable(one) for one in value]
    return value


def write(name: str, about: str, vectors: list[Vector]) -> None:
    """One file of vectors, each on lines of its own."""
    names = [vector["name"] for vector in vectors]
    assert len(set(names)) == len(names), "two vectors have one name"
    text = json.dumps({"about": about, "vectors": vectors}, indent=1, ensure_ascii=True)
    (HERE / f"{name}.json").write_text(text + "\n")


# --- what has to be understood ----------------------------------------------------------------


def valid(name: str, meaning: str, **given: Any) -> Vector:
    """A frame as it should be written."""
    envelope = fields(**given)
    return {
        "name": name, "meaning": meaning, "hex": packed(envelope).hex(),
        "envelope": printable(envelope), "canonical": True,
    }  # fmt: skip


def lax(name: str, meaning: str, bytes_: bytes, **given: Any) -> Vector:
    """A frame that nobody should write, and everybody has to understand."""
    return {
        "name": name, "meaning": meaning, "hex": bytes_.hex(),
        "envelope": printable(fields(**given)), "canonical": False,
    }  # fmt: skip


ENVELOPES = [
    valid("request", "the shortest request: a ping without a deadline"),
    valid(
        "request with every field",
        "a ping with 1.5 s left, of a request of somebody else's, urgent, with a key and a trace",
        source="client", epoch="4f1d22aa-7", target="memory", correlation=OTHER_ID,
        deadline_ms=1500, priority=1, idempotency_key="k-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        body={"payload": b"\x00\xff"},
    ),
    valid(
        "request with no time left",
        "answered by deadline_exceeded, or by nothing at all",
        deadline_ms=0,
    ),
    valid(
        "query",
        "a question to the orchestrator, answered by a stream",
        operation="orchestrator.query", target="orchestrator", deadline_ms=120_000,
        body={"text": "Why is the sky blue?", "max_tokens": 16},
    ),
    valid(
        "request with fields that nobody knows",
        "a newer sender's body: what is unknown in a body is ignored",
        body={"payload": b"", "shiny": {"new": [1, 2]}},
    ),
    valid(
        "reply", "the answer to a ping; its id is the request's", kind=REPLY, source="memory",
        epoch="4f1d22aa-7",
        body={"name": "memory", "epoch": "4f1d22aa-7", "payload": b"\x00\xff"},
    ),
    valid(
        "chunk 0", "the first part of a stream", kind=CHUNK, operation="orchestrator.query",
        body={"text": "Because", "count": 1, "seam": None},
    ),
    valid(
        "chunk 300", "a later part", kind=CHUNK, operation="orchestrator.query", sequence=300,
        body={"text": " of Rayleigh scattering \u2013 \U0001f30d", "count": 5, "seam": None},
    ),
    valid(
        "end", "the end of a stream of 301 chunks", kind=END, operation="supervisor.events",
        sequence=301, body={},
    ),
    valid(
        "error", "an error that may be gone in a moment", kind=ERROR,
        body={"code": "overloaded", "message": "full", "details": {"retry_after_s": 0.1}},
    ),
    valid(
        "error with a code that nobody knows", "a newer sender's: an error like any other",
        kind=ERROR, body={"code": "brand_new", "message": "something new", "details": {}},
    ),
    valid(
        "error without a conversation", "the answer to a frame whose id could not be read",
        id=NO_ID, kind=ERROR, operation="",
        body={"code": "malformed_frame", "message": "malformed frame: not msgpack", "details": {}},
    ),
    valid("cancel", "the request of this id is taken back", kind=CANCEL, body=None),
    valid(
        "credit", "chunks with numbers below 128 may be sent", kind=CREDIT, sequence=128,
        operation="orchestrator.query", body=None,
    ),
    valid(
        "event", "a fact; nobody answers it", kind=EVENT, operation="actor.hello",
        body={"name": "memory", "epoch": "4f1d22aa-7", "secret": b"0123456789abcdef"},
    ),
    valid(
        "heartbeat", "an actor's sign of life", kind=HEARTBEAT, operation="supervisor.heartbeat",
        body={"state": "ready"},
    ),
    valid(
        "the largest numbers", "64 bits are enough", sequence=2**64 - 1, deadline_ms=2**53,
        priority=3, kind=CREDIT, body=None,
    ),
    lax(
        "a number in more bytes than it needs", "kind 1 as a 32-bit number",
        spliced(msgpack.packb(ID), b"\xce\x00\x00\x00\x01"),
    ),
    lax(
        "a string with a longer head than it needs", "actor.ping with a head of two bytes",
        spliced(msgpack.packb(ID), b"\x01", b"\xd9\x0aactor.ping"),
    ),
    lax(
        "a map with a longer head than it needs", "the empty body as a map with 16-bit length",
        frame()[:-1] + b"\xde\x00\x00",
    ),
]  # fmt: skip


# --- what is no envelope ----------------------------------------------------------------------


def broken(name: str, meaning: str, bytes_: bytes, error: str = "malformed_frame",
           answers: bytes = NO_ID) -> Vector:  # fmt: skip
    """A frame that is refused; ``answers`` is the id that the refusal carries."""
    return {
        "name": name, "meaning": meaning, "hex": bytes_.hex(), "error": error,
        "answers": answers.hex(),
    }  # fmt: skip


ARRAY = b"n\x01\x9d"
WITH_ID = ARRAY + msgpack.packb(ID)
DEEP = 5_000

MALFORMED = [
    broken("nothing", "a frame of no bytes", b""),
    broken("one byte", "the magic alone", b"n"),
    broken("a foreign protocol", "an HTTP request", b"GET / HTTP/1.1\r\n\r\n"),
    broken("JSON", "the right thing in the wrong form", b'{"kind": 1}'),
    broken("version 0", "an envelope of version 0", b"n\x00" + frame()[2:], "unsupported_version",
           answers=ID),
    broken("version 2", "an envelope of version 2", b"n\x02" + frame()[2:], "unsupported_version",
           answers=ID),
    broken("no array", "a map", b"n\x01\x80"),
    broken("12 fields", "the body is missing", b"n\x01\x9c" + frame()[3:-1], answers=ID),
    broken("14 fields", "one too many: that would be another version",
           b"n\x01\x9e" + frame()[3:] + b"\xc0", answers=ID),
    broken("an array with a longer head", "13 fields, counted in 16 bits",
           b"n\x01\xdc\x00\x0d" + frame()[3:]),
    broken("the head alone", "13 fields are promised and none follows", ARRAY),
    broken("cut in its id", "10 of the 16 bytes", WITH_ID[:-6]),
    broken("cut after its id", "the id can be read, and the refusal carries it", WITH_ID,
           answers=ID),
    broken("cut in its last byte", "all but the body", frame()[:-1], answers=ID),
    broken("something behind it", "one byte more than the array has", frame() + b"\xc0",
           answers=ID),
    broken("a string that is not as long as it says", "4 GiB are promised",
           WITH_ID + b"\x01\xdb\xff\xff\xff\xff", answers=ID),
    broken("an array that is not as long as it says", "4,294,967,295 items are promised",
           frame()[:-1] + b"\xdd\xff\xff\xff\xff", answers=ID),
    broken("a map that is not as long as it says", "4,294,967,295 entries are promised",
           frame()[:-1] + b"\xdf\xff\xff\xff\xff", answers=ID),
    broken("a byte that msgpack never uses", "0xc1", frame()[:-1] + b"\xc1", answers=ID),
    broken("deep nesting", f"{DEEP:,} arrays in each other", frame()[:-1] + b"\x91" * DEEP
           + b"\xc0", answers=ID),
    broken("deep nesting that is cut", f"{DEEP:,} maps in each other, without an end",
           frame()[:-1] + b"\x81\xa1a" * DEEP, answers=ID),
    broken("text that is not UTF-8", "in the operation",
           spliced(msgpack.packb(ID), b"\x01", b"\xa2\xff\xfe"), answers=ID),
    broken("half a surrogate pair", "U+D800 in UTF-8, which does not have it",
           spliced(msgpack.packb(ID), b"\x01", b"\xa3\xed\xa0\x80"), answers=ID),
    broken("an id of 15 bytes", "ids have 16", frame(id=ID[:15])),
    broken("an id of 17 bytes", "ids have 16", frame(id=ID + b"\x00")),
    broken("an id that is text", "32 hexadecimal digits", frame(id=ID.hex())),
    broken("an id that is nil", "it is never left out", frame(id=None)),
    broken("kind 0", "there is none", frame(kind=0), answers=ID),
    broken("kind 10", "there is none in version 1", frame(kind=10), answers=ID),
    broken("a kind that is text", "request", frame(kind="request"), answers=ID),
    broken("a kind that is true", "which is no number here", frame(kind=True), answers=ID),
    broken("an operation that is a number", "7", frame(operation=7), answers=ID),
    broken("an operation that is nil", "it is never left out", frame(operation=None), answers=ID),
    broken("an operation that is bytes", "the same letters, in another type",
           frame(operation=b"actor.ping"), answers=ID),
    broken("a correlation of 4 bytes", "it is an id", frame(correlation=b"1234"), answers=ID),
    broken("a negative sequence", "-1", frame(sequence=-1), answers=ID),
    broken("a sequence that is a fraction", "1.0", frame(sequence=1.0), answers=ID),
    broken("a deadline that is text", "1000", frame(deadline_ms="1000"), answers=ID),
    broken("a deadline that is a fraction", "0.5", frame(deadline_ms=0.5), answers=ID),
    broken("a negative deadline", "-1: what is late is sent with 0", frame(deadline_ms=-1),
           answers=ID),
    broken("priority 4", "there are 0 to 3", frame(priority=4), answers=ID),
    broken("a negative priority", "-1", frame(priority=-1), answers=ID),
    broken("a key that is nil", "no key is an empty string", frame(idempotency_key=None),
           answers=ID),
    broken("a traceparent that is a number", "0", frame(traceparent=0), answers=ID),
]  # fmt: skip


# --- envelopes that a receiver refuses --------------------------------------------------------


def refused(name: str, meaning: str, error: str, **given: Any) -> Vector:
    """A frame that any receiver refuses, when it comes from a stranger."""
    return {
        "name": name, "meaning": meaning, "hex": frame(**given).hex(), "error": error,
        "answers": given.get("id", ID).hex(),
    }  # fmt: skip


REFUSED = [
    refused("an operation that nobody has", "with a name as they have", "unknown_operation",
            operation="supervisor.frobnicate"),
    refused("an operation without a name", "empty", "unknown_operation", operation=""),
    refused("a reply", "who was not asked does not answer", "malformed_frame", kind=REPLY),
    refused("a chunk", "who was not asked does not answer", "malformed_frame", kind=CHUNK),
    refused("an end", "who was not asked does not answer", "malformed_frame", kind=END),
    refused("an error", "who was not asked does not answer", "malformed_frame", kind=ERROR),
    refused("an event sent as a request", "it has no answer", "malformed_frame",
            operation="actor.hello", body={"name": "x", "epoch": "x", "secret": b""}),
    refused("a request sent as an event", "its answer would be lost", "malformed_frame",
            kind=EVENT),
    refused("an operation of actors", "a stranger does not have the role", "not_allowed",
            kind=HEARTBEAT, operation="supervisor.heartbeat", body={"state": "ready"}),
    refused("a hello with a wrong secret", "which proves nothing", "not_allowed", kind=EVENT,
            operation="actor.hello", body={"name": "x", "epoch": "x", "secret": b"guessed"}),
    refused("a hello without a secret", "a field is missing", "invalid_message", kind=EVENT,
            operation="actor.hello", body={"name": "x", "epoch": "x"}),
    refused("a body that is nil", "a ping's is a map", "invalid_message", body=None),
    refused("a body that is an array", "a ping's is a map", "invalid_message", body=[1, 2]),
    refused("a body that is text", "a ping's is a map", "invalid_message", body="hello"),
    refused("a field of the wrong type", "the payload is bytes", "invalid_message",
            body={"payload": {"a": 1}}),
    refused("a field that is missing", "whom to drain", "invalid_message",
            operation="supervisor.drain"),
    refused("a name that is out of range", "a duration of 601 s", "invalid_message",
            operation="supervisor.inject",
            body={"fault": "kill", "target": "storage", "seconds": 601}),
    refused("a duration that is no number", "NaN", "invalid_message",
            operation="supervisor.inject",
            body={"fault": "kill", "target": "storage", "seconds": float("nan")}),
    refused("a name that nobody has", "well-formed, and there is no such actor", "not_found",
            operation="supervisor.drain", body={"name": "nobody"}),
]  # fmt: skip


# --- batches ----------------------------------------------------------------------------------


def batch(name: str, meaning: str, message: bytes, frames: list[bytes]) -> Vector:
    """One message of the transport, and the frames that it holds."""
    return {
        "name": name, "meaning": meaning, "hex": message.hex(),
        "frames": [one.hex() for one in frames],
    }  # fmt: skip


def joined(frames: list[Any]) -> bytes:
    """A batch."""
    array: bytes = msgpack.packb(frames)
    return b"N\x01" + array


TWO = [frame(), frame(id=OTHER_ID)]
BATCHES = [
    batch("a frame alone", "travels as it is", TWO[0], [TWO[0]]),
    batch("two frames", "in the order in which they are taken", joined(TWO), TWO),
    batch("a batch of one", "nobody needs it, everybody takes it", joined(TWO[:1]), TWO[:1]),
    batch("a broken frame among others", "harms only itself", joined([TWO[0], b"n\x01", TWO[1]]),
          [TWO[0], b"n\x01", TWO[1]]),
    *(
        batch(name, "no batch: it is taken for one frame, which is none", message, [message])
        for name, message in (
            ("an empty batch", joined([])),
            ("a batch of text", joined(["hello"])),
            ("a batch that is a map", b"N\x01" + msgpack.packb({"a": b""})),
            ("a batch that is cut", joined(TWO)[:-1]),
            ("a batch with something behind it", joined(TWO) + b"\x00"),
            ("a batch of version 2", b"N\x02" + msgpack.packb(TWO)),
            ("a batch of 1,025 frames", joined([b"n"] * 1025)),
            ("a batch that promises 4,294,967,295 frames", b"N\x01\xdd\xff\xff\xff\xff"),
        )
    ),
]  # fmt: skip


# --- streams, as their reader sees them -------------------------------------------------------


def end(count: int) -> bytes:
    """The end of a stream of events, which says nothing but that."""
    return frame(kind=END, operation="supervisor.events", sequence=count, body={})


def sent(count: int) -> bytes:
    """What a receiver says of a stream that waits for credit."""
    return frame(kind=HEARTBEAT, operation="supervisor.events", sequence=count, body=None)


def events(number: int, *names: str) -> bytes:
    """A part of a stream of events."""
    told = [{"what": name, "actor": "", "text": "", "data": {}} for name in names]
    return frame(kind=CHUNK, operation="supervisor.events", sequence=number,
                 body={"events": told, "dropped": 0})  # fmt: skip


def stream(name: str, meaning: str, frames: list[bytes], reads: int, outcome: str) -> Vector:
    """What arrives after a ``supervisor.events`` request with the id of these vectors (its first
    credit is 64): so many chunks are read, and then this comes of it: ``end``, ``open``, or an
    error's code."""
    return {
        "name": name, "meaning": meaning, "frames": [one.hex() for one in frames],
        "chunks_read": reads, "outcome": outcome,
    }  # fmt: skip


FAILED = frame(kind=ERROR, body={"code": "overloaded", "message": "full", "details": {}})
STREAMS = [
    stream("two chunks and the end", "as it should be", [events(0, "a"), events(1, "b"), end(2)],
           2, "end"),
    stream("no chunk", "an end alone is a whole stream", [end(0)], 0, "end"),
    stream("frames that say nothing", "are ignored", [events(0, "a"), b"", b"", end(1)], 1, "end"),
    stream("a heartbeat", "says how many chunks were sent, which are as many as came",
           [events(0, "a"), sent(1), end(1)], 1, "end"),
    stream("a heartbeat after chunks that are lost", "2 were sent, and 1 came",
           [events(0, "a"), sent(2)], 1, "stream_broken"),
    stream("not over yet", "more may come", [events(0, "a")], 1, "open"),
    stream("an error", "ends it", [events(0, "a"), FAILED], 1, "overloaded"),
    stream("a chunk is missing", "number 1 did not come", [events(0, "a"), events(2, "c")], 1,
           "stream_broken"),
    stream("a chunk comes twice", "each comes once", [events(0, "a"), events(0, "a")], 1,
           "stream_broken"),
    stream("the first chunk is missing", "they are numbered from 0", [events(1, "b")], 0,
           "stream_broken"),
    stream("the last chunk is missing", "the end says that there were 2", [events(0, "a"), end(2)],
           1, "stream_broken"),
    stream("the end counts too few", "the end says that there was none", [events(0, "a"), end(0)],
           1, "stream_broken"),
    stream("something after the end", "is late, and ignored", [events(0, "a"), end(1),
           events(1, "b")], 1, "end"),
    stream("an error after the end", "is late, and ignored", [end(0), FAILED], 0, "end"),
    stream("more than the credit", "chunk 64 came on a credit of 64",
           [events(number, "a") for number in range(65)], 64, "illegal_transition"),
    stream("a reply", "a stream is not answered by one", [frame(kind=REPLY)], 0,
           "illegal_transition"),
    stream("a request", "a receiver asks nothing back", [frame()], 0, "illegal_transition"),
    stream("a body that is wrong", "events is a list",
           [frame(kind=CHUNK, operation="supervisor.events", body={"events": 7})], 0,
           "invalid_message"),
    stream("an error without a code", "it ends the stream all the same",
           [frame(kind=ERROR, body={"message": "?"})], 0, "malformed_frame"),
]  # fmt: skip


# --- blobs ------------------------------------------------------------------------------------


def ext(*data: int, code: int = 1) -> msgpack.ExtType:
    """An extension: part ``data`` of the message."""
    return msgpack.ExtType(code, bytes(data))


def parts(name: str, meaning: str, body: Any, *blobs: bytes, **more: Any) -> Vector:
    """A frame with this body, and the blobs behind it."""
    sent = [frame(body=body), *blobs]
    return {"name": name, "meaning": meaning, "parts": [part.hex() for part in sent], **more}


BLOBS = [
    parts("one blob", "the value of x is the part behind the frame", {"x": ext(0)}, b"blob",
          says={"x": {"bytes": b"blob".hex()}}),
    parts("two blobs", "in another order than they are spoken of", {"x": [ext(1), ext(0)]},
          b"first", b"second",
          says={"x": [{"bytes": b"second".hex()}, {"bytes": b"first".hex()}]}),
    parts("an empty blob", "is an empty byte string", {"x": ext(0)}, b"",
          says={"x": {"bytes": ""}}),
    parts("a blob twice", "may be spoken of more than once", {"x": ext(0), "y": ext(0)}, b"b",
          says={"x": {"bytes": b"b".hex()}, "y": {"bytes": b"b".hex()}}),
    parts("a part too few", "the frame speaks of one that is not there", {"x": ext(1)}, b"blob",
          error="malformed_frame"),
    parts("a part too many", "the frame does not speak of it", {"x": 1}, b"blob",
          error="malformed_frame"),
    parts("a long number", "parts are numbered with one byte", {"x": ext(0, 0)}, b"blob",
          error="malformed_frame"),
    parts("another extension", "only that of code 1 is a blob", {"x": ext(0, code=2)}, b"blob",
          error="malformed_frame"),
    parts("no frame before it", "the first part is no frame", {}, b"blob",
          error="malformed_frame"),
]  # fmt: skip
BLOBS[-1]["parts"][0] = b"blob".hex()


if __name__ == "__main__":
    write("envelopes", "Frames that have to be understood, and what they say.", ENVELOPES)
    write("malformed", "Frames that are no envelopes: each is refused with this error.", MALFORMED)
    write(
        "refused",
        "Envelopes that the supervisor refuses when a stranger sends them: each gets this error.",
        REFUSED,
    )
    write("batches", "Messages of the transport, and the frames that each holds.", BATCHES)
    write("blobs", "Messages of several parts: a frame and its blobs, and what they say.", BLOBS)
    write("streams", "What may arrive on a stream, and what comes of it.", STREAMS)
