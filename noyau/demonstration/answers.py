"""Answers that survive kill -9."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from noyau.demonstration.report import Report
from noyau.demonstration.stage import pid_of, restarts_of
from protocol.client import Client
from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage
from protocol.messages.orchestrator import Answered, Query

QUESTION = "Why is the sky blue?"
KILL_AFTER_CHARACTERS = 120
"""Far enough into the answer to be seen, early enough that most of it comes after the kill."""
MAX_TOKENS = 160
ANSWER_S = 60.0

InTheMiddle = Callable[[], int]
"""Kills a process and returns its pid."""


@dataclass(slots=True)
class Told:
    """One answer, as it arrived."""

    end: Answered
    text: str = ""
    killed_pid: int | None = None
    longest_gap_s: float = 0.0


async def plain_answer(client: Client, report: Report) -> None:
    """A question and its answer."""
    report.title("A question, answered by a language model on this CPU")
    told = await tell(client, report, QUESTION)
    report.check("the answer is complete", bool(told.text))
    report.measure("first text after", f"{told.end.first_token_ms or 0.0:.0f} ms")
    report.measure("tokens per second", f"{told.end.engines[-1].tokens_per_s:.0f}")


async def answer_through_a_kill(client: Client, report: Report, victim: str, title: str) -> None:
    """Ask, kill ``victim`` while the answer streams, and check all that must follow."""
    report.title(title)
    pid = pid_of(await client.status(), victim)

    def kill() -> int:
        os.kill(pid, signal.SIGKILL)
        return pid

    told = await tell(client, report, QUESTION, kill)
    report.check(
        f"the answer went on and is complete ({len(told.text)} characters, green: after the kill)",
        told.killed_pid == pid and len(told.text) > 0,
    )
    seams = told.end.seams
    report.check(
        "its metadata tells the seam: "
        + "; ".join(f"{s.lost} lost at character {s.position}" for s in seams),
        len(seams) >= 1,
    )
    after = await client.status()
    new, restarts = pid_of(after, victim), restarts_of(after, victim)
    report.check(
        f"{victim} is back: pid {pid} is now {new}, restarts {restarts}",
        new != pid and restarts >= 1,
    )
    report.measure(f"pause when {victim} was killed", f"{told.longest_gap_s * 1000:.0f} ms")


async def tell(
    client: Client,
    report: Report,
    question: str,
    in_the_middle: InTheMiddle | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Told:
    """Stream one answer to the terminal; ``in_the_middle`` is called once."""
    console = report.console
    console.print(f"[cyan]> {question}[/]")
    query = Query(
        messages=[ChatMessage(role="user", content=question)], temperature=0, max_tokens=max_tokens
    )
    text, killed, gap, style = "", None, 0.0, "white"
    last = time.monotonic()
    async with client.stream(query, timeout_s=ANSWER_S) as stream:
        async for piece in stream:
            now = time.monotonic()
            if text:
                gap = max(gap, now - last)
            last = now
            text += piece.text
            if piece.seam is not None:
                style = "green"
            console.print(piece.text, end="", style=style, markup=False, soft_wrap=True)
            if in_the_middle is not None and len(text) >= KILL_AFTER_CHARACTERS:
                killed = in_the_middle()
                in_the_middle = None
                console.print(f"[bold red]⟨kill -9 {killed}⟩[/]", end="", soft_wrap=True)
    console.print()
    if stream.end is None:
        raise InvalidRequest("the answer was cancelled")
    return Told(stream.end, text, killed, gap)
