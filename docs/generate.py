"""Writes what docs/ says of the code from the code: the tables, lists and diagrams of some pages,
which stand between ``<!-- NAME -->`` marks, and protocol.schema.json.

    python docs/generate.py           writes them
    python docs/generate.py --check   ends with another code than 0 when they are not what they
                                      should be
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from actors.orchestrator import garbage, listening, repetition, watchdog
from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import AdmissionPolicy, DropMode, Refusal
from actors.orchestrator.choice import choose
from actors.orchestrator.circuit import BREAKER, BreakerState
from actors.orchestrator.verdicts import VERDICTS, Verdict
from configs import describe_settings
from protocol.catalogue import catalogue, summary
from protocol.conversation import ASK, STREAM
from protocol.errors import BY_CODE, NoyauError

DOCS = Path(__file__).parent
SCHEMA = DOCS / "protocol.schema.json"

KINDS = {
    "request": ("caller", "opens a conversation"),
    "reply": ("receiver", "answers an ask"),
    "chunk": ("receiver", "a part of a stream"),
    "end": ("receiver", "a stream is whole"),
    "error": ("receiver", "what was asked cannot be had; ends an ask or a stream"),
    "cancel": ("caller", "it is not wanted any more; the body is nil"),
    "credit": ("caller", "more chunks may be sent; the body is nil"),
    "event": ("either", "a fact; nobody answers it"),
    "heartbeat": ("actors", "a sign of life; in a stream, how many chunks were sent so far"),
}

ANSWERED = {
    "seams": "The places where it went on after something died.",
    "queued_ms": "How long it waited for its turn.",
    "total_ms": "From its arrival at this incarnation to its end.",
    "usage": "What was computed, in tokens: of the prompt, of the answer, and of the prompt what "
    "an engine had read before.",
    "memories": "Those that were put into the prompt.",
    "tool": "The one that answered, or that the model was told of.",
}
"""Fields of an answer's end of which the code says no more than their names do."""

SECTIONS = ("query", "admission", "engine_breaker", "query_breaker", "watchdog")
"""Of the settings: those that resilience.md is about."""

FIXED: tuple[tuple[type | ModuleType, tuple[str, ...]], ...] = (
    (AdmissionPolicy, ("rate_weight", "unmeasured_retry_s", "min_retry_s", "max_retry_s")),
    (watchdog, ("LEARNT_STEPS", "FORGETS")),
    (listening, ("OWN_PAUSE_S",)),
    (garbage, ("ENOUGH", "SHARE", "HELD_CHARS")),
    (repetition, ("EVERY_CHARS", "LEAST_REPEATS")),
)
"""Numbers of the same that are no settings."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- protocol.md ----------------------------------------------------------------------------


def of_the_protocol() -> dict[str, str]:
    """What stands between the marks of protocol.md, by their names."""
    found = catalogue()
    kinds = ((str(n), f"`{kind}`", *KINDS[kind]) for kind, n in found["kinds"].items())
    return {
        "kinds": table(("", "kind", "sent by", "says"), kinds),
        "ask": f"```mermaid\n{ASK.mermaid()}\n```",
        "stream": f"```mermaid\n{STREAM.mermaid()}\n```",
        "errors": table(
            ("code", "is a", "may pass", "says"),
            (_error(one) for one in found["errors"] if one["parent"]),
        ),
        "operations": table(
            ("operation", "shape", "role", "idempotent", "says"),
            (_operation(one) for one in found["operations"]),
        ),
    }


def _error(one: dict[str, Any]) -> tuple[str, ...]:
    may_pass = "yes" if one["retryable"] else ""
    return (f"`{one['code']}`", f"`{one['parent']}`", may_pass, one["meaning"])


def _operation(one: dict[str, Any]) -> tuple[str, ...]:
    idempotent = "yes" if one["idempotent"] else ""
    return (f"`{one['name']}`", one["shape"], one["role"], idempotent, one["meaning"])


# --- resilience.md --------------------------------------------------------------------------


def of_resilience() -> dict[str, str]:
    """What stands between the marks of resilience.md, by their names."""
    return {
        "answered": table(("field", "says"), _answered()),
        "choice": _steps(choose),
        "breaker": f"```mermaid\n{BREAKER.mermaid()}\n```",
        "breaker-states": table(("state", "lets through", "until", "then"), _states()),
        "verdicts": table(("error", "counts", "with it", "is"), _verdicts()),
        "admission": _steps(AdmissionQueue.enter),
        "drop-modes": table(("`admission.drop_mode`", "who goes"), _members(DropMode)),
        "refusals": table(("`reason`", "is"), _members(Refusal)),
        "settings": table(("setting", "default", "what, and why"), _settings()),
        "fixed": table(("number", "value", "what, and why"), _fixed()),
    }


def _answered() -> Iterable[tuple[str, str]]:
    for name, field in catalogue()["$defs"]["Answered"]["properties"].items():
        yield f"`{name}`", field.get("description") or ANSWERED[name]


def _states() -> Iterable[tuple[str, str, str, str]]:
    through = _said_below(BreakerState)
    for (state, event), then in BREAKER.rows.items():
        yield f"`{state}`", through[state.name], event.value, f"`{then}`"


def _verdicts() -> Iterable[tuple[str, str, str, str]]:
    """A row for each class that has one, those that count first."""
    below: dict[type[NoyauError], list[str]] = {cls: [] for cls in VERDICTS}
    for cls in BY_CODE.values():
        decides = next(one for one in cls.__mro__ if one in below)
        if decides is not cls:
            below[decides].append(f"`{cls.code}`")
    for verdict, counts in ((Verdict.FAILURE, "yes"), (Verdict.IGNORED, "")):
        for cls, one in VERDICTS.items():
            if one is verdict:
                yield f"`{cls.code}`", counts, ", ".join(below[cls]), summary(cls)


def _members(cls: type[DropMode] | type[Refusal]) -> Iterable[tuple[str, str]]:
    said = _said_below(cls)
    return ((f"`{member.value}`", said[member.name]) for member in cls)


def _settings() -> Iterable[tuple[str, str, str]]:
    for one in describe_settings():
        if one.name.partition(".")[0] in SECTIONS:
            yield f"`{one.name}`", one.default.replace('"', ""), _cell(one.description)


def _fixed() -> Iterable[tuple[str, str, str]]:
    for home, names in FIXED:
        said = _said_below(home)
        short = home.__name__.rpartition(".")[2]
        for name in names:
            value = getattr(home() if isinstance(home, type) else home, name)
            yield f"`{short}.{name}`", f"{value:g}", said[name]


def _steps(function: Callable[..., object]) -> str:
    """The numbered list in its documentation."""
    lines = (inspect.getdoc(function) or "").splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("1. "))
    return "\n".join(itertools.takewhile(bool, lines[first:])).replace("``", "`")


def _said_below(home: type | ModuleType) -> dict[str, str]:
    """What the code says below the names that a class or a module gives values to."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(home)))
    body = tree.body
    if isinstance(home, type):
        (definition,) = body
        assert isinstance(definition, ast.ClassDef)
        body = definition.body
    found = {}
    for named, below in itertools.pairwise(body):
        match named, below:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(ast.Constant(str(text))),
            ):
                found[name] = _cell(text)
    return found


def _cell(text: str) -> str:
    """A text in one line of a table."""
    return " ".join(inspect.cleandoc(text).split()).replace("``", "`").replace("|", "\\|")


# --- pages ----------------------------------------------------------------------------------

PAGES: Mapping[str, Callable[[], dict[str, str]]] = {
    "protocol.md": of_the_protocol,
    "resilience.md": of_resilience,
}


def generated(name: str) -> str:
    """The page with its parts as they should be. Raises SystemExit where a mark is missing."""
    page = (DOCS / name).read_text()
    for part, text in PAGES[name]().items():
        begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise SystemExit(f"{DOCS / name}: the mark {begin} ... {end} is missing")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def main(words: list[str]) -> int:
    """Returns the exit code."""
    schema = json.dumps(catalogue(), indent=1, ensure_ascii=False) + "\n"
    wanted = {DOCS / name: generated(name) for name in PAGES} | {SCHEMA: schema}
    if words != ["--check"]:
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    stale = [p.name for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    if stale:
        sys.stderr.write(f"not as the code is: {', '.join(stale)}; run `make docs`\n")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
