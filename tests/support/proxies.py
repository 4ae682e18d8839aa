"""The proxies of whoever runs the tests: they must not be asked for what the tests mean."""

from __future__ import annotations

import pytest


def forget_proxies(env: pytest.MonkeyPatch) -> None:
    """As on a machine that needs none."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        env.delenv(name, raising=False)
        env.delenv(name.upper(), raising=False)
