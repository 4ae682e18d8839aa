"""What every message is: a pydantic model that knows its operation, its role and its answer.

A request is declared once, and both ends read everything they need from the class::

    class Locate(Ask[Located], operation="storage.locate", role=Role.INTERNAL):
        asset: str

The receiver's name is what stands before the dot; which process that is, the caller says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.errors import InvalidMessage, NoyauError


class Role(IntEnum):
    """What a peer may do. Each role includes those before it."""

    OBSERVE = 1
    """Look: status, health, events."""
    ASK = 2
    """Use: ask questions, remember, run tools."""
    OPERATE = 3
    """Control: restart, stop, reload."""
    INTERNAL = 4
    """Be a part of the system: proved with the secret that the supervisor hands to actors."""


class Message(BaseModel):
    """A body. Immutable; unknown fields are ignored, so a newer peer may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def from_body(cls, body: object) -> Self:
        """Validate a body. Raises `InvalidMessage` listing every place and what is wrong there."""
        message: Self = reader(cls)(body)
        return message


M = TypeVar("M", bound=Message)


@functools.cache
def reader(model: type[M]) -> Callable[[object], M]:
    """`Message.from_body` of this model, for whoever reads many of them."""
    # The validator itself: `model_validate` spends as long again on its options, and looking it up
    # in a model's class half as long.
    validate = model.__pydantic_validator__.validate_python

    def read(body: object) -> M:
        try:
            message: M = validate(body)
        except ValidationError as error:
            raise _invalid(model, error) from None
        return message

    return read


def _invalid(model: type[Message], error: ValidationError) -> InvalidMessage:
    found = [
        {"at": ".".join(map(str, e["loc"])) or "(body)", "problem": e["msg"]}
        for e in error.errors(include_url=False, include_input=False)
    ]
    text = "; ".join(f"{e['at']}: {e['problem']}" for e in found)
    return InvalidMessage(f"{model.__name__}: {text}", errors=found)


class Empty(Message):
    """A body that says nothing: the answer of a request whose success is all there is to say."""


R = TypeVar("R", bound=Message)
C = TypeVar("C", bound=Message)
E = TypeVar("E", bound=Message)


class Operation(Message):
    """A message that opens a conversation, or stands alone: it has a name and needs a role."""

    operation: ClassVar[str] = ""
    role: ClassVar[Role] = Role.INTERNAL

    def __init_subclass__(
        cls, *, operation: str = "", role: Role = Role.INTERNAL, **kwargs: Any
    ) -> None:
        """Register the class by its operation. Raises TypeError on a name used twice."""
        super().__init_subclass__(**kwargs)
        if not operation:
            return
        if operation in OPERATIONS:
            raise TypeError(f"{operation} is {OPERATIONS[operation].__name__} already")
        cls.operation = operation
        cls.role = role
        OPERATIONS[operation] = cls

    @classmethod
    def receiver(cls) -> str:
        """The receiver's name, the part of the operation before the dot."""
        return cls.operation.partition(".")[0]


OPERATIONS: dict[str, type[Operation]] = {}
"""Every operation by name: what the specification lists."""


@functools.cache
def _answers(cls: type[BaseModel]) -> tuple[Any, ...]:
    """The type arguments that a message class was declared with."""
    for base in cls.__mro__:
        arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args", ())
        if arguments:
            return tuple(arguments)
    raise TypeError(f"{cls.__name__} does not say what it is answered with")


class Ask(Operation, Generic[R]):
    """A request answered by exactly one reply ``R`` or one error."""

    idempotent: ClassVar[bool] = False
    """Whether doing it twice is the same as once; only then may a client send it again."""
    acts_outside: ClassVar[bool] = False
    """Whether it may change something that is not noyau's: when its receiver dies over it, nobody
    here can find out whether it did."""

    @classmethod
    def reply_type(cls) -> type[R]:
        """The model of the reply."""
        reply: type[R] = _answers(cls)[0]
        return reply


@functools.cache
def reply_reader(model: type[Ask[R]]) -> Callable[[object], R]:
    """The `reader` of what a request is answered with."""
    return reader(model.reply_type())


class Stream(Operation, Generic[C, E]):
    """A request answered by chunks ``C``, then exactly one end ``E`` or one error."""

    needs_received: ClassVar[bool] = True
    """Whether `resume_from` needs what was received; else nobody keeps it, for a stream without an
    end."""
    keepable: ClassVar[bool] = True
    """Whether its receiver may keep it for a reader whose connection was cut, and the chunks that
    it sent last with it; not where those are large."""

    @classmethod
    def chunk_type(cls) -> type[C]:
        """The model of a chunk."""
        chunk: type[C] = _answers(cls)[0]
        return chunk

    @classmethod
    def end_type(cls) -> type[E]:
        """The model of the end."""
        end: type[E] = _answers(cls)[1]
        return end

    def resume_from(self, received: Sequence[C], loss: NoyauError, gap_ms: float) -> Self | None:
        """The request that goes on after ``received`` chunks, or None where that is impossible.

        Called by the client when the receiver was lost (``loss`` says how, ``gap_ms`` how long
        ago) before the end came.
        """
        del received, loss, gap_ms
        return None


class Event(Operation):
    """A message nobody answers: a fact, told once."""
