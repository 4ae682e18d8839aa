"""How much of a conversation fits into a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from actors.orchestrator.history import History, Trimmed
from protocol.messages.memory import Turn


def turn(role: str, words: str) -> Turn:
    return Turn.model_validate({"role": role, "content": words})


def cost(one: Turn) -> int:
    return len(one.content.split())


def trim(budget: int, turns: Sequence[Turn]) -> Trimmed[Turn]:
    return History(budget, cost).trim(turns)


RULES = turn("system", "be brief")
FIRST, ANSWER = turn("user", "one two three"), turn("assistant", "four five")
SECOND = turn("user", "six")
TALK = [RULES, FIRST, ANSWER, SECOND]


def test_what_fits_is_kept_whole() -> None:
    assert trim(8, TALK) == Trimmed(TALK, [], 8, True)


def test_the_oldest_turns_go_first_and_what_the_system_said_stays() -> None:
    assert trim(7, TALK) == Trimmed([RULES, SECOND], [FIRST, ANSWER], 3, True)


def test_an_answer_whose_question_is_gone_goes_too() -> None:
    kept = trim(5, TALK).kept
    assert ANSWER not in kept
    assert kept == [RULES, SECOND]


def test_a_question_too_long_for_the_budget_is_kept_and_said_not_to_fit() -> None:
    found = trim(1, [RULES, SECOND])
    assert (found.kept, found.tokens, found.fits) == ([RULES, SECOND], 3, False)


def test_a_talk_without_a_question_leaves_the_system_alone() -> None:
    found = trim(100, [ANSWER, RULES])
    assert (found.kept, found.dropped, found.tokens) == ([RULES], [ANSWER], 2)


def test_nothing_said_is_nothing_kept() -> None:
    assert trim(5, []) == Trimmed([], [], 0, True)


TURNS = st.lists(
    st.builds(
        turn,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.integers(0, 4).map(lambda n: "w " * n),
    ),
    max_size=12,
)


@given(TURNS, st.integers(0, 20))
def test_whatever_is_trimmed_keeps_its_order_its_sum_and_a_question_in_front(
    turns: list[Turn], budget: int
) -> None:
    found = trim(budget, turns)
    assert len(found.kept) + len(found.dropped) == len(turns)
    places = [next(i for i, t in enumerate(turns) if t is one) for one in found.kept]
    assert places == sorted(places)
    assert found.tokens == sum(map(cost, found.kept))
    assert found.fits is (found.tokens <= budget)
    assert all(one.role != "system" for one in found.dropped)
    spoken = [one for one in found.kept if one.role != "system"]
    assert not spoken or spoken[0].role == "user"
    assert found.fits or len(spoken) <= 1
