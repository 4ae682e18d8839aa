"""From a class path in the settings to the class, and what is said when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from actors.kernel.actor import Actor
from actors.kernel.registry import load_actor
from protocol.errors import InvalidSettings, MissingDependency

GOOD = "from actors.kernel import Actor\n\nclass Mine(Actor):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, for packages whose names begin with ``plugged``."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def write(folder: Path, module: str, text: str) -> None:
    """A module of a package (``package.module``), or one that stands alone."""
    package, _, name = module.rpartition(".")
    place = folder / package if package else folder
    place.mkdir(exist_ok=True)
    if package:
        (place / "__init__.py").touch()
    (place / f"{name}.py").write_text(text)


def test_a_class_path_leads_to_its_class(folder: Path) -> None:
    write(folder, "plugged.module", GOOD)
    found = load_actor("plugged.module:Mine")
    assert issubclass(found, Actor)
    assert (found.__module__, found.__name__) == ("plugged.module", "Mine")


def test_a_built_in_actor_is_found() -> None:
    assert load_actor("actors.orchestrator:Orchestrator").__name__ == "Orchestrator"


@pytest.mark.parametrize("module", ["plugged_nowhere", "plugged_nowhere.at.all", "actors.nowhere"])
def test_a_module_that_is_not_there_is_a_wrong_setting(folder: Path, module: str) -> None:
    with pytest.raises(InvalidSettings, match=r"there is no module .*package\.module:Class"):
        load_actor(f"{module}:Mine")


def test_a_class_that_is_not_there_is_a_wrong_setting(folder: Path) -> None:
    write(folder, "plugged", GOOD)
    with pytest.raises(InvalidSettings, match="Yours is no Actor of plugged"):
        load_actor("plugged:Yours")


@pytest.mark.parametrize("text", ["class Mine: pass", "Mine = 7", "def Mine(): pass"])
def test_what_is_no_actor_is_a_wrong_setting(folder: Path, text: str) -> None:
    write(folder, "plugged", text)
    with pytest.raises(InvalidSettings, match="no Actor"):
        load_actor("plugged:Mine")


def test_a_library_that_is_not_there_is_named_with_what_to_install(folder: Path) -> None:
    write(folder, "plugged", f"import a_library_nobody_has\n{GOOD}")
    with pytest.raises(MissingDependency, match="needs the library a_library_nobody_has: pip"):
        load_actor("plugged:Mine")


def test_a_missing_library_whose_name_begins_the_actors_own_is_still_a_library(
    folder: Path,
) -> None:
    write(folder, "plugged_torch.actor", f"import plugged_t\n{GOOD}")
    with pytest.raises(MissingDependency, match="needs the library plugged_t:"):
        load_actor("plugged_torch.actor:Mine")


def test_a_missing_part_of_the_actors_own_package_is_not_mistaken_for_its_path(
    folder: Path,
) -> None:
    write(folder, "plugged.module", f"import plugged.missing\n{GOOD}")
    with pytest.raises(MissingDependency, match=r"plugged\.missing"):
        load_actor("plugged.module:Mine")
