"""The catalogue: every tool in the built-in folder and in those that the settings name.

Adding a tool is adding a file. A file that cannot become a tool is kept with its reason, and the
others go on. Names are looked through in a fixed order, so two processes with the same folders
have the same catalogue.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from actors.tool_user.tool import Tool, UnusableTool, read_tool
from protocol.errors import NotFound

_PACKAGE = "actors.tool_user.tools"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file or folder that gave no tool."""

    file: Path
    problem: str


@dataclass(slots=True)
class Catalogue:
    """The tools by name. Iterating gives them in the order of their names."""

    tools: dict[str, Tool] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def __iter__(self) -> Iterator[Tool]:
        return iter(sorted(self.tools.values(), key=lambda tool: tool.name))

    def get(self, name: str) -> Tool:
        """The tool of that name. Raises `NotFound`, which lists those there are."""
        if name not in self.tools:
            known = ", ".join(sorted(self.tools)) or "none"
            raise NotFound(f"there is no tool {name!r}; there are: {known}", name=name)
        return self.tools[name]

    def matchers(self) -> list[Tool]:
        """Those with a matcher, in the order in which they are asked."""
        able = [tool for tool in self if tool.match is not None]
        return sorted(able, key=lambda tool: (tool.match_order, tool.name))


@dataclass(frozen=True, slots=True)
class Read:
    """What one file gave: a tool, or why none."""

    file: Path
    tool: Tool | None
    problem: str = ""


def load_catalogue(folders: Sequence[Path] = (), switched_off: Iterable[str] = ()) -> Catalogue:
    """The built-in tools, and what the files of these folders give; runs the files' code. Raises
    nothing of theirs."""
    return assemble(
        [*BUILT_IN, *(found for folder in folders for found in read_folder(folder))], switched_off
    )


def assemble(found: Iterable[Read], switched_off: Iterable[str] = ()) -> Catalogue:
    """A catalogue of these. Of two tools with one name the first is kept."""
    catalogue = Catalogue()
    off = set(switched_off)
    came_from: dict[str, Path] = {}
    for one in found:
        if one.tool is None:
            catalogue.broken.append(Broken(one.file, one.problem))
        elif (name := one.tool.name) in came_from:
            problem = f"there is a tool {name} already, in {came_from[name]}; rename one of them"
            catalogue.broken.append(Broken(one.file, problem))
        else:
            came_from[name] = one.file
            if name not in off:
                catalogue.tools[name] = one.tool
    return catalogue


def read_folder(folder: Path, *, of_package: bool = False) -> list[Read]:
    """Import every file of a folder, in the order of their names."""
    try:
        files = sorted(
            one for one in folder.iterdir() if one.suffix == ".py" and one.name[0] not in "_."
        )
    except OSError as error:
        return [Read(folder, None, f"the folder cannot be read: {error.strerror}")]
    return [_read(file, of_package=of_package) for file in files]


def _read(file: Path, *, of_package: bool) -> Read:
    try:
        return Read(file, read_tool(_import(file, of_package=of_package)))
    except UnusableTool as error:
        return Read(file, None, str(error))


def _import(file: Path, *, of_package: bool) -> ModuleType:
    name = f"{_PACKAGE}.{file.stem}" if of_package else f"noyau_tool_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a .py file always has a loader"
    assert spec.loader is not None, "and its specification too"
    module = importlib.util.module_from_spec(spec)
    # pydantic looks annotations up in the module, by its name.
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]
        # Also what calls sys.exit(). Somebody who interrupts means this process, not the file.
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UnusableTool(f"it cannot be imported: {type(error).__name__}: {error}") from None
    return module


BUILT_IN = read_folder(Path(__file__).parent / "tools", of_package=True)
"""Read once, with this module: so that the spawner can have them before any tool user starts."""
