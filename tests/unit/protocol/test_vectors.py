"""The test vectors say what the bytes mean, and this is what noyau takes them for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from protocol.batch import split
from protocol.blobs import Blob, load
from protocol.clock import ManualClock
from protocol.codec import Codec, salvage_id
from protocol.connection import Connection, Speaker
from protocol.envelope import NO_ID, Envelope
from protocol.errors import NoyauError, ProtocolError
from protocol.messages.supervisor import WatchEvents
from protocol.pending import OutgoingStream
from protocol.timers import Timers
from tests.support.vectors import FOLDER, named, unprinted, vectors

CODEC = Codec()


@pytest.mark.parametrize("vector", vectors("envelopes"), ids=named)
def test_what_has_to_be_understood_is_understood(vector: dict[str, Any]) -> None:
    assert asdict(CODEC.decode(bytes.fromhex(vector["hex"]))) == unprinted(vector["envelope"])


@pytest.mark.parametrize("vector", [v for v in vectors("envelopes") if v["canonical"]], ids=named)
def test_what_is_written_is_to_the_byte_what_the_vectors_say(vector: dict[str, Any]) -> None:
    assert CODEC.encode(Envelope(**unprinted(vector["envelope"]))).hex() == vector["hex"]


@pytest.mark.parametrize("vector", vectors("malformed"), ids=named)
def test_what_is_no_envelope_is_refused_by_its_error(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    with pytest.raises(ProtocolError) as caught:
        CODEC.decode(frame)
    assert caught.value.code == vector["error"]
    assert (salvage_id(frame) or NO_ID).hex() == vector["answers"]


@pytest.mark.parametrize("vector", vectors("batches"), ids=named)
def test_a_message_of_the_transport_holds_these_frames(vector: dict[str, Any]) -> None:
    assert [frame.hex() for frame in split(bytes.fromhex(vector["hex"]))] == vector["frames"]


@pytest.mark.parametrize("vector", vectors("blobs"), ids=named)
def test_a_frame_and_the_parts_behind_it_are_one_message(vector: dict[str, Any]) -> None:
    frame, *blobs = [bytes.fromhex(part) for part in vector["parts"]]
    loaded = load(frame, [memoryview(blob) for blob in blobs])
    if "error" in vector:
        with pytest.raises(ProtocolError) as caught:
            CODEC.decode(loaded)
        assert caught.value.code == vector["error"]
    else:
        assert with_bytes(CODEC.decode(loaded).body) == unprinted(vector["says"])


def with_bytes(value: Any) -> Any:
    """A body with the bytes of its blobs."""
    if isinstance(value, dict):
        return {key: with_bytes(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_bytes(one) for one in value]
    return bytes(value) if isinstance(value, Blob) else value


class Deaf:
    """A link that takes everything and answers nothing."""

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """See `Link.send`."""

    def close(self) -> None:
        """See `Link.close`."""


@pytest.mark.parametrize("vector", vectors("streams"), ids=named)
async def test_what_arrives_on_a_stream_has_this_outcome(vector: dict[str, Any]) -> None:
    loop, clock = asyncio.get_running_loop(), ManualClock()
    speaker = Speaker("client", "", CODEC, clock, Timers(clock, loop), loop)
    connection = Connection(speaker, "supervisor", "")
    connection.link = Deaf()
    message = WatchEvents()
    stream = OutgoingStream(message, None, loop, "", lambda granted: None, lambda: None)
    stream.id = CODEC.decode(bytes.fromhex(vector["frames"][0])).id
    connection.request(stream, message, "")
    for frame in vector["frames"]:
        connection.on_frame(bytes.fromhex(frame))
    assert await read(stream, vector["chunks_read"]) == vector["outcome"]


async def read(stream: OutgoingStream[Any, Any], chunks: int) -> str:
    """Read so many chunks, and what comes of the stream then."""
    for _ in range(chunks):
        await anext(stream)
    next_one = asyncio.ensure_future(anext(stream))
    await asyncio.wait([next_one], timeout=0)
    await asyncio.sleep(0)
    if not next_one.done():
        next_one.cancel()
        return "open"
    try:
        await next_one
    except StopAsyncIteration:
        return "end"
    except NoyauError as error:
        return error.code
    return "a chunk too many"


def test_the_files_are_what_their_maker_writes(tmp_path: Path) -> None:
    maker = tmp_path / "make.py"
    maker.write_text((FOLDER / "make.py").read_text())
    subprocess.run([sys.executable, maker], check=True)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert made == {path.name: path.read_text() for path in FOLDER.glob("*.json")}
