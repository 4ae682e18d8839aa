"""The table of handlers that is made of a class, and the mistakes that it finds."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from actors.kernel import handles
from actors.kernel.handlers import Handler, Shape, handlers_of
from protocol.messages.base import Ask, Empty, Event, Operation, Role, Stream


class Question(Ask[Empty], operation="handlers_test.ask"):
    """An ask."""


class Other(Ask[Empty], operation="handlers_test.other"):
    """Another ask."""


class Flow(Stream[Empty, Empty], operation="handlers_test.stream"):
    """A stream."""


class Fact(Event, operation="handlers_test.event"):
    """An event."""


class Odd(Operation, operation="handlers_test.odd", role=Role.ASK):
    """Neither of them."""


class Good:
    """One handler of every shape."""

    @handles(Question)
    async def ask(self, message: Question) -> Empty:
        return Empty()

    @handles(Other, always=True)
    def other(self, message: Other, request: object) -> Empty:
        return Empty()

    @handles(Flow)
    async def flow(self, message: Flow) -> AsyncGenerator[Empty, None]:
        yield Empty()

    @handles(Fact)
    def fact(self, message: Fact) -> None:
        return None

    def no_handler(self, message: Question) -> Empty:
        return Empty()


def table() -> dict[str, Handler]:
    return handlers_of(Good())


def test_every_marked_method_is_in_the_table_under_its_operation_and_no_other_is() -> None:
    assert {operation: handler.model for operation, handler in table().items()} == {
        "handlers_test.ask": Question,
        "handlers_test.other": Other,
        "handlers_test.stream": Flow,
        "handlers_test.event": Fact,
    }


def test_the_shape_is_that_of_the_method() -> None:
    assert {operation: handler.shape for operation, handler in table().items()} == {
        "handlers_test.ask": Shape.COROUTINE,
        "handlers_test.other": Shape.PLAIN,
        "handlers_test.stream": Shape.STREAM,
        "handlers_test.event": Shape.PLAIN,
    }


def test_a_second_parameter_is_a_wish_for_the_request() -> None:
    assert [op for op, handler in table().items() if handler.takes_request] == [
        "handlers_test.other"
    ]


def test_only_what_is_marked_so_answers_always() -> None:
    assert [op for op, handler in table().items() if handler.always] == ["handlers_test.other"]


def test_a_handler_is_bound_to_its_owner() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.seen: list[Question] = []

        @handles(Question)
        def ask(self, message: Question) -> Empty:
            self.seen.append(message)
            return Empty()

    one, other = Keeper(), Keeper()
    message = Question()
    handlers_of(one)["handlers_test.ask"].call(message)
    assert (one.seen, other.seen) == ([message], [])


def test_handlers_are_inherited_and_can_be_overridden() -> None:
    class Derived(Good):
        @handles(Question)
        def ask(self, message: Question) -> Empty:  # type: ignore[override]
            return Empty()

    found = handlers_of(Derived())
    assert found.keys() == table().keys()
    assert found["handlers_test.ask"].shape is Shape.PLAIN


def test_an_object_without_handlers_has_an_empty_table() -> None:
    assert handlers_of(object()) == {}


def test_two_handlers_of_one_message_are_a_mistake() -> None:
    class Twice:
        @handles(Question)
        def one(self, message: Question) -> Empty:
            return Empty()

        @handles(Question)
        def two(self, message: Question) -> Empty:
            return Empty()

    with pytest.raises(TypeError, match=r"Twice has two handlers of handlers_test\.ask"):
        handlers_of(Twice())


def test_a_stream_handled_by_a_coroutine_is_a_mistake() -> None:
    class Wrong:
        @handles(Flow)
        async def flow(self, message: Flow) -> Empty:
            return Empty()

    with pytest.raises(TypeError, match=r"Wrong\.flow: .* async generator"):
        handlers_of(Wrong())


def test_an_ask_handled_by_a_generator_is_a_mistake() -> None:
    class Wrong:
        @handles(Question)
        async def ask(self, message: Question) -> AsyncGenerator[Empty, None]:
            yield Empty()

    with pytest.raises(TypeError, match=r"Wrong\.ask: .* async generator"):
        handlers_of(Wrong())


def test_an_event_handled_by_a_coroutine_is_a_mistake() -> None:
    class Wrong:
        @handles(Fact)
        async def fact(self, message: Fact) -> None:
            return None

    with pytest.raises(TypeError, match=r"Wrong\.fact: an Event .* plain method"):
        handlers_of(Wrong())


def test_a_message_that_opens_no_conversation_is_a_mistake() -> None:
    class Wrong:
        @handles(Odd)
        def odd(self, message: Odd) -> None:
            return None

    with pytest.raises(TypeError, match="Odd is no Ask, Stream or Event"):
        handlers_of(Wrong())
