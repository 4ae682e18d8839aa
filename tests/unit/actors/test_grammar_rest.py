"""What is left of a grammar when an answer has begun: the left quotient. Pure.

Random grammars are made as trees and written as GBNF here; a small recogniser of such trees, and
llguidance, say what the rests must be.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

from actors.engine.grammars.parser import parse
from actors.engine.grammars.rest import rest_of
from actors.engine.grammars.rules import Chars, Rules
from protocol.errors import EngineFailed, InvalidRequest

ALPHABET = "ab"
SHORT_TEXTS = ["".join(text) for size in range(5) for text in itertools.product("ab", repeat=size)]


# --- an own recogniser, of trees --------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """``kind`` says what it is of: text or characters, other trees, or a rule's name."""

    kind: str
    text: str = ""
    parts: tuple[Tree, ...] = ()
    least: int = 0
    most: int | None = None


Trees = dict[str, Tree]


def ends(trees: Trees, tree: Tree, text: str) -> set[int]:
    """Where in ``text`` what the tree says may end, when it begins at its beginning."""

    @cache
    def after(tree: Tree, at: int) -> frozenset[int]:
        if tree.kind == "text":
            return frozenset({at + len(tree.text)} if text.startswith(tree.text, at) else ())
        if tree.kind in ("one of", "none of"):
            fits = at < len(text) and (text[at] in tree.text) == (tree.kind == "one of")
            return frozenset({at + 1} if fits else ())
        if tree.kind == "rule":
            return after(trees[tree.text], at)
        if tree.kind == "either":
            return frozenset().union(*(after(part, at) for part in tree.parts))
        if tree.kind == "sequence":
            found = frozenset({at})
            for part in tree.parts:
                found = frozenset().union(*(after(part, end) for end in found))
            return found
        assert tree.kind == "repeated"
        found, here, times = frozenset[int](), frozenset({at}), 0
        while here and (tree.most is None or times <= tree.most):
            if times >= tree.least:
                if here <= found and tree.most is None:
                    break
                found |= here
            here = frozenset().union(*(after(tree.parts[0], end) for end in here))
            times += 1
        return found

    return set(after(tree, 0))


def fits(trees: Trees, text: str) -> bool:
    return len(text) in ends(trees, trees["root"], text)


def written(tree: Tree, *, inside: bool = True) -> str:
    """As GBNF."""
    if tree.kind == "text":
        return f'"{tree.text}"'
    if tree.kind in ("one of", "none of"):
        return f"[{'^' if tree.kind == 'none of' else ''}{tree.text}]" if tree.text else "."
    if tree.kind == "rule":
        return tree.text
    if tree.kind == "either":
        return f"({' | '.join(map(written, tree.parts))})"
    if tree.kind == "sequence":
        # A comment and a new line are space inside of a group.
        return f"({' '.join(map(written, tree.parts))} # so\n)"
    sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((tree.least, tree.most))
    if sign is None:
        sign = f"{{{tree.least},{'' if tree.most is None else tree.most}}}"
    return f"({written(tree.parts[0])}){sign}"


def as_gbnf(trees: Trees) -> str:
    return "\n".join(f"{name} ::= {written(tree)}" for name, tree in trees.items())


LETTERS = st.text(ALPHABET, min_size=1, max_size=2)
LEAVES = st.one_of(
    LETTERS.map(lambda text: Tree("text", text)),
    st.sampled_from(ALPHABET).map(lambda text: Tree("one of", text)),
    st.sampled_from(("a", "")).map(lambda text: Tree("none of", text)),
    st.just(Tree("text")),
)
RULES = ("root", "x", "y")


def later(name: str) -> st.SearchStrategy[Tree]:
    """Of the rules behind this one any, and of all others one behind a letter: that is never
    left-recursive."""
    behind = RULES[RULES.index(name) + 1 :]
    any_behind = st.sampled_from(RULES).map(
        lambda one: Tree("sequence", parts=(Tree("text", "a"), Tree("rule", one)))
    )
    if not behind:
        return any_behind
    return st.sampled_from(behind).map(lambda one: Tree("rule", one)) | any_behind


def grown(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    times = st.sampled_from([(0, None), (1, None), (0, 1), (2, None), (0, 2), (1, 3), (2, 2)])
    return st.one_of(
        several.map(lambda parts: Tree("sequence", parts=parts)),
        several.map(lambda parts: Tree("either", parts=parts)),
        st.builds(
            lambda part, bounds: Tree("repeated", "", (part,), *bounds),
            parts.filter(lambda part: part != Tree("text")), times,
        ),
    )  # fmt: skip


def tree_of(name: str) -> st.SearchStrategy[Tree]:
    return st.recursive(LEAVES | later(name), grown, max_leaves=6)


GRAMMARS = st.fixed_dictionaries({name: tree_of(name) for name in RULES})


# --- an own recogniser, of rules --------------------------------------------------------------


def accepts(grammar: str, text: str) -> bool:
    """By the rules as they are read: sets of ends, as above, without any stack."""
    rules: Rules = parse(grammar)
    known: dict[tuple[str, int], set[int]] = {}

    def after(name: str, at: int) -> set[int]:
        if (name, at) not in known:
            # What repeats itself without a character adds nothing.
            known[name, at] = set()
            while True:
                before = set(known[name, at])
                for alternative in rules[name]:
                    found = {at}
                    for one in alternative:
                        found = (
                            {end + 1 for end in found if end < len(text) and ord(text[end]) in one}
                            if isinstance(one, Chars)
                            else set().union(*(after(one, end) for end in found))
                        )
                    known[name, at] |= found
                if before == known[name, at]:
                    break
        return known[name, at]

    return len(text) in after("root", 0)


@settings(max_examples=300)
@given(GRAMMARS)
def test_a_grammar_is_read_as_it_is_meant(trees: Trees) -> None:
    grammar = as_gbnf(trees)
    for text in SHORT_TEXTS:
        assert accepts(grammar, text) == fits(trees, text)


@settings(max_examples=500)
@given(GRAMMARS, st.sampled_from(SHORT_TEXTS), st.data())
def test_the_rest_is_all_that_fits_behind_the_beginning_and_nothing_else(
    trees: Trees, text: str, data: st.DataObject
) -> None:
    grammar = as_gbnf(trees)
    begun = text[: data.draw(st.integers(0, len(text)))]
    try:
        rest = rest_of(grammar, begun)
    except (EngineFailed, InvalidRequest) as error:
        # A grammar of which a text fits in a great many ways is given up, and says so.
        if "too many ways" not in error.message:
            assert not any(fits(trees, begun + more) for more in SHORT_TEXTS)
        return
    for more in SHORT_TEXTS:
        assert accepts(rest, more) == fits(trees, begun + more)


@settings(max_examples=300)
@given(GRAMMARS, st.sampled_from(SHORT_TEXTS), st.data())
def test_the_rest_of_a_rest_is_the_rest_of_both(
    trees: Trees, text: str, data: st.DataObject
) -> None:
    grammar = as_gbnf(trees)
    cut = data.draw(st.integers(0, len(text)))
    try:
        whole = rest_of(grammar, text)
    except (EngineFailed, InvalidRequest) as refused:
        with pytest.raises(type(refused)):
            rest_of(rest_of(grammar, text[:cut]), text[cut:])
        return
    twice = rest_of(rest_of(grammar, text[:cut]), text[cut:])
    assert [accepts(twice, more) for more in SHORT_TEXTS] == [
        accepts(whole, more) for more in SHORT_TEXTS
    ]


# --- grammars as users have them, judged by llguidance ------------------------------------------

JSON = r"""
root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::= "{" ws (
    string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws

string ::= "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
LIST = 'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c]+ "\\n"'
EXPRESSION = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] ws term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
OTHER_SCRIPTS = 'root ::= greeting (" " [à-ÿ一-龥😀-😏]+)*\ngreeting ::= "こんにちは" | "¿Qué?"'

BY_LLGUIDANCE = [
    (JSON, '{"a": [1, -2.5e+1, "x\\n\\u00e9"],\n\t"b": {}, "c": null}'),
    (LIST, "- one\n- two, three\n"),
]
"""It splits texts into lexemes first, the longest ones, and so cannot judge the others."""
ANSWERS = [
    *BY_LLGUIDANCE,
    (EXPRESSION, "a1 + (3 * b) = 7\nx=1\n"),
    (OTHER_SCRIPTS, "¿Qué? éè 漢字 😀"),
]


class Judge:
    """llguidance, which takes bytes for tokens here."""

    tokenizer: Any = LLTokenizer("byte")

    def __init__(self, grammar: str) -> None:
        lark = LLMatcher.grammar_from_lark(gbnf_to_lark(grammar))
        self._matcher = LLMatcher(self.tokenizer, lark)

    def fits(self, text: str) -> bool:
        tokens, matcher = list(text.encode()), self._matcher.deep_copy()
        return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize(("grammar", "answer"), ANSWERS)
def test_an_answer_cut_anywhere_goes_on_by_the_rest(grammar: str, answer: str) -> None:
    assert accepts(grammar, answer)
    for cut in range(len(answer) + 1):
        rest = rest_of(grammar, answer[:cut])
        assert accepts(rest, answer[cut:])
        assert not accepts(rest, answer[cut:] + "\0")


@pytest.mark.parametrize(("grammar", "answer"), BY_LLGUIDANCE)
def test_llguidance_takes_the_rest_for_the_same(grammar: str, answer: str) -> None:
    whole, nothing_read = Judge(grammar), Judge(rest_of(grammar, ""))
    assert whole.fits(answer)
    for cut in range(len(answer) + 1):
        begun, rest = answer[:cut], Judge(rest_of(grammar, answer[:cut]))
        for other in range(len(answer) + 1):
            text = answer[other:]
            assert rest.fits(text) == whole.fits(begun + text) == nothing_read.fits(begun + text)


# --- how it is written ------------------------------------------------------------------------


def test_each_way_to_go_on_is_an_alternative_and_rules_that_are_not_needed_are_gone() -> None:
    grammar = 'root ::= "[" item ("," item)* "]" | old\nitem ::= [0-9]+\nold ::= "none"'
    assert rest_of(grammar, "[4").splitlines() == [
        "root ::= rest-1 | rest-3 | rest-5",
        "rest-1 ::= [0-9] item-1 rest-2",
        'item-1 ::= [0-9] item-1 | ""',
        'rest-2 ::= root-2 "]"',
        'root-2 ::= root-1 root-2 | ""',
        'root-1 ::= "," item',
        "item ::= [0-9] item-1",
        'rest-3 ::= "," item rest-4',
        "rest-4 ::= root-2 rest-5",
        'rest-5 ::= "]"',
    ]


def test_what_may_be_complete_may_end() -> None:
    rest = rest_of('root ::= "yes" | "yes, but no"', "yes")
    assert rest == 'root ::= "" | rest-1\nrest-1 ::= ", but no"\n'
    assert rest_of('root ::= "yes"', "yes") == 'root ::= ""\n'


def test_a_rule_that_needs_the_whole_grammar_again_finds_it() -> None:
    rest = rest_of('root ::= "(" root ")" | "x"', "(")
    assert [text for text in ("x)", "(x))", "x", "(x)") if accepts(rest, text)] == ["x)", "(x))"]


def test_new_names_are_none_of_the_grammars_own() -> None:
    grammar = 'root ::= ("a" rest-1)* Root-1\nrest-1 ::= "b" root?\nRoot-1 ::= "c"'
    rest = rest_of(grammar, "ab")
    assert accepts(rest, "cabc")
    assert not accepts(rest, "ccc")


def test_the_rest_of_a_rest_does_not_grow() -> None:
    once = rest_of(JSON, '{"a": [1, ')
    more = once
    for char in '"x", "y", ':
        more = rest_of(more, char)
    assert len(more) < 1.2 * len(once)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        ("", "line 1, column 1: there is no rule root"),
        ('a ::= "x"', "there is no rule root"),
        ('root ::= "x', 'line 1, column 12: a " or ] that closes it is missing'),
        ('root ::= "x" |\n  other', "line 2, column 3: there is no rule other"),
        ("root = x", "line 1, column 6: expected ::="),
        ('root ::= ("x"\n', r"line 2, column 1: expected \)"),
        ('root ::= "x")', "line 1, column 13: expected the end of the line"),
        ('root ::= "x"\n| "y"', "line 2, column 1: expected the name of a rule"),
        ("root ::= *", r"line 1, column 10: there is nothing before \* to be repeated"),
        ('root ::= ""+', r"there is nothing before \+"),
        ('root ::= "a"{x}', "line 1, column 14: expected a number"),
        ('root ::= "a"{3,2}', "at most 2 cannot be at least 3"),
        ('root ::= "a"{2001}', "more than 2000 repetitions"),
        ('root ::= "a"{%s}' % ("9" * 5000), "more than 2000 repetitions"),
        ('root ::= "\\q"', r"\\q is no escape"),
        ('root ::= "\\u12"', "expected 4 hexadecimal digits"),
        ("root ::= []", r"line 1, column 10: \[\] has no character"),
        ("root ::= [z-a]", "from the lower character to the higher"),
        ("root ::= <think>", "tokens of a model"),
        ("root ::= !<[7]>", "tokens of a model"),
        ("root ::= _", "expected text"),
        ("root ::= " + 200 * "(", "more than 100 groups within one another"),
        ("root ::= " + 200 * '"a"{2000} ', "more than 200000 elements"),
        ('root ::= root "x" | "x"', "left-recursive.* root → root"),
        ('root ::= root | "x"', "left-recursive"),
        ('root ::= a\na ::= " "* b\nb ::= a "x" | "y"', "left-recursive.* (a → b → a|b → a → b)"),
        ('root ::= "x" root', "no text fits the grammar"),
    ],
)
def test_a_grammar_that_is_none_is_refused_with_its_place(grammar: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        rest_of(grammar, "x")


def test_a_beginning_that_does_not_fit_is_refused_with_the_place() -> None:
    with pytest.raises(EngineFailed, match="from its character 3 on: 'x4'"):
        rest_of('root ::= "1," [0-9]+', "1,x4")


def test_a_beginning_that_no_text_has_does_not_fit() -> None:
    endless = 'root ::= "a" | "b" endless\nendless ::= "b" endless'
    assert rest_of(endless, "a") == 'root ::= ""\n'
    with pytest.raises(EngineFailed, match="character 1 on"):
        rest_of(endless, "b")


def test_an_upper_bound_that_llama_cpp_takes_for_none_is_none() -> None:
    assert rest_of('root ::= "a"{0,2000}', "a" * 2000) == 'root ::= ""\n'
    assert "a" in rest_of('root ::= "a"{0,2001}', "a" * 5000)


def test_what_repeats_something_that_may_be_empty_is_read() -> None:
    assert accepts(rest_of('root ::= (" "* "a"?)*', "a  a"), " aa ")


# --- how long it takes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "begun"),
    [
        ('root ::= x\nx ::= "a" x "b" | "a" x "c" | ""', "a" * 100),
        ('root ::= ((("a"{0,99}){0,99}){0,99}){0,99}', "a" * 2000),
    ],
)
def test_an_answer_that_fits_in_too_many_ways_is_given_up(grammar: str, begun: str) -> None:
    with pytest.raises(EngineFailed, match="in too many ways"):
        rest_of(grammar, begun)


@pytest.mark.parametrize(
    ("grammar", "begun"),
    [
        (JSON, json.dumps([{"name": f"n {i}", "tags": [i, None, {}]} for i in range(200)])),
        (JSON, "[" * 500),
        ("root ::= ([a-z]+ [ ]?)*", "some words of a text " * 400),
        ('root ::= ("a" | "aa")* "b"', "a" * 8000),
        ('root ::= "x" [^x]{0,2000}', "x" + "y" * 1999),
    ],
)
def test_thousands_of_characters_take_no_time_worth_mentioning(grammar: str, begun: str) -> None:
    start = time.thread_time()
    rest_of(grammar, begun)
    # Measured: 5 to 60 ms.
    assert time.thread_time() - start < 1
