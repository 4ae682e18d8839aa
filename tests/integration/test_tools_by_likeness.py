"""Tools that a question is only like: the model fills in their arguments, and hears what they say.

With the real model and the real vectors.
"""

from __future__ import annotations

from pathlib import Path

from noyau import Client, Query
from protocol.messages.orchestrator import Answered, Begun
from protocol.messages.tool_user import FindTool
from tests.support.system import connect, running

SHELF = '''
from typing import Annotated
from pydantic import Field

EXAMPLES = {
    "where are the screws?": {"item": "screws"}, "on which shelf is the paint?": {"item": "paint"},
}

def shelf(item: Annotated[str, Field(min_length=1)]) -> str:
    """Tells on which shelf of the storeroom an item is, such as screws, paint or tape."""
    return f"{item} is on shelf {len(item)}"
'''
PICKY = '''
EXAMPLES = {"how tall is the oak in the garden?": {"tree": "oak"}}

def height(tree: str) -> str:
    """Tells how tall the trees in the garden are."""
    raise ValueError("no tree was measured yet")
'''


async def ask(client: Client, text: str, **more: object) -> tuple[str, Answered]:
    given = {"text": text, "explain": True, "max_tokens": 24, "temperature": 0}
    query = Query.model_validate(given | more)
    answer = await client.ask(query, timeout_s=60)
    return answer.text, answer.metadata


def prompted(told: Answered) -> str:
    return "\n".join(turn.content for turn in told.prompt)


async def until_likeness_is_known(client: Client) -> None:
    """Memory may still be loading its model."""

    async def known() -> bool:
        return not (await client.ask(FindTool(text="Where is the tape?"))).note

    while not await known():
        await client.caller.wait_for_news(client.caller.clock.now() + 0.1)


async def test_a_similar_tool_is_asked_with_arguments_that_the_model_fills_in(
    tmp_path: Path,
) -> None:
    (tmp_path / "shelf.py").write_text(SHELF)
    (tmp_path / "height.py").write_text(PICKY)
    folders = f'actors.tool_user.settings.folders=["{tmp_path}"]'
    async with running(folders) as system, await connect(system) as client:
        await until_likeness_is_known(client)
        await _it_is_asked(client)
        await _what_fails_is_left_out(client)
        await _nothing_like_a_tool_goes_its_usual_way(client)
        await _who_wants_none_gets_none(client)


async def _it_is_asked(client: Client) -> None:
    text, told = await ask(client, "On which shelf is the tape?")
    assert text
    assert told.tool is not None
    assert (told.tool.name, told.tool.how) == ("shelf", "similar")
    item = told.tool.arguments["item"]
    assert told.tool.arguments == {"item": item}
    assert f"The tool shelf says: {item} is on shelf {len(item)}" in prompted(told)
    assert [use.device for use in told.engines] == ["cpu"]
    assert not told.degraded


async def _what_fails_is_left_out(client: Client) -> None:
    text, told = await ask(client, "How tall is the birch in the garden?")
    assert text
    assert told.tool is None
    assert "height" not in prompted(told)
    assert not told.degraded


async def _nothing_like_a_tool_goes_its_usual_way(client: Client) -> None:
    text, told = await ask(client, "Why is the sky blue?")
    assert text
    assert told.tool is None


async def _who_wants_none_gets_none(client: Client) -> None:
    _, told = await ask(client, "On which shelf is the tape?", tools=False)
    assert told.tool is None
    # An answer that was begun is gone on with as it was.
    text, told = await ask(client, "On which shelf is the tape?", begun=Begun(text="I think"))
    assert told.tool is None
    assert text
