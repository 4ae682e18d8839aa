"""Messages that only tests send: one of each kind of conversation."""

from __future__ import annotations

from pydantic import Field

from protocol.messages.base import Ask, Event, Message, Role, Stream


class Said(Message):
    """What was said."""

    text: str


class Say(Ask[Said], operation="probe.say", role=Role.ASK):
    """Say something."""

    text: str = ""


class Look(Ask[Said], operation="probe.look", role=Role.OBSERVE):
    """Look something up: doing it twice is the same as once."""

    idempotent = True
    text: str = ""


class Whisper(Ask[Said], operation="probe.whisper", role=Role.INTERNAL):
    """Say something that only actors may hear."""

    text: str = ""


class Number(Message):
    """The next number."""

    number: int


class Counted(Message):
    """All numbers were told."""

    total: int = 0
    words: str = ""


class Count(Stream[Number, Counted], operation="probe.count", role=Role.ASK):
    """Count from 0 to below ``upto``."""

    upto: int = 3


class Told(Event, operation="probe.told", role=Role.ASK):
    """Something nobody answers."""

    text: str = Field(max_length=100)


class Deposit(Ask[Said], operation="probe.deposit", role=Role.ASK):
    """Do something that must be done once: by its key, the receiver knows it again."""

    idempotent = True
    key: str


class Launch(Ask[Said], operation="probe.launch", role=Role.ASK):
    """Do something outside that cannot be looked up, and cannot be taken back."""

    acts_outside = True
