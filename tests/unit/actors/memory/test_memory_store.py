"""The database of memory: what was acknowledged is there, once, in order."""

from __future__ import annotations

import signal
from pathlib import Path

import apsw
import pytest

from actors.memory.schema import VERSION
from actors.memory.store import KEYS_KEPT_S, SWEEP_EVERY, Reply, Request, Store, TurnRow
from protocol.errors import ActorUnavailable, InvalidRequest, NotFound, SetupError
from tests.support.scripts import start_python

MODEL = "model"
VECTOR = b"\0" * 8
NOW = 1_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "memory.db"


def request(key: str, digest: bytes = b"d", now: float = NOW) -> Request:
    return Request(key, digest, now)


def add(store: Store, text: str, key: str = "", model: str = MODEL) -> str:
    reply, _ = store.add_memory(request(key or text), text, "test", model, VECTOR, {})
    return str(reply["id"])


def turns(*contents: str, role: str = "user") -> list[TurnRow]:
    return [TurnRow(role, content, "{}") for content in contents]


def contents(store: Store, conversation: str, last: int = 1000) -> list[tuple[int, str]]:
    return [(t.number, t.content) for t in store.conversation(conversation, last)[1]]


# --- the file -------------------------------------------------------------------------------


def test_what_was_stored_is_there_when_the_file_is_opened_again(path: Path) -> None:
    store = Store(path, NOW)
    identity = add(store, "tea")
    conversation = store.append(request("k"), "", turns("hello"))["conversation"]
    store.close()
    again = Store(path, NOW)
    assert [(m.id, m.text, m.source, m.created_at) for m in again.memories(0, 9)[0]] == [
        (identity, "tea", "test", NOW)
    ]
    assert contents(again, conversation) == [(0, "hello")]


def test_every_commit_waits_for_the_disk_and_the_file_is_its_owners_alone(path: Path) -> None:
    store = Store(path, NOW)
    assert store.one("PRAGMA journal_mode") == ("wal",)
    assert store.one("PRAGMA synchronous") == (2,)
    assert path.stat().st_mode & 0o777 == 0o600
    add(store, "secret")
    assert path.with_name("memory.db-wal").stat().st_mode & 0o777 == 0o600


def test_a_file_of_a_newer_noyau_is_refused_and_left_as_it_is(path: Path) -> None:
    store = Store(path, NOW)
    add(store, "tea")
    store.db.execute(f"PRAGMA user_version={VERSION + 1}")
    store.close()
    before = path.read_bytes()
    with pytest.raises(SetupError, match="newer noyau") as caught:
        Store(path, NOW)
    assert str(path) in caught.value.message
    assert path.read_bytes() == before


def test_a_damaged_file_is_refused_with_its_name_and_a_remedy_and_left_as_it_is(
    path: Path,
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1000)
    before = path.read_bytes()
    with pytest.raises(SetupError, match="is damaged") as caught:
        Store(path, NOW)
    assert str(path) in caught.value.message
    assert "backup" in caught.value.message
    assert path.read_bytes() == before


def test_damage_inside_of_the_file_is_told_when_it_is_met(path: Path) -> None:
    store = Store(path, NOW)
    for number in range(50):
        add(store, f"text {number} " + "x" * 1000)
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 100] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(SetupError, match="is damaged"):
        Store(path, NOW).memories(0, 100)
    assert path.read_bytes() == bytes(data)


def test_somebody_elses_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    apsw.Connection(str(path)).execute("CREATE TABLE theirs (a)")
    with pytest.raises(SetupError, match="not of noyau's memory"):
        Store(path, NOW)


def test_a_place_that_cannot_be_written_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where a folder should be")
    with pytest.raises(ActorUnavailable, match=r"data/memory\.db cannot be used"):
        Store(tmp_path / "data" / "memory.db", NOW)


WRITER = """
import sys
from pathlib import Path
from actors.memory.store import Request, Store, TurnRow
store, conversation = Store(Path(sys.argv[1]), 0.0), ""
for n in range(100_000):
    turn = TurnRow("user", str(n), "{}")
    reply = store.append(Request(f"t{n}", b"", 0.0), conversation, [turn])
    conversation = reply["conversation"]
    store.add_memory(Request(f"m{n}", b"", 0.0), str(n), "", "m", b"1234", {})
    print(n, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_that_it_acknowledged(path: Path) -> None:
    with start_python(WRITER, path) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(100)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
    acknowledged = max(int(line) for line in said if line.endswith("\n"))
    store = Store(path, NOW)
    (conversation,), _ = store.conversations(0, 10)
    stored = contents(store, conversation.id, 100_000)
    assert stored == [(n, str(n)) for n in range(conversation.turns)]
    assert conversation.turns > acknowledged
    rows, total = store.memories(0, 100_000)
    assert [m.text for m in reversed(rows)] == [str(n) for n in range(total)]
    assert total > acknowledged
    assert store.numbers("m") == [m.number for m in reversed(rows)]


# --- once -----------------------------------------------------------------------------------


def test_a_request_sent_again_is_answered_as_before_and_done_once(path: Path) -> None:
    store = Store(path, NOW)
    first = store.append(request("k"), "", turns("hello"))
    assert store.append(request("k"), "", turns("hello")) == first
    assert contents(store, first["conversation"]) == [(0, "hello")]
    identity = add(store, "tea", "other")
    assert add(store, "tea", "other") == identity
    assert store.count_memories() == 1


def test_a_request_is_known_in_the_next_life_too(path: Path) -> None:
    store = Store(path, NOW)
    first = store.append(request("k"), "", turns("hello"))
    store.close()
    assert Store(path, NOW).append(request("k"), "", turns("hello")) == first


def test_a_key_that_was_used_for_something_else_is_refused(path: Path) -> None:
    store = Store(path, NOW)
    store.append(request("k", b"one"), "", turns("hello"))
    with pytest.raises(InvalidRequest, match="used for another request"):
        store.append(request("k", b"two"), "", turns("goodbye"))
    assert store.conversations(0, 9)[1] == 1


def test_a_change_that_fails_leaves_neither_an_effect_nor_its_key(path: Path) -> None:
    store = Store(path, NOW)

    def half() -> Reply:
        store._begin(NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.once(request("k"), half)
    assert store.conversations(0, 9)[1] == 0
    assert store.recorded(request("k")) is None
    add(store, "the next one works")


def test_keys_are_forgotten_after_a_day(path: Path) -> None:
    store = Store(path, NOW)
    store.append(request("old"), "", turns("a"))
    store.append(request("young", now=NOW + KEYS_KEPT_S), "", turns("b"))
    store.close()
    later = Store(path, NOW + KEYS_KEPT_S + 1)
    assert later.recorded(request("old")) is None
    assert later.recorded(request("young")) is not None


def test_old_keys_go_while_it_runs_too(path: Path) -> None:
    store = Store(path, NOW)
    store.db.execute("PRAGMA synchronous=OFF")
    store.once(request("old"), dict)
    for number in range(SWEEP_EVERY):
        store.once(request(str(number), now=NOW + KEYS_KEPT_S + 1), dict)
    assert store.recorded(request("old")) is None
    assert store.recorded(request("0")) is not None


# --- memories -------------------------------------------------------------------------------


def test_memories_come_in_pages_the_newest_first(path: Path) -> None:
    store = Store(path, NOW)
    for text in "abcde":
        add(store, text)
    assert [m.text for m in store.memories(1, 3)[0]] == ["d", "c", "b"]
    assert store.memories(9, 3) == ([], 5)


def test_what_is_forgotten_is_gone_with_its_vector_and_from_the_file(path: Path) -> None:
    store = Store(path, NOW)
    kept, gone = add(store, "kept"), add(store, "a very private matter", "k")
    reply, numbers = store.forget_memories(request("f"), [gone, "unknown"])
    assert reply == {"count": 1}
    assert [m.id for m in store.memories(0, 9)[0]] == [kept]
    assert len(store.numbers(MODEL)) == 1
    assert store.forget_memories(request("f"), [gone, "unknown"]) == (reply, [])
    store.close()
    assert b"very private" not in path.read_bytes()
    assert numbers


def test_a_number_is_never_given_twice(path: Path) -> None:
    store = Store(path, NOW)
    identity = add(store, "a")
    (number,) = store.numbers(MODEL)
    store.forget_memories(request("f"), [identity])
    add(store, "b")
    assert store.numbers(MODEL) != [number]


@pytest.mark.parametrize("text", ["a\0b", "\0", "'; DROP TABLE memories; --", "😀é漢字", "\r\n"])
def test_text_is_kept_as_it_is(path: Path, text: str) -> None:
    store = Store(path, NOW)
    add(store, text)
    assert store.memories(0, 1)[0][0].text == text
    conversation = store.append(request("k"), "", turns(text))["conversation"]
    assert contents(store, conversation) == [(0, text)]


def test_vectors_of_another_model_are_apart(path: Path) -> None:
    store = Store(path, NOW)
    add(store, "a", model="old")
    add(store, "b", model="new")
    assert len(store.vectors("old")[0]) == len(store.vectors("new")[0]) == 1
    ((number, text),) = store.without_vector("new", 10)
    assert text == "a"
    assert store.add_vectors("new", [(number, VECTOR), (number + 1000, VECTOR)]) == [number]
    assert store.without_vector("new", 10) == []
    store.drop_other_vectors("new")
    assert store.vectors("old") == ([], b"")
    assert store.vectors("new")[1] == VECTOR * 2


# --- conversations --------------------------------------------------------------------------


def test_turns_are_numbered_from_zero_without_gaps_whoever_writes(path: Path) -> None:
    store, other = Store(path, NOW), Store(path, NOW)
    conversation = store.append(request("0"), "", turns("0"))["conversation"]
    for number in range(1, 9, 2):
        reply = other.append(request(str(number)), conversation, turns(str(number)))
        assert reply["numbers"] == [number]
        store.append(request(str(number + 1)), conversation, turns(str(number + 1)))
    assert contents(store, conversation) == [(n, str(n)) for n in range(9)]
    assert contents(store, conversation, last=2) == [(7, "7"), (8, "8")]


def test_the_title_is_the_first_turn_of_the_user_whenever_that_comes(path: Path) -> None:
    store = Store(path, NOW)
    said = store.append(request("a"), "", turns("be brief", role="system"))
    store.append(request("b"), said["conversation"], turns("Why?", "How?"))
    store.append(request("c"), said["conversation"], turns("When?"))
    assert store.conversation(said["conversation"], 1)[0].title == "Why?"


def test_conversations_are_listed_with_the_one_that_went_on_last_first(path: Path) -> None:
    store = Store(path, NOW)
    first, second = (
        store.append(request(k, now=NOW + n), "", turns(k))["conversation"]
        for n, k in enumerate("ab")
    )
    store.append(request("c", now=NOW + 5), first, turns("more"))
    rows, total = store.conversations(0, 10)
    assert [(r.id, r.turns, r.updated_at - NOW) for r in rows] == [(first, 2, 5), (second, 1, 1)]
    assert total == 2


def test_an_unknown_conversation_is_not_found(path: Path) -> None:
    store = Store(path, NOW)
    for ask in (
        lambda: store.append(request("a"), "nobody", turns("x")),
        lambda: store.conversation("nobody", 1),
        lambda: store.forget_conversation(request("b"), "nobody"),
    ):
        with pytest.raises(NotFound, match="no conversation 'nobody'"):
            ask()


def test_a_forgotten_conversation_is_gone_with_its_turns(path: Path) -> None:
    store = Store(path, NOW)
    conversation = store.append(request("a"), "", turns("x", "y"))["conversation"]
    assert store.forget_conversation(request("f"), conversation) == {"count": 2}
    assert store.forget_conversation(request("f"), conversation) == {"count": 2}
    assert store.conversations(0, 10) == ([], 0)
    assert store.one("SELECT count(*) FROM turns") == (0,)


# --- what a key wrote -------------------------------------------------------------------------


def test_what_a_key_appended_is_found_whatever_came_behind_it(path: Path) -> None:
    store = Store(path, NOW)
    first = store.append(request("first"), "", turns("a", "b"))["conversation"]
    store.append(request("second"), first, turns("c"))
    found = store.appended("first")
    assert found is not None
    assert (found[0].id, [turn.content for turn in found[1]]) == (first, ["a", "b"])


def test_a_key_that_appended_nothing_that_is_there_finds_nothing(path: Path) -> None:
    store = Store(path, NOW)
    assert store.appended("unknown") is None
    add(store, "tea", key="a memory")
    assert store.appended("a memory") is None
    conversation = store.append(request("gone"), "", turns("a"))["conversation"]
    store.forget_conversation(request("forget"), conversation)
    assert store.appended("gone") is None
