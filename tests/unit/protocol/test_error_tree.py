"""Every error crosses the wire and comes back as itself; junk comes back as an error too."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import errors
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import BY_CODE, MalformedFrame, NoyauError, error_from_body

# A test may declare errors of its own; these are the protocol's.
CLASSES = sorted(BY_CODE.values(), key=lambda cls: cls.__name__)


def over_the_wire(error: NoyauError) -> NoyauError:
    codec = Codec()
    frame = codec.encode(Envelope(new_id(), Kind.ERROR, "a.b", body=error.to_body()))
    return error_from_body(codec.decode(frame).body)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_comes_back_from_the_wire_as_itself(cls: type[NoyauError]) -> None:
    back = over_the_wire(cls("it broke", retry_after_s=0.5, places=["a", {"b": 1}]))
    assert type(back) is cls
    assert str(back) == back.message == "it broke"
    assert back.details == {"retry_after_s": 0.5, "places": ["a", {"b": 1}]}
    assert back.code == cls.code
    assert back.retryable is cls.retryable


def test_codes_are_unique() -> None:
    names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, NoyauError)
    }
    assert {cls.__name__ for cls in BY_CODE.values()} == names
    assert all(cls.code == code for code, cls in BY_CODE.items())


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)(?:  |$)", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {cls.__name__: cls.__mro__[1].__name__ for cls in CLASSES}


def test_an_unknown_code_keeps_its_code_message_and_details() -> None:
    back = error_from_body({"code": "out_of_tea", "message": "no tea", "details": {"cups": 0}})
    assert type(back) is NoyauError
    assert back.message == "no tea"
    assert back.details == {"code": "out_of_tea", "cups": 0}
    assert not back.retryable


def test_an_error_without_words_is_told_by_its_code() -> None:
    back = error_from_body({"code": "cancelled"})
    assert type(back) is errors.Cancelled
    assert back.message == "cancelled"
    assert back.details == {}


@pytest.mark.parametrize(
    "body",
    [None, 3, "cancelled", [], ["cancelled"], {}, {"code": None}, {"code": 7}, {"message": "x"}],
    ids=repr,
)
def test_a_body_that_is_no_error_becomes_malformed_frame(body: object) -> None:
    assert type(error_from_body(body)) is MalformedFrame


@pytest.mark.parametrize("name", ["self", "message", "conversation", "cls", "details", "code"])
@pytest.mark.parametrize("code", ["not_found", "malformed_frame", "out_of_tea"])
def test_no_name_of_a_detail_can_break_the_reading_of_an_error(name: str, code: str) -> None:
    back = error_from_body({"code": code, "message": "x", "details": {name: "y"}})
    assert back.message == "x"
    assert isinstance(back, BY_CODE.get(code, NoyauError))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    anything
    | st.fixed_dictionaries(
        {"code": st.sampled_from(sorted(BY_CODE)) | anything},
        optional={"message": anything, "details": anything},
    )
)
def test_any_body_becomes_some_error_and_never_raises(body: object) -> None:
    assert isinstance(error_from_body(body), NoyauError)


def test_an_error_knows_whether_it_came_over_the_wire() -> None:
    error = errors.ActorDied("gone")
    assert not error.remote
    assert over_the_wire(error).remote
