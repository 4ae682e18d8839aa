"""The manifest: which assets there are, what their bytes must be, and where they can be had.

Whoever writes the manifest is trusted; whatever a source delivers is not. So the manifest carries
the whole hash and size of every file, and no path in it can leave the asset folder.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from actors.storage.sources import SOURCE_KINDS, SourceSpec
from protocol.errors import InvalidSettings, NotFound

BUILT_IN: Final = Path(__file__).with_name("manifest.toml")
DEFAULT: Final = "default"
"""The name that stands for the manifest's ``default_model``; no asset can have it."""

STORE_ENTRIES: Final = frozenset(
    {"staging", "quarantine", "verified.json", "verified.json.tmp", "install.lock", "publish.lock"}
)
"""What the store itself keeps in the asset folder; no asset's path can begin with one of these."""


def check_asset_path(path: str) -> str:
    """``path`` if it is plain, relative, and stays below the asset folder; else ``ValueError``."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError("must stay inside the asset folder: relative, without '..'")
    if not pure.parts or str(pure) != path or "\\" in path or not path.isprintable():
        raise ValueError("must be a plain path with '/' between its parts, such as 'models/x.gguf'")
    if pure.parts[0] in STORE_ENTRIES:
        raise ValueError(f"must not begin with {pure.parts[0]!r}, which the store itself uses")
    return path


class _ByKind:
    """Validates a source entry by its own kind's model, so that errors point at its fields."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(kind.spec) for name, kind in SOURCE_KINDS.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asset(_Strict):
    """One file: its name, its place, what its bytes must be, and where they can be had."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")
    path: Annotated[str, AfterValidator(check_asset_path)]
    """Inside the asset folder."""
    size: int = Field(gt=0, strict=True)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole file, lower-case hex."""
    description: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    """An SPDX expression."""
    sources: tuple[Annotated[SourceSpec, _ByKind], ...] = ()
    """Tried in this order. None: the user brings the file."""

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == DEFAULT:
            raise ValueError(f"{DEFAULT!r} stands for default_model; take another name")
        return name


class Manifest(_Strict):
    """All assets, and the name of the language model to use when the user names none."""

    default_model: str
    assets: tuple[Asset, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def asset(self, name: str) -> Asset:
        """The asset of that name; ``default`` is the default model. Raises ``NotFound``."""
        wanted = self.default_model if name == DEFAULT else name
        for asset in self.assets:
            if asset.name == wanted:
                return asset
        known = [asset.name for asset in self.assets]
        raise NotFound(
            f"no asset is called {name!r}; the manifest has: {', '.join(known)}", known=known
        )


def load_manifest(path: Path | None = None) -> Manifest:
    """Read the manifest at ``path``, or the built-in one.

    Raises ``InvalidSettings`` that lists everything wrong with it, each with its place.
    """
    path = path or BUILT_IN
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot read the manifest {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"the manifest {path} is not valid TOML: {error}") from error
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        problems = [f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InvalidSettings(
            f"the manifest {path} is wrong in {len(problems)} place(s):\n{listed}", errors=problems
        ) from error


def _place(loc: tuple[int | str, ...]) -> str:
    """``("assets", 0, "size")`` as ``assets[0].size``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the whole file"


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What no single field shows. Two assets at one path would fight over it for ever."""
    names = [asset.name for asset in manifest.assets]
    for field, values in (("name", names), ("path", [asset.path for asset in manifest.assets])):
        for value, count in Counter(values).items():
            if count > 1:
                yield f"{count} assets have the {field} {value!r}; each needs its own"
    if manifest.default_model not in names:
        yield f"default_model is {manifest.default_model!r}, which is not among the assets"
