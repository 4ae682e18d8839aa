"""Memory: what was said, and what is worth remembering."""

from actors.memory.actor import Memory

__all__ = ["Memory"]
