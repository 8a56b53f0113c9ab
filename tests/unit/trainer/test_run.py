"""The contract's code, its schema and its example say the same."""

import re
from pathlib import Path

import pytest

import finetune_trainer
from finetune_trainer.outcome import UserError
from finetune_trainer.run import load_run, run_schema

DOCS = Path(__file__).parents[3] / "docs"


def test_the_schema_in_the_documentation_is_up_to_date() -> None:
    """Write it anew with `python -m finetune_trainer.run > docs/run.schema.json`."""
    assert (DOCS / "run.schema.json").read_text() == run_schema()


def test_the_example_is_read_with_its_decimals() -> None:
    run = load_run(DOCS / "examples" / "run.json")
    assert run.training.learning_rate == 2e-4
    assert run.data["dataset"].validation is not None
    assert run.data["dataset"].validation.fraction == 0.05


def test_unknown_keys_are_ignored_and_missing_ones_are_not(tmp_path: Path) -> None:
    text = (DOCS / "examples" / "run.json").read_text()
    later = tmp_path / "later.json"
    later.write_text(text.replace("{", '{"addedLater": 1, ', 1))
    assert load_run(later) == load_run(DOCS / "examples" / "run.json")
    broken = tmp_path / "broken.json"
    broken.write_text(text.replace('"planHash"', '"hash"'))
    with pytest.raises(UserError, match="planHash"):
        load_run(broken)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"v1alpha1"', '"v1beta1"', "contractVersion: Input should be 'v1alpha1'"),
        ("{", "", "Invalid JSON"),
        ('"dataset"', '"data"', "exactly one of dataset and datasets must be there"),
    ],
)
def test_a_plan_for_another_image_names_the_field_of_the_image(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    file = tmp_path / "run.json"
    file.write_text((DOCS / "examples" / "run.json").read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"set spec\.trainer\.image") as caught:
        load_run(file)
    assert words in str(caught.value)


def test_a_plan_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file.*spec\.trainer\.image"):
        load_run(tmp_path / "run.json")


@pytest.mark.parametrize("package", ["data", "prepare", "train"])
def test_no_stage_before_merge_reads_what_a_rerun_may_change_without_it(package: str) -> None:
    files = [*(Path(finetune_trainer.__file__).parent / package).rglob("*.py")]
    assert files
    reading = [file.name for file in files if re.search(r"\.(merge|upload)\b", file.read_text())]
    assert reading == []
