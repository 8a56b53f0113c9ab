"""Tokenized data that serve the next plan, and those that do not."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.examples import Examples
from finetune_trainer.prepare import reuse, stage
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import mixture, plan, questions, write_rows
from unit.trainer.tiny import CHATML

pytestmark = pytest.mark.usefixtures("sources")

HELD_OUT: dict[str, Any] = {"validation": {"fraction": "0.1"}}


def tokenized(workspace: Workspace) -> tuple[int, int]:
    """What tells the data's files from others of the same content."""
    stat = (workspace.data / "train" / "tokens.npy").stat()
    return stat.st_ino, stat.st_mtime_ns


def again(workspace: Workspace, run: Run) -> bool:
    """Whether the next plan, `run`, found its data in the workspace; they are its own after it."""
    before = tokenized(workspace)
    stage(run, workspace)
    meta = json.loads((workspace.data / "meta.json").read_text())
    assert meta["planHash"] == run.plan_hash
    return tokenized(workspace) == before


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"learningRate": "1e-3"}},
        {"training": {"epochs": 3}},
        {"training": {"packing": False}},
        {"method": {"lora": {"rank": 2, "alpha": 2}}},
        {"method": {"full": {}, "lora": None}},
        {"name": "other"},
        {"upload": {"repository": "acme/tiny", "artifacts": ["Adapter"]}},
        {"parallelism": {"strategy": "FSDP"}},
        {"tracking": {"mlflow": {"experiment": "glosses"}}},
    ],
    ids=str,
)
def test_what_rows_do_not_depend_on_leaves_the_data(
    workspace: Workspace, change: dict[str, Any]
) -> None:
    stage(plan(dataset=HELD_OUT), workspace)
    assert again(workspace, plan(planHash="2222", dataset=HELD_OUT, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {**HELD_OUT, "split": "train[:30]"}},
        {"dataset": {**HELD_OUT, "loss": "AllTokens"}},
        {"dataset": {**HELD_OUT, "format": {"questionAnswer": {"question": "answer"}}}},
        {"dataset": {"validation": {"fraction": "0.2"}}},
        {"dataset": HELD_OUT, "training": {"seed": 1}},
        {"dataset": HELD_OUT, "training": {"sequenceLength": 100}},
        {"dataset": HELD_OUT, "model": {"chatTemplate": CHATML.replace("\n", " ")}},
    ],
    ids=str,
)
def test_what_rows_depend_on_makes_them_anew(workspace: Workspace, change: dict[str, Any]) -> None:
    stage(plan(dataset=HELD_OUT), workspace)
    assert not again(workspace, plan(planHash="2222", **change))


def test_a_seed_that_draws_nothing_does_not_matter(workspace: Workspace) -> None:
    stage(plan(), workspace)
    assert again(workspace, plan(planHash="2222", training={"seed": 1}))


def touched(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def grown(file: Path) -> None:
    stat = file.stat()
    write_rows(file, questions(41))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, grown])
def test_a_file_of_another_time_or_size_is_read_again(
    workspace: Workspace, sources: Path, change: Callable[[Path], None]
) -> None:
    stage(plan(), workspace)
    change(sources / "dataset" / "rows.jsonl")
    assert not again(workspace, plan(planHash="2222"))


def test_a_config_map_counts_by_its_bytes_as_every_pod_has_new_files(
    workspace: Workspace, sources: Path
) -> None:
    file = sources / "dataset" / "rows.jsonl"
    run = {"dataset": {"source": "configmap://words/rows.jsonl"}}
    stage(plan(**run), workspace)
    touched(file)
    assert again(workspace, plan(planHash="2222", **run))
    file.write_text(file.read_text().replace("39", "93"))
    assert not again(workspace, plan(planHash="3333", **run))


def test_another_number_of_the_formatter_makes_everything_anew(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(plan(), workspace)
    monkeypatch.setattr(reuse, "FORMATTER", reuse.FORMATTER + 1)
    assert not again(workspace, plan(planHash="2222"))


def test_a_weight_counts(workspace: Workspace, sources: Path) -> None:
    part: dict[str, Any] = {"source": "pvc://a/rows.jsonl", "format": {"questionAnswer": {}}}
    for index in range(2):
        write_rows(sources / f"datasets-{index}" / "rows.jsonl", questions(40))
    stage(mixture([{**part, "weight": "1"}, {**part, "weight": "1"}]), workspace)
    changed = mixture([{**part, "weight": "1"}, {**part, "weight": "2"}], planHash="2222")
    assert not again(workspace, changed)


def test_what_was_counted_is_told_again(workspace: Workspace, sources: Path) -> None:
    rows = [*questions(40), {"question": "?", "answer": ""}]
    write_rows(sources / "dataset" / "rows.jsonl", rows)
    first = stage(plan(dataset=HELD_OUT), workspace)
    report = (workspace.prepare / "report.json").read_text()
    assert stage(plan(planHash="2222", dataset=HELD_OUT), workspace) == first
    assert (workspace.prepare / "report.json").read_text() == report
    assert '"column \\"answer\\" is empty": 1' in report


def test_an_attempt_that_ended_behind_the_data_goes_on_with_them(
    workspace: Workspace, sources: Path
) -> None:
    weights = sources / "model" / "tiny" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(Exception, match="is damaged"):
        stage(plan(), workspace)
    weights.write_bytes(whole)
    assert again(workspace, plan())


def test_data_whose_description_is_damaged_are_made_anew(workspace: Workspace) -> None:
    stage(plan(), workspace)
    (workspace.data / "meta.json").write_text("{")
    assert not again(workspace, plan(planHash="2222"))
    assert len(Examples(workspace.data / "train")) == 40


@pytest.mark.parametrize("name", ["train/tokens.npy", "validation/offsets.npy"])
def test_data_that_are_damaged_are_made_anew(workspace: Workspace, name: str) -> None:
    stage(plan(dataset=HELD_OUT), workspace)
    os.truncate(workspace.data / name, 140)
    assert not again(workspace, plan(planHash="2222", dataset=HELD_OUT))
    assert len(Examples(workspace.data / "train")) == 36
