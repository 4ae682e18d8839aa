"""What was said is kept, and is in the prompt of what is asked next, whatever died in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from noyau import Client, Query
from protocol.errors import InvalidRequest, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.memory import GetConversation, Remember
from protocol.messages.orchestrator import Answered, Begun
from tests.integration.test_command import noyau
from tests.support.system import connect, pid_of, running, running_pid, status_when

SIMULATED = ("actors.cpu_engine.settings.backend=simulated",
             "actors.cpu_engine.settings.simulated_token_s=0.001",
             "actors.gpu_engine.enabled=false")  # fmt: skip


async def say(client: Client, text: str, conversation: str, **more: object) -> Answered:
    query = Query.model_validate(
        {"text": text, "conversation": conversation, "max_tokens": 8, "explain": True, **more}
    )
    return (await client.ask(query, timeout_s=60)).metadata


async def kill(client: Client, name: str) -> None:
    found = await client.status()
    old = pid_of(found, name)
    os.kill(old, signal.SIGKILL)
    await status_when(client, lambda s: running_pid(s, name) not in (None, old))


async def test_a_fact_of_the_first_turn_is_in_the_prompt_of_the_third_after_two_kills() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        first = await say(client, "My cat is called Mitzi.", "")
        await kill(client, "memory")
        second = await say(client, "How are you?", first.conversation)
        await kill(client, "orchestrator")
        third = await say(client, "Do you like music?", first.conversation)
        assert first.conversation == second.conversation == third.conversation != ""
        said = [(turn.role, turn.content) for turn in third.prompt if turn.role != "system"]
        assert [role for role, _ in said] == ["user", "assistant", "user", "assistant", "user"]
        assert said[0][1] == "My cat is called Mitzi."
        kept = await client.ask(GetConversation(conversation=first.conversation))
        assert kept.title == "My cat is called Mitzi."
        assert [turn.number for turn in kept.turns] == list(range(6))


async def test_turns_that_do_not_fit_the_context_are_left_out_oldest_first_and_that_is_told() -> (
    None
):
    small = ("actors.cpu_engine.settings.slots=1", "actors.cpu_engine.settings.context_tokens=256")
    async with running(*SIMULATED, *small) as system, await connect(system) as client:
        long = "and then one more " * 15
        conversation, dropped = "", []
        for number in range(5):
            told = await say(client, f"{number} {long}", conversation)
            conversation = told.conversation
            dropped.append(told.dropped_turns)
        assert dropped[0] == 0
        assert dropped[-1] > 0
        assert dropped == sorted(dropped)
        assert told.prompt[0].role == "user"
        assert told.prompt[-1].content.startswith("4 ")


async def test_every_turn_is_there_once_and_complete_whoever_is_killed_under_it() -> None:
    settings = (*SIMULATED, "restart.max_restarts=1000")
    async with (
        running(*settings) as system,
        await connect(system) as watcher,
        await connect(system) as client,
    ):
        conversation = (await say(client, "turn 0", "")).conversation
        for number, victim in enumerate(("memory", "orchestrator", "storage", "tool_user"), 1):
            query = Query(text=f"turn {number}", conversation=conversation, max_tokens=60)
            old = pid_of(await watcher.status(), victim)
            async with client.stream(query, timeout_s=60) as stream:
                async for _ in stream:
                    if len(stream.received) == 1:
                        os.kill(old, signal.SIGKILL)
            assert stream.end is not None
            kept = await client.ask(GetConversation(conversation=conversation))
            question, answer = kept.turns[-2:]
            assert question.content == f"turn {number}"
            assert answer.content == "".join(piece.text for piece in stream.received)
            assert kept.total == 2 * (number + 1)
            await status_when(
                watcher,
                lambda s, one=victim, pid=old: (  # type: ignore[misc]
                    running_pid(s, one) not in (None, pid)
                    and all(a.state is not ActorState.STARTING for a in s.actors)
                ),
            )


async def test_two_who_write_into_one_conversation_are_both_kept() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        conversation = (await say(client, "begin", "")).conversation
        await asyncio.gather(*(say(client, f"side {side}", conversation) for side in range(4)))
        kept = await client.ask(GetConversation(conversation=conversation))
        assert [turn.role for turn in kept.turns] == ["user", "assistant"] * 5
        assert {t.content for t in kept.turns[2::2]} == {f"side {side}" for side in range(4)}


async def test_what_is_remembered_is_put_into_the_prompt_where_it_fits() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        await client.ask(Remember(text="The user's dog is called Rex."), timeout_s=60)
        asked = await client.ask(Query(text="What is the name of my dog?", explain=True))
        assert "Rex" in asked.metadata.prompt[0].content
        assert [memory.text for memory in asked.metadata.memories] == [
            "The user's dog is called Rex."
        ]
        without = await client.ask(
            Query(text="What is the name of my dog?", explain=True, memories=False)
        )
        assert without.metadata.memories == []


async def test_what_a_tool_is_surely_meant_for_it_answers_exactly_and_no_model_is_asked() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        answer = await client.ask("what is 17.5 % of 2,340?")
        assert answer.text == "409.5"
        assert answer.metadata.tool is not None
        assert answer.metadata.tool.name == "calculator"
        assert answer.metadata.engines == []
        with pytest.raises(Exception, match="division by zero"):
            await client.ask("what is 1/0?")
        talked = await client.ask(Query(text="what is 1/0?", tools=False))
        assert talked.metadata.tool is None


async def test_wrong_conversations_are_refused_in_words() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        with pytest.raises(NotFound, match="no conversation"):
            await say(client, "hello", "0190f1c2deadbeef")
        with pytest.raises(InvalidRequest, match="empty"):
            await say(client, "   ", "")


async def test_the_chat_command_talks_in_a_conversation_and_others_show_and_forget_it() -> None:
    async with running(*SIMULATED) as system:

        async def command(*words: str, stdin: str = "") -> tuple[str, str, int]:
            done = await asyncio.to_thread(
                noyau, *words, run_folder=system.run_folder, stdin=stdin
            )  # fmt: skip
            return done.stdout, done.stderr, done.returncode

        out, told, code = await command("chat", "--explain", stdin="My cat is Mitzi.\nAnd?\n/id\n")
        assert (code, out.count("\n")) == (0, 2)
        assert "prompt, user: My cat is Mitzi." in told
        id_ = told.split()[-1]
        out, _, _ = await command("conversations", "list", "--json")
        (one,) = json.loads(out)["items"]
        assert (one["conversation"], one["turns"], one["title"]) == (id_, 4, "My cat is Mitzi.")
        out, told, code = await command("chat", "--continue", id_, stdin="More\n/nonsense\n/quit\n")
        assert code == 0
        assert "4 turns so far" in told
        assert "There is no /nonsense" in told
        out, _, _ = await command("conversations", "show", id_)
        assert "My cat is Mitzi." in out
        out, _, _ = await command("conversations", "export", id_)
        assert len(json.loads(out)["turns"]) == 6
        _, _, code = await command("conversations", "forget", id_, "--yes")
        assert code == 0
        _, told, code = await command("conversations", "show", id_)
        assert code == 1
        assert "Traceback" not in told
        _, told, code = await command("chat", "--continue", id_, stdin="hello\n")
        assert code == 1


@pytest.mark.parametrize("known", [True, False])
async def test_an_answer_that_was_stored_before_its_orchestrator_died_is_not_made_again(
    known: bool,
) -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        conversation = (await say(client, "begin", "")).conversation if known else ""
        query = Query(text="Go on.", conversation=conversation, max_tokens=30)
        answer = await client.ask(query)
        # What the client library asks when the end did not reach it any more.
        begun = Begun(text=answer.text[:20], reason="it was killed")
        again = await client.ask(query.model_copy(update={"begun": begun}))
        assert begun.text + again.text == answer.text
        assert again.metadata.conversation == answer.metadata.conversation
        kept = await client.ask(GetConversation(conversation=again.metadata.conversation))
        assert kept.total == (4 if known else 2)


async def test_a_stored_answer_is_found_again_when_another_writer_went_on_behind_it() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        conversation = (await say(client, "Begin.", "")).conversation
        query = Query(text="Go on.", conversation=conversation, max_tokens=30)
        answer = await client.ask(query)
        await say(client, "And I go on here.", conversation)
        begun = Begun(text=answer.text[:20], reason="it was killed")
        again = await client.ask(query.model_copy(update={"begun": begun}))
        assert begun.text + again.text == answer.text
        kept = await client.ask(GetConversation(conversation=conversation))
        assert kept.total == 6


async def test_with_none_allowed_no_memory_is_put_into_a_prompt() -> None:
    none = "actors.orchestrator.settings.memories=0"
    async with running(*SIMULATED, none) as system, await connect(system) as client:
        await client.ask(Remember(text="The user's dog is called Rex."), timeout_s=60)
        asked = await client.ask(
            Query(text="What is the name of my dog?", max_tokens=4, tools=False)
        )
        assert asked.metadata.memories == []
        assert asked.metadata.missing == []
