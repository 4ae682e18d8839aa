"""How any actor runs: the process's main, the handlers, the life and the heartbeats."""

from actors.kernel.actor import Actor, Surroundings, options_of
from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks

__all__ = ["Actor", "Hooks", "Surroundings", "handles", "options_of"]
