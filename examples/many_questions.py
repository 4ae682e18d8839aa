"""Many questions at once, with asyncio: `python examples/many_questions.py QUESTION …`."""

from __future__ import annotations

import asyncio
import sys

from noyau import Client, NoyauError, Query


async def answer(client: Client, question: str) -> str:
    """One answer, or in its place the error that it ended with: it is always one of the two."""
    try:
        return str(await client.ask(Query(text=question, max_tokens=48), timeout_s=60))
    except NoyauError as error:
        return f"[{error.code}] {error}"


async def main(questions: list[str]) -> int:
    """Ask all of them side by side and print the answers in order."""
    async with Client.connect() as client:
        answers = await asyncio.gather(*(answer(client, question) for question in questions))
    for question, text in zip(questions, answers, strict=True):
        print(f"> {question}\n{text}\n")
    return 0


if __name__ == "__main__":
    asked = sys.argv[1:] or ["What is a kernel?", "What is a supervisor?", "What is a heartbeat?"]
    try:
        sys.exit(asyncio.run(main(asked)))
    except NoyauError as error:
        sys.exit(f"{error.code}: {error}")
