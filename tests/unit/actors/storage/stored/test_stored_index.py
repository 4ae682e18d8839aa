"""The index of stored files: of each name the highest revision, in pages that miss nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.storage.stored.entries import StoredFile
from actors.storage.stored.index import Index

HEX = "blake3-" + "0" * 64


def file(name: str, revision: int = 1, size: int = 10, expires_at: int = 0) -> StoredFile:
    return StoredFile("o", name, revision, expires_at, size, HEX)


def index(*files: StoredFile) -> Index:
    made = Index()
    for one in files:
        made.put(one)
    return made


def test_the_highest_revision_counts_in_whatever_order_they_are_found() -> None:
    old, new = file("a", 1, size=10), file("a", 2, size=25)
    for order in ((old, new), (new, old)):
        found = Index()
        assert found.put(order[0]) is None
        assert found.put(order[1]) == old
        assert found.find("o", "a", 0) == new
        assert (found.of("o").bytes, found.of("o").sizes) == (25, {"a": 25})


def test_what_is_dropped_counts_no_more() -> None:
    found = index(file("a"), file("b", size=5))
    found.of("o").drop(file("a"))
    assert (found.find("o", "a", 0), found.of("o").bytes, len(found.of("o"))) == (None, 5, 1)


def test_what_has_expired_is_not_there_but_still_counts_until_it_is_removed() -> None:
    found = index(file("a", expires_at=100), file("b"))
    assert found.find("o", "a", 99.9) is not None
    assert found.find("o", "a", 100) is None
    assert found.of("o").page("", "", 10, 100) == ([file("b")], False)
    assert found.expired(100) == found.expired(100, "o") == [file("a", expires_at=100)]
    assert found.expired(99) == found.expired(100, "p") == []
    assert found.of("o").bytes == 20


def test_an_owner_without_files_has_an_empty_shelf_that_nobody_keeps() -> None:
    found = Index()
    assert found.of("nobody").page("", "", 10, 0) == ([], False)
    assert found.owners == []


def test_older_revisions_that_could_not_be_removed_are_remembered() -> None:
    shelf = index(file("a", 3)).of("o")
    shelf.keep_stale(file("a", 1))
    shelf.keep_stale(file("a", 2))
    assert shelf.stale("a") == [file("a", 1), file("a", 2)]
    shelf.drop_stale(file("a", 1))
    assert shelf.all_stale() == [file("a", 2)]
    shelf.drop_stale(file("a", 2))
    assert shelf.stale("a") == shelf.all_stale() == []


@given(
    st.sets(st.text("ab/", min_size=1, max_size=5)),
    st.text("ab/", max_size=3),
    st.text("ab/", max_size=3),
    st.integers(1, 4),
    st.sets(st.text("ab/", min_size=1, max_size=5)),
)
def test_pages_one_behind_the_other_are_all_names_with_the_prefix(
    names: set[str], prefix: str, after: str, limit: int, gone: set[str]
) -> None:
    shelf = index(*(file(name, expires_at=5 if name in gone else 0) for name in names)).of("o")
    wanted = [n for n in sorted(names - gone) if n.startswith(prefix) and n > after]
    found: list[str] = []
    more = True
    while more:
        page, more = shelf.page(prefix, after, limit, 10)
        assert len(page) == limit or not more
        found += [one.name for one in page]
        after = found[-1] if found else after
    assert found == wanted
