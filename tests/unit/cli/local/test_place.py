"""A directory holds one run, and nobody else's files are touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_cli.errors import CliError
from finetune_cli.local.place import Place

DOCUMENT = {"metadata": {"name": "demo"}, "status": {}}


def refusal(root: Path, name: str = "demo") -> str:
    with pytest.raises(CliError) as refused:
        Place(root).load(name)
    return refused.value.message


def test_a_new_directory_holds_no_run_and_is_not_made_by_looking(tmp_path: Path) -> None:
    assert Place(tmp_path / "new").load("demo") is None
    assert not (tmp_path / "new").exists()


def test_what_was_saved_is_found(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.held():
        place.save(DOCUMENT)
    assert Place(tmp_path).load("demo") == DOCUMENT


def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert refusal(tmp_path) == (
        f"{tmp_path} is not empty, and no `finetune run` has made what is in it: name another one "
        "with --workspace."
    )
    assert "is not a directory" in refusal(tmp_path / "thesis.tex")


def test_another_runs_directory_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.held():
        place.save(DOCUMENT)
    assert refusal(tmp_path, "other").startswith(
        f"{tmp_path} is the directory of the run demo, not other: "
    )


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"metadata": {}})])
def test_a_broken_file_is_not_taken_for_a_new_run(tmp_path: Path, content: str) -> None:
    place = Place(tmp_path)
    with place.held():
        place.state.write_text(content)
    assert f"{place.state} cannot be read" in refusal(tmp_path)


def test_a_place_is_for_one_at_a_time(tmp_path: Path) -> None:
    with (
        Place(tmp_path).held(),
        pytest.raises(CliError, match=r"Another `finetune run`.*works in"),
        Place(tmp_path).held(),
    ):
        pass
    with Place(tmp_path).held():
        pass


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="cannot be used"), Place(tmp_path / "file" / "run").held():
        pass
