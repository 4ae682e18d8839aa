"""The plan of a file: nothing is fetched that is there, and nothing twice."""

from hypothesis import given
from hypothesis import strategies as st

from actors.storage.digests import digest_of
from actors.storage.manifest import Chunk, Patch
from actors.storage.plan import Found, Plan, choose_patch, make_plan


def chunks_of(data: list[bytes]) -> list[Chunk]:
    """A chunk for each of the pieces, one behind the other."""
    chunks, offset = [], 0
    for piece in data:
        chunks.append(Chunk(offset=offset, size=len(piece), hash=digest_of(piece, "blake3")))
        offset += len(piece)
    return chunks


def carried_out(plan: Plan, new: list[bytes], partial: bytes, places: list[bytes]) -> bytes:
    """The file that comes of the plan, by the plainest reading of its words."""
    whole = b"".join(new)
    made = bytearray(len(whole))
    for kept in plan.kept:
        end = kept.offset + kept.size
        made[kept.offset : end] = partial[kept.offset : end]
    for copy in plan.copied:
        place = places[copy.found.place]
        end = copy.chunk.offset + copy.chunk.size
        made[copy.chunk.offset : end] = place[
            copy.found.offset : copy.found.offset + copy.chunk.size
        ]
    for stretch in plan.fetched:
        end = stretch.offset + stretch.size
        made[stretch.offset : end] = whole[stretch.offset : end]
    for repeat in plan.repeated:
        end = repeat.chunk.offset + repeat.chunk.size
        made[repeat.chunk.offset : end] = made[repeat.offset : repeat.offset + repeat.chunk.size]
    return bytes(made)


def test_with_nothing_there_all_is_fetched_in_as_few_requests_as_may_be() -> None:
    plan = make_plan(chunks_of([b"aaaa", b"bb", b"c"]), set(), {})
    assert [(stretch.offset, stretch.size) for stretch in plan.fetched] == [(0, 7)]
    assert (plan.fetched_bytes, plan.fetched_chunks, plan.local_bytes) == (7, 3, 0)


def test_with_all_in_place_nothing_is_done() -> None:
    chunks = chunks_of([b"aaaa", b"bb"])
    assert make_plan(chunks, {0, 1}, {}) == Plan(tuple(chunks), (), (), ())


def test_one_damaged_chunk_is_all_that_is_fetched() -> None:
    chunks = chunks_of([b"aaaa", b"bb", b"c"])
    found = {chunks[0].hash: Found(0, 0), chunks[2].hash: Found(0, 6)}
    plan = make_plan(chunks, set(), found)
    assert [stretch.chunks for stretch in plan.fetched] == [(chunks[1],)]
    assert plan.local_bytes == 5


def test_the_same_bytes_are_fetched_once() -> None:
    chunks = chunks_of([b"aaaa", b"bb", b"aaaa", b"aaaa"])
    plan = make_plan(chunks, set(), {})
    assert plan.fetched_bytes == 6
    assert [(repeat.chunk, repeat.offset) for repeat in plan.repeated] == [
        (chunks[2], 0),
        (chunks[3], 0),
    ]


def test_bytes_that_lie_right_already_are_repeated_before_they_are_fetched() -> None:
    chunks = chunks_of([b"aaaa", b"aaaa"])
    plan = make_plan(chunks, {1}, {})
    assert plan.fetched == ()
    assert [(repeat.chunk.offset, repeat.offset) for repeat in plan.repeated] == [(0, 4)]


def test_neighbours_are_one_request_up_to_a_size_and_a_larger_chunk_is_its_own() -> None:
    chunks = chunks_of([b"aaaa", b"bbbb", b"cccccccccc", b"d"])
    plan = make_plan(chunks, set(), {}, most_stretch_bytes=8)
    assert [stretch.size for stretch in plan.fetched] == [8, 10, 1]


@given(st.data())
def test_whatever_is_there_the_plan_makes_the_file_and_fetches_no_hash_twice(
    data: st.DataObject,
) -> None:
    pieces = st.lists(st.sampled_from([b"aaaa", b"bb", b"c", b"ddd", b"ee"]), max_size=12)
    new, old = data.draw(pieces), data.draw(pieces)
    chunks = chunks_of(new)
    in_place = data.draw(st.sets(st.integers(0, max(0, len(new) - 1)), max_size=len(new)))
    in_place = {index for index in in_place if index < len(new)}
    there = {chunk.hash: Found(0, chunk.offset) for chunk in chunks_of(old)}
    plan = make_plan(chunks, in_place, there, data.draw(st.integers(1, 20)))
    whole = b"".join(new)
    partial = bytearray(len(whole))
    for index in in_place:
        chunk = chunks[index]
        end = chunk.offset + chunk.size
        partial[chunk.offset : end] = whole[chunk.offset : end]
    assert carried_out(plan, new, bytes(partial), [b"".join(old)]) == whole
    fetched = [chunk.hash for stretch in plan.fetched for chunk in stretch.chunks]
    assert len(fetched) == len(set(fetched))
    assert not set(fetched) & there.keys()


def test_of_the_patches_for_a_version_that_is_here_the_smallest_is_taken_if_it_saves_anything() -> (
    None
):
    old, older, other = (digest_of(version, "sha256") for version in (b"old", b"older", b"other"))
    patches = [
        Patch(method="zstd", **{"from": from_hash}, hash=digest_of(b"patch", "sha256"), size=size)
        for from_hash, size in ((old, 30), (older, 20), (other, 10))
    ]
    assert choose_patch(patches, {old, older}, fetched_bytes=100) == patches[1]
    assert choose_patch(patches, {old}, fetched_bytes=100) == patches[0]
    assert choose_patch(patches, {old}, fetched_bytes=30) is None
    assert choose_patch(patches, set(), fetched_bytes=100) is None
    assert choose_patch([], {old}, fetched_bytes=100) is None
