"""Several data sets in one epoch, from arithmetic to the stage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.prepare.mixing import draw, shares
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import mixture, questions, texts, write_rows


@pytest.mark.parametrize(
    ("available", "weights", "taken"),
    [
        ([100, 100], [1, 1], [100, 100]),
        ([100, 50], [1, 1], [50, 50]),
        ([100, 50], [3, 1], [100, 33]),
        ([10_000, 10], [0.5, 0.5], [10, 10]),
        ([1000, 1000, 1000], [2, 1, 1], [1000, 500, 500]),
        ([5, 1_000_000], [1, 1000], [5, 5000]),
        ([5, 1], [1, 1000], [1, 1]),
    ],
)
def test_rows_are_in_proportion_until_the_first_set_runs_out(
    available: list[int], weights: list[float], taken: list[int]
) -> None:
    assert shares(available, weights) == taken


def test_a_draw_is_a_function_of_seed_and_data_set() -> None:
    candidates = np.arange(1000) % 3 > 0
    first = draw(candidates, 100, seed=0, index=0)
    assert first.sum() == 100
    assert not (first & ~candidates).any()
    assert (draw(candidates, 100, seed=0, index=0) == first).all()
    assert (draw(candidates, 100, seed=1, index=0) != first).any()
    assert (draw(candidates, 100, seed=0, index=1) != first).any()


@pytest.fixture
def two(sources: Path) -> list[dict[str, Any]]:
    """40 questions and 12 texts, each on a claim of its own."""
    write_rows(sources / "datasets-0" / "rows.jsonl", questions(40))
    write_rows(sources / "datasets-1" / "texts.jsonl", [{"text": f"text {n}"} for n in range(12)])
    return [
        {"source": "pvc://a/rows.jsonl", "format": {"questionAnswer": {}}},
        {"source": "pvc://b/texts.jsonl", "format": {"text": {}}, "loss": "AllTokens"},
    ]


def weighted(two: list[dict[str, Any]], *weights: str) -> Run:
    return mixture([{**part, "weight": w} for part, w in zip(two, weights, strict=True)])


def kinds(workspace: Workspace, split: str = "train") -> tuple[int, int]:
    """How many examples are questions, and how many are texts."""
    written = texts(Examples(workspace.data / split))
    return (
        sum(text.startswith("<|im_start|>") for text in written),
        sum(text.startswith("text ") for text in written),
    )


def test_without_weights_every_row_of_every_set_is_trained(
    workspace: Workspace, two: list[dict[str, Any]]
) -> None:
    message, result = stage(mixture(two), workspace)
    assert kinds(workspace) == (40, 12)
    assert result["rows"] == 52
    assert message.startswith("Prepared 52 of 52 rows: ")


def test_weights_share_out_the_rows(
    workspace: Workspace, two: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    stage(weighted(two, "1", "1"), workspace)
    log = capsys.readouterr().out
    assert "  from        pvc://a/rows.jsonl: 12 for training (50.0%), 28 beyond its share" in log
    assert "── example 17: " in log
    assert kinds(workspace) == (12, 12)
    report = json.loads((workspace.prepare / "report.json").read_text())
    assert report["dataSets"] == [
        {
            "source": "pvc://a/rows.jsonl",
            "split": "train",
            "weight": 1.0,
            "rows": 12,
            "rowsKept": 12,
            "rowsBeyondShare": 28,
        },
        {
            "source": "pvc://b/texts.jsonl",
            "split": "train",
            "weight": 1.0,
            "rows": 12,
            "rowsKept": 12,
        },
    ]


def test_the_seed_decides_which_rows(workspace: Workspace, two: list[dict[str, Any]]) -> None:
    def first(seed: int, name: str) -> list[str]:
        place = Workspace(workspace.root / name)
        run = weighted(two, "1", "1")
        training = run.training.model_copy(update={"seed": seed})
        stage(run.model_copy(update={"training": training}), place)
        return texts(Examples(place.data / "train"))

    assert first(0, "a") == first(0, "b")
    assert first(0, "a") != first(1, "c")


def test_rows_held_out_are_no_part_of_the_share(
    workspace: Workspace, two: list[dict[str, Any]]
) -> None:
    two[0]["validation"] = {"fraction": "0.1"}
    stage(weighted(two, "3", "1"), workspace)
    assert kinds(workspace) == (36, 12)
    assert kinds(workspace, "validation") == (4, 0)


def test_held_out_rows_of_all_sets_are_one_validation_set(
    workspace: Workspace, two: list[dict[str, Any]]
) -> None:
    for part in two:
        part["validation"] = {"fraction": "0.25"}
    stage(mixture(two), workspace)
    assert kinds(workspace, "validation") == (10, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": {"alpaca": {}}}, 'spec.datasets[1].format.alpaca.instruction names column "in'),
        ({"split": "tset"}, 'spec.datasets[1].split names "tset"; the data set has: train.'),
        (
            {"source": "pvc://b/none.jsonl"},
            'spec.datasets[1].source names "none.jsonl", which claim b does not hold',
        ),
        (
            {"format": {"questionAnswer": {"question": "text", "answer": "empty"}}},
            "No row of the training data of spec.datasets[1] can be used",
        ),
    ],
)
def test_a_sentence_names_the_data_set_that_is_wrong(
    workspace: Workspace,
    sources: Path,
    two: list[dict[str, Any]],
    change: dict[str, Any],
    words: str,
) -> None:
    rows = [{"text": f"text {n}", "empty": ""} for n in range(12)]
    write_rows(sources / "datasets-1" / "texts.jsonl", rows)
    two[1] |= change
    with pytest.raises(UserError) as refused:
        stage(mixture(two), workspace)
    assert words in str(refused.value)
