"""What may still come of an answer that has begun, as a grammar: its left quotient.

The text so far is read as llama.cpp reads it, with a stack for each way in which the grammar can
have made it. A stack holds the places where its rules go on, the innermost on top::

    list ::= "[" item ("," item)* "]"        read so far: [4
    item ::= [0-9]+

    top    list after item    ("," item)* "]"        a , or ] comes next
    top    item-1             [0-9] item-1           another digit comes next
           list after item    ("," item)* "]"

Each stack that is left is an alternative of the new root. Equal stacks are one object, and so is
what stands below the tops of many; the sets of stacks make an automaton that is built as it is
needed, so that text that repeats itself, as most does, costs a look into a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.engine.grammars.parser import Names, parse
from actors.engine.grammars.rules import (
    ROOT,
    Alternative,
    Chars,
    Element,
    Rules,
    only_ending,
    refuse_left_recursion,
)
from actors.engine.grammars.writing import write
from protocol.errors import EngineCannotGoOn

MAX_STACKS = 1000
"""At the same time. Usual grammars have some ten; llama.cpp tries each token on each of them."""
MAX_STEPS = 1_000_000
"""A second or two of work. An object of JSON with 4000 characters takes a few thousand."""


def rest_of(grammar: str, begun: str) -> str:
    """The grammar of all texts that, put behind ``begun``, fit ``grammar``; both are GBNF.

    Raises `InvalidRequest` for a grammar that cannot be read or is left-recursive, and
    `EngineCannotGoOn` when ``begun`` is no beginning of a text that fits, or could be in too many
    ways.
    """
    rules = parse(grammar)
    refuse_left_recursion(rules)
    rules = only_ending(rules)
    return write(_rest(rules, _Reading(rules).read(begun), Names(rules)))


class _Place:
    """A place in an alternative: the element before which it is, and the place behind that."""

    __slots__ = ("after", "element")

    def __init__(self, element: Element, after: _Place | None) -> None:
        self.element = element
        self.after = after

    def elements(self) -> Iterator[Element]:
        """All up to the end of the alternative."""
        place: _Place | None = self
        while place is not None:
            yield place.element
            place = place.after


class _Stack:
    """A place on top, and the stack below it."""

    __slots__ = ("below", "top")

    def __init__(self, top: _Place, below: _Stack | None) -> None:
        self.top = top
        self.below = below


Stacks = tuple[_Stack | None, ...]
"""All ways. None is the empty stack: the text is whole. On top of all others is a character."""


class _Front:
    """The stacks after some text, and the fronts known to come after one character more."""

    __slots__ = ("after", "stacks")

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self.after: dict[str, _Front] = {}


class _Reading:
    """Reads a text by the rules, from its first character on."""

    def __init__(self, rules: Rules) -> None:
        # The last one first, as the work is taken from the end of what there is to do.
        self._first = {name: [_places(one) for one in rules[name][::-1]] for name in rules}
        self._stacks: dict[tuple[_Place, _Stack | None], _Stack] = {}
        self._fronts: dict[Stacks, _Front] = {}
        self._steps = 0

    def read(self, text: str) -> Stacks:
        """The stacks behind it."""
        front = self._front(self._on(first, None) for first in reversed(self._first[ROOT]))
        for number, char in enumerate(text):
            following = front.after.get(char)
            if following is None:
                following = front.after[char] = self._front(self._behind(front, ord(char)))
            if not following.stacks:
                raise EngineCannotGoOn(
                    "the answer so far does not fit its grammar, from its "
                    f"character {number + 1} on: {text[number : number + 20]!r}"
                )
            front = following
        return front.stacks

    def _behind(self, front: _Front, code: int) -> Iterator[_Stack | None]:
        for stack in front.stacks:
            if stack is not None:
                wanted = stack.top.element
                assert isinstance(wanted, Chars)
                if code in wanted:
                    yield self._on(stack.top.after, stack.below)

    def _front(self, begun: Iterable[_Stack | None]) -> _Front:
        """The stacks that these lead to without a character more."""
        todo = list(begun)[::-1]
        seen: set[_Stack | None] = set()
        found: list[_Stack | None] = []
        while todo:
            stack = todo.pop()
            self._steps += 1
            if stack in seen:
                continue
            seen.add(stack)
            if stack is None or isinstance(stack.top.element, Chars):
                found.append(stack)
            else:
                # A rule at the end of another leaves nothing behind, so that a long repetition is
                # no deep stack.
                below = self._on(stack.top.after, stack.below)
                todo += [self._on(first, below) for first in self._first[stack.top.element]]
            if len(found) > MAX_STACKS or self._steps > MAX_STEPS:
                raise EngineCannotGoOn(
                    "the answer so far fits its grammar in too many ways to go on with it; write "
                    "the grammar so that each text fits it in one way"
                )
        stacks = tuple(found)
        return self._fronts.setdefault(stacks, _Front(stacks))

    def _on(self, place: _Place | None, below: _Stack | None) -> _Stack | None:
        """The stack with this place on top, if it is one."""
        if place is None:
            return below
        known = self._stacks.get((place, below))
        if known is None:
            known = self._stacks[place, below] = _Stack(place, below)
        return known


def _places(alternative: Alternative) -> _Place | None:
    """The first place in it; none where it is empty."""
    first: _Place | None = None
    for element in reversed(alternative):
        first = _Place(element, first)
    return first


def _rest(rules: Rules, stacks: Stacks, names: Names) -> Rules:
    """The rules, with a new root: one alternative for each stack."""
    old_root = names.new(ROOT)
    rest = {
        old_root if name == ROOT else name: tuple(
            tuple(old_root if element == ROOT else element for element in alternative)
            for alternative in alternatives
        )
        for name, alternatives in rules.items()
    }
    named: dict[_Stack, str] = {}
    for each in stacks:
        stack = each
        while stack is not None and stack not in named:
            named[stack] = names.new("rest")
            stack = stack.below
    for stack, name in named.items():
        elements = [old_root if one == ROOT else one for one in stack.top.elements()]
        if stack.below is not None:
            elements.append(named[stack.below])
        rest[name] = (tuple(elements),)
    rest[ROOT] = tuple(() if one is None else (named[one],) for one in stacks)
    return rest
