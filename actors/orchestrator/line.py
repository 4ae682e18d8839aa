"""Those who wait in one class: clients take turns, and each one's tickets go in their order. Pure.

Turns, not shares by tokens or by arrival: a client's next ticket stands behind all clients that
wait already, so neither one client with many tickets nor a stream of new clients starves anybody.
Every operation takes constant time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic

from actors.orchestrator.admission_terms import K, Ticket


class Line(Generic[K]):
    """One class."""

    __slots__ = ("tickets", "turns")

    def __init__(self) -> None:
        self.tickets: dict[K, Ticket[K]] = {}
        """All of them, in the order in which they joined."""
        self.turns: OrderedDict[Hashable, dict[K, Ticket[K]]] = OrderedDict()
        """Those of each client, the client whose turn is next first. None is empty."""

    def join(self, ticket: Ticket[K]) -> None:
        """Stand behind those of the same client, or behind all clients."""
        key, client = ticket.key, ticket.client
        self.tickets[key] = ticket
        own = self.turns.get(client)
        if own is None:
            self.turns[client] = {key: ticket}
        else:
            own[key] = ticket

    def next(self) -> Ticket[K]:
        """Whose turn it is. Raises LookupError where nobody waits."""
        # Two loops that end at once: half the time of `next` and `iter`.
        for own in self.turns.values():
            for ticket in own.values():
                return ticket
        raise LookupError("nobody waits in this class")

    def take(self, ticket: Ticket[K]) -> None:
        """The next one's turn has come: the other clients go before its client's next ticket."""
        key, client = ticket.key, ticket.client
        del self.tickets[key]
        own = self.turns[client]
        if len(own) == 1:
            del self.turns[client]
        else:
            del own[key]
            self.turns.move_to_end(client)

    def remove(self, ticket: Ticket[K]) -> None:
        """It waits here no more, and nobody's turn changes."""
        key, client = ticket.key, ticket.client
        del self.tickets[key]
        own = self.turns[client]
        if len(own) == 1:
            del self.turns[client]
        else:
            del own[key]

    def before(self, client: Hashable) -> int:
        """At most how many of those in here go before a new ticket of this client."""
        rounds = len(self.turns.get(client, ())) + 1
        return min(len(self.tickets), rounds * len(self.turns))
