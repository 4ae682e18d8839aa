"""Where a converted model lies, and whether it may be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.engine.backends.transformers_torch.conversion import (
    CHECKED,
    INDEX,
    Kept,
    is_outdated,
    name_of,
    publish,
    sweep,
    usable,
    verdict,
)

THIS, ANOTHER = "this boot", "another boot"
FILES = {"model.safetensors": Kept(7, "hash"), "config.json": Kept(2, "hash")}
SIZES = {"model.safetensors": 7, "config.json": 2, INDEX: 100}


def write(to: Path) -> None:
    (to / "model.safetensors").write_bytes(b"weights")
    (to / "config.json").write_bytes(b"{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "kept" / name_of("model", "float32", "5")
    publish(made, write, THIS)
    return made


def test_what_was_compared_in_this_boot_is_used() -> None:
    assert verdict(FILES, SIZES, THIS, THIS) == "use"


def test_what_was_not_is_compared_first() -> None:
    assert verdict(FILES, SIZES, ANOTHER, THIS) == "compare"
    assert verdict(FILES, SIZES, "", THIS) == "compare"


@pytest.mark.parametrize("sizes", [{}, SIZES | {"model.safetensors": 6}, {"config.json": 2}])
def test_what_is_incomplete_is_converted_again(sizes: dict[str, int]) -> None:
    assert verdict(FILES, sizes, THIS, THIS) == "convert"


def test_what_does_not_say_what_it_should_hold_is_converted_again() -> None:
    assert verdict(None, SIZES, THIS, THIS) == "convert"
    assert verdict({}, SIZES, THIS, THIS) == "convert"


def test_other_weights_another_library_and_other_numbers_have_another_name() -> None:
    names = {name_of("m", "float32", "5"), name_of("n", "float32", "5")}
    names |= {name_of("m", "bfloat16", "5"), name_of("m", "float32", "6")}
    assert len(names) == 4


def test_only_an_older_librarys_conversion_of_the_same_is_outdated() -> None:
    def outdated(*named: str) -> bool:
        return is_outdated(name_of(*named), "m", "float32", "6")

    assert outdated("m", "float32", "5")
    assert not outdated("m", "float32", "6")
    assert not outdated("m", "bfloat16", "5")
    assert not outdated("n", "float32", "5")


def test_what_was_published_is_usable_in_this_boot_and_the_next(folder: Path) -> None:
    assert usable(folder, THIS)
    assert usable(folder, ANOTHER)
    assert (folder / CHECKED).read_text() == ANOTHER


def test_a_flipped_bit_is_seen_in_the_next_boot(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weighus")
    assert usable(folder, THIS)
    assert not usable(folder, ANOTHER)


@pytest.mark.parametrize("damage", ["cut", "gone", "no index", "garbled index", "list as index"])
def test_damage_is_seen_at_once(folder: Path, damage: str) -> None:
    match damage:
        case "cut":
            (folder / "model.safetensors").write_bytes(b"wei")
        case "gone":
            (folder / "config.json").unlink()
        case "no index":
            (folder / INDEX).unlink()
        case "garbled index":
            (folder / INDEX).write_bytes(b"{\xff")
        case "list as index":
            (folder / INDEX).write_text("[1]")
    assert not usable(folder, THIS)


def test_a_folder_that_is_not_there_is_not_usable(tmp_path: Path) -> None:
    assert not usable(tmp_path / "none", THIS)


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(to: Path) -> None:
        write(to)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        publish(tmp_path / "transformers-x", fail, THIS)
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_takes_the_place_of_a_damaged_one(folder: Path) -> None:
    (folder / "config.json").unlink()
    publish(folder, write, THIS)
    assert usable(folder, THIS)


def test_what_was_left_half_done_and_what_is_outdated_goes(folder: Path) -> None:
    kept = folder.parent
    half = kept / f".{folder.name}.0a1b.tmp"
    half.mkdir()
    others = kept / "all-minilm.gguf"
    others.touch()
    other = kept / name_of("another", "float32", "5")
    other.mkdir()
    sweep(kept, "model", "float32", "5")
    assert sorted(kept.iterdir()) == sorted([folder, others, other])
    sweep(kept, "model", "float32", "6")
    assert sorted(kept.iterdir()) == sorted([others, other])
