"""Each method and task as a FineTuneJob on a real node: what is held out is predicted better after.

There are many of them, so they stand apart from the suite: `make e2e-methods`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.bench import Bench, condition, tiny_job
from e2e.methods import EVERY, MERGED

pytestmark = pytest.mark.every_method

# The tiny model is random: it learns at rates that would ruin one that has learned already.
RATES = {"full": "1e-3", "partial": "1e-2", "sgd": "9e-1", "rmsprop": "1e-3"}
DEFAULT_RATE = "5e-3"

WORDS = [("rome", "B-LOC"), ("paris", "B-LOC"), ("ada", "B-PER"), ("bob", "B-PER"), ("the", "O")]
TAGGED = [
    {
        "tokens": [WORDS[(row + place) % 5][0] for place in range(4)],
        "tags": [WORDS[(row + place) % 5][1] for place in range(4)],
    }
    for row in range(80)
]
JUDGED = [
    {
        "prompt": f"What is {number} and {number}?",
        "chosen": f" It is {2 * number}, no doubt.",
        "rejected": f" Ask me later about {number}.",
    }
    for number in range(80)
]
VERDICTS = [
    {"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"}
    for row in JUDGED
    for kind in ("chosen", "rejected")
]
SORTED = [
    {"text": f"a {'kind' if row % 2 else 'rude'} word {row}", "label": ["bad", "good"][row % 2]}
    for row in range(80)
]
HELD_OUT = {"fraction": "0.2"}
LOSSES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "DPO": ({"preference": {"prompt": "prompt"}}, JUDGED),
    "KTO": ({"preference": {"prompt": "prompt", "completion": "completion"}}, VERDICTS),
}
TASKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "Classification": ({"classification": {}}, SORTED),
    "TokenClassification": ({"tokenClassification": {}}, TAGGED),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_method_learns_and_its_adapter_is_merged(name: str, bench: Bench) -> None:
    settings = dict(EVERY[name])
    rate = {"learningRate": RATES.get(name, DEFAULT_RATE)}
    if name == "partial":
        settings["method"] = {"full": {"trainable": ["model.layers.1", "model.norm"]}}
    training = {"maxSteps": 12, "sequenceLength": 128, "sequencesPerStep": 4}
    settings["training"] = {**training, **settings.get("training", {}), **rate}
    if name in MERGED:
        settings.setdefault("merge", {})
    run = bench.apply(tiny_job(name, upload=None, **settings))

    resource = bench.wait_for_phase(run, "Succeeded")

    assert_learned(resource)
    if name in MERGED:
        assert condition(resource, "Merged")["status"] == "True"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_learns_from_rows_of_a_configmap(task: str, bench: Bench) -> None:
    assert_learned(trained(task.lower(), task, *TASKS[task], {}, bench))


@pytest.mark.parametrize("loss", LOSSES)
def test_preferences_are_learned_from_rows_of_a_configmap(loss: str, bench: Bench) -> None:
    settings = {"preference": {"loss": loss}}
    assert_learned(trained(loss.lower(), "Preference", *LOSSES[loss], settings, bench))


def trained(
    name: str,
    task: str,
    layout: dict[str, Any],
    rows: list[dict[str, Any]],
    training: dict[str, Any],
    bench: Bench,
) -> dict[str, Any]:
    """The finished run of `task` on `rows`."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rows"},
        "data": {"train.jsonl": lines},
    }
    bench.kubectl("apply", "-f", "-", input=json.dumps(data))
    source = "configmap://rows/train.jsonl"
    run = bench.apply(
        tiny_job(
            name,
            task=task,
            dataset={"source": source, "format": layout, "validation": HELD_OUT},
            training={
                "maxSteps": 12,
                "sequenceLength": 128,
                "sequencesPerStep": 4,
                "learningRate": DEFAULT_RATE,
                **training,
            },
            upload=None,
            merge={},
        )
    )
    return bench.wait_for_phase(run, "Succeeded")


def assert_learned(resource: dict[str, Any]) -> None:
    metrics = resource["status"]["metrics"]
    before, after = float(metrics["baseValidationLoss"]), float(metrics["validationLoss"])
    print(f"{resource['metadata']['name']}: validation loss {before:.4f} → {after:.4f}")
    assert after < before
