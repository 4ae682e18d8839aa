"""From tokens to pieces of text. A token here is its bytes, by a number."""

from __future__ import annotations

from actors.engine.backends import Piece
from actors.engine.backends.transformers_torch.reading import Characters, Pieces
from protocol.messages.engine import TokenLogprob

SMILE = "😀".encode()
TOKENS = [b"a", b"b", SMILE[:2], SMILE[2:], b"c" + SMILE[:1], SMILE[1:], b"\xff"]


def said(tokens: list[int], *stops: str, logprobs: bool = False) -> list[Piece]:
    pieces = Pieces(lambda token: TOKENS[token], list(stops))
    made: list[Piece] = []
    for token in tokens:
        told = TokenLogprob(text=str(token), logprob=-1) if logprobs else None
        made += pieces.add(token, told)
        if pieces.stopped:
            return made
    return [*made, *pieces.rest()]


def test_each_token_is_a_piece_of_its_own() -> None:
    assert said([0, 1]) == [Piece("a", [0], 1), Piece("b", [1], 1)]


def test_a_character_of_several_tokens_is_one_piece_with_all_their_ids() -> None:
    assert said([0, 2, 3, 1]) == [Piece("a", [0], 1), Piece("😀", [2, 3], 2), Piece("b", [1], 1)]


def test_a_token_that_ends_inside_a_character_is_not_cut() -> None:
    assert said([4, 5]) == [Piece("c😀", [4, 5], 2)]


def test_the_beginning_of_a_character_that_never_ends_is_not_said() -> None:
    assert said([0, 2]) == [Piece("a", [0], 1)]


def test_bytes_that_are_no_text_are_said_to_be_none() -> None:
    assert said([6, 0]) == [Piece("\N{REPLACEMENT CHARACTER}", [6], 1), Piece("a", [0], 1)]


def test_a_character_that_another_byte_interrupts_does_not_hold_up_what_follows() -> None:
    characters = Characters()
    assert characters.add(SMILE[:2]) == ""
    assert characters.add(b"a") == "\N{REPLACEMENT CHARACTER}a"


def test_a_stop_string_ends_the_text_and_its_tokens_are_not_said() -> None:
    assert said([0, 1, 0], "ba") == [Piece("a", [0], 1)]


def test_what_might_have_become_a_stop_string_is_said_after_all() -> None:
    assert said([0, 1], "bx") == [Piece("a", [0], 1), Piece("b", [1], 1)]


def test_each_piece_says_how_likely_its_own_tokens_were() -> None:
    told = [[one.text for one in piece.logprobs] for piece in said([0, 2, 3, 1], logprobs=True)]
    assert told == [["0"], ["2", "3"], ["1"]]
