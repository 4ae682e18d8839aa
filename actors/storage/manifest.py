"""The manifest: which files there are, what their bytes must be, and where they can be had.

Whoever writes the manifest is trusted; whatever a source delivers is not. So the manifest carries
the whole hash and size of every file, and no path in it can leave the asset folder. The format is
described for its writers in docs/assets.md.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from actors.storage.digests import Digest, Sha256, digits_of
from actors.storage.paths import check_asset_path, collisions
from actors.storage.sources import SOURCE_KINDS, SourceSpec, spec_of_url
from protocol.errors import InvalidSettings, NotFound

BUILT_IN: Final = Path(__file__).with_name("manifest.json")
DEFAULT: Final = "default"
"""The name that stands for the manifest's ``defaultModel``; no asset can have it."""
MOST_BYTES: Final = 64 << 20
"""Of a manifest: 600,000 chunks, which is 600 GB in pieces of 1 MiB."""
_VERSION: Final = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,5}$"


class _BySource:
    """Validates a source by its own kind's model, so that errors point at its fields."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(kind.spec) for name, kind in SOURCE_KINDS.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


def _source_of_text(value: object, info: ValidationInfo) -> object:
    """A URL in place of a source, also one that is relative to where the manifest lies."""
    if isinstance(value, str):
        return spec_of_url(value, (info.context or {}).get("base"))
    return value


AnySource = Annotated[SourceSpec, _BySource, BeforeValidator(_source_of_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class Chunk(_Strict):
    """A stretch of a file that is fetched, checked and repaired by itself."""

    offset: int = Field(ge=0, strict=True)
    """Bytes from the file's beginning."""
    size: int = Field(gt=0, strict=True)
    """Bytes."""
    hash: Digest


class Chunking(_Strict):
    """How the file was cut into chunks, so that a client can cut what it has in the same way and
    find what did not change, wherever it lies now. See `actors.storage.chunking`."""

    method: Literal["tensors", "content", "fixed"]
    piece: int = Field(gt=0, strict=True)
    """Bytes: the most of a tensor's piece, the average of content's, the size of a fixed one's."""


class Patch(_Strict):
    """What makes this version of a file out of an earlier one, whole."""

    method: Literal["zstd"]
    from_hash: Sha256 = Field(alias="from")
    """The whole hash of the version that it applies to."""
    hash: Sha256
    """Of the patch."""
    size: int = Field(gt=0, strict=True)
    """Bytes of the patch."""
    sources: tuple[AnySource, ...] = ()


class Asset(_Strict):
    """One file: its name, its place, what its bytes must be, and where they can be had."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")
    """What settings and commands call it. Where a manifest gives none it is made of the path."""
    path: Annotated[str, AfterValidator(check_asset_path)]
    """Inside the asset folder."""
    size: int = Field(gt=0, strict=True)
    """Bytes."""
    hash: Sha256
    """Of the whole file."""
    version: str = Field(default="", max_length=100)
    required: bool = True
    """Whether what uses it refuses to work without it; an optional one is missed as a
    degradation."""
    fallback: str = ""
    """The name of the asset that is used in its place while it cannot be had."""
    changelog: str = ""
    """What is new in this version, in words for its users."""
    description: str = ""
    licence: str = ""
    """An SPDX expression."""
    chunking: Chunking | None = None
    chunks: tuple[Chunk, ...] = ()
    """In the order of their offsets, without gaps. None: the file is fetched and checked whole."""
    sources: tuple[AnySource, ...] = ()
    """Tried in this order. None: the user brings the file."""
    patches: tuple[Patch, ...] = ()

    @property
    def sha256(self) -> str:
        """The hash as its hex digits alone."""
        return digits_of(self.hash)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and isinstance(data.get("path"), str):
            return {**data, "name": name_of(data["path"])}
        return data

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == DEFAULT:
            raise ValueError(f"{DEFAULT!r} stands for defaultModel; take another name")
        return name

    @model_validator(mode="after")
    def _tiled(self) -> Asset:
        end = 0
        for index, chunk in enumerate(self.chunks):
            if chunk.offset != end:
                raise ValueError(
                    f"chunk {index} of {self.path} begins at {chunk.offset}, but the one before it "
                    f"ends at {end}: chunks have no gaps and do not overlap"
                )
            end += chunk.size
        if any(patch.hash == self.hash for patch in self.patches):
            raise ValueError(f"a patch of {self.path} has the hash of what it makes")
        if self.chunks and end != self.size:
            raise ValueError(f"the chunks of {self.path} have {end} bytes, the file {self.size}")
        return self


class Manifest(_Strict):
    """All files, and the name of the language model to use when the user names none."""

    version: str = Field(min_length=1, max_length=100)
    """Of the manifest."""
    min_client_version: str = Field(default="0", pattern=_VERSION)
    """The oldest noyau that understands it."""
    timestamp: AwareDatetime | None = None
    """When it was made."""
    default_model: str = ""
    assets: tuple[Asset, ...] = Field(alias="files")

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Manifest:
        problems = list(_contradictions(self))
        # What one list lacks another may have, where several are one.
        if not (info.context or {}).get("layer"):
            problems += _missing(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @classmethod
    def layer(cls, assets: Sequence[Asset]) -> Manifest:
        """A list that counts together with others only."""
        return cls.model_validate({"version": "1", "assets": assets}, context={"layer": True})

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


def name_of(path: str) -> str:
    """A name for a file that has none: its path in lower case, with ``-`` for what names lack."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.lower()).strip("-._")[:200] or "file"


def merged(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest out of several: where two have a file of one name, the later one's counts.

    Raises ``InvalidSettings`` where they contradict each other.
    """
    assets = {asset.name: asset for manifest in manifests for asset in manifest.assets}
    last = next((each for each in reversed(manifests) if each.assets), manifests[-1])
    default = next((each.default_model for each in reversed(manifests) if each.default_model), "")
    try:
        return Manifest(
            version=last.version, timestamp=last.timestamp, default_model=default,
            assets=tuple(assets.values()),
        )  # fmt: skip
    except ValidationError as error:
        raise _wrong("the manifests do not fit together", error) from error


def read_manifest(
    text: str | bytes, *, where: str, base: str | None = None, layer: bool = False
) -> Manifest:
    """The manifest in a JSON text.

    Args:
        where: what it is called in errors: a path or URL.
        base: the URL that sources without one of their own are relative to.
        layer: it counts together with others only, which may have what it names.

    Raises ``InvalidSettings`` that lists everything wrong with it, each with its place.
    """
    if len(text) > MOST_BYTES:
        raise InvalidSettings(f"{where} has more than the {MOST_BYTES} bytes that a manifest may")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"{where} is not valid JSON: {error}") from error
    try:
        return Manifest.model_validate(data, context={"base": base, "layer": layer})
    except ValidationError as error:
        raise _wrong(where, error) from error


def load_manifest(path: Path | None = None) -> Manifest:
    """Read the manifest at ``path``, or the built-in one. Raises ``InvalidSettings``."""
    path = path or BUILT_IN
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read the manifest {path}: {error.strerror}") from error
    return read_manifest(text, where=f"the manifest {path}", base=path.absolute().as_uri())


def write_manifest(manifest: Manifest) -> bytes:
    """The JSON text that `read_manifest` reads, the same for the same manifest."""
    data = {"files": [], **_without_empty(manifest.model_dump(mode="json", by_alias=True))}
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _without_empty(value: Any) -> Any:
    """What is empty is the default of its field, wherever that may be."""
    if isinstance(value, dict):
        kept = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in ("", [], None)}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def check_client(manifest: Manifest, client: str, *, where: str) -> None:
    """Raise ``InvalidSettings`` where the manifest needs a newer noyau than version ``client``."""
    if _numbers(client) < _numbers(manifest.min_client_version):
        raise InvalidSettings(
            f"{where} needs noyau {manifest.min_client_version} or newer, and this is {client}: "
            "update noyau (pip install --upgrade noyau)",
            needed=manifest.min_client_version, found=client,
        )  # fmt: skip


def _numbers(version: str) -> list[int]:
    """``1.4.0rc1`` as ``[1, 4]``: trailing zeros say nothing, and what follows no digit neither."""
    digits = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(part) for part in digits.group().split(".")] if digits else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _wrong(where: str, error: ValidationError) -> InvalidSettings:
    problems = [f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
    listed = "\n".join(f"  {problem}" for problem in problems[:100])
    return InvalidSettings(
        f"{where} is wrong in {len(problems)} place(s):\n{listed}", errors=problems[:100]
    )


def _place(loc: tuple[int | str, ...]) -> str:
    """``("files", 0, "size")`` as ``files[0].size``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the whole file"


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What no single field shows. Two assets at one path would fight over it for ever."""
    for name, count in Counter(asset.name for asset in manifest.assets).items():
        if count > 1:
            yield f"{count} files have the name {name!r}; each needs its own"
    yield from collisions(asset.path for asset in manifest.assets)


def _missing(manifest: Manifest) -> Iterator[str]:
    """What a manifest names and does not have."""
    by_name = {asset.name: asset for asset in manifest.assets}
    if manifest.default_model and manifest.default_model not in by_name:
        yield f"defaultModel is {manifest.default_model!r}, which is not among the files"
    ending: set[str] = set()
    for asset in manifest.assets:
        yield from _wrong_fallbacks(asset, by_name, ending)


def _wrong_fallbacks(asset: Asset, by_name: dict[str, Asset], ending: set[str]) -> Iterator[str]:
    """``ending``: names whose fallbacks are known to lead to an end; it grows."""
    seen, at = {asset.name: None}, asset
    while at.fallback and at.name not in ending:
        if at.fallback not in by_name:
            yield f"the fallback of {at.name!r} is {at.fallback!r}, not among the files"
            break
        if at.fallback in seen:
            yield f"the fallbacks of {asset.name!r} lead in a circle: {' → '.join(seen)}"
            break
        at = by_name[at.fallback]
        seen[at.name] = None
    ending.update(seen)
