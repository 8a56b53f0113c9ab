"""Rows with labels: what becomes of them, which labels there are, and what the model is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, write_rows
from unit.trainer.tiny import tiny_tokenizer


def classes(validation: dict[str, Any] | None = None, **changes: Any) -> Run:
    dataset: dict[str, Any] = {"format": {"classification": {}}, "validation": validation}
    return plan(task="Classification", dataset=dataset, **changes)


def tags(**changes: Any) -> Run:
    dataset: dict[str, Any] = {"format": {"tokenClassification": {}}}
    return plan(task="TokenClassification", dataset=dataset, **changes)


def rows(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {index}", "label": label} for index, label in enumerate(labels)]


def prepared(workspace: Workspace, sources: Path, run: Run, given: Any) -> Examples:
    write_rows(sources / "dataset" / "rows.jsonl", given)
    stage(run, workspace)
    return Examples(workspace.data / "train")


def config(workspace: Workspace) -> dict[str, Any]:
    return dict(json.loads((workspace.model / "config.json").read_bytes()))


def test_a_text_is_tokenized_as_users_do_and_its_label_numbered(
    workspace: Workspace, sources: Path
) -> None:
    examples = prepared(workspace, sources, classes(), rows("spam", "ham", "spam"))
    assert examples[0].tokens.tolist() == tiny_tokenizer()("text 0")["input_ids"]
    assert [examples[index].labels.tolist() for index in range(3)] == [[1], [0], [1]]
    told = config(workspace)
    assert told["id2label"] == {"0": "ham", "1": "spam"}
    assert told["label2id"] == {"ham": 0, "spam": 1}
    assert told["architectures"] == ["LlamaForSequenceClassification"]
    assert told["pad_token_id"] == 3


def test_numbers_as_labels_are_in_their_order(workspace: Workspace, sources: Path) -> None:
    prepared(workspace, sources, classes(), rows(10, 2, 1, 2))
    assert list(config(workspace)["id2label"].values()) == ["1", "2", "10"]


def test_a_type_that_names_its_classes_is_taken_at_its_word(
    workspace: Workspace, sources: Path
) -> None:
    kind = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos", "odd"])})
    given = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=kind)
    (sources / "dataset" / "rows.jsonl").unlink()
    given.to_parquet(sources / "dataset" / "rows.parquet")
    run = classes()
    run = run.model_copy(
        update={"dataset": run.data["dataset"].model_copy(update={"source": "pvc://data"})}
    )
    stage(run, workspace)
    examples = Examples(workspace.data / "train")
    assert [examples[index].labels.tolist() for index in range(2)] == [[1], [0]]
    assert list(config(workspace)["id2label"].values()) == ["neg", "pos", "odd"]
    report = json.loads((workspace.prepare / "report.json").read_bytes())
    assert report["droppedByReason"] == {'column "label" holds no label': 1}


def test_stratified_validation_holds_out_of_every_class(
    workspace: Workspace, sources: Path
) -> None:
    given = rows(*["a"] * 30, *["b"] * 10)
    run = classes({"fraction": "0.2", "stratified": True})
    train = prepared(workspace, sources, run, given)
    held_out = Examples(workspace.data / "validation")
    assert sorted(held_out.first_labels.tolist()) == [0] * 6 + [1] * 2
    assert sorted(train.first_labels.tolist()) == [0] * 24 + [1] * 8


def test_words_are_labelled_at_their_first_token(workspace: Workspace, sources: Path) -> None:
    given = [
        {"tokens": ["Ada", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]},
        {"tokens": ["No", "one"], "tags": ["O"]},
    ]
    examples = prepared(workspace, sources, tags(), given)
    assert len(examples) == 1
    # One token a character: "Ada", "in" and "Rome" begin at 0, 3 and 5.
    assert examples[0].supervised.nonzero()[0].tolist() == [0, 3, 5]
    assert list(config(workspace)["id2label"].values()) == ["B-LOC", "B-PER", "O"]
    assert examples[0].labels.tolist() == [1, 2, 0]
    report = (workspace.prepare / "report.json").read_text()
    assert r'columns \"tokens\" and \"tags\" differ in length": 1' in report


def test_tags_of_a_class_type_keep_their_order(workspace: Workspace, sources: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    kind = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=names))})
    given = Dataset.from_dict({"tokens": [["A", "b"]], "tags": [[1, 0]]}, features=kind)
    (sources / "dataset" / "rows.jsonl").unlink()
    given.to_parquet(sources / "dataset" / "rows.parquet")
    run = tags()
    run = run.model_copy(
        update={"dataset": run.data["dataset"].model_copy(update={"source": "pvc://data"})}
    )
    stage(run, workspace)
    assert Examples(workspace.data / "train")[0].labels.tolist() == [1, 0]
    assert list(config(workspace)["id2label"].values()) == names


@pytest.mark.parametrize(
    ("run", "given", "said"),
    [
        (classes(), rows("a", "a", "a"), r'1 label \("a"\), and there is nothing to tell apart'),
        (
            classes({"fraction": "0.5"}),
            rows("a", "b", "c", "d", "e", "f"),
            r"which no training row has.*validation\.stratified",
        ),
        (
            classes(),
            [{"text": "a", "class": "b"}],
            r'spec\.dataset\.format names column "label".*text, class',
        ),
        (
            classes(training={"sequenceLength": 16}),
            [{"text": "x" * 40, "label": label} for label in "ab"],
            r"longer than spec\.training\.sequenceLength",
        ),
    ],
    ids=["one class", "a class only held out", "no such column", "texts too long"],
)
def test_data_that_cannot_be_told_apart_are_refused(
    workspace: Workspace, sources: Path, run: Run, given: Any, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        prepared(workspace, sources, run, given)


def test_the_preview_shows_labels_and_where_they_stand(workspace: Workspace, sources: Path) -> None:
    given = [{"tokens": ["Ada", "in"], "tags": ["B-PER", "O"]}]
    prepared(workspace, sources, tags(), given)
    text = (workspace.prepare / "preview.txt").read_text()
    assert "supervised ──\nB-PER O\n" in text
    assert text.count("⟦") == 2
