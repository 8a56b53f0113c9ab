from typing import Any

import pytest

from finetune_operator.api.status import METRICS_LIMIT, Artifacts, Progress, Resolved, Status
from finetune_operator.core.results import applied, withdrawn
from finetune_operator.vocabulary import Stage

AT = "2026-01-31T12:00:00Z"


def shown(stage: Stage, result: dict[str, Any], status: Status | None = None) -> dict[str, Any]:
    after = applied(status or Status(), stage, result, AT)
    document: dict[str, Any] = after.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {field: value for field, value in document.items() if value not in ({}, [])}


def test_prepare_tells_what_was_resolved_and_how_much_memory_it_takes() -> None:
    result = {
        "modelCommit": "abc",
        "datasetCommit": "def",
        "rows": 2000,
        "rowsKept": "1900",
        "tokens": 5.0,
        "supervisedTokens": 4,
        "totalSteps": 200,
        "parameters": 135_000_000,
        "trainableParameters": 900_000,
        "memoryEstimateBytes": 1288490188,
        "timeEstimate": "48 min on 3 NVIDIA H100",
    }
    assert shown(Stage.PREPARE, result) == {
        "resolved": {
            "modelCommit": "abc",
            "datasetCommit": "def",
            "rows": 1900,
            "tokens": 5,
            "supervisedTokens": 4,
            "totalSteps": 200,
            "parameters": 135_000_000,
            "trainableParameters": 900_000,
            "timeEstimate": "48 min on 3 NVIDIA H100",
        },
        "memory": {"estimated": "1.2Gi"},
    }


def test_rows_are_all_rows_when_none_were_dropped_by_name() -> None:
    assert shown(Stage.PREPARE, {"rows": 7})["resolved"]["rows"] == 7


def test_train_ends_at_100_percent_with_its_last_metrics() -> None:
    result = {
        "steps": 200,
        "totalSteps": 200,
        "epoch": 1.0,
        "loss": 1.2345678,
        "validationLoss": 2.13,
        "baseValidationLoss": 2.91,
        "validationAccuracy": 0.75,
        "tokensPerSecond": 2310.25,
        "trainableParameters": 900_000,
        "strategy": "DDP",
        "strategyReason": "it fits",
        "peakMemoryBytes": 2**30,
        "adapter": "adapter",
    }
    assert shown(Stage.TRAIN, result) == {
        "progress": {
            "percent": 100,
            "step": 200,
            "totalSteps": 200,
            "epoch": "1",
            "tokensPerSecond": "2310.25",
            "etaSeconds": 0,
            "at": AT,
            "display": {"percent": "100%", "step": "200/200"},
        },
        "metrics": {
            "loss": "1.23457",
            "validationLoss": "2.13",
            "baseValidationLoss": "2.91",
            "validationAccuracy": "0.75",
        },
        "artifacts": {"adapter": "adapter"},
        "resolved": {
            "totalSteps": 200,
            "trainableParameters": 900_000,
            "strategy": "DDP",
            "strategyReason": "it fits",
        },
        "memory": {"measured": "1.0Gi"},
    }


def test_the_last_metrics_take_their_place_among_as_many_as_fit() -> None:
    before = Status(metrics={f"own{number}": "1" for number in range(METRICS_LIMIT)})
    result = {"loss": 1.0, "validationLoss": 2.0, "baseValidationLoss": 3.0}
    metrics = shown(Stage.TRAIN, result, before)["metrics"]
    assert len(metrics) == METRICS_LIMIT
    assert metrics["loss"] == "1"
    assert metrics["baseValidationLoss"] == "3"


def test_a_trainer_that_says_nothing_has_still_trained() -> None:
    before = Status(progress=Progress(percent=42, step=84, total_steps=200))
    progress = shown(Stage.TRAIN, {}, before)["progress"]
    assert (progress["percent"], progress["step"]) == (100, 200)
    assert shown(Stage.TRAIN, {})["progress"]["display"] == {"percent": "100%"}


def test_merge_and_upload_tell_what_they_made() -> None:
    assert shown(Stage.MERGE, {"merged": "merged"})["artifacts"] == {"merged": "merged"}
    published = {"repository": "acme/x", "commit": "abc", "url": "http://hub.example/acme/x"}
    assert shown(Stage.UPLOAD, published)["artifacts"] == published


def test_what_is_known_already_stays() -> None:
    before = Status(resolved=Resolved(trainer_image="trainer:1", model_commit="abc"))
    after = shown(Stage.PREPARE, {"datasetCommit": "def"}, before)
    assert after["resolved"] == {
        "trainerImage": "trainer:1",
        "modelCommit": "abc",
        "datasetCommit": "def",
    }


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("value", [None, "x" * 5000, -1, 10**30, [1], {"a": 1}, True, 1e400])
def test_nothing_that_a_stage_says_breaks_the_status(stage: Stage, value: Any) -> None:
    keys = "modelCommit rows tokens totalSteps memoryEstimateBytes steps epoch loss adapter merged"
    result = dict.fromkeys([*keys.split(), "tokensPerSecond", "repository", "url"], value)
    Status.model_validate(shown(stage, result))


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        (Stage.UPLOAD, {"claimName", "adapter", "merged"}),
        (Stage.MERGE, {"claimName", "adapter", "repository", "commit", "url"}),
        (Stage.TRAIN, {"claimName", "adapter", "merged", "repository", "commit", "url"}),
    ],
)
def test_a_stage_that_is_to_run_anew_has_made_nothing(stage: Stage, kept: set[str]) -> None:
    made = Artifacts(
        claim_name="c", adapter="a", merged="m", repository="a/b", commit="abc", url="https://hub"
    )
    left = withdrawn(Status(artifacts=made), stage).artifacts
    assert left is not None
    assert set(left.model_dump(by_alias=True, exclude_none=True)) == kept
