"""The clock: what time and day it is, and reckoning with dates."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from actors.tool_user import dates
from protocol.errors import InvalidRequest

MATCH_ORDER = 10
EXAMPLES = {
    "what time is it?": {"what": "now"},
    "what time is it in Tokyo": {"what": "now", "zone": "Tokyo"},
    "what day of the week is 2024-02-29?": {"what": "weekday", "day": "2024-02-29"},
    "how many days between 2024-01-01 and 2024-03-01": {
        "what": "between", "day": "2024-01-01", "until": "2024-03-01",
    },
    "what date is 3 weeks after 2024-02-29": {
        "what": "plus", "day": "2024-02-29", "duration": "3 weeks",
    },
}  # fmt: skip

_DAY = r"(?P<{}>\d{{4}}-\d{{2}}-\d{{2}}|today|tomorrow|yesterday)"
_FIRST, _LAST = _DAY.format("day"), _DAY.format("until")
_DURATION = r"(?P<duration>(?:\d{1,6}\s+(?:day|week|month|year)s?(?:,?\s+and\s+|,\s*|\s+)?)+)"
_FORMS = [
    (re.compile(pattern, re.IGNORECASE), fixed)
    for pattern, fixed in (
        (r"(?:what(?:'s| is) the time|what time is it)(?: now| right now)?"
         r"(?: in (?P<zone>[\w/ +-]+))?", {"what": "now"}),
        (r"(?:what(?:'s| is) (?:the date|today's date|the date today)"
         r"|what (?:day|date) is (?:it|today)(?: today)?)", {"what": "now"}),
        (rf"(?:what|which) (?:week ?day|day of the week|day) (?:is|was|will be) {_FIRST}",
         {"what": "weekday"}),
        (r"how many days (?:are (?:there )?|is it )?(?:between|from) "
         rf"{_FIRST} (?:and|to|until) {_LAST}",
         {"what": "between"}),
        (rf"how many days (?:is it |are (?:there )?(?:left )?)?(?:until|till) {_LAST}",
         {"what": "between", "day": "today"}),
        (rf"(?:what|which) (?:date|day) (?:is|was|will be) {_DURATION} ?(?:after|from) {_FIRST}",
         {"what": "plus"}),
    )
]  # fmt: skip


def clock(
    what: Annotated[
        Literal["now", "weekday", "between", "plus"],
        Field(
            description="now: date and time; weekday: of `day`; between: days from `day` to "
            "`until`; plus: the date that is `duration` after `day`"
        ),
    ] = "now",
    zone: Annotated[
        str, Field(description="for now: a time zone or its city; empty: where this machine is")
    ] = "",
    day: Annotated[
        str,
        Field(
            description="a date as 2024-02-29, or today, tomorrow, yesterday; plus takes now too"
        ),
    ] = "today",
    until: Annotated[str, Field(description="for between: the last date")] = "today",
    duration: Annotated[
        str, Field(description="for plus: such as 3 weeks, 1 month and 2 days, or -5 hours")
    ] = "",
) -> str:
    """Tells the time and date now, here or in a time zone, weekdays, and days between dates."""
    now = datetime.now(UTC)
    here = now.astimezone()
    if what == "now":
        return dates.time_now(now, zone)
    if what == "weekday":
        return dates.weekday(day, here.date())
    if what == "between":
        return dates.days_between(day, until, here.date())
    if not duration:
        raise InvalidRequest("plus needs a duration, such as 3 weeks")
    return dates.shifted(day, duration, here)


def match(text: str) -> dict[str, Any] | None:
    """A question for the time or a date, in one of the usual forms."""
    asked = re.sub(r"\s+", " ", text.strip().rstrip("?!. "))
    for form, fixed in _FORMS:
        found = form.fullmatch(asked)
        if found is None:
            continue
        given = {name: value.strip() for name, value in found.groupdict().items() if value}
        if "zone" in given and dates.zone_named(given["zone"]) is None:
            return None
        return fixed | given
    return None
