"""In which order actors start and stop. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter


def start_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """All names, each after what it needs; by name where that leaves a choice.

    ``needs`` has an entry for every name and no cycle: the settings' checks refuse others.
    """
    order: list[str] = []
    while len(order) < len(needs):
        waiting = (name for name in needs if name not in order)
        order.append(min(name for name in waiting if set(needs[name]) <= set(order)))
    return order


def stop_order(needs: Mapping[str, Sequence[str]]) -> list[set[str]]:
    """Groups to stop one after the other: nobody stops before those who need or use him."""
    needed_by: dict[str, set[str]] = {name: set() for name in needs}
    for name, required in needs.items():
        for one in required:
            needed_by[one].add(name)
    sorter = TopologicalSorter(needed_by)
    sorter.prepare()
    groups = []
    while sorter.is_active():
        group = set(sorter.get_ready())
        groups.append(group)
        sorter.done(*group)
    return groups


def dependants(name: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """All that need ``name``, directly or through others; those that need it most last."""
    found = [name]
    for one in start_order(needs):
        if one != name and set(needs[one]) & set(found):
            found.append(one)
    return found[1:]
