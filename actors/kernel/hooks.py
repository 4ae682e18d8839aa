"""Every point where code may look into a process's work: this file is the map of them.

A hook runs on the event loop's thread, inside the request's context, and must not block. One
that raises is logged and does not harm the request. Add yours with ``Actor.hooks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.kernel.request import Request
    from protocol.errors import NoyauError
    from protocol.messages.base import Operation
    from protocol.ports import Peer


class Hooks:
    """Override what you need; all others do nothing."""

    def before_handle(self, request: Request, message: Operation) -> None:
        """The message is validated and allowed; its handler runs next."""

    def after_handle(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        """The conversation is over: its answer, end or ``error`` has been sent, or it was
        cancelled (then ``error`` is `Cancelled`)."""

    def on_refused(self, peer: Peer, error: NoyauError) -> None:
        """A frame or request was refused before any handler saw it."""
