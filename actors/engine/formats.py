"""What an answer may be told to look like, checked before anything is generated.

Some model libraries ignore a schema that they do not understand, and the answer then looks like
anything. llguidance compiles schemas and grammars as llama.cpp does, and says what is wrong.
"""

from __future__ import annotations

import json
from typing import Any

from actors.engine.grammars.rest import rest_of
from protocol.errors import EngineCannotGoOn, InvalidRequest, MissingDependency
from protocol.messages.engine import Format

LARK = "%llguidance"
WHITESPACE = r"( |\n{1,2}[ \t]{0,20})?"
"""Between the parts of a JSON text, as llama.cpp allows it: a small model goes on with it for ever
where it may, and what one engine began fits when another goes on."""


def check_format(wanted: Format | None) -> None:
    """Raises `InvalidRequest` for a format that cannot be kept to, with the reason."""
    if wanted is None:
        return
    if wanted.json_schema is not None and wanted.grammar:
        raise InvalidRequest("an answer has either a JSON schema or a grammar, not both")
    if wanted.json_schema is not None:
        _check("the JSON schema", compile_format(wanted))
    elif wanted.grammar:
        if not _is_lark(wanted.grammar):
            _read(wanted.grammar)
        _check("the grammar", compile_format(wanted))


def _read(grammar: str) -> None:
    """What is wrong with it is said now, and not only when an engine has to go on within it."""
    try:
        rest_of(grammar, "")
    except InvalidRequest as error:
        raise InvalidRequest(f"the grammar is not usable: {error.message}") from None
    except EngineCannotGoOn:
        # It can be begun with; whether it could be gone on with is seen when that is needed.
        return


def compile_format(wanted: Format) -> str:
    """The format in llguidance's own form. Raises `InvalidRequest` where it cannot be read."""
    if wanted.json_schema is not None:
        return _of_schema(wanted.json_schema)
    return _of_grammar(wanted.grammar)


def rest_of_grammar(grammar: str, begun: str) -> str:
    """The grammar for what is still to come of an answer that has begun. Raises `EngineCannotGoOn`
    where nobody knows it."""
    if _is_lark(grammar):
        raise EngineCannotGoOn(
            "an answer cannot be gone on with within a grammar in Lark; write the grammar in GBNF"
        )
    return rest_of(grammar, begun)


def _of_schema(schema: dict[str, Any]) -> str:
    matcher = _llguidance().LLMatcher
    try:
        text: str = matcher.grammar_from_json_schema(
            json.dumps(schema, allow_nan=False), defaults={"whitespace_pattern": WHITESPACE}
        )
    except (ValueError, TypeError, RecursionError) as error:
        # Also what is no JSON at all, such as bytes: msgpack knows more kinds of values.
        raise InvalidRequest(f"the JSON schema is not usable: {error}") from None
    return text


def _of_grammar(grammar: str) -> str:
    matcher = _llguidance().LLMatcher
    if _is_lark(grammar):
        lark: str = matcher.grammar_from_lark(grammar)
        return lark
    try:
        from llguidance.gbnf_to_lark import gbnf_to_lark

        text: str = matcher.grammar_from_lark(gbnf_to_lark(grammar))
    except Exception as error:  # noqa: BLE001 - its parser fails in as many ways as a text can
        raise InvalidRequest(f"the grammar is not usable: {error}") from None
    return text


def _is_lark(grammar: str) -> bool:
    return grammar.lstrip().startswith(LARK)


def _check(what: str, compiled: str) -> None:
    failed, reasons = _llguidance().LLMatcher.validate_grammar_with_warnings(compiled)
    if failed:
        why = "; ".join(str(reason).strip() for reason in reasons) or "it cannot be compiled"
        raise InvalidRequest(f"{what} is not usable: {why}")


def _llguidance() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'checking schemas and grammars needs {error.name}: pip install "noyau[engine]"'
        ) from None
    return llguidance
