"""Writes what docs/ says of the protocol from its code: the tables and diagrams of protocol.md,
which stand between ``<!-- NAME -->`` marks, and protocol.schema.json.

    python docs/generate.py           writes them
    python docs/generate.py --check   ends with 1 when they are not what they should be
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from protocol.catalogue import catalogue
from protocol.conversation import ASK, STREAM

PAGE = Path(__file__).parent / "protocol.md"
SCHEMA = Path(__file__).parent / "protocol.schema.json"
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


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parts() -> dict[str, str]:
    """What stands between the marks, by their names."""
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


def generated(page: str) -> str:
    """The page with its parts as they should be. Raises SystemExit where a mark is missing."""
    for name, text in parts().items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise SystemExit(f"{PAGE}: the mark {begin} ... {end} is missing")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def main(words: list[str]) -> int:
    """Returns the exit code."""
    schema = json.dumps(catalogue(), indent=1, ensure_ascii=False) + "\n"
    wanted = {PAGE: generated(PAGE.read_text()), SCHEMA: schema}
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
