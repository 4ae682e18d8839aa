"""What every transport promises, see `protocol.ports`, run on every implementation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from protocol.blobs import Loaded, load
from protocol.errors import ActorDied, Overloaded
from protocol.ports import Link, Listener, Peer, Transport
from tests.support.sides import BURST_S, Pair, Side, numbered, round_trip
from tests.support.wirings import ALL_WIRINGS, BOUND_S, Wiring


@pytest.fixture(params=ALL_WIRINGS)
def wiring(request: pytest.FixtureRequest) -> Iterator[Wiring]:
    """Every transport there is, and not only those over which actors speak."""
    wiring = ALL_WIRINGS[request.param]()
    yield wiring
    wiring.close()
    assert not wiring.complaints


# --- frames ---------------------------------------------------------------------------------


async def test_frames_arrive_in_order_and_whole_both_ways(wiring: Wiring) -> None:
    pair = Pair(wiring)
    for frame in numbered(1000):
        pair.link.send(frame)
    await pair.server.has(1000)
    assert pair.server.frames == numbered(1000)
    (peer,) = set(pair.server.peers)
    for frame in numbered(1000, "back"):
        pair.listener.send(peer, frame)
    await pair.client.has(1000)
    assert pair.client.frames == numbered(1000, "back")


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
async def test_a_frame_may_have_any_bytes_and_any_size(wiring: Wiring, size: int) -> None:
    pair = Pair(wiring)
    frame = bytes(range(256)) * (size // 256) + b"\x00" * (size % 256)
    pair.link.send(frame)
    await pair.server.has(1)
    pair.listener.send(pair.server.peers[0], frame)
    await pair.client.has(1)
    assert pair.server.frames == pair.client.frames == [frame]


async def test_blobs_travel_beside_their_frame_and_keep_its_place(wiring: Wiring) -> None:
    pair = Pair(wiring)
    blobs = [b"a" * 100_000, b"", b"b" * (1 << 20)]
    sent: list[bytes] = []
    for number in range(50):
        sent += [b"%d" % number, load(b"loaded %d" % number, [memoryview(b) for b in blobs])]

    def check(came: list[bytes]) -> None:
        assert came == sent
        for frame in came:
            got = [bytes(blob) for blob in frame.blobs] if isinstance(frame, Loaded) else []
            assert got == (blobs if frame.startswith(b"loaded") else [])

    for frame in sent:
        pair.link.send(frame)
    await pair.server.has(len(sent))
    check(pair.server.frames)
    for frame in sent:
        pair.listener.send(pair.server.peers[0], frame)
    await pair.client.has(len(sent))
    check(pair.client.frames)


async def test_each_link_is_a_peer_of_its_own_and_gets_its_own_answers(wiring: Wiring) -> None:
    pair = Pair(wiring)
    sides = [Side() for _ in range(5)]
    links = [pair.connect(side) for side in sides]
    for number, link in enumerate(links):
        link.send(b"%d" % number)
    await pair.server.has(5)
    assert len(set(pair.server.peers)) == 5
    for peer, frame in zip(pair.server.peers, pair.server.frames, strict=True):
        pair.listener.send(peer, b"to " + frame)
    for number, side in enumerate(sides):
        await side.has(1)
        assert side.frames == [b"to %d" % number]


async def test_an_answer_sent_from_within_the_callback_is_not_left_lying(wiring: Wiring) -> None:
    # A send may swallow the wake-up of what comes in meanwhile.
    total, sent = 2000, 0
    pair = Pair(wiring)

    def echo(peer: Peer, frame: bytes) -> None:
        other.send(peer, frame)

    other = pair.listening.listen(wiring.endpoint("echo"), echo)

    def again(frame: bytes) -> None:
        nonlocal sent
        pair.client.on_frame(frame)
        if sent < total:
            sent += 1
            link.send(b"%d" % sent)

    link = pair.connecting.connect(other.endpoint, again, pair.client.on_lost)
    for _ in range(10):
        sent += 1
        link.send(b"%d" % sent)
    await pair.client.has(total, BURST_S)
    assert pair.client.frames == [b"%d" % number for number in range(1, total + 1)]


async def test_frames_sent_before_anybody_listens_arrive_or_the_loss_is_told(
    wiring: Wiring,
) -> None:
    side, server = Side(), Side()
    listening, connecting = wiring.transport(), wiring.transport()
    link = connecting.connect(wiring.endpoint("late"), side.on_frame, side.on_lost)
    for frame in numbered(10):
        link.send(frame)
    listening.listen(wiring.endpoint("late"), server.on_peer_frame)
    arrived = asyncio.ensure_future(server.has(10))
    lost = asyncio.ensure_future(side.is_cut_off())
    await asyncio.wait([arrived, lost], return_when=asyncio.FIRST_COMPLETED)
    if side.lost:
        arrived.cancel()
        assert server.frames == []
        with pytest.raises(ActorDied):
            link.send(b"more")
    else:
        lost.cancel()
        assert server.frames == numbered(10)


# --- loss -----------------------------------------------------------------------------------


async def test_that_nobody_listens_is_told_once_with_a_reason(wiring: Wiring) -> None:
    side = Side()
    link = wiring.transport().connect(wiring.endpoint("nobody"), side.on_frame, side.on_lost)
    await side.is_cut_off()
    await round_trip(wiring)
    assert len(side.lost) == 1
    assert side.lost[0]
    with pytest.raises(ActorDied):
        link.send(b"x")


async def test_every_link_is_told_once_that_its_listener_closed(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    sides = [Side() for _ in range(3)]
    links = [pair.connect(side) for side in sides]
    for link in links:
        link.send(b"x")
    await pair.server.has(4)
    pair.listener.close()
    for side, link in zip([pair.client, *sides], [pair.link, *links], strict=True):
        await side.is_cut_off()
        with pytest.raises(ActorDied):
            link.send(b"x")
    await round_trip(wiring)
    for side in [pair.client, *sides]:
        assert len(side.lost) == 1
        assert side.lost[0]


async def test_a_link_learns_that_the_other_side_s_transport_was_closed(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    pair.listening.close()
    await pair.client.is_cut_off()


async def test_what_a_listener_had_sent_arrives_before_its_loss_is_told(wiring: Wiring) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    for frame in numbered(500):
        pair.listener.send(peer, frame)
    pair.listener.close()
    await pair.client.is_cut_off()
    assert pair.client.frames == numbered(500)


async def test_what_was_sent_before_a_link_was_closed_arrives(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    for frame in numbered(500):
        pair.link.send(frame)
    pair.link.close()
    await pair.server.has(501)
    assert pair.server.frames[1:] == numbered(500)


async def test_sending_to_a_peer_that_went_away_raises(wiring: Wiring) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    pair.link.close()

    async def until_refused() -> None:
        while True:
            pair.listener.send(peer, b"are you there?")
            await round_trip(wiring)

    with pytest.raises(ActorDied):
        await asyncio.wait_for(until_refused(), BOUND_S)


async def test_sending_to_a_peer_that_never_was_raises(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    with pytest.raises(ActorDied):
        pair.listener.send(b"never was", b"x")


async def test_a_peer_that_went_away_harms_no_other(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    side = Side()
    other = pair.connect(side)
    other.send(b"other")
    await pair.server.has(2)
    pair.link.close()
    await round_trip(wiring)
    pair.listener.send(pair.server.peers[1], b"still")
    await side.has(1)
    assert side.lost == []


# --- closing --------------------------------------------------------------------------------


async def test_a_closed_link_raises_and_is_not_told_of_a_loss(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    pair.link.close()
    with pytest.raises(ActorDied):
        pair.link.send(b"x")
    pair.listener.close()
    await round_trip(wiring)
    assert pair.client.lost == []


async def test_a_closed_link_hears_nothing_more(wiring: Wiring) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    pair.listener.send(peer, b"under way")
    pair.link.close()
    await round_trip(wiring)
    assert pair.client.frames == []


async def test_a_closed_listener_raises_and_hears_nothing_more(wiring: Wiring) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    pair.link.send(b"under way")
    pair.listener.close()
    with pytest.raises(ActorDied):
        pair.listener.send(peer, b"x")
    await round_trip(wiring)
    assert pair.server.frames == [b"hello"]


async def test_closing_twice_is_closing_once(wiring: Wiring) -> None:
    pair = Pair(wiring)
    await pair.meet()
    closers: list[Link | Listener | Transport] = [
        pair.link, pair.listener, pair.connecting, pair.listening,
    ]  # fmt: skip
    for one in closers:
        one.close()
        one.close()
    for one in closers:
        one.close()
    assert pair.client.lost == []


async def test_a_callback_may_close_its_own_side(wiring: Wiring) -> None:
    pair = Pair(wiring)
    heard: list[bytes] = []

    def close_listener(peer: Peer, frame: bytes) -> None:
        heard.append(frame)
        listener.send(peer, b"first")
        listener.send(peer, b"second")
        listener.close()

    def close_link(frame: bytes) -> None:
        heard.append(frame)
        closed.set()
        link.close()

    closed = asyncio.Event()
    listener = pair.listening.listen(wiring.endpoint("brief"), close_listener)
    link = pair.connecting.connect(listener.endpoint, close_link, pair.client.on_lost)
    link.send(b"one")
    link.send(b"two")
    await asyncio.wait_for(closed.wait(), BOUND_S)
    await round_trip(wiring)
    assert heard == [b"one", b"first"]
    assert pair.client.lost == []


# --- callbacks that raise -------------------------------------------------------------------


async def test_a_callback_that_raises_keeps_no_later_frame_from_coming(wiring: Wiring) -> None:
    pair = Pair(wiring)

    def broken(note: Callable[[], None], frame: bytes) -> None:
        note()
        if frame in {b"0", b"5"}:
            raise ValueError("a defect")

    listener = pair.listening.listen(
        wiring.endpoint("broken"),
        lambda peer, frame: broken(lambda: pair.server.on_peer_frame(peer, frame), frame),
    )
    link = pair.connecting.connect(
        listener.endpoint,
        lambda frame: broken(lambda: pair.client.on_frame(frame), frame),
        pair.client.on_lost,
    )
    for frame in numbered(10):
        link.send(frame)
    await pair.server.has(10)
    for frame in numbered(10):
        listener.send(pair.server.peers[0], frame)
    await pair.client.has(10)
    assert pair.server.frames == pair.client.frames == numbered(10)
    assert [str(one["exception"]) for one in wiring.complaints] == ["a defect"] * 4
    wiring.complaints.clear()


async def test_a_callback_that_raises_on_the_last_frames_hides_neither_them_nor_the_loss(
    wiring: Wiring,
) -> None:
    pair = Pair(wiring)

    side = Side()

    def broken(frame: bytes) -> None:
        side.on_frame(frame)
        raise ValueError("a defect")

    link = pair.connecting.connect(pair.endpoint, broken, side.on_lost)
    link.send(b"here")
    await pair.server.has(1)
    # One turn of the loop: the frames and the loss are there at the same time.
    for frame in numbered(5):
        pair.listener.send(pair.server.peers[0], frame)
    pair.listener.close()
    await side.is_cut_off()
    assert side.frames == numbered(5)
    assert len(side.lost) == 1
    with pytest.raises(ActorDied):
        link.send(b"x")
    assert [str(one["exception"]) for one in wiring.complaints] == ["a defect"] * 5
    wiring.complaints.clear()


# --- many frames ----------------------------------------------------------------------------


async def test_of_a_burst_from_several_links_nothing_is_lost_but_what_was_refused(
    wiring: Wiring,
) -> None:
    pair = Pair(wiring)
    links = [pair.connect(Side()) for _ in range(5)]
    accepted: dict[Peer, list[bytes]] = {}
    for number, link in enumerate(links):
        name = b"link%d:" % number
        accepted[name] = []
        for count in range(10_000):
            frame = name + b"%d" % count
            try:
                link.send(frame)
            except Overloaded:
                continue
            accepted[name].append(frame)
    total = sum(map(len, accepted.values()))
    await pair.server.has(total, BURST_S)
    await round_trip(wiring)
    arrived = pair.server.by_peer()
    assert {frames[0].split(b":")[0] + b":": frames for frames in arrived.values()} == accepted
    assert len(arrived) == 5


def fill(send: Callable[[bytes], None]) -> list[bytes]:
    """Send until the queue is full, in one turn of the loop: nobody can read meanwhile."""
    accepted: list[bytes] = []

    def send_until_refused() -> None:
        while len(accepted) < 2_000_000:
            frame = b"%d" % len(accepted)
            send(frame)
            accepted.append(frame)

    with pytest.raises(Overloaded) as caught:
        send_until_refused()
    assert caught.value.details["retry_after_s"] > 0
    return accepted


async def test_a_listener_that_reads_too_slowly_gets_overloaded_and_not_loss(
    wiring: Wiring,
) -> None:
    pair = Pair(wiring)
    await pair.meet()
    accepted = fill(pair.link.send)
    await pair.server.has(1 + len(accepted), BURST_S)
    assert pair.server.frames[1:] == accepted
    # There is room again.
    pair.link.send(b"more")
    await pair.server.until(lambda: pair.server.frames[-1] == b"more")


async def test_a_link_that_reads_too_slowly_gets_overloaded_and_not_loss(wiring: Wiring) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    accepted = fill(lambda frame: pair.listener.send(peer, frame))
    await pair.client.has(len(accepted), BURST_S)
    assert pair.client.frames == accepted
    pair.listener.send(peer, b"more")
    await pair.client.until(lambda: pair.client.frames[-1] == b"more")


async def test_what_is_sent_while_a_slow_link_catches_up_overtakes_nothing(
    wiring: Wiring,
) -> None:
    pair = Pair(wiring)
    peer = await pair.meet()
    accepted = fill(lambda frame: pair.listener.send(peer, frame))
    while len(pair.client.frames) < len(accepted):
        before = len(pair.client.frames)
        frame = b"later %d" % before
        with contextlib.suppress(Overloaded):
            pair.listener.send(peer, frame)
            accepted.append(frame)
        await pair.client.has(before + 1)
    assert pair.client.frames == accepted


async def test_a_slow_peer_takes_nothing_from_another(wiring: Wiring) -> None:
    pair = Pair(wiring)
    slow = await pair.meet()
    side = Side()
    link = pair.connect(side)
    link.send(b"quick")
    await pair.server.has(2)
    accepted = fill(lambda frame: pair.listener.send(slow, frame))
    pair.listener.send(pair.server.peers[1], b"at once")
    await side.has(1)
    await pair.client.has(len(accepted), BURST_S)
    assert pair.client.frames == accepted
