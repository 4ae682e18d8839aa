"""What a web server's answer is worth, by its head alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.sources.answers import MOST_RETRY_AFTER_S, Wanted, judge, retry_after_s
from protocol.errors import AssetCorrupt, AssetError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOTALS = st.integers(1, 10**15)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[int, int, int]:
    """Offset, size and total."""
    total = draw(TOTALS)
    offset = draw(st.integers(0, total - 1))
    return offset, draw(st.integers(1, total - offset)), total


def content_range(offset: int, size: int, total: object) -> dict[str, str]:
    return {"content-range": f"bytes {offset}-{offset + size - 1}/{total}"}


@given(stretches(), st.booleans(), st.booleans())
def test_exactly_the_stretch_that_was_asked_for_is_taken(
    asked: tuple[int, int, int], total_told: bool, length_told: bool
) -> None:
    offset, size, total = asked
    headers = content_range(offset, size, total if total_told else "*")
    if length_told:
        headers["content-length"] = str(size)
    head = judge(206, headers, Wanted("u", 1, total, (offset, size)), NOW)
    assert head.size == size
    assert head.version == ({"size": str(total)} if total_told else {})


@given(stretches(), stretches())
def test_any_other_stretch_is_corrupt(
    asked: tuple[int, int, int], sent: tuple[int, int, int]
) -> None:
    if asked == sent:
        return
    offset, size, total = asked
    with pytest.raises(AssetCorrupt):
        judge(206, content_range(*sent), Wanted("u", 1, total, (offset, size)), NOW)


@given(st.text(max_size=40))
def test_a_content_range_that_is_none_is_corrupt(text: str) -> None:
    with pytest.raises(AssetCorrupt):
        judge(206, {"content-range": text}, Wanted("u", 1, 100, (0, 10)), NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("bytes 0-9/5", "bytes 0-9/", "bytes 0-9", "bytes */100", "items 0-9/100", "0-9/100"),
        *("bytes 0-9/100, bytes 0-9/100", "bytes -0-9/100", "bytes 0-9/1e2", "bytes ٠-9/100"),
    ],
)
def test_a_content_range_that_contradicts_itself_or_is_several_is_corrupt(text: str) -> None:
    with pytest.raises(AssetCorrupt):
        judge(206, {"content-range": text}, Wanted("u", 1, None, (0, 10)), NOW)


@given(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(
            ["content-range", "content-length", "content-encoding", "content-type", "retry-after",
             "transfer-encoding", "etag", "last-modified"]
        ),
        st.one_of(st.text(max_size=30), st.integers(0, 200).map(str), st.just("bytes 0-9/100")),
    ),
    st.booleans(),
)  # fmt: skip
def test_any_head_is_taken_or_one_typed_error(
    status: int, headers: dict[str, str], part: bool
) -> None:
    wanted = Wanted("u", 100, 100, (0, 10) if part else None)
    try:
        head = judge(status, headers, wanted, NOW)
    except AssetError:
        return
    assert status == (206 if part else 200)
    assert head.size == (10 if part else 100)


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-gzip", "identity, gzip", "GZIP", "nonsense"])
def test_no_encoding_is_taken(encoding: str) -> None:
    with pytest.raises(AssetCorrupt, match="encoded"):
        judge(200, {"content-encoding": encoding}, Wanted("u", 100, 100), NOW)
    assert judge(200, {"content-encoding": "identity"}, Wanted("u", 100, 100), NOW).size == 100


@pytest.mark.parametrize("length", ["-1", "1.0", "0x10", "1 0", "many", "9" * 30])
def test_a_length_that_is_none_is_corrupt(length: str) -> None:
    with pytest.raises(AssetCorrupt, match="Content-Length"):
        judge(200, {"content-length": length}, Wanted("u", 100), NOW)


def test_the_size_of_a_whole_that_nobody_knows_is_what_the_server_says_or_unknown() -> None:
    assert judge(200, {"content-length": "7"}, Wanted("u", 100), NOW).size == 7
    assert judge(200, {}, Wanted("u", 100), NOW).size is None
    with pytest.raises(AssetCorrupt, match="more than the 100"):
        judge(200, {"content-length": "101"}, Wanted("u", 100), NOW)


@given(st.integers(0, 10**9))
def test_a_retry_after_in_seconds_is_bounded(seconds: int) -> None:
    assert retry_after_s(str(seconds), NOW) == min(float(seconds), MOST_RETRY_AFTER_S)


@given(st.integers(-(10**6), 10**6))
def test_a_retry_after_as_a_date_is_the_time_until_then(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(date, NOW) == min(max(0.0, seconds), MOST_RETRY_AFTER_S)


@given(st.text(max_size=60))
def test_any_retry_after_is_none_or_a_bounded_wait(text: str) -> None:
    seconds = retry_after_s(text, NOW)
    assert seconds is None or 0 <= seconds <= MOST_RETRY_AFTER_S


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1e3", "Sat, 99 Foo 2026 00:00:00 GMT", "١٢", "0, 0, 0 0 0:0:0"]
)
def test_a_retry_after_that_is_none_says_nothing(text: str) -> None:
    assert retry_after_s(text, NOW) is None
