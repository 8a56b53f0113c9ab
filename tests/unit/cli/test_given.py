"""A file may hold more than a FineTuneJob, and only that is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.errors import CliError
from finetune_cli.given import finetunejob, finetunejobs
from unit.cli.calls import SAMPLE

RUN = Path(SAMPLE).read_text()
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: hf-write}\n"


def written(tmp_path: Path, *documents: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text("---\n".join(documents))
    return str(path)


def test_what_is_clearly_something_else_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, SECRET, RUN)
    assert [item.where for item in finetunejobs(path)] == [f"{path} (document 2)"]
    assert finetunejob(path)["metadata"] == {"name": "gemma-math"}


@pytest.mark.parametrize(
    "document",
    [
        RUN.replace("FineTuneJob", "FinetuneJob"),
        RUN.replace("kind: FineTuneJob", "kind: Job"),
        RUN.replace("finetune.dev/v1alpha1", "v1"),
        RUN.replace("kind: FineTuneJob\n", ""),
    ],
    ids=["kind misspelt", "another kind", "another version", "no kind"],
)
def test_what_is_meant_as_one_is_judged(tmp_path: Path, document: str) -> None:
    with pytest.raises(CliError, match=r": (kind|apiVersion): must be"):
        finetunejob(written(tmp_path, document))


def test_a_file_without_one_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"has no FineTuneJob, only Secret: name the file"):
        finetunejob(written(tmp_path, SECRET, SECRET))


def test_several_are_too_many_for_a_command_about_one(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="has 2 FineTuneJobs, and this is about one"):
        finetunejob(written(tmp_path, RUN, RUN))


def test_of_several_problems_the_first_is_told_and_their_number(tmp_path: Path) -> None:
    wrong = RUN.replace("rank", "rnk").replace("gpusPerNode", "gpus")
    with pytest.raises(CliError, match=r"is not a field.* \(and 1 more: `kubectl finetune valid"):
        finetunejob(written(tmp_path, wrong))
