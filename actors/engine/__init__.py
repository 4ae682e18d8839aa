"""The engine: a language model that generates text. Two configured processes may run it."""

from actors.engine.actor import Engine

__all__ = ["Engine"]
