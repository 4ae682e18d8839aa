"""Moments and spans of time, as people read them."""

from __future__ import annotations

import datetime


def when(unix_s: float) -> str:
    """A moment in the local time zone, to the minute."""
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")


def age(seconds: float) -> str:
    """How long, in its largest unit."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
