"""Messages: each operation registered once, in its receiver's file, and answered with something."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import protocol.messages
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    InvalidMessage,
    NoyauError,
    StreamBroken,
    error_from_body,
)
from protocol.messages.actor import Hello, Ping
from protocol.messages.base import OPERATIONS, Ask, Event, Message, Operation, Role, Stream
from protocol.messages.engine import ChatMessage, Generate
from protocol.messages.orchestrator import Begun, Query, Seam, Text
from protocol.messages.storage import Provide

FILES = [
    importlib.import_module(f"protocol.messages.{one.name}")
    for one in pkgutil.iter_modules(protocol.messages.__path__)
    if one.name != "base"
]


def declared() -> Iterator[type[Operation]]:
    for file in FILES:
        for name, value in vars(file).items():
            if not (inspect.isclass(value) and issubclass(value, Operation)):
                continue
            # pydantic files its parametrised generics, Ask[Pong], beside the classes.
            if value.__module__ == file.__name__ and "[" not in name:
                yield value


CLASSES = list(declared())


def test_every_operation_is_registered_under_its_own_name() -> None:
    # A test may have registered operations of its own.
    registered = {
        name: cls for name, cls in OPERATIONS.items() if cls.__module__.startswith("protocol.")
    }
    assert registered == {cls.operation: cls for cls in CLASSES}
    assert len(registered) == len(CLASSES)


def test_every_file_of_messages_is_a_name_of_the_package() -> None:
    names = {file.__name__.rpartition(".")[2] for file in FILES}
    assert names <= set(protocol.messages.__all__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_operation_stands_in_the_file_of_its_receiver(cls: type[Operation]) -> None:
    assert cls.receiver() == cls.__module__.rpartition(".")[2]
    assert cls.operation.startswith(f"{cls.receiver()}.")
    assert cls.operation.partition(".")[2].isidentifier()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_operation_says_what_it_is_answered_with_and_who_may_send_it(
    cls: type[Operation],
) -> None:
    assert isinstance(cls.role, Role)
    if issubclass(cls, Ask):
        assert issubclass(cls.reply_type(), Message)
    elif issubclass(cls, Stream):
        assert issubclass(cls.chunk_type(), Message)
        assert issubclass(cls.end_type(), Message)
        # What is yielded last is told from a chunk by its class.
        assert not issubclass(cls.chunk_type(), cls.end_type())
    else:
        assert issubclass(cls, Event)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_message_is_described(cls: type[BaseModel]) -> None:
    assert cls.__doc__


def test_engines_and_storage_take_their_work_from_actors_alone() -> None:
    assert Generate.role is Provide.role is Role.INTERNAL
    assert Query.role is Role.ASK


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(TypeError, match=r"actor\.ping is Ping already"):

        class Second(Event, operation=Ping.operation):
            pass

    assert OPERATIONS[Ping.operation] is Ping


def test_a_class_without_an_operation_registers_nothing() -> None:
    before = dict(OPERATIONS)

    class Base(Event):
        pass

    assert before == OPERATIONS
    assert Base.operation == ""


def test_an_ask_that_does_not_say_its_reply_is_found_out() -> None:
    class Mute(Ask):  # type: ignore[type-arg]
        pass

    with pytest.raises(TypeError, match="Mute does not say what it is answered with"):
        Mute.reply_type()


# --- bodies ---------------------------------------------------------------------------------


def test_an_invalid_body_lists_every_place_and_what_is_wrong_there() -> None:
    body = {"messages": [{"role": "king", "content": "x"}], "sampling": {"top_p": 2}}
    with pytest.raises(InvalidMessage) as caught:
        Generate.from_body(body)
    places = [error["at"] for error in caught.value.details["errors"]]
    assert places == ["messages.0.role", "sampling.top_p"]
    assert all(place in str(caught.value) for place in places)


@pytest.mark.parametrize("body", [None, 3, "x", [], b""], ids=repr)
def test_a_body_that_is_no_map_is_invalid(body: object) -> None:
    with pytest.raises(InvalidMessage, match=r"Provide: \(body\): "):
        Provide.from_body(body)


def test_an_unknown_field_is_ignored() -> None:
    assert Provide.from_body({"asset": "a", "of_the_future": 1}) == Provide(asset="a")


def test_a_message_cannot_be_changed() -> None:
    message = Provide(asset="a")
    with pytest.raises(ValueError, match="frozen"):
        message.asset = "b"  # type: ignore[misc]


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Hello(name="a", epoch="1", secret=b"hush"))


# --- going on with an answer ----------------------------------------------------------------


def seam(position: int) -> Seam:
    return Seam(position=position, lost="engine.1", reason="killed", gap_ms=5.0)


def test_a_query_goes_on_from_all_the_text_and_keeps_its_seams() -> None:
    query = Query(messages=[ChatMessage(role="user", content="Why?")], max_tokens=9, seed=3)
    pieces = [Text(text="Because"), Text(text=" of", seam=seam(7)), Text(text=" light")]
    died = ActorDied("orchestrator died", actor="orchestrator", epoch="b-7")
    again = query.resume_from(pieces, died, 12.5)
    assert again.begun == Begun(
        text="Because of light", seams=[seam(7)], lost="orchestrator.b-7", died=True,
        reason="orchestrator died", gap_ms=12.5,
    )  # fmt: skip
    assert again.model_copy(update={"begun": None}) == query
    assert query.begun is None


def test_a_query_resumed_twice_keeps_what_came_before_the_first_time() -> None:
    first, second = ActorUnavailable("1st"), ActorUnavailable("2nd")
    once = Query(text="Why?").resume_from([Text(text="a"), Text(text="b", seam=seam(1))], first, 1)
    twice = once.resume_from([Text(text="c", seam=seam(2)), Text(text="d")], second, 2)
    assert twice.begun == Begun(text="abcd", seams=[seam(1), seam(2)], reason="2nd", gap_ms=2)


def test_a_query_that_had_received_nothing_is_asked_anew_with_the_reason() -> None:
    again = Query(text="Why?").resume_from([], ActorUnavailable("gone"), 3)
    assert again.begun == Begun(text="", reason="gone", gap_ms=3)


@pytest.mark.parametrize(
    "loss",
    [
        ActorUnavailable("it is stopping", name="orchestrator"),
        StreamBroken("a chunk is missing"),
        ActorDied("there is no connection to it"),
        error_from_body(ActorDied("memory died", actor="memory", epoch="b-3").to_body()),
    ],
    ids=["handed back", "cut", "never reached it", "of another"],
)
def test_a_query_says_that_its_orchestrator_died_only_where_it_did(loss: NoyauError) -> None:
    again = Query(text="Why?").resume_from([], loss, 3)
    assert again.begun is not None
    assert (again.begun.died, again.begun.lost) == (False, "orchestrator")


def test_a_stream_that_does_not_say_how_cannot_be_resumed() -> None:
    assert Provide(asset="a").resume_from([], ActorDied("gone"), 1.0) is None
