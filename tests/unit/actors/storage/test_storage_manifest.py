"""The manifest: what is accepted, and that everything wrong is said at once."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from actors.storage.manifest import (
    Manifest,
    check_client,
    load_manifest,
    merged,
    name_of,
    read_manifest,
    write_manifest,
)
from actors.storage.sources import FileSpec, PypiSpec
from protocol.errors import InvalidSettings, NotFound

A, B = "a" * 64, "b" * 64
TINY: dict[str, Any] = {
    "name": "tiny",
    "path": "models/tiny.gguf",
    "size": 3,
    "hash": f"sha256-{A}",
    "version": "1.0",
    "sources": [
        {
            "kind": "pypi",
            "requirement": "tiny-model==1.0",
            "member": "tiny/tiny.gguf",
            "wheelSize": 400,
        }
    ],
}
GOOD: dict[str, Any] = {"version": "7", "defaultModel": "tiny", "files": [TINY]}


def with_file(**changes: Any) -> dict[str, Any]:
    """The good manifest with its one file changed; a change to None leaves the field out."""
    file = {key: value for key, value in {**TINY, **changes}.items() if value is not None}
    return {**copy.deepcopy(GOOD), "files": [file]}


def with_files(*changes: dict[str, Any]) -> dict[str, Any]:
    """The good manifest with a file for each of the changes."""
    return {**copy.deepcopy(GOOD), "files": [TINY | change for change in changes]}


def read(data: object, base: str | None = None) -> Manifest:
    return read_manifest(json.dumps(data), where="the test's", base=base)


def problems_of(data: object) -> str:
    with pytest.raises(InvalidSettings) as caught:
        read(data)
    return caught.value.message


def test_the_built_in_manifest_loads_and_its_default_model_has_a_source() -> None:
    manifest = load_manifest()
    default = manifest.asset("default")
    assert default is manifest.asset(manifest.default_model)
    assert default.sources
    assert default.licence == "Apache-2.0"


def test_a_source_entry_becomes_the_spec_of_its_kind() -> None:
    assert read(GOOD).asset("tiny").sources == (
        PypiSpec(requirement="tiny-model==1.0", member="tiny/tiny.gguf", wheel_size=400),
    )


def test_a_source_may_be_a_url_also_one_relative_to_the_manifest(tmp_path: Path) -> None:
    data = with_file(sources=["file:///srv/tiny%20one.gguf", "files/tiny.gguf"])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(data))
    assert load_manifest(path).asset("tiny").sources == (
        FileSpec(path="/srv/tiny one.gguf"),
        FileSpec(path=str(tmp_path / "files/tiny.gguf")),
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("files/x", "nothing it is relative to"),
        ("gopher://x/y", "no source is called 'gopher'"),
        ("file://other/x", "names another machine"),
        ("file:relative", "must be an absolute path"),
    ],
)
def test_a_url_that_is_no_source_is_told_with_its_place(url: str, reason: str) -> None:
    message = problems_of(with_file(sources=[url]))
    assert "files[0].sources[0]" in message
    assert reason in message


@pytest.mark.parametrize("url", ["../x", "a/../../x", "/etc/x"])
def test_a_relative_source_stays_below_the_manifest(url: str) -> None:
    with pytest.raises(InvalidSettings, match="must stay below where the manifest lies"):
        read(with_file(sources=[url]), base="file:///srv/manifest.json")


def test_an_unknown_asset_is_not_found_and_the_error_lists_the_known_ones() -> None:
    with pytest.raises(NotFound, match="smollm2-135m-instruct"):
        load_manifest().asset("gpt-9")


def test_all_errors_of_a_manifest_are_told_at_once_each_with_its_place() -> None:
    source = TINY["sources"][0] | {"color": 1}
    message = problems_of(with_file(size=-3, hash="sha256-xyz", path="../x", sources=[source]))
    for place in ("size", "hash", "path", "sources[0].pypi.color"):
        assert f"files[0].{place}: " in message


def test_an_unknown_source_kind_is_told_with_the_known_ones() -> None:
    message = problems_of(with_file(sources=[{"kind": "carrier-pigeon"}]))
    assert "files[0].sources[0]: " in message
    assert "'pypi'" in message


@pytest.mark.parametrize(
    "requirement",
    ["tiny", "tiny>=1", "--index-url=http://x", "tiny==1.0 --pre", "tiny @ file:///x", "tiny==*"],
)
def test_only_one_exact_version_is_a_requirement(requirement: str) -> None:
    source = TINY["sources"][0] | {"requirement": requirement}
    assert "requirement" in problems_of(with_file(sources=[source]))


def test_two_files_cannot_share_a_name_or_a_path() -> None:
    message = problems_of(with_files({}, {}))
    assert "2 files have the name 'tiny'" in message
    assert "2 files have the path 'models/tiny.gguf'" in message


def test_the_default_model_must_be_one_of_the_files() -> None:
    assert "defaultModel is 'x'" in problems_of({**GOOD, "defaultModel": "x"})


def test_no_file_can_be_called_default() -> None:
    assert "stands for defaultModel" in problems_of(with_file(name="default"))


def test_a_file_without_a_name_is_called_after_its_path() -> None:
    data = {"version": "1", "files": [with_file(name=None, path="Models/Tiny 1.gguf")["files"][0]]}
    assert [asset.name for asset in read(data).assets] == ["models-tiny-1.gguf"]
    assert name_of("???") == "file"


@pytest.mark.parametrize("text", ["not = toml", "\x00", "", "[" * 100_000, '{"a": NaN'])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidSettings, match="is not valid JSON"):
        read_manifest(text, where="it")


@pytest.mark.parametrize("data", [3, [], "x", None, {"files": 3}])
def test_json_that_is_no_manifest_is_refused(data: object) -> None:
    assert "is wrong in" in problems_of(data)


def test_a_missing_manifest_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot read the manifest"):
        load_manifest(tmp_path / "none.json")


def chunk(offset: int, size: int, digest: str = f"blake3-{B}") -> dict[str, Any]:
    return {"offset": offset, "size": size, "hash": digest}


def test_chunks_cover_a_file_without_gaps() -> None:
    chunks = [chunk(0, 2), chunk(2, 1, f"sha256-{A}")]
    found = read(with_file(chunks=chunks)).asset("tiny").chunks
    assert [(each.offset, each.size, each.hash[:6]) for each in found] == [
        (0, 2, "blake3"),
        (2, 1, "sha256"),
    ]


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([chunk(1, 2)], "chunk 0 of models/tiny.gguf begins at 1"),
        ([chunk(0, 1), chunk(2, 1)], "chunk 1 of models/tiny.gguf begins at 2"),
        ([chunk(0, 2), chunk(1, 2)], "chunk 1 of models/tiny.gguf begins at 1"),
        ([chunk(0, 2)], "have 2 bytes, the file 3"),
        ([chunk(0, 4)], "have 4 bytes, the file 3"),
        ([chunk(0, 0), chunk(0, 3)], "chunks[0].size"),
        ([chunk(0, 3, "md5-" + "a" * 32)], "must begin with 'sha256-' or 'blake3-'"),
    ],
)
def test_chunks_that_do_not_cover_their_file_are_refused(
    chunks: list[dict[str, Any]], reason: str
) -> None:
    assert reason in problems_of(with_file(chunks=chunks))


def test_the_hash_of_a_whole_file_is_sha256() -> None:
    assert "must be sha256" in problems_of(with_file(hash=f"blake3-{A}"))


def test_a_fallback_is_among_the_files_and_fallbacks_lead_to_an_end() -> None:
    assert "is 'x', not among" in problems_of(with_file(fallback="x"))
    circle = with_files(
        {"fallback": "other"}, {"name": "other", "path": "models/other", "fallback": "tiny"}
    )
    assert "lead in a circle: tiny → other" in problems_of(circle)


def test_what_is_written_reads_the_same() -> None:
    manifest = read(with_file(chunks=[chunk(0, 3)], required=False, changelog="better"))
    text = write_manifest(manifest)
    assert read_manifest(text, where="it") == manifest
    assert b'"wheelSize": 400' in text
    assert write_manifest(read_manifest(text, where="it")) == text


def test_a_manifest_without_files_reads_the_same_too() -> None:
    empty = Manifest(version="1", assets=())
    assert read_manifest(write_manifest(empty), where="it") == empty


def test_of_two_files_with_one_name_the_later_manifests_counts() -> None:
    newer = read({**with_file(version="2.0"), "version": "8", "defaultModel": ""})
    both = merged([read(GOOD), newer])
    assert (both.version, both.default_model) == ("8", "tiny")
    assert [asset.version for asset in both.assets] == ["2.0"]


def test_manifests_that_contradict_each_other_are_refused() -> None:
    other = read({**with_file(name="other"), "defaultModel": ""})
    with pytest.raises(InvalidSettings, match="2 files have the path"):
        merged([read(GOOD), other])


@pytest.mark.parametrize(
    ("needed", "client", "enough"),
    [
        ("1.2", "1.2.0", True),
        ("1.10", "1.9", False),
        ("0.1.1", "0.1.0", False),
        ("2", "10.0", True),
    ],
)
def test_a_manifest_for_a_newer_noyau_is_refused(needed: str, client: str, enough: bool) -> None:
    manifest = read({**GOOD, "minClientVersion": needed})
    if enough:
        check_client(manifest, client, where="it")
    else:
        with pytest.raises(InvalidSettings, match="update noyau"):
            check_client(manifest, client, where="it")
