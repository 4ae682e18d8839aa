"""Storage: the guardian of model files and other assets."""

from actors.storage.actor import Storage

__all__ = ["Storage"]
