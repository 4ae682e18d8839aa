"""What the clock tool answers: times, weekdays and days between. Pure: `now` is an argument."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from protocol.errors import InvalidRequest

_DATE = r"\d{4}-\d{2}-\d{2}"
_AMOUNT = re.compile(r"([+-]?\d{1,6})\s*(day|week|month|year|hour|minute)s?")


def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of that name, or of the city that has one named after it; None without."""
    name = name.strip()
    if not name:
        return None
    try:
        return ZoneInfo(_cities().get(name.lower().replace(" ", "_"), name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@cache
def _cities() -> Mapping[str, str]:
    """By the last part of the name and by the whole, in small letters."""
    names = sorted(available_timezones())
    return {name.rpartition("/")[2].lower(): name for name in names} | {
        name.lower(): name for name in names
    }


def time_now(now: datetime, zone: str) -> str:
    """The time in a zone, or where this machine is when ``zone`` is empty."""
    if not zone:
        return _spoken(now.astimezone())
    found = zone_named(zone)
    if found is None:
        raise InvalidRequest(
            f"there is no time zone {zone!r}; use a name such as Europe/Paris, or its city"
        )
    return _spoken(now.astimezone(found))


def weekday(day: str, today: date) -> str:
    """Such as ``2024-02-29 is a Thursday``."""
    found = read_date(day, today)
    return f"{found.isoformat()} is a {calendar.day_name[found.weekday()]}"


def days_between(first: str, last: str, today: date) -> str:
    """How many days lie between two dates, negative when the last is the earlier one."""
    one, other = read_date(first, today), read_date(last, today)
    days = (other - one).days
    unit = "day" if abs(days) == 1 else "days"
    return f"{days} {unit} from {one.isoformat()} to {other.isoformat()}"


def shifted(start: str, duration: str, now: datetime) -> str:
    """A date and a duration such as ``3 weeks`` or ``-1 month 2 days``; with hours also a time."""
    amounts = read_duration(duration)
    begin = now if start == "now" else datetime.combine(
        read_date(start, now.date()), datetime.min.time(), tzinfo=UTC
    )  # fmt: skip
    try:
        moved = _add_months(begin, amounts["month"] + 12 * amounts["year"])
        moved += timedelta(
            days=amounts["day"], weeks=amounts["week"],
            hours=amounts["hour"], minutes=amounts["minute"],
        )  # fmt: skip
    except (OverflowError, ValueError):
        raise InvalidRequest("the calendar ends there: dates go from year 1 to 9999") from None
    timed = start == "now" or amounts["hour"] or amounts["minute"]
    name = calendar.day_name[moved.weekday()]
    return f"{name}, {moved:%Y-%m-%d %H:%M}" if timed else f"{name}, {moved.date().isoformat()}"


def read_date(text: str, today: date) -> date:
    """``2024-02-29``, ``today``, ``tomorrow`` or ``yesterday``. Raises `InvalidRequest`."""
    named = {"today": 0, "tomorrow": 1, "yesterday": -1, "now": 0}.get(text.strip().lower())
    if named is not None:
        return today + timedelta(days=named)
    try:
        if not re.fullmatch(_DATE, text.strip()):
            raise ValueError("it has another form")
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(
            f"{text!r} is no date: {error}; write it as 2024-02-29, or today, tomorrow, yesterday"
        ) from None


def read_duration(text: str) -> dict[str, int]:
    """Amounts by unit. Raises `InvalidRequest` when something of the text is none."""
    amounts = dict.fromkeys(("day", "week", "month", "year", "hour", "minute"), 0)
    rest = _AMOUNT.sub("", text.lower())
    if not re.fullmatch(r"[\s,]*(?:and[\s,]*)*", rest) or not _AMOUNT.search(text.lower()):
        raise InvalidRequest(f"{text!r} is no duration; write it as 3 weeks, or 1 month and 2 days")
    for number, unit in _AMOUNT.findall(text.lower()):
        amounts[unit] += int(number)
    return amounts


def _add_months(begin: datetime, months: int) -> datetime:
    """The same day of another month, or its last day where that month has none such."""
    index = begin.year * 12 + begin.month - 1 + months
    year, month = index // 12, index % 12 + 1
    if not 1 <= year <= 9999:
        raise OverflowError("no such year")
    return begin.replace(
        year=year, month=month, day=min(begin.day, calendar.monthrange(year, month)[1])
    )


def _spoken(moment: datetime) -> str:
    offset = moment.strftime("%z")
    name = moment.tzname() or ""
    return (
        f"{calendar.day_name[moment.weekday()]}, {moment:%Y-%m-%d %H:%M:%S} "
        f"{name} (UTC{offset[:3]}:{offset[3:5]})"
    )
