"""What a tool gave, as a JSON value that can cross the wire and is not too long. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

_WIRE_INTEGERS = range(-(2**63), 2**64)
"""What msgpack can hold."""


class NoJson(Exception):
    """A value that has no JSON form, and why."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A result as it is handed on."""

    value: Any
    text: str
    truncated: bool = False


def shape(value: object, limit_bytes: int) -> Shaped:
    """The value as JSON and as text. Raises `NoJson`.

    A whole number beyond 64 bits becomes text, and half of a surrogate pair the replacement
    character, because the wire has no form for them. What is longer than ``limit_bytes`` (UTF-8)
    is cut, says so at its end, and is then text alone.
    """
    try:
        plain = _wireable(to_jsonable_python(value))
        text = plain if isinstance(plain, str) else json.dumps(
            plain, ensure_ascii=False, allow_nan=False
        )  # fmt: skip
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise NoJson(str(error).splitlines()[0]) from None
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return Shaped(plain, text)
    # What is cut inside a character loses that character.
    kept = encoded[:limit_bytes].decode("utf-8", "ignore")
    cut = f"{kept}\n… (cut: the first {len(kept.encode()):,} of {len(encoded):,} bytes)"
    return Shaped(cut, cut, truncated=True)


def _wireable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_wireable(str(name)): _wireable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_wireable(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and value not in _WIRE_INTEGERS:
        return str(value)
    return value
