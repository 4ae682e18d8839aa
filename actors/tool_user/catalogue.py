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

BUILT_IN = Path(__file__).parent / "tools"
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


def load_catalogue(
    folders: Sequence[Path] = (), switched_off: Iterable[str] = (), built_in: Path = BUILT_IN
) -> Catalogue:
    """Import every file and keep what it gives; runs the files' code. Raises nothing of theirs."""
    catalogue = Catalogue()
    off = set(switched_off)
    came_from: dict[str, Path] = {}
    for folder in (built_in, *folders):
        for file in _files(folder, catalogue):
            try:
                tool = read_tool(_import(file, of_package=folder == BUILT_IN))
                if tool.name in came_from:
                    raise UnusableTool(
                        f"there is a tool {tool.name} already, in {came_from[tool.name]}; "
                        "rename one of them"
                    )
            except UnusableTool as error:
                catalogue.broken.append(Broken(file, str(error)))
                continue
            came_from[tool.name] = file
            if tool.name not in off:
                catalogue.tools[tool.name] = tool
    return catalogue


def _files(folder: Path, catalogue: Catalogue) -> list[Path]:
    try:
        return sorted(
            one for one in folder.iterdir() if one.suffix == ".py" and one.name[0] not in "_."
        )
    except OSError as error:
        catalogue.broken.append(Broken(folder, f"the folder cannot be read: {error.strerror}"))
        return []


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
