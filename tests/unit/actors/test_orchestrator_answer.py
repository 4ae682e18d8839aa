"""An answer in the making: its text, its token ids, its seams, and its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.orchestrator.answer import AnswerInProgress
from protocol.errors import ActorDied, EngineFailed
from protocol.messages.engine import Continuation, Generated, Tokens
from protocol.messages.orchestrator import Answered, Begun, Seam, Text, ToolUse

LOSS = ActorDied("it was killed")
END = Generated(
    finish_reason="stop", model="M", model_name="tiny", device="cpu", backend="llama_cpp",
    prompt_tokens=7, completion_tokens=3, prefill_ms=12.345, decode_ms=30.06, tokens_per_s=99.99,
)  # fmt: skip


def answer(max_losses: int = 3, begun: Begun | None = None) -> AnswerInProgress:
    """One that began at second 100."""
    return AnswerInProgress("id", "query", 100.0, max_losses, begun)


def ended(it: AnswerInProgress, engine: str, end: Generated, now: float) -> Answered:
    """The engine said its end."""
    it.ended_by(engine, end)
    return it.finish(now, "lite")


def piece(text: str, *tokens: int) -> Tokens:
    return Tokens(text=text, tokens=list(tokens), count=max(1, len(tokens)))


# --- text and ids ---------------------------------------------------------------------------


def test_an_answer_that_has_no_text_yet_is_continued_from_nothing() -> None:
    assert answer().continuation() is None


def test_every_piece_is_passed_on_as_it_is() -> None:
    it = answer()
    assert it.take(piece("Paris", 1, 2), 101, "M") == Text(text="Paris", count=2)
    assert it.take(piece(" is", 3), 102, "M") == Text(text=" is", count=1)


def test_it_is_continued_from_all_its_text_and_all_its_ids() -> None:
    it = answer()
    it.take(piece("Paris", 1, 2), 101, "M")
    it.take(piece(" is", 3), 102, "M")
    assert it.continuation() == Continuation(
        text="Paris is", tokens=[1, 2, 3], model="M", count=3
    )  # fmt: skip


def test_one_piece_without_ids_makes_the_text_alone_count_from_then_on() -> None:
    it = answer()
    for one in (piece("Paris", 1), piece(" 🌍"), piece(" is", 3)):
        it.take(one, 101, "M")
    continuation = it.continuation()
    assert continuation is not None
    assert (continuation.text, continuation.tokens) == ("Paris 🌍 is", [])


def test_pieces_of_two_models_make_the_text_alone_count() -> None:
    it = answer()
    it.take(piece("Paris", 1), 101, "M")
    it.lost("gpu.1", LOSS, 102)
    it.take(piece(" is", 3), 103, "N")
    continuation = it.continuation()
    assert continuation is not None
    assert (continuation.text, continuation.tokens) == ("Paris is", [])
    it.take(piece(" big", 4), 104, "M")
    continuation = it.continuation()
    assert continuation is not None
    assert continuation.tokens == []


def test_the_same_model_in_another_engine_keeps_the_ids_exact() -> None:
    it = answer()
    it.take(piece("Paris", 1), 101, "M")
    it.lost("gpu.1", LOSS, 102)
    it.take(piece(" is", 3), 103, "M")
    assert it.continuation() == Continuation(text="Paris is", tokens=[1, 3], model="M", count=2)


@given(st.lists(st.tuples(st.text(min_size=1), st.booleans(), st.sampled_from("MN"))))
def test_ids_are_given_exactly_when_all_are_known_and_of_one_model(
    pieces: list[tuple[str, bool, str]],
) -> None:
    it = answer()
    for number, (text, known, model) in enumerate(pieces):
        it.take(piece(text, *([number] if known else [])), 101, model)
    exact = all(known for _, known, _ in pieces) and len({model for _, _, model in pieces}) == 1
    continuation = it.continuation()
    if not pieces:
        assert continuation is None
        return
    assert continuation is not None
    assert continuation.text == "".join(text for text, _, _ in pieces)
    assert continuation.tokens == (list(range(len(pieces))) if exact else [])
    if exact:
        assert continuation.model == pieces[0][2]


# --- seams ----------------------------------------------------------------------------------


def test_the_first_piece_after_a_loss_carries_the_seam_and_no_other_does() -> None:
    it = answer()
    assert it.take(piece("Paris"), 101).seam is None
    it.lost("cpu_engine.b-1", LOSS, 102)
    seam = it.take(piece(" is"), 102.25).seam
    assert seam == Seam(position=5, lost="cpu_engine.b-1", reason="it was killed", gap_ms=250)
    assert it.take(piece(" big"), 103).seam is None
    assert ended(it, "cpu_engine.b-2", END, 104).seams == [seam]


def test_a_seams_position_is_counted_in_characters_not_bytes() -> None:
    it = answer()
    it.take(piece("🌍é"), 101)
    it.lost("a.1", LOSS, 102)
    seam = it.take(piece("x"), 103).seam
    assert seam is not None
    assert seam.position == 2


def test_an_answer_that_had_not_begun_has_no_seam() -> None:
    it = answer()
    it.lost("a.1", LOSS, 101)
    assert it.take(piece("Paris"), 102).seam is None
    assert ended(it, "a.2", END, 103).seams == []


def test_losses_one_after_the_other_without_text_between_are_one_seam_from_the_first() -> None:
    it = answer()
    it.take(piece("Paris"), 101)
    it.lost("a.1", LOSS, 102)
    it.lost("a.2", ActorDied("again"), 103)
    seam = it.take(piece(" is"), 104).seam
    assert seam == Seam(position=5, lost="a.1", reason="it was killed", gap_ms=2000)
    assert len(ended(it, "a.3", END, 105).seams) == 1


def test_every_interruption_is_a_seam_of_its_own() -> None:
    it = answer()
    for number in range(3):
        it.take(piece("x"), 101 + number)
        it.lost(f"a.{number}", LOSS, 101.5 + number)
    it.take(piece("x"), 105)
    seams = ended(it, "a.9", END, 106).seams
    assert [(seam.position, seam.lost) for seam in seams] == [(1, "a.0"), (2, "a.1"), (3, "a.2")]


def test_an_engine_lost_between_the_last_piece_and_the_end_leaves_its_seam_at_the_end() -> None:
    it = answer()
    it.take(piece("Paris"), 101)
    it.lost("a.1", LOSS, 102)
    seams = ended(it, "a.2", END, 102.5).seams
    assert seams == [Seam(position=5, lost="a.1", reason="it was killed", gap_ms=500)]


# --- going on with what a client has received -----------------------------------------------


def test_it_goes_on_behind_the_text_that_the_client_has() -> None:
    it = answer(begun=Begun(text="Paris", reason="killed by SIGKILL", gap_ms=40))
    assert it.continuation() == Continuation(text="Paris")
    seam = it.take(piece(" is", 3), 100.06, "M").seam
    assert seam == Seam(position=5, lost="orchestrator", reason="killed by SIGKILL", gap_ms=100)
    # The client's text came without ids, so none of the whole are exact.
    assert it.continuation() == Continuation(text="Paris is")


def test_seams_that_the_client_knows_of_come_before_its_own() -> None:
    earlier = Seam(position=2, lost="a.1", reason="it was killed", gap_ms=7)
    it = answer(begun=Begun(text="Paris", seams=[earlier]))
    seam = it.take(piece(" is"), 101).seam
    assert ended(it, "a.2", END, 102).seams == [earlier, seam]


def test_another_loss_before_the_first_new_text_does_not_hide_the_orchestrators() -> None:
    it = answer(begun=Begun(text="Paris", reason="killed", gap_ms=0))
    it.lost("a.1", LOSS, 101)
    seam = it.take(piece(" is"), 102).seam
    assert seam is not None
    assert (seam.lost, seam.reason, seam.gap_ms) == ("orchestrator", "killed", 2000)


def test_a_client_that_has_received_nothing_yet_loses_no_exactness() -> None:
    it = answer(begun=Begun(text=""))
    assert it.continuation() is None
    it.take(piece("Paris", 1), 101, "M")
    assert it.continuation() == Continuation(text="Paris", tokens=[1], model="M", count=1)


def test_begun_seams_are_not_written_into_the_clients_own_list() -> None:
    begun = Begun(text="Paris")
    answer(begun=begun).take(piece(" is"), 101)
    assert begun.seams == []


# --- too many losses ------------------------------------------------------------------------


def test_it_survives_as_many_losses_as_are_allowed_and_not_one_more() -> None:
    it = answer(max_losses=2)
    it.take(piece("Paris"), 101)
    it.lost("a.1", LOSS, 102)
    it.lost("a.2", LOSS, 103)
    with pytest.raises(EngineFailed, match=r"3 lost engines, last a\.3: it was killed") as caught:
        it.lost("a.3", LOSS, 104)
    assert caught.value.details == {"position": 5}


def test_losses_before_the_first_text_count_as_well() -> None:
    it = answer(max_losses=0)
    with pytest.raises(EngineFailed):
        it.lost("a.1", LOSS, 101)


def test_losses_in_a_row_are_counted_from_the_last_text() -> None:
    it = answer()
    it.lost("a.1", LOSS, 101)
    it.lost("a.2", LOSS, 102)
    assert it.losses_in_a_row == 2
    it.take(piece("Paris"), 103)
    assert it.losses_in_a_row == 0
    it.lost("a.3", LOSS, 104)
    assert it.losses_in_a_row == 1


# --- the end --------------------------------------------------------------------------------


def test_the_end_says_what_happened_when_and_by_whom() -> None:
    it = answer()
    it.admitted(100.2)
    it.take(piece("Paris", 1, 2), 101, "M")
    it.take(piece(" 🌍"), 102, "M")
    done = ended(it, "cpu_engine.b-1", END, 103.5)
    assert (done.query, done.finish_reason, done.tokens) == ("query", "stop", 3)
    assert (done.queued_ms, done.first_token_ms, done.total_ms) == (200, 1000, 3500)
    (used,) = done.engines
    assert (used.engine, used.device, used.model_name) == ("cpu_engine.b-1", "cpu", "tiny")
    assert (used.prefill_ms, used.decode_ms, used.tokens_per_s) == (12.3, 30.1, 100.0)
    assert (used.prompt_tokens, used.completion_tokens) == (7, 3)


def test_an_answer_without_text_has_no_first_token() -> None:
    assert ended(answer(), "a.1", END, 101).first_token_ms is None


def test_the_first_token_is_the_first_one_ever_not_the_one_after_a_seam() -> None:
    it = answer()
    it.take(piece("Paris"), 101)
    it.lost("a.1", LOSS, 102)
    it.take(piece(" is"), 103)
    assert ended(it, "a.2", END, 104).first_token_ms == 1000


# --- tools ----------------------------------------------------------------------------------


def test_what_a_tool_says_is_the_whole_answer_and_the_metadata_name_it() -> None:
    it = answer()
    use = ToolUse(name="calculator", how="exact", arguments={"expression": "1+1"}, took_ms=3.0)
    assert it.said_by_tool(use, "2", 100.5) == Text(text="2", count=0)
    told = it.finish(101.0, "lite")
    assert (told.tool, told.engines, told.finish_reason) == (use, [], "stop")
    assert told.first_token_ms == 500


def test_a_client_that_comes_back_gets_the_rest_of_what_the_tool_says() -> None:
    it = answer(begun=Begun(text="40"))
    use = ToolUse(name="calculator", how="exact", arguments={}, took_ms=3.0)
    assert it.said_by_tool(use, "409.5", 100.5).text == "9.5"
    assert it.text == "409.5"
