"""Parts of an upload: each once, one after the other, and again without harm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.storage.stored.uploads import UPLOAD, Part, Upload, UploadEvent, UploadState
from protocol.errors import IllegalTransition, InvalidRequest
from protocol.messages.storage import MOST_PART_BYTES

CHECKSUM = "blake3-" + "ab" * 32


def part(offset: int, length: int = 10, **fields: object) -> Part:
    made = Part(upload="u", name="n", offset=offset, length=length, last=False)
    return replace(made, **fields)  # type: ignore[arg-type]


def upload_with(received: int, size: int | None = None) -> Upload:
    """One that has so many bytes."""
    upload = Upload("o", part(0, received, size=size), 5.0)
    upload.wrote(part(0, received), 6.0)
    return upload


def test_a_part_that_is_due_is_new_and_moves_the_upload_on() -> None:
    upload = upload_with(10)
    assert upload.is_new(part(10))
    upload.wrote(part(10), 9.0)
    assert (upload.received, upload.touched_at, upload.state) == (20, 9.0, UploadState.OPEN)


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (10, 10), (3, 4), (0, 20), (5, 0)])
def test_a_part_that_came_already_is_not_new(offset: int, length: int) -> None:
    assert not upload_with(20).is_new(part(offset, length))


@pytest.mark.parametrize(("offset", "length"), [(21, 10), (15, 10), (0, 21)])
def test_a_part_that_leaves_a_gap_or_overlaps_is_told_what_is_due(offset: int, length: int) -> None:
    with pytest.raises(InvalidRequest, match="20 is due") as caught:
        upload_with(20).is_new(part(offset, length))
    assert caught.value.details["expected"] == 20


def test_a_last_part_cannot_be_one_that_came_before() -> None:
    with pytest.raises(InvalidRequest, match="20 is due"):
        upload_with(20).is_new(part(10, last=True, checksum=CHECKSUM))
    assert upload_with(20).is_new(part(20, 0, last=True, checksum=CHECKSUM))


def test_a_part_of_another_file_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="is 'n', and this part says 'm'"):
        upload_with(10).is_new(part(10, name="m"))


@pytest.mark.parametrize("one", [part(20, 11), part(20, 9, last=True), part(20, 11, last=True)])
def test_a_file_has_the_size_that_was_told_at_its_beginning(one: Part) -> None:
    with pytest.raises(InvalidRequest, match="was to have 30 bytes"):
        upload_with(20, size=30).is_new(one)
    assert upload_with(20, size=30).is_new(part(20, 10, last=True))


def test_room_is_claimed_for_the_size_that_was_told_or_for_what_comes() -> None:
    assert Upload("o", part(0, 10, size=30), 0.0).claim == 30
    assert Upload("o", part(0, 10), 0.0).claim == 10
    assert upload_with(10).claim_with(part(10, 5)) == 15
    assert upload_with(10, size=30).claim_with(part(10, 5)) == 30


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (part(0, MOST_PART_BYTES + 1), "is too large"),
        (part(0, upload=""), "needs an `upload` id"),
        (part(10, upload="", last=True), "needs an `upload` id"),
        (part(0, last=True), "must have the `checksum`"),
        (part(0, last=True, checksum="blake3-AB"), "is no checksum"),
        (part(0, last=True, checksum="sha256-" + "ab" * 32), "is no checksum"),
    ],
)
def test_a_part_that_can_be_none_is_told_why(one: Part, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        one.check()


def test_parts_that_can_be_some_pass() -> None:
    part(0, MOST_PART_BYTES).check()
    part(10, last=True, checksum=CHECKSUM).check()
    part(0, upload="", last=True).check()


def test_what_has_ended_takes_nothing_more() -> None:
    for state in (UploadState.SAVED, UploadState.DROPPED):
        assert not any(UPLOAD.allows(state, event) for event in UploadEvent)
    upload = upload_with(10)
    upload.wrote(part(10, last=True, checksum=CHECKSUM), 1.0)
    assert upload.take(UploadEvent.PUBLISHED) is UploadState.SAVED
    with pytest.raises(IllegalTransition):
        upload.take(UploadEvent.EXPIRED)


def test_what_is_being_published_does_not_expire() -> None:
    assert not UPLOAD.allows(UploadState.SEALING, UploadEvent.EXPIRED)
    assert not UPLOAD.allows(UploadState.SEALING, UploadEvent.ABANDONED)
