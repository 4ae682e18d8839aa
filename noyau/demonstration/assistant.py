"""What an assistant does besides talking: calculates, remembers, and knows what was said."""

from __future__ import annotations

import os
import signal
import time

from noyau.demonstration.report import Report
from noyau.demonstration.stage import back, pid_of, until_memory_has_its_model
from protocol.client import Client
from protocol.messages.memory import Recall, Remember
from protocol.messages.orchestrator import Answered, Query

SUM, RESULT = "what is 17.5 % of 2,340?", "409.5"
FACT, LOOKED_FOR = "The spare key is under the blue flowerpot.", "Where did I put the extra key?"
CAT, NAME = "My cat is called Mitzi.", "Mitzi"


async def calculator(client: Client, report: Report) -> None:
    """A question that has an exact answer."""
    report.title("A sum: a tool answers exactly, in a process of its own, and no model is asked")
    answer = await client.ask(SUM)
    _said(report, SUM, answer.text)
    tool = answer.metadata.tool
    report.check(
        f"it is {RESULT}, and the calculator said so",
        answer.text == RESULT and tool is not None and tool.name == "calculator",
    )
    report.check("no engine had a part in it", answer.metadata.engines == [])
    if tool is not None:
        report.measure("the calculator, in a process of its own", f"{tool.took_ms:.0f} ms")


async def remember_and_recall(client: Client, report: Report) -> None:
    """What was remembered is found by its meaning, after a kill too, and goes into the prompt."""
    report.title("Remember and recall, with memory killed in between")
    await until_memory_has_its_model(client, report)
    await client.ask(Remember(text=FACT, source="the demo"))
    report.console.print(f"remembered: {FACT}", style="cyan", markup=False)
    pid = await _kill(client, report, "memory")
    began = time.monotonic()
    found = await client.ask(Recall(query=LOOKED_FOR, limit=1), timeout_s=60)
    took = time.monotonic() - began
    _said(report, LOOKED_FOR, " ".join(f"{hit.text} ({hit.score:.2f})" for hit in found.hits))
    report.check("an acknowledged memory survives", [hit.text for hit in found.hits] == [FACT])
    new = pid_of(await back(client, "memory", pid), "memory")
    report.check(f"memory is back: pid {pid} is now {new}", new not in (0, pid))
    report.measure("memory killed to recalled", f"{took * 1000:.0f} ms")
    answer = (await _ask(client, Query(text=LOOKED_FOR, max_tokens=40, explain=True)))[1]
    report.check(
        "asked for it, the model is given what is remembered",
        any(FACT in turn.content for turn in answer.prompt),
    )


async def conversation(client: Client, report: Report) -> None:
    """Two turns, and memory killed between them."""
    report.title("A conversation of two turns, with memory killed in between")
    text, first = await _ask(client, Query(text=CAT, conversation="", max_tokens=40, temperature=0))
    _said(report, CAT, text)
    pid = await _kill(client, report, "memory")
    question = "What is the name of my cat?"
    text, second = await _ask(
        client,
        Query(
            text=question, conversation=first.conversation, max_tokens=40, temperature=0,
            explain=True,
        ),
    )  # fmt: skip
    _said(report, question, text)
    report.check(
        "the second turn knows the first: it is in the prompt",
        any(turn.role == "user" and NAME in turn.content for turn in second.prompt[:-1]),
    )
    report.check("both belong to one conversation", first.conversation == second.conversation)
    new = pid_of(await back(client, "memory", pid), "memory")
    report.check(f"memory is back: pid {pid} is now {new}", new not in (0, pid))


async def _ask(client: Client, query: Query) -> tuple[str, Answered]:
    answer = await client.ask(query, timeout_s=60)
    return answer.text, answer.metadata


async def _kill(client: Client, report: Report, name: str) -> int:
    pid = pid_of(await client.status(), name)
    os.kill(pid, signal.SIGKILL)
    report.console.print(f"[bold red]⟨kill -9 {pid}⟩[/] {name}")
    return pid


def _said(report: Report, question: str, answer: str) -> None:
    report.console.print(f"> {question}", style="cyan", markup=False)
    report.console.print(answer, markup=False)
