"""The manifest: what is accepted, and that everything wrong is said at once."""

from pathlib import Path

import pytest

from actors.storage.manifest import STORE_ENTRIES, check_asset_path, load_manifest
from actors.storage.sources import PypiSpec
from protocol.errors import InvalidSettings, NotFound

GOOD = """
default_model = "tiny"
[[assets]]
name = "tiny"
path = "models/tiny.gguf"
size = 3
sha256 = "{sha}"
description = "Three bytes."
licence = "MIT"
[[assets.sources]]
kind = "pypi"
requirement = "tiny-model==1.0"
member = "tiny/tiny.gguf"
wheel_size = 400
""".format(sha="a" * 64)


def written(folder: Path, text: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str) -> str:
    with pytest.raises(InvalidSettings) as caught:
        load_manifest(written(folder, text))
    return caught.value.message


def test_the_built_in_manifest_loads_and_its_default_model_has_a_source() -> None:
    manifest = load_manifest()
    default = manifest.asset("default")
    assert default is manifest.asset(manifest.default_model)
    assert default.sources
    assert default.licence == "Apache-2.0"


def test_a_source_entry_becomes_the_spec_of_its_kind(tmp_path: Path) -> None:
    asset = load_manifest(written(tmp_path, GOOD)).asset("tiny")
    assert asset.sources == (
        PypiSpec(requirement="tiny-model==1.0", member="tiny/tiny.gguf", wheel_size=400),
    )


def test_an_unknown_asset_is_not_found_and_the_error_lists_the_known_ones() -> None:
    with pytest.raises(NotFound, match="smollm2-135m-instruct"):
        load_manifest().asset("gpt-9")


def test_all_errors_of_a_manifest_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = GOOD.replace("size = 3\n", "size = -3\n").replace('"MIT"', '""').replace("a" * 64, "xyz")
    message = problems_of(tmp_path, text + "color = 1\n")
    for place in ("size", "licence", "sha256", "sources[0].pypi.color"):
        assert f"assets[0].{place}: " in message


def test_an_unknown_source_kind_is_told_with_the_known_ones(tmp_path: Path) -> None:
    message = problems_of(tmp_path, GOOD.replace('kind = "pypi"', 'kind = "carrier-pigeon"'))
    assert "assets[0].sources[0]: " in message
    assert "'pypi'" in message


@pytest.mark.parametrize(
    "requirement",
    ["tiny", "tiny>=1", "--index-url=http://x", "tiny==1.0 --pre", "tiny @ file:///x", "tiny==*"],
)
def test_only_one_exact_version_is_a_requirement(tmp_path: Path, requirement: str) -> None:
    message = problems_of(tmp_path, GOOD.replace("tiny-model==1.0", requirement))
    assert "requirement" in message


def test_two_assets_cannot_share_a_name_or_a_path(tmp_path: Path) -> None:
    second = GOOD.replace('default_model = "tiny"', "")
    message = problems_of(tmp_path, GOOD + second)
    assert "2 assets have the name 'tiny'" in message
    assert "2 assets have the path 'models/tiny.gguf'" in message


def test_the_default_model_must_be_one_of_the_assets(tmp_path: Path) -> None:
    text = GOOD.replace('default_model = "tiny"', 'default_model = "x"')
    assert "default_model is 'x'" in problems_of(tmp_path, text)


def test_no_asset_can_be_called_default(tmp_path: Path) -> None:
    assert "stands for default_model" in problems_of(tmp_path, GOOD.replace('"tiny"', '"default"'))


@pytest.mark.parametrize("text", ["not = [toml", "\x00"])
def test_what_is_no_toml_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    assert "is not valid TOML" in problems_of(tmp_path, text)


def test_a_missing_manifest_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot read the manifest"):
        load_manifest(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "models/../../x", "", ".", "a//b", "./a", "a/", "a\\b", "a\nb"),
        *("a\x00b", *sorted(STORE_ENTRIES), "staging/x"),
    ],
)
def test_no_path_leaves_the_asset_folder_or_hits_the_stores_own_files(path: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_asset_path(path)


@pytest.mark.parametrize("path", ["x.gguf", "models/x.gguf", "a/b/c d.bin", "models/staging/x"])
def test_a_plain_relative_path_is_taken(path: str) -> None:
    assert check_asset_path(path) == path
