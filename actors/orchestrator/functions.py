"""Functions that a client can run for the model: how they are put to it, and what it calls. Pure.

All models are told of them in the same words, and call one by saying nothing but
``{"name": …, "arguments": …}``. Where a call is required, a schema lets it say nothing else; so a
call that was cut can be gone on with by another engine, as any JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage, Format, FunctionCall
from protocol.messages.orchestrator import Function, Text

AUTO, NONE, REQUIRED = "auto", "none", "required"
BEGINS = '{{"name":"{name}"'
"""How every call begins, spaces left out."""

_MAY = """You can call one of these functions:
{functions}
To call one, answer with nothing but {{"name": its name, "arguments": its arguments}}. \
Otherwise answer as usual."""
_MUST = """You can call these functions:
{functions}
Answer with a call: {{"name": its name, "arguments": its arguments}}."""
_RETURNED = "The function {name} returned: {content}"


class Functions:
    """Those of one query."""

    def __init__(self, functions: Sequence[Function], choice: str) -> None:
        """Raises `InvalidRequest` for a choice among functions that are not there, and for two of
        one name."""
        self._by_name = {function.name: function for function in functions}
        if len(self._by_name) < len(functions):
            raise InvalidRequest("two functions have the same name")
        if choice not in (AUTO, NONE, REQUIRED, *self._by_name):
            known = ", ".join([AUTO, NONE, REQUIRED, *self._by_name])
            raise InvalidRequest(f"there is no function {choice!r} to choose; there are: {known}")
        if choice == REQUIRED and not functions:
            raise InvalidRequest("a function call is required, and no functions are given")
        self._choice = choice
        # A function may have the name of a choice, which then means the choice.
        if choice not in (AUTO, NONE, REQUIRED):
            self._by_name = {choice: self._by_name[choice]}

    @property
    def offered(self) -> bool:
        """Whether the model may call any."""
        return bool(self._by_name) and self._choice != NONE

    @property
    def required(self) -> bool:
        """Whether it has to."""
        return self.offered and self._choice != AUTO

    @property
    def begins(self) -> list[str]:
        """How calls of these begin, spaces left out."""
        return [BEGINS.format(name=name) for name in self._by_name]

    def told(self) -> str:
        """What the model is told of them; empty where it may call none."""
        if not self.offered:
            return ""
        lines = [
            json.dumps(
                {"name": one.name, "description": one.description, "parameters": one.parameters}
            )
            for one in self._by_name.values()
        ]
        return (_MUST if self.required else _MAY).format(functions="\n".join(lines))

    def format(self) -> Format | None:
        """What the answer has to look like, where a call is required."""
        if not self.required:
            return None
        functions = list(self._by_name.values())
        if len(functions) == 1:
            return Format(json_schema=_call_of(functions[0], "#"))
        calls = [_call_of(one, f"#/anyOf/{number}") for number, one in enumerate(functions)]
        return Format(json_schema={"anyOf": calls})

    def called(self, text: str, query: str) -> dict[str, Any]:
        """What `Answered` says of a text that is a call; nothing where it is none."""
        call = self.call_in(text, f"call-{query}")
        return {} if call is None else {"calls": [call], "finish_reason": "calls"}

    def call_in(self, text: str, id_: str) -> FunctionCall | None:
        """The call that an answer is; None where it is none, or none of these."""
        try:
            said: Any = json.loads(text, parse_constant=_no_json)
            name, arguments = said["name"], said["arguments"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if not isinstance(arguments, dict) or not isinstance(name, str):
            return None
        if name not in self._by_name:
            return None
        return FunctionCall(id=id_, name=name, arguments=_as_text(arguments))


def _call_of(function: Function, at: str) -> dict[str, Any]:
    """The schema of a call, which stands at this place of the whole one."""
    parameters = _moved(function.parameters, f"{at}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, to: str) -> Any:
    """A schema that becomes a part of another one, with its references to itself."""
    if isinstance(schema, list):
        return [_moved(one, to) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(one, to) for name, one in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = to + reference[1:]
    return moved


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _as_text(value: dict[str, Any]) -> str:
    """JSON that can be sent: halves of characters, which a model can write, stay escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if _is_utf8(text) else json.dumps(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_said(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The turns with calls and results as the model says and reads them. Raises `InvalidRequest`
    for a result of a call that nobody made."""
    names: dict[str, str] = {}
    said: list[ChatMessage] = []
    for turn in turns:
        if turn.role == "tool":
            if turn.call_id not in names:
                raise InvalidRequest(f"there is no call {turn.call_id!r} that this is a result of")
            text = _RETURNED.format(name=names[turn.call_id], content=turn.content)
            said.append(ChatMessage(role="user", content=text))
        elif turn.calls:
            names |= {call.id: call.name for call in turn.calls}
            calls = [f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'
                     for call in turn.calls]  # fmt: skip
            content = "\n".join([*([turn.content] if turn.content else []), *calls])
            said.append(ChatMessage(role=turn.role, content=content))
        else:
            said.append(turn)
    return said


class CallFilter:
    """Marks the pieces of a call, so that nobody shows them. What may become one is held back until
    it names a function or none of these: any other JSON is an answer, and shown."""

    def __init__(self, functions: Functions, begun: str) -> None:
        """``begun``: the text that there is already."""
        self._undecided = functions.offered
        self._begins = functions.begins
        self._seen = ""
        self._held: list[Text] = []
        self.is_call = functions.required
        """Whether the answer is a call, as far as can be said."""
        if functions.required:
            self._undecided = False
        elif begun:
            self._decide(begun)

    def take(self, piece: Text) -> list[Text]:
        """What may be passed on now."""
        if self._undecided:
            self._held.append(piece)
            self._decide(piece.text)
            return [] if self._undecided else self.rest()
        return [self._marked(piece)]

    def _decide(self, text: str) -> None:
        self._seen += "".join(text.split())
        if self._seen.startswith(tuple(self._begins)):
            self.is_call, self._undecided = True, False
        elif not any(begins.startswith(self._seen) for begins in self._begins):
            self._undecided = False

    def rest(self) -> list[Text]:
        """What was held back."""
        held, self._held = self._held, []
        return [self._marked(piece) for piece in held]

    def _marked(self, piece: Text) -> Text:
        return piece.model_copy(update={"is_call": True}) if self.is_call else piece
