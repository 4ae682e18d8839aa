"""Quotas: what will be there counts, so that no end of an upload can go above one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.stored.quota import Claim, Quota, Usage, admit, usage
from protocol.errors import QuotaExceeded

ALLOWED = Quota(bytes=100, files=3)


def of(kept: dict[str, int], claims: list[Claim]) -> Usage:
    return usage(kept, sum(kept.values()), claims)


def admits(kept: dict[str, int], claims: list[Claim], wanted: Claim) -> bool:
    try:
        admit("o", ALLOWED, of(kept, claims), of(kept, [*claims, wanted]))
    except QuotaExceeded:
        return False
    return True


def test_what_is_kept_and_what_is_coming_count() -> None:
    assert of({"a": 10, "b": 20}, [("c", 5)]) == Usage(30, 2, 5, 1)


def test_a_replacement_counts_by_what_it_adds() -> None:
    assert of({"a": 10}, [("a", 15)]) == Usage(10, 1, 5, 0)
    assert of({"a": 10}, [("a", 4)]) == Usage(10, 1, 0, 0)


def test_of_several_uploads_of_one_name_the_largest_counts() -> None:
    assert of({"a": 10}, [("a", 30), ("a", 20), ("b", 1), ("b", 2)]) == Usage(10, 1, 22, 1)


def test_the_last_byte_and_the_last_file_are_allowed() -> None:
    assert admits({"a": 60}, [], ("b", 40))
    assert not admits({"a": 60}, [], ("b", 41))
    assert admits({"a": 1, "b": 1}, [], ("c", 1))
    assert not admits({"a": 1, "b": 1, "c": 1}, [], ("d", 0))
    assert not admits({"a": 1, "b": 1}, [("c", 1)], ("d", 0))


def test_an_owner_above_a_quota_that_was_lowered_may_replace_files_by_smaller_ones() -> None:
    kept = {"a": 90, "b": 90}
    assert admits(kept, [], ("a", 80))
    assert admits(kept, [], ("a", 90))
    assert not admits(kept, [], ("a", 91))


def test_who_is_refused_is_told_what_is_used_allowed_and_needed_and_what_to_do() -> None:
    before, after = of({"a": 60}, [("b", 30)]), of({"a": 60}, [("b", 30), ("c", 20)])
    with pytest.raises(QuotaExceeded, match="delete files, let them expire") as caught:
        admit("telemetry", ALLOWED, before, after)
    assert caught.value.details == {
        "owner": "telemetry", "what": "bytes", "used": 90, "reserved": 30, "allowed": 100,
        "needed": 20,
    }  # fmt: skip
    assert "file_quotas of telemetry" in str(caught.value)
    before, after = of({"a": 1, "b": 1, "c": 1}, []), of({"a": 1, "b": 1, "c": 1}, [("d", 1)])
    with pytest.raises(QuotaExceeded, match="keep more in each") as caught:
        admit("telemetry", ALLOWED, before, after)
    assert (caught.value.details["what"], caught.value.details["needed"]) == ("files", 1)


NAMES = st.sampled_from("abcde")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), NAMES, st.integers(0, 70)),
        st.tuples(st.just("end"), NAMES, st.just(0)),
        st.tuples(st.just("drop"), NAMES, st.just(0)),
        st.tuples(st.just("delete"), NAMES, st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_no_order_of_uploads_ends_and_deletions_brings_an_owner_above_its_quota(
    steps: list[tuple[str, str, int]],
) -> None:
    kept: dict[str, int] = {}
    claims: list[Claim] = []
    for what, name, size in steps:
        mine = [claim for claim in claims if claim[0] == name]
        if what == "begin" and admits(kept, claims, (name, size)):
            claims.append((name, size))
        elif what == "delete":
            kept.pop(name, None)
        elif mine and what in ("end", "drop"):
            claims.remove(mine[-1])
            if what == "end":
                kept[name] = mine[-1][1]
        assert sum(kept.values()) <= ALLOWED.bytes
        assert len(kept) <= ALLOWED.files
