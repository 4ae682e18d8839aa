"""Which heartbeats are sent: those that say something new, and one now and then."""

from __future__ import annotations

from actors.kernel.news import LATE_MS, QUIET_BEATS, News
from protocol.lifecycle import ActorState
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Activity, Heartbeat

CALM = Heartbeat(state=ActorState.READY)


def late(ms: float) -> Heartbeat:
    return Heartbeat(state=ActorState.READY, counters=Counters(loop_lag_ms=ms))


def test_the_first_is_sent_and_then_one_of_so_many_while_nothing_changes() -> None:
    news = News()
    sent = [news.wants(CALM) for _ in range(2 * (QUIET_BEATS + 1) + 1)]
    between = [False] * QUIET_BEATS
    assert sent == [True, *between, True, *between, True]


def test_whatever_changes_is_sent_at_once() -> None:
    changed = [
        Heartbeat(state=ActorState.DRAINING),
        Heartbeat(state=ActorState.READY, reason="no disk"),
        Heartbeat(state=ActorState.READY, activity=Activity(what="generating")),
        Heartbeat(state=ActorState.READY, counters=Counters(handled=1)),
        Heartbeat(state=ActorState.READY, counters=Counters(waiting=1)),
        Heartbeat(state=ActorState.READY, info={"model": "other"}),
        Heartbeat(state=ActorState.READY, unanswered={"boot-1": 1}),
    ]
    for heartbeat in changed:
        news = News()
        assert news.wants(CALM)
        assert not news.wants(CALM)
        assert news.wants(heartbeat), heartbeat
        assert not news.wants(heartbeat)


def test_a_little_late_is_no_news_and_much_is_until_it_is_over() -> None:
    news = News()
    assert news.wants(late(1))
    assert not news.wants(late(LATE_MS))
    assert news.wants(late(LATE_MS + 1))
    assert news.wants(late(LATE_MS + 1))
    assert news.wants(late(2))
    assert not news.wants(late(3))
