"""What trackers' own formats hold after a run."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import Event
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Run
from finetune_trainer.train import recipe, trackers
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.train.trackers import open_trackers, tag
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import StopAfter, plan, prepared_workspace


def tracked(tracking: dict[str, Any], **training: Any) -> Run:
    run = plan(**training).model_dump(by_alias=True, mode="json")
    run["training"] = json.loads(plan(**training).training.model_dump_json(by_alias=True))
    return Run.model_validate({**run, "tracking": tracking})


def history(workspace: Workspace, name: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def events(file: Path) -> Iterator[Any]:
    """TFRecords: length, its checksum, data, its checksum."""
    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def scalars(workspace: Workspace, name: str) -> list[tuple[int, float]]:
    return [
        (event.step, value.simple_value)
        for file in sorted((workspace.logs / "tensorboard").iterdir())
        for event in events(file)
        for value in event.summary.value
        if value.tag == name
    ]


def records(file: Path) -> Iterator[Any]:
    """LevelDB's log after a header of 7 bytes: blocks of 32 KiB with checksum, length and kind of
    every piece of a record.
    """
    data = file.read_bytes()
    place, record = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole one, or the last piece
            yield Record.FromString(record)
            record = b""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "train/loss"),
        ("learning_rate", "train/learning_rate"),
        ("eval_loss", "eval/loss"),
        ("base_eval_accuracy", "eval/base_accuracy"),
    ],
)
def test_values_are_grouped_by_what_they_were_measured_on(name: str, expected: str) -> None:
    assert tag(name) == expected


def test_tensorboard_has_what_the_history_has(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    train(tracked({"tensorboard": {}}, maxSteps=4, evaluateEverySteps=2), workspace, Stop())
    for name in ("loss", "eval_loss", "learning_rate", "base_eval_loss"):
        recorded = scalars(workspace, tag(name))
        expected = history(workspace, name)
        assert [step for step, _ in recorded] == [step for step, _ in expected]
        assert [value for _, value in recorded] == pytest.approx([v for _, v in expected], rel=1e-6)


def test_an_attempt_that_resumes_tells_tensorboard_what_it_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    run = tracked({"tensorboard": {}}, maxSteps=4)
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(run, workspace, StopAfter(2).arm(recipe, patch))
    train(run, workspace, Stop())
    first, second = (
        list(events(file)) for file in sorted((workspace.logs / "tensorboard").iterdir())
    )
    assert not any(event.step > 2 for event in first)
    assert [event.step for event in second if event.HasField("session_log")] == [3]


@pytest.mark.timeout(180)
def test_an_offline_run_of_weights_and_biases_can_be_sent_later(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    run = tracked({"wandb": {"project": "glosses"}}, maxSteps=3)
    train(run, workspace, Stop())
    (file,) = (workspace.logs / "wandb").glob("wandb/offline-run-*/*.wandb")
    losses = []
    for record in records(file):
        if record.HasField("run"):
            project, name = record.run.project, record.run.run_id
        for item in record.history.item:
            if item.key == "train/loss" or list(item.nested_key) == ["train/loss"]:
                losses.append(json.loads(item.value_json))
    assert (project, name) == ("glosses", f"{run.name}-{run.plan_hash}")
    assert losses == pytest.approx([loss for _, loss in history(workspace, "loss")])


def mlflow_runs(workspace: Workspace) -> tuple[MlflowClient, list[Any]]:
    client = MlflowClient((workspace.logs / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("glosses")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


def test_mlflow_reads_what_the_history_has_and_the_plan(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    run = tracked({"mlflow": {"experiment": "glosses"}}, maxSteps=4, evaluateEverySteps=2)
    run = run.model_copy(
        update={"model": run.model.model_copy(update={"chat_template": "x" * 9999})}
    )
    train(run, workspace, Stop())
    client, (found,) = mlflow_runs(workspace)
    assert (found.info.run_name, found.info.status) == (run.name, "FINISHED")
    assert found.data.params["method.lora.rank"] == "4"
    assert found.data.params["training.learningRate"] == "0.01"
    for name in ("loss", "eval_loss", "learning_rate", "base_eval_loss"):
        recorded = client.get_metric_history(found.info.run_id, tag(name))
        assert [(each.step, each.value) for each in recorded] == history(workspace, name)


def test_an_attempt_that_resumes_goes_on_with_the_same_run_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    run = tracked({"mlflow": {"experiment": "glosses"}}, maxSteps=4)
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(run, workspace, StopAfter(2).arm(recipe, patch))
    train(run, workspace, Stop())
    other = run.model_copy(update={"plan_hash": "other"})
    with open_trackers(other, workspace) as (mlflow,):
        mlflow.put(1, 4, {"loss": 2.0}, None)
    client, runs = mlflow_runs(workspace)
    assert len(runs) == 2
    (mine,) = (each for each in runs if each.data.tags["finetune.planHash"] == run.plan_hash)
    recorded = client.get_metric_history(mine.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in recorded] == history(workspace, "loss")


def test_a_tracker_that_hangs_holds_up_neither_a_step_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.1)
    let_go = threading.Event()

    class Hanging:
        name = "Hanging"

        def start(self, step: int) -> None:
            let_go.wait()

        def log(self, step: int, values: dict[str, float]) -> None: ...

        def finish(self) -> None: ...

    with trackers.Background(Hanging()) as outlet:
        outlet.put(1, 2, {"loss": 2.0}, None)
        outlet.put(2, 2, {"loss": 1.0}, None)
    let_go.set()
    assert "Hanging is too slow: its last values are lost" in capsys.readouterr().err


def test_a_tracker_that_fails_costs_the_run_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = prepared_workspace(tmp_path)
    workspace.logs.mkdir()
    (workspace.logs / "tensorboard").write_text("a file is in its place")
    _, result = train(tracked({"tensorboard": {}}, maxSteps=2), workspace, Stop())
    assert result["steps"] == 2
    assert "TensorBoard is not written any more" in capsys.readouterr().err
