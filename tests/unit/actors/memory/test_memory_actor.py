"""The memory actor with a simulated model: what its callers get, with and without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from actors.kernel import Surroundings
from actors.memory import Memory
from actors.memory.embedder import Embedder
from actors.memory.vectors import ExactIndex, UsearchIndex
from configs.answering import QuerySettings
from configs.incarnation import Incarnation
from configs.schema import Settings
from configs.sections import DataSettings
from protocol.caller import Caller
from protocol.clock import ManualClock
from protocol.errors import (
    ActorUnavailable,
    AssetUnavailable,
    EngineFailed,
    InternalError,
    InvalidMessage,
    InvalidRequest,
    InvalidSettings,
    NotFound,
)
from protocol.messages.memory import (
    AppendTurns,
    Embed,
    Forget,
    ForgetConversation,
    GetConversation,
    ListConversations,
    ListMemories,
    Recall,
    Remember,
    Turn,
)
from protocol.messages.storage import AssetProgress
from tests.support.embedder import SimulatedEmbedder
from tests.support.waiting import eventually


class Simulated(Memory):
    """Gets its model from the test."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._given: asyncio.Future[Embedder] = asyncio.get_running_loop().create_future()

    def give(self, model: Embedder | Exception) -> None:
        """Let the model come, or fail to."""
        if isinstance(model, Exception):
            self._given.set_exception(model)
        else:
            self._given.set_result(model)

    async def _get_embedder(self) -> Embedder:
        return await asyncio.shield(self._given)


@contextlib.asynccontextmanager
async def memory(
    folder: Path, model: Embedder | Exception | None = None, **options: object
) -> AsyncIterator[Simulated]:
    """A memory over the data in ``folder``, started."""
    incarnation = Incarnation(
        name="memory", epoch="boot-1", class_path="actors.memory:Memory", options=options,
        settings=Settings(
            data=DataSettings(folder=folder), query=QuerySettings(engines=[]), actors={}
        ),
    )  # fmt: skip
    # It is asked nothing: the model does not come from storage here.
    caller = cast(Caller, None)
    actor = Simulated(Surroundings(incarnation, caller, ManualClock(), lambda: None))
    if model is not None:
        actor.give(model)
    await actor.on_start()
    try:
        yield actor
    finally:
        await actor.on_stop()


def said(*contents: str) -> list[Turn]:
    return [Turn(role="user", content=content) for content in contents]


# --- memories -------------------------------------------------------------------------------


async def test_what_was_remembered_is_recalled_best_first(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        tea = await it.remember(Remember(text="anna drinks green tea", source="chat"))
        await it.remember(Remember(text="the router is in the cellar"))
        found = await it.recall(Recall(query="green tea", limit=2, min_score=-1))
        assert [hit.text for hit in found.hits] == [
            "anna drinks green tea", "the router is in the cellar",
        ]  # fmt: skip
        best = found.hits[0]
        assert (best.id, best.source) == (tea.id, "chat")
        assert 0.4 < best.score <= 1
        assert 0 <= best.age_s < 60
        assert found.unsearched == 0
        assert (await it.recall(Recall(query="green tea", min_score=0.4))).hits == [
            best.model_copy(update={"age_s": pytest.approx(best.age_s, abs=60)})
        ]


async def test_a_near_duplicate_is_told_and_not_stored(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        first = await it.remember(Remember(text="anna drinks tea"))
        again = await it.remember(Remember(text="Anna drinks  TEA"))
        assert (first.duplicate_of, first.score) == (None, None)
        assert (again.id, again.duplicate_of) == (first.id, first.id)
        assert again.score == pytest.approx(1)
        other = await it.remember(Remember(text="bob drinks beer"))
        assert other.duplicate_of is None
        assert other.score is not None
        assert (await it.list_memories(ListMemories())).total == 2


async def test_the_same_text_at_the_same_time_is_stored_once(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        found = await asyncio.gather(*(it.remember(Remember(text="tea")) for _ in range(5)))
        assert len({one.id for one in found}) == 1
        assert [one.duplicate_of for one in found].count(None) == 1


async def test_a_remember_sent_again_after_a_death_is_answered_as_before(tmp_path: Path) -> None:
    message = Remember(text="anna drinks tea")
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        first = await it.remember(message)
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        assert await it.remember(message) == first
        assert (await it.list_memories(ListMemories())).total == 1


async def test_what_was_forgotten_is_not_recalled_and_may_be_remembered_anew(
    tmp_path: Path,
) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        first = await it.remember(Remember(text="tea"))
        message = Forget(ids=[first.id, "unknown"])
        assert (await it.forget(message)).count == 1
        assert (await it.forget(message)).count == 1
        assert (await it.recall(Recall(query="tea"))).hits == []
        second = await it.remember(Remember(text="tea"))
        assert second.duplicate_of is None
        assert second.id != first.id


async def test_a_new_life_recalls_what_the_last_one_remembered(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        first = await it.remember(Remember(text="tea"))
    for above in (100, 0):
        async with memory(tmp_path, SimulatedEmbedder(), approximate_above=above) as it:
            (hit,) = (await it.recall(Recall(query="tea"))).hits
            assert hit.id == first.id


async def test_what_changes_while_another_index_is_made_is_in_it_when_it_takes_over(
    tmp_path: Path,
) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        ids = [(await it.remember(Remember(text=text))).id for text in ("tea", "beer", "milk")]
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        ready = await it._preparation.wait()
        # By hand, so that the test decides what happens between the beginning and the end.
        loaded = await it._in_database(ready.recollection.begin_switch, 64)
        await it.remember(Remember(text="juice"))
        await it.forget(Forget(ids=ids[:1]))
        other = loaded.fill(UsearchIndex(64))
        await it._in_database(ready.recollection.switch, other)
        assert ready.recollection._index is other
        found = await it.recall(Recall(query="juice", min_score=-1))
        assert found.hits[0].text == "juice"
        assert {hit.text for hit in found.hits} == {"juice", "beer", "milk"}


@pytest.mark.parametrize(("above", "kind"), [(1, ExactIndex), (0, UsearchIndex)])
async def test_the_bound_decides_which_index_is_used(
    tmp_path: Path, above: int, kind: type[object]
) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        await it.remember(Remember(text="tea"))
    async with memory(tmp_path, SimulatedEmbedder(), approximate_above=above) as it:
        ready = await it._preparation.wait()
        await it._preparation.finished()
        assert isinstance(ready.recollection._index, kind)
        assert (await it.recall(Recall(query="tea"))).hits


async def test_texts_are_embedded_for_other_actors(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder("m")) as it:
        found = await it.embed(Embed(texts=["a", "b"]))
        assert found.vectors == SimulatedEmbedder("m").embed(["a", "b"])
        assert (found.model, found.dimension) == ("m", 64)


async def test_after_a_change_of_the_model_all_vectors_are_made_anew(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder("old")) as it:
        for number in range(70):
            await it.remember(Remember(text=f"fact{number}"))
    async with memory(tmp_path, SimulatedEmbedder("new")) as it:
        await it.recall(Recall(query="fact7"))
        await it._preparation.finished()
        found = await it.recall(Recall(query="fact7", limit=1))
        assert [hit.text for hit in found.hits] == ["fact7"]
        assert found.unsearched == 0
        assert it._store.numbers("old") == []


async def test_memories_whose_vectors_could_not_be_made_are_counted_as_unsearched(
    tmp_path: Path,
) -> None:
    class Failing(SimulatedEmbedder):
        def embed(self, texts: Sequence[str]) -> list[bytes]:
            if "tea" in texts:
                raise EngineFailed("no tea")
            return super().embed(texts)

    async with memory(tmp_path, SimulatedEmbedder("old")) as it:
        await it.remember(Remember(text="tea"))
    async with memory(tmp_path, Failing("new")) as it:
        await it.remember(Remember(text="beer"))
        found = await it.recall(Recall(query="beer", min_score=-1))
        assert ([hit.text for hit in found.hits], found.unsearched) == (["beer"], 1)
        await eventually(lambda: "no tea" in it.reason)
        assert len(it._store.numbers("old")) == 1


# --- without a model ------------------------------------------------------------------------


async def remembered(tmp_path: Path) -> None:
    """Something was remembered when the model was there."""
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        await it.remember(Remember(text="tea"))


async def test_where_nothing_was_remembered_nothing_is_found_without_the_model(
    tmp_path: Path,
) -> None:
    async with memory(tmp_path, AssetUnavailable("no network here")) as it:
        assert (await it.recall(Recall(query="x"))).hits == []
    async with memory(tmp_path) as it:
        assert (await it.recall(Recall(query="x"))).hits == []


async def test_conversations_work_while_the_model_is_on_its_way(tmp_path: Path) -> None:
    await remembered(tmp_path)
    async with memory(tmp_path) as it:
        appended = await it.append(AppendTurns(turns=said("hello")))
        found = await it.conversation(GetConversation(conversation=appended.conversation))
        assert [turn.content for turn in found.turns] == ["hello"]
        waiting = asyncio.create_task(it.recall(Recall(query="x")))
        await it.list_memories(ListMemories())
        assert not waiting.done()
        it.give(SimulatedEmbedder())
        await waiting


async def test_without_weights_recalling_says_why_and_conversations_work(tmp_path: Path) -> None:
    await remembered(tmp_path)
    reason = AssetUnavailable("no network here", path="p")
    async with memory(tmp_path, reason) as it:
        for _ in range(2):
            with pytest.raises(AssetUnavailable, match="no network here") as caught:
                await it.recall(Recall(query="x"))
            assert caught.value is not reason
            assert caught.value.details == {"path": "p"}
        with pytest.raises(AssetUnavailable):
            await it.remember(Remember(text="x"))
        assert "no network here" in it.reason
        await it.append(AppendTurns(turns=said("hello")))
        assert (await it.list_memories(ListMemories())).total == 1


async def test_while_the_weights_are_fetched_recalling_says_how_far_that_is(
    tmp_path: Path,
) -> None:
    await remembered(tmp_path)
    async with memory(tmp_path) as it:
        waiting = asyncio.create_task(it.recall(Recall(query="x")))
        await asyncio.sleep(0)
        it._show_fetching(
            AssetProgress(asset="a", stage="downloading", done_bytes=1, total_bytes=4)
        )
        with pytest.raises(ActorUnavailable, match="downloading a, 25 %"):
            await waiting


async def test_a_defect_while_getting_the_model_is_told_and_not_swallowed(tmp_path: Path) -> None:
    await remembered(tmp_path)
    async with memory(tmp_path, ZeroDivisionError("a defect")) as it:
        with pytest.raises(InternalError, match="a defect"):
            await it.recall(Recall(query="x"))


async def test_what_is_forgotten_while_the_vectors_load_is_not_recalled(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder()) as it:
        ids = [(await it.remember(Remember(text=text))).id for text in ("tea", "beer")]
    async with memory(tmp_path) as it:
        await it.forget(Forget(ids=ids[:1]))
        it.give(SimulatedEmbedder())
        found = await it.recall(Recall(query="tea", min_score=-1))
        assert [hit.text for hit in found.hits] == ["beer"]


# --- conversations --------------------------------------------------------------------------


async def test_turns_and_their_metadata_come_back_as_they_were_said(tmp_path: Path) -> None:
    turns = [
        Turn(role="system", content="be brief"),
        Turn(role="user", content="Why?\0😀", metadata={"a": [1, None, {"é": 0.5}]}),
        Turn(role="assistant", content=""),
    ]
    async with memory(tmp_path) as it:
        appended = await it.append(AppendTurns(turns=turns))
        assert appended.numbers == [0, 1, 2]
        found = await it.conversation(GetConversation(conversation=appended.conversation))
        assert [Turn.model_validate(turn.model_dump()) for turn in found.turns] == turns
        assert (found.title, found.total) == ("Why? 😀", 3)
        (listed,) = (await it.conversations(ListConversations())).items
        assert (listed.conversation, listed.turns) == (appended.conversation, 3)
        forget = ForgetConversation(conversation=appended.conversation)
        assert (await it.forget_conversation(forget)).count == 3
        with pytest.raises(NotFound):
            await it.conversation(GetConversation(conversation=appended.conversation))


async def test_turns_sent_twice_are_stored_once_and_writers_side_by_side_leave_no_gap(
    tmp_path: Path,
) -> None:
    async with memory(tmp_path) as it:
        first = AppendTurns(turns=said("begin"))
        conversation = (await it.append(first)).conversation
        more = [AppendTurns(conversation=conversation, turns=said(f"{n}", "x")) for n in range(20)]
        appended = await asyncio.gather(*(it.append(one) for one in [first, *more, *more]))
        numbers = [number for one in appended[1:21] for number in one.numbers]
        assert sorted(numbers) == list(range(1, 41))
        found = await it.conversation(GetConversation(conversation=conversation))
        assert [turn.number for turn in found.turns] == list(range(41))


# --- bad input ------------------------------------------------------------------------------


async def test_bad_input_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder(), max_text_chars=10, max_turn_chars=10) as it:
        bad = ["", " ", "x" * 11, "\ud800"]
        for text in bad:
            with pytest.raises(InvalidRequest):
                await it.remember(Remember(text=text))
            with pytest.raises(InvalidRequest):
                await it.recall(Recall(query=text))
            with pytest.raises(InvalidRequest):
                await it.embed(Embed(texts=["fine", text]))
        for text in bad[2:]:
            with pytest.raises(InvalidRequest):
                await it.append(AppendTurns(turns=said("fine", text)))
        used = AppendTurns(turns=said("a"), key="k")
        await it.append(used)
        with pytest.raises(InvalidRequest, match="another request"):
            await it.append(AppendTurns(turns=said("b"), key="k"))
        assert (await it.list_memories(ListMemories())).total == 0
        assert (await it.conversations(ListConversations())).total == 1


def test_ids_keys_and_sources_with_a_lone_surrogate_are_no_messages() -> None:
    for message, body in (
        (Forget, {"ids": ["\ud800"]}),
        (Forget, {"ids": ["a"], "key": "\ud800"}),
        (Remember, {"text": "a", "source": "\ud800"}),
        (AppendTurns, {"turns": [{"role": "user", "content": "a"}], "conversation": "\ud800"}),
        (GetConversation, {"conversation": "\ud800"}),
    ):
        with pytest.raises(InvalidMessage):
            message.from_body(body)


@pytest.mark.parametrize(
    "body", [{"limit": 0}, {"limit": 101}, {"limit": -1}, {"min_score": 1.1}, {"min_score": None}]
)
def test_limits_out_of_range_are_no_messages(body: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        Recall.from_body({"query": "x", **body})
    with pytest.raises(InvalidMessage):
        ListMemories.from_body({"offset": -1})


async def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"actors\.memory\.settings\.duplicate_score"):
        async with memory(tmp_path, duplicate_score=2.0):
            pass


async def test_it_says_that_it_is_idle_when_the_model_is_there(tmp_path: Path) -> None:
    async with memory(tmp_path, SimulatedEmbedder("m")) as it:
        await eventually(lambda: it.info["model"] == "m")
        await eventually(lambda: it.activity.what == "idle")
        assert it.reason == ""
