"""``@handles(Message)``: how a class says which messages it takes, and the table made of it.

A handler may be a plain method (answered without a task), a coroutine, or an async generator:
then it streams, and what it yields last, an instance of the stream's end, ends it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from protocol.messages.base import Ask, Event, Operation, Role, Stream, reader

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__noyau_handles__"


class Shape(Enum):
    """How a handler is run."""

    PLAIN = "plain"
    COROUTINE = "coroutine"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Handler:
    """One operation's handler, bound to its owner."""

    operation: str
    model: type[Operation]
    read: Callable[[object], Operation]
    """Makes a message of a body, or raises `InvalidMessage`."""
    role: Role
    """What it takes to call it."""
    shape: Shape
    takes_event: bool
    """Whether the message is one that nobody answers."""
    call: Callable[..., Any]
    takes_request: bool
    """Whether it wants the `Request` beside the message."""
    always: bool
    """Whether it also answers while the actor is not READY."""
    keepable: bool
    """Of a stream, whether it may be kept for a reader that comes back."""


def handles(model: type[Operation], *, always: bool = False) -> Callable[[F], F]:
    """Mark a method as the handler of ``model``. With ``always`` it answers in any state."""

    def mark(function: F) -> F:
        setattr(function, _MARK, (model, always))
        return function

    return mark


def handlers_of(owner: object) -> dict[str, Handler]:
    """The table of an object's handlers by operation.

    Raises TypeError for two handlers of one message and for a shape that the message's kind of
    conversation cannot have: mistakes of the actor's author, found when it starts.
    """
    table: dict[str, Handler] = {}
    for name, function in inspect.getmembers(type(owner), inspect.isfunction):
        if not hasattr(function, _MARK):
            continue
        model, always = getattr(function, _MARK)
        handler = _handler(owner, name, function, model, always)
        if handler.operation in table:
            raise TypeError(f"{type(owner).__name__} has two handlers of {handler.operation}")
        table[handler.operation] = handler
    return table


def _handler(
    owner: object, name: str, function: Callable[..., Any], model: type[Operation], always: bool
) -> Handler:
    if inspect.isasyncgenfunction(function):
        shape = Shape.STREAM
    elif inspect.iscoroutinefunction(function):
        shape = Shape.COROUTINE
    else:
        shape = Shape.PLAIN
    where = f"{type(owner).__name__}.{name}"
    if issubclass(model, Stream) != (shape is Shape.STREAM):
        raise TypeError(f"{where}: a Stream, and only a Stream, is handled by an async generator")
    if issubclass(model, Event) and shape is not Shape.PLAIN:
        raise TypeError(f"{where}: an Event is handled by a plain method")
    if not issubclass(model, Ask | Stream | Event):
        raise TypeError(f"{where}: {model.__name__} is no Ask, Stream or Event")
    takes_request = len(inspect.signature(function).parameters) > 2
    return Handler(
        model.operation, model, reader(model), model.role, shape, issubclass(model, Event),
        getattr(owner, name), takes_request, always, getattr(model, "keepable", False),
    )  # fmt: skip
