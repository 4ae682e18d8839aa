"""``noyau assets``: model files and others: what is here, whether it is right, and its updates."""

from __future__ import annotations

from noyau.assets.command import assets

__all__ = ["assets"]
