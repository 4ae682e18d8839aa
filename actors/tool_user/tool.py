"""A tool: one annotated function, and what is read off it.

::

    RUNS = "memory.recall"                      optional: see below
    EXAMPLES = {"what is 2 + 2?": {"expression": "2 + 2"}}      optional: a text and its arguments
    MATCH_ORDER = 10                            optional: lower matchers are asked first

    def calculator(expression: Annotated[str, Field(description="…")], *, digits: int = 15) -> str:
        \"\"\"Its docstring is the description.\"\"\"

    def match(text: str) -> dict | None:        optional: the arguments, when it is surely meant

What may be given by position are the caller's arguments; what is keyword-only are the owner's
options, which come from the settings and which no caller sees or sets.

A tool runs in a child process. One that needs another actor says with ``RUNS`` which operation it
asks for: it runs in the tool user itself, *returns the message* to be sent, and the reply is its
value. So it stays one small pure function, and can ask for nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from protocol.errors import InvalidRequest, InvalidSettings

Arguments = Mapping[str, Any]
Match = Callable[[str], dict[str, Any] | None]

MATCH_ORDER = 100
"""Where a matcher stands that does not say; ties are broken by name."""

_KEPT_NAMES = ("match",)


class UnusableTool(Exception):
    """A file that is no tool, and why. Never leaves this actor: the catalogue keeps the reason."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. Make it with `read_tool`."""

    name: str
    description: str
    function: Callable[..., Any]
    arguments_model: type[BaseModel]
    options_model: type[BaseModel]
    match: Match | None = None
    match_order: int = MATCH_ORDER
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: str = ""
    """The operation it asks for, where it runs in the tool user; else empty."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the caller's arguments."""
        schema = self.arguments_model.model_json_schema()
        # The class made for it and its title are nobody's business.
        schema.pop("title", None)
        return schema

    def check(self, arguments: Arguments) -> None:
        """Raises `InvalidRequest` that lists every place where the arguments do not fit."""
        self._validated(arguments)

    def check_options(self, options: Arguments, where: str) -> None:
        """Raises `InvalidSettings`, naming each place below ``where``."""
        try:
            self.options_model.model_validate(options)
        except ValidationError as error:
            found = "; ".join(f"{where}.{place}: {problem}" for place, problem in _problems(error))
            raise InvalidSettings(found) from None

    def call(self, arguments: Arguments, options: Arguments) -> Any:
        """Run the function here and now. Raises what it raises, and `InvalidRequest`."""
        given = self._validated(arguments)
        owner = self.options_model.model_validate(options)
        return self.function(**_fields(given), **_fields(owner))

    def _validated(self, arguments: Arguments) -> BaseModel:
        try:
            return self.arguments_model.model_validate(arguments)
        except ValidationError as error:
            found = [{"at": at, "problem": problem} for at, problem in _problems(error)]
            text = "; ".join(f"{one['at']}: {one['problem']}" for one in found)
            known = ", ".join(self.arguments_model.model_fields) or "none"
            raise InvalidRequest(
                f"{self.name} cannot take these arguments: {text}; it takes: {known}",
                tool=self.name,
                errors=found,
            ) from None


def read_tool(module: ModuleType) -> Tool:
    """The one tool of a module. Raises `UnusableTool` with the reason."""
    function = _the_function(module)
    name = function.__name__
    description = inspect.getdoc(function) or ""
    if not description:
        raise UnusableTool(f"{name} has no docstring; describe there what it is for")
    given, options = _models(function)
    runs = _constant(module, "RUNS", str, "")
    return Tool(
        name, description, function, given, options,
        match=getattr(module, "match", None),
        match_order=_constant(module, "MATCH_ORDER", int, MATCH_ORDER),
        examples=_constant(module, "EXAMPLES", dict, {}),
        runs=runs,
    )  # fmt: skip


def _the_function(module: ModuleType) -> Callable[..., Any]:
    found = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and name not in _KEPT_NAMES
    }
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "none"
        raise UnusableTool(
            f"a tool is one public function in one file, but there are {len(found)} here "
            f"({names}); let the names of helpers begin with an underscore"
        )
    (function,) = found.values()
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise UnusableTool(f"{function.__name__} must be a plain function that returns its result")
    return function


def _models(function: Callable[..., Any]) -> tuple[type[BaseModel], type[BaseModel]]:
    """The models of the caller's arguments and of the owner's options."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise UnusableTool(f"an annotation of {function.__name__} means nothing: {error}") from None
    given: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UnusableTool(f"{function.__name__} takes *{name}; name each argument instead")
        if name not in hints:
            raise UnusableTool(f"the argument {name} of {function.__name__} has no annotation")
        default = ... if parameter.default is parameter.empty else parameter.default
        to = options if parameter.kind is parameter.KEYWORD_ONLY else given
        to[name] = (hints[name], default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    try:
        made = [
            create_model(f"{function.__name__}_{kind}", __config__=config, **fields)
            for kind, fields in (("arguments", given), ("options", options))
        ]
        made[0].model_json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise UnusableTool(
            f"the arguments of {function.__name__} have no JSON form: {str(error).splitlines()[0]}"
        ) from None
    return made[0], made[1]


def _constant(module: ModuleType, name: str, kind: type[Any], default: Any) -> Any:
    value = getattr(module, name, default)
    if not isinstance(value, kind):
        raise UnusableTool(f"{name} must be a {kind.__name__}, it is {value!r:.80}")
    return value


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    return [
        (".".join(map(str, one["loc"])) or "(all)", one["msg"])
        for one in error.errors(include_url=False, include_input=False)
    ]


def _fields(model: BaseModel) -> dict[str, Any]:
    """Shallow: nested models stay what the function's annotations say."""
    return {name: getattr(model, name) for name in type(model).model_fields}
