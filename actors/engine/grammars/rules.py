"""A grammar without its comforts: rules, each of some alternatives, each a sequence of elements.

An element is one character of a set, or the name of a rule. Groups and repetitions are rules too,
the same ones that llama.cpp makes of them::

    "ab" [c-e]*      root ::= a b root-1        root-1 ::= [c-e] root-1 |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from protocol.errors import InvalidRequest

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character: of those in ``ranges``, or with ``negated`` of all others."""

    ranges: tuple[tuple[int, int], ...]
    """First and last code point of each."""
    negated: bool = False

    def __contains__(self, code: int) -> bool:
        return any(low <= code <= high for low, high in self.ranges) is not self.negated


ANY = Chars((), negated=True)

Element = Chars | str
Alternative = tuple[Element, ...]
Rules = dict[str, tuple[Alternative, ...]]


def only_ending(rules: Rules) -> Rules:
    """The rules without the alternatives that no text ever ends, as that of ``a ::= "x" a``. Raises
    `InvalidRequest` where nothing is left."""
    ending = _closed(rules, lambda element: isinstance(element, Chars))
    if ROOT not in ending:
        raise InvalidRequest("no text fits the grammar: its rule root never comes to an end")

    def ends(alternative: Alternative) -> bool:
        return all(isinstance(one, Chars) or one in ending for one in alternative)

    return {name: tuple(filter(ends, rules[name])) for name in rules if name in ending}


def refuse_left_recursion(rules: Rules) -> None:
    """Raises `InvalidRequest` for a rule that leads to itself before any character: reading it from
    the left would never end. What repeats something that may be empty is none, as nothing waits
    behind it."""
    empty = _closed(rules, lambda element: False)
    leads: dict[str, list[str]] = {}
    for name, alternatives in rules.items():
        leads[name] = []
        for alternative in alternatives:
            for number, element in enumerate(alternative):
                if isinstance(element, Chars):
                    break
                repeats = element == name and number > 0 and number == len(alternative) - 1
                if not repeats:
                    leads[name].append(element)
                if element not in empty:
                    break
    try:
        TopologicalSorter(leads).prepare()
    except CycleError as error:
        # It names them from the last to the first.
        cycle = " → ".join(reversed(error.args[1]))
        raise InvalidRequest(
            f"the grammar is left-recursive, which llama.cpp does not know: {cycle}; "
            "have something read before a rule comes back to itself"
        ) from None


def _closed(rules: Rules, known: Callable[[Element], bool]) -> set[str]:
    """The rules of which an alternative has nothing but elements that are ``known``, or names of
    such rules."""
    found: set[str] = set()
    mentioned: dict[str, set[str]] = defaultdict(set)
    for name, alternatives in rules.items():
        for alternative in alternatives:
            for element in alternative:
                if isinstance(element, str):
                    mentioned[element].add(name)

    def holds(alternative: Iterable[Element]) -> bool:
        return all(known(one) or one in found for one in alternative)

    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in found and any(map(holds, rules[name])):
            found.add(name)
            todo += mentioned[name]
    return found
