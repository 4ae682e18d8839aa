"""The choice of a language model, kept in one small file."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.chosen_model import FILE, ChosenModel, read_choice, write_choice
from protocol.errors import InvalidSettings

A, B = Path("/models/a.gguf"), Path("/models/b.gguf")


def test_without_a_file_nothing_is_chosen(tmp_path: Path) -> None:
    assert read_choice(tmp_path / "not there yet") == ChosenModel(None, ())


def test_what_was_chosen_is_read_again_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_choice(folder, ChosenModel(A, (A, B)))
    assert read_choice(folder) == ChosenModel(A, (A, B))
    assert [one.name for one in folder.iterdir()] == [FILE]


def test_going_back_to_the_default_keeps_what_was_ever_chosen() -> None:
    choice = ChosenModel().using(A).using(B)
    assert choice == ChosenModel(B, (B, A))
    assert choice.using(None) == ChosenModel(None, (B, A))
    assert choice.using(A) == ChosenModel(A, (A, B))


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", '{"path": 3, "known": []}', '{"path": "", "known": [3]}']
)
def test_a_damaged_file_says_how_to_mend_it(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InvalidSettings, match="noyau models default"):
        read_choice(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match=r"model\.json cannot be written"):
        write_choice(tmp_path / "file", ChosenModel(A))
