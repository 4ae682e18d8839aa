"""What import-linter cannot see: which libraries a running process has really loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIST = "import sys; print(chr(10).join(sys.modules))"


def loaded_by(statement: str) -> set[str]:
    """The modules in a fresh Python after ``statement``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {LIST}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_supervisor_imports_no_actor_and_no_model_library() -> None:
    loaded = loaded_by("import supervisor")
    actors = {
        name
        for name in loaded
        if name.startswith("actors.") and not name.startswith("actors.kernel")
    }
    assert "supervision.plan" in loaded
    assert not actors
    assert "xllamacpp" not in loaded


def test_the_spawner_preloads_no_actor_and_no_model_library() -> None:
    from supervision.spawner import PRELOAD

    loaded = loaded_by("import " + ", ".join(PRELOAD))
    actors = {n for n in loaded if n.startswith("actors.") and not n.startswith("actors.kernel")}
    assert not actors
    assert "xllamacpp" not in loaded


@pytest.mark.parametrize("library", ["zmq", "pydantic", "msgpack", "structlog", "asyncio"])
def test_the_guard_needs_the_standard_library_alone(library: str) -> None:
    assert library not in loaded_by("import supervision.guard")


def test_the_public_package_gives_users_what_they_need_without_the_commands_libraries() -> None:
    loaded = loaded_by("import noyau")
    assert {"typer", "rich", "xllamacpp"}.isdisjoint(loaded)


def test_every_public_name_can_be_imported_and_has_a_docstring() -> None:
    import noyau

    for name in noyau.__all__:
        assert getattr(noyau, name).__doc__, name
    assert sorted(dir(noyau)) == sorted(noyau.__all__)


def test_up_imports_hardly_anything_before_it_becomes_the_guard() -> None:
    loaded = loaded_by("import noyau.up")
    assert {"zmq", "pydantic", "structlog", "asyncio"}.isdisjoint(loaded)
