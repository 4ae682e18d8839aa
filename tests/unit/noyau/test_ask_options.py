"""``noyau ask``: what is asked for, and what is refused before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from noyau import ask as asking
from noyau.app import make_app
from noyau.options import check_text
from protocol.envelope import Priority
from protocol.messages.orchestrator import Query


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Query, asking.How]]:
    """What would be asked."""
    found: list[tuple[Query, asking.How]] = []

    async def note(run_folder: Path | None, query: Query, how: asking.How) -> int:
        found.append((query, how))
        return 0

    monkeypatch.setattr(asking, "_ask", note)
    return found


def ask(*words: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(make_app(["ask", "demo"]), ["ask", *words], input=given)


Asked = list[tuple[Query, asking.How]]


def test_a_question_has_the_options_that_it_is_given(asked: Asked, tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "integer"}')
    done = ask(
        "How", "many?", "-p", "high", "--fail-if-degraded", "--expert", "e", "--model", "m",
        "--stop", ".", "--stop", "!", "--schema", str(schema), "-n", "7", "--timeout", "3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    [(query, how)] = asked
    assert query.messages[-1].content == "How many?"
    assert (query.expert, query.model, query.stop, query.max_tokens) == ("e", "m", [".", "!"], 7)
    assert query.fail_if_degraded
    assert query.format is not None
    assert query.format.json_schema == {"type": "integer"}
    assert (how.priority, how.timeout_s) == (Priority.HIGH, 3)


def test_without_options_it_is_a_normal_question(asked: Asked) -> None:
    assert ask("Why?", given="piped").exit_code == 0
    [(query, how)] = asked
    assert query.messages[-1].content == "Why?\n\npiped"
    assert (how.priority, query.format, query.fail_if_degraded) == (Priority.NORMAL, None, False)


@pytest.mark.parametrize(
    "content", [None, b"", b"no json", b"[1]", b"3", b"\xff\xfe{}", b'{"a":' * 100_000]
)
def test_a_schema_that_is_none_is_refused_with_its_file(
    asked: Asked, tmp_path: Path, content: bytes | None
) -> None:
    schema = tmp_path / "s.json"
    if content is not None:
        schema.write_bytes(content)
    done = ask("Why?", "--schema", str(schema))
    assert (done.exit_code, asked) == (2, [])
    # In a box, and cut to the width of the terminal.
    assert "s.json" in "".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "2000000"], ["--seed", "4294967296"], ["-t", "nan"], ["--expert", "e" * 65],
        ["--model", "m" * 1025], ["--stop", "."] * 17, ["-p", "soon"], ["--timeout", "nan"],
    ],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_what_nobody_can_answer_is_refused_and_is_no_traceback(
    asked: Asked, words: list[str]
) -> None:
    done = ask("Why?", *words)
    assert (done.exit_code, asked) == (2, []), done.output


@pytest.mark.parametrize("text", ["", "plain", "naïve 東京 🩷"])
def test_text_is_fine(text: str) -> None:
    check_text(text)


def test_half_a_character_is_refused_with_its_place() -> None:
    with pytest.raises(typer.BadParameter, match="at its character 4; convert it"):
        check_text("abc\udcff")
    broken: Any = ask("Why?", "--system", "\udcff")
    assert broken.exit_code == 2
