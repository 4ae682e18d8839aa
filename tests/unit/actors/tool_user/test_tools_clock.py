"""What the clock answers, at a time that the test says."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from actors.tool_user.dates import days_between, shifted, time_now, weekday, zone_named
from actors.tool_user.tools.clock import clock, match
from protocol.errors import InvalidRequest

NOW = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
TODAY = date(2024, 2, 29)


def test_the_time_in_a_zone_says_how_far_it_is_from_utc() -> None:
    assert time_now(NOW, "Europe/Paris") == "Thursday, 2024-02-29 13:30:15 CET (UTC+01:00)"
    assert time_now(NOW, "kolkata") == "Thursday, 2024-02-29 18:00:15 IST (UTC+05:30)"


def test_a_city_of_two_words_has_its_zone() -> None:
    assert zone_named("new york") == zone_named("America/New_York")


@pytest.mark.parametrize("name", ["Atlantis", "", "../../etc/passwd", "a\0b", "/etc/localtime"])
def test_what_is_no_zone_is_none(name: str) -> None:
    assert zone_named(name) is None


def test_an_unknown_zone_is_an_error_that_shows_the_form() -> None:
    with pytest.raises(InvalidRequest, match="Europe/Paris"):
        time_now(NOW, "Atlantis")


def test_the_weekday_of_a_date_and_of_a_word_for_one() -> None:
    assert weekday("2000-01-01", TODAY) == "2000-01-01 is a Saturday"
    assert weekday("tomorrow", TODAY) == "2024-03-01 is a Friday"


def test_days_between_count_leap_days_and_go_backwards() -> None:
    assert days_between("2024-02-28", "2024-03-01", TODAY).startswith("2 days ")
    assert days_between("2024-03-01", "today", TODAY).startswith("-1 day ")


@pytest.mark.parametrize(
    ("start", "duration", "result"),
    [
        ("2024-01-31", "1 month", "Thursday, 2024-02-29"),
        ("2024-02-29", "1 year", "Friday, 2025-02-28"),
        ("2024-12-31", "1 month and 2 days", "Sunday, 2025-02-02"),
        ("2024-03-01", "-1 day", "Thursday, 2024-02-29"),
        ("today", "3 weeks", "Thursday, 2024-03-21"),
        ("2024-02-29", "36 hours", "Friday, 2024-03-01 12:00"),
        ("now", "90 minutes", "Thursday, 2024-02-29 14:00"),
    ],
)
def test_a_date_plus_a_duration(start: str, duration: str, result: str) -> None:
    assert shifted(start, duration, NOW) == result


@pytest.mark.parametrize("day", ["2023-02-29", "01/02/2024", "20240101", "2024-W01-1", "", "soon"])
def test_what_is_no_date_is_an_error(day: str) -> None:
    with pytest.raises(InvalidRequest, match="2024-02-29"):
        weekday(day, TODAY)


@pytest.mark.parametrize("duration", ["", "soon", "3 moons", "5", "3 weeks or so"])
def test_what_is_no_duration_is_an_error(duration: str) -> None:
    with pytest.raises(InvalidRequest, match="no duration"):
        shifted("today", duration, NOW)


@pytest.mark.parametrize("duration", ["9000 years", "-3000 years", "999999 weeks"])
def test_beyond_the_calendar_is_an_error(duration: str) -> None:
    with pytest.raises(InvalidRequest, match="calendar"):
        shifted("today", duration, NOW)


def test_plus_needs_a_duration() -> None:
    with pytest.raises(InvalidRequest, match="duration"):
        clock("plus")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("what time is it?", {"what": "now"}),
        ("What is the time in New York?", {"what": "now", "zone": "New York"}),
        ("what's the date", {"what": "now"}),
        ("how many days until 2030-01-01", {"what": "between", "day": "today",
                                            "until": "2030-01-01"}),
        ("what date is 1 month and 2 days after today?", {"what": "plus", "day": "today",
                                                          "duration": "1 month and 2 days"}),
    ],
)  # fmt: skip
def test_the_usual_questions_are_matched(text: str, arguments: dict[str, str]) -> None:
    assert match(text) == arguments


@pytest.mark.parametrize(
    "text",
    ["what time is it in Atlantis?", "what is time?", "time flies", "", "what day is my birthday"],
)
def test_what_only_speaks_of_time_is_not(text: str) -> None:
    assert match(text) is None
