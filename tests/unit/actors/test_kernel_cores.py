"""Which core each thread of a model keeps to."""

from __future__ import annotations

import pytest

from actors.kernel.cores import cores_to_keep


@pytest.mark.parametrize("usable", [{0}, {0, 1}, {2, 5, 7}])
def test_as_many_threads_as_cores_have_one_each(usable: set[int]) -> None:
    assert cores_to_keep(len(usable), usable, 512) == sorted(usable)


@pytest.mark.parametrize("threads", [1, 3])
def test_fewer_and_more_threads_than_cores_go_where_they_like(threads: int) -> None:
    assert cores_to_keep(threads, {0, 1}, 512) == []


def test_a_core_that_the_library_cannot_name_leaves_all_of_them_free() -> None:
    assert cores_to_keep(2, {511, 512}, 512) == []
    assert cores_to_keep(2, {510, 511}, 512) == [510, 511]
