import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.core.model import Settings
from finetune_operator.core.plan import continued, hash_for, make_plan
from finetune_operator.vocabulary import Stage
from finetune_trainer.run import Run
from unit.operator.builders import SETTINGS, plan, resource

PREFERENCE: dict[str, Any] = {
    "task": "Preference",
    "dataset": {"format": {"questionAnswer": None, "preference": {}}},
}
JUDGED: dict[str, Any] = {
    "task": "Preference",
    "dataset": {
        "format": {
            "questionAnswer": None,
            "preference": {"prompt": "question", "completion": "answer"},
        }
    },
}
CLASSES: dict[str, Any] = {
    "task": "Classification",
    "dataset": {"format": {"questionAnswer": None, "classification": {}}},
}
TEXT: dict[str, Any] = {"questionAnswer": None, "text": {}}
DOCS = Path(__file__).parents[4] / "docs"

EXAMPLE: dict[str, Any] = {
    "model": {"source": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"},
    "dataset": {
        "source": "hf://wordnet/glosses",
        "split": "train[:2000]",
        "validation": {"fraction": "0.05"},
    },
    "training": {"checkpoint": {"everySteps": 50}},
    "upload": {"repository": "acme/smollm2-glosses"},
}

MIXTURE: dict[str, Any] = {
    "dataset": None,
    "datasets": [
        {"source": "hf://acme/a", "format": {"sharegpt": {}}, "weight": "3"},
        {
            "source": "configmap://words/b.jsonl",
            "format": {"text": {}},
            "weight": "1",
            "tokenSecretRef": {"name": "unused"},
        },
    ],
}


def test_the_documented_example_is_the_plan_of_the_spec_that_it_shows() -> None:
    example = json.loads((DOCS / "examples" / "run.json").read_text())
    made = resource("smollm2-glosses", **EXAMPLE)
    made = made.model_copy(
        update={"metadata": made.metadata.model_copy(update={"namespace": "default"})}
    )
    run = dict(make_plan(made, SETTINGS).run)
    assert {**run, "planHash": example["planHash"]} == example


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EXAMPLE,
        {"method": {"lora": None, "full": {}}, "upload": None},
        {"method": {"lora": None, "adapter": {"nonLinearity": "GELU", "quantization": "NF4"}}},
        {"tracking": {"tensorboard": {}, "wandb": {"project": "glosses"}}},
        {"tracking": {"mlflow": {"experiment": "glosses"}}},
        {"model": {"source": "pvc://models/base"}, "resources": {"nodes": 2, "gpusPerNode": 8}},
        {"parallelism": {"strategy": "FSDP", "fsdp": {}}},
        {"parallelism": {"strategy": "DeepSpeed", "deepspeed": {"stage": 1, "offload": "CPU"}}},
        {"training": {"maxSteps": 10, "evaluateEverySteps": 5}, "rerunToken": "again"},
        PREFERENCE,
        {**JUDGED, "training": {"preference": {"loss": "KTO", "undesirableWeight": "2"}}},
        CLASSES,
        {"training": {"evaluateEverySteps": 5, "earlyStopping": {"minDelta": "1e-3"},
                      "loadBestModelAtEnd": True, "checkpoint": {"everySeconds": 600}}},
        {"dataset": {"format": {"questionAnswer": None, "template": {
            "prompt": "Q: {q}", "completion": "{a}"}}}},
        MIXTURE,
    ],
)  # fmt: skip
def test_the_trainer_reads_what_the_operator_plans(changes: dict[str, Any]) -> None:
    run = Run.model_validate(plan(**changes).run)
    assert run.plan_hash == plan(**changes).hash


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EXAMPLE,
        MIXTURE,
        {"method": {"lora": None, "full": {}}},
        {"method": {"lora": None, "ia3": {"targetModules": ["a"], "feedforwardModules": ["a"]}}},
        {"method": {"lora": None, "adapter": {"targetModules": ["a"], "modulesToSave": ["b"]}}},
        {"method": {"lora": None, "prompt": {"text": "a"}}},
        {
            "training": {
                "neftuneNoiseAlpha": "5",
                "loss": {"module": "a", "function": "b", "configMapRef": {"name": "c"}},
            }
        },
        {"method": {"lora": None, "pTuning": {"encoderHiddenSize": 8}}},
    ],
)
def test_no_word_of_the_plan_is_unknown_to_the_contracts_schema(changes: dict[str, Any]) -> None:
    schema = json.loads((DOCS / "run.schema.json").read_text())
    assert set(schema["required"]) <= set(plan(**changes).run)
    assert list(unknown(plan(**changes).run, schema, schema["$defs"])) == []


def unknown(value: Any, schema: dict[str, Any], types: dict[str, Any]) -> Iterator[str]:
    """The keys of this value that the schema does not name."""
    for member in schema.get("anyOf", [schema]):
        if "$ref" in member:
            schema = types[member["$ref"].rpartition("/")[2]]
    if isinstance(value, Mapping) and "properties" in schema:
        for key, inner in value.items():
            if key not in schema["properties"]:
                yield key
            else:
                yield from unknown(inner, schema["properties"][key], types)


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({}, "model.revision", "main"),
        ({"model": {"revision": "v2"}}, "model.revision", "v2"),
        ({"model": {"source": "pvc://models/base"}}, "model.revision", None),
        ({"model": {"tokenSecretRef": {"name": "hf"}}}, "model.tokenSecretRef", None),
        ({}, "dataset.split", "train"),
        ({}, "dataset.loss", "Completions"),
        ({"dataset": {"loss": "LastTurn"}}, "dataset.loss", "LastTurn"),
        ({"dataset": {"format": TEXT}}, "dataset.loss", "AllTokens"),
        ({}, "method.lora.alpha", 32),
        ({"method": {"lora": {"rank": 8}}}, "method.lora.alpha", 16),
        ({"method": {"lora": {"rank": 8, "alpha": 8}}}, "method.lora.alpha", 8),
        ({}, "method.lora.rslora", False),
        ({}, "method.lora.loraPlusRatio", "1"),
        ({"method": {"lora": {"loraPlusRatio": "16"}}}, "method.lora.loraPlusRatio", "16"),
        ({}, "method.lora.dora", False),
        ({"method": {"lora": {"dora": True}}}, "method.lora.dora", True),
        ({}, "method.lora.initialization", "Default"),
        ({"method": {"lora": {"initialization": "OLoRA"}}}, "method.lora.initialization", "OLoRA"),
        ({}, "method.lora.modulesToSave", []),
        ({"method": {"lora": {"modulesToSave": ["h"]}}}, "method.lora.modulesToSave", ["h"]),
        ({}, "method.lora.quantization", None),
        ({"method": {"lora": {"quantization": "NF4"}}}, "method.lora.quantization", "NF4"),
        ({}, "merge.base", "Original"),
        ({}, "method.lora.targetModules", ["all-linear"]),
        ({"method": {"lora": {"targetModules": ["q"]}}}, "method.lora.targetModules", ["q"]),
        ({"method": {"lora": None, "full": {}}}, "method.full", {}),
        ({}, "task", "Generation"),
        ({}, "training.preference", None),
        ({}, "training.packing", True),
        (PREFERENCE, "training.preference", {"loss": "DPO", "beta": "0.1"}),
        (
            {**PREFERENCE, "training": {"preference": {"loss": "SimPO"}}},
            "training.preference",
            {"loss": "SimPO", "beta": "2", "gamma": "0.5"},
        ),
        (
            {**JUDGED, "training": {"preference": {"loss": "KTO", "desirableWeight": "1.2"}}},
            "training.preference",
            {"loss": "KTO", "beta": "0.1", "desirableWeight": "1.2", "undesirableWeight": "1"},
        ),
        (
            PREFERENCE,
            "dataset.format",
            {"preference": {"chosen": "chosen", "rejected": "rejected"}},
        ),
        (
            JUDGED,
            "dataset.format",
            {"preference": {"prompt": "question", "completion": "answer", "label": "label"}},
        ),
        (PREFERENCE, "training.learningRate", "5e-6"),
        (PREFERENCE, "training.packing", True),
        (CLASSES, "training.packing", False),
        (CLASSES, "training.learningRate", "2e-4"),
        ({}, "training.learningRate", "2e-4"),
        ({"method": {"lora": None, "full": {}}}, "training.learningRate", "2e-5"),
        ({"method": {"lora": None, "adapter": {}}}, "training.learningRate", "1e-4"),
        ({"method": {"lora": None, "ia3": {}}}, "training.learningRate", "3e-3"),
        ({"method": {"lora": None, "prompt": {}}}, "training.learningRate", "3e-2"),
        ({"method": {"lora": None, "prefix": {}}}, "training.learningRate", "1e-2"),
        ({"method": {"lora": None, "pTuning": {}}}, "training.learningRate", "1e-3"),
        ({"method": {"lora": None, "ia3": {}}}, "method", {"ia3": {}}),
        ({"method": {"lora": None, "adapter": {}}}, "method",
         {"adapter": {"reductionFactor": 16, "nonLinearity": "ReLU"}}),
        ({"method": {"lora": None, "full": {"trainable": ["a.*"]}}}, "method",
         {"full": {"trainable": ["a.*"]}}),
        ({"method": {"lora": None, "prompt": {"text": "a"}}}, "method",
         {"prompt": {"virtualTokens": 20, "text": "a"}}),
        ({"method": {"lora": None, "ia3": {}}}, "upload.artifacts", ["Merged", "Adapter"]),
        ({"method": {"lora": None, "prefix": {}}}, "upload.artifacts", ["Adapter"]),
        ({"method": {"lora": None, "adapter": {}}}, "upload.artifacts", ["Adapter"]),
        ({"method": {"lora": None, "prefix": {}}}, "merge", None),
        ({"training": {"learningRate": "1e-3"}}, "training.learningRate", "1e-3"),
        ({}, "training.loss", None),
        ({}, "training.neftuneNoiseAlpha", None),
        ({"training": {"neftuneNoiseAlpha": "5"}}, "training.neftuneNoiseAlpha", "5"),
        ({}, "training.optimizer", {"type": "AdamW"}),
        ({"training": {"optimizer": {"type": "SGD", "momentum": "0.8"}}}, "training.optimizer",
         {"type": "SGD", "momentum": "0.8"}),
        ({"training": {"scheduler": {"warmupSteps": 7}}}, "training.scheduler.warmupSteps", 7),
        ({}, "training.scheduler", {"type": "Cosine", "warmupRatio": "0.03"}),
        ({}, "training.epochs", 1),
        ({"training": {"epochs": 3}}, "training.epochs", 3),
        ({"training": {"maxSteps": 5}}, "training.epochs", None),
        ({"training": {"maxSteps": 5}}, "training.maxSteps", 5),
        ({}, "training.evaluateEverySteps", 0),
        ({}, "training.loadBestModelAtEnd", False),
        ({}, "training.samplesAtEvaluation", 0),
        ({}, "training.earlyStopping", None),
        ({"training": {"evaluateEverySteps": 5, "earlyStopping": {}}}, "training.earlyStopping",
         {"patience": 3, "minDelta": "0"}),
        ({}, "training.checkpoint.everySeconds", None),
        ({"training": {"checkpoint": {"everySeconds": 60}}}, "training.checkpoint.everySeconds",
         60),
        ({}, "tracking", None),
        ({"tracking": {"tensorboard": {}}}, "tracking", {"tensorboard": {}}),
        ({}, "resources", {"nodes": 1, "gpusPerNode": 0}),
        ({}, "parallelism", {"strategy": "Auto"}),
        (
            {"parallelism": {"strategy": "FSDP", "fsdp": {"cpuOffload": True}}},
            "parallelism.fsdp",
            {"cpuOffload": True, "reshardAfterForward": True},
        ),
        ({}, "merge.precision", "Auto"),
        ({"merge": {"precision": "Float32"}}, "merge.precision", "Float32"),
        ({"upload": {"artifacts": ["Adapter"]}}, "merge", None),
        ({"upload": None}, "merge", None),
        ({"upload": None, "merge": {}}, "merge.precision", "Auto"),
        ({"method": {"lora": None, "full": {}}}, "merge", None),
        ({}, "upload.artifacts", ["Merged", "Adapter"]),
        ({"method": {"lora": None, "full": {}}}, "upload.artifacts", ["Merged"]),
        ({"upload": {"artifacts": ["Adapter"]}}, "upload.artifacts", ["Adapter"]),
        ({}, "upload.tokenSecretRef", None),
        ({"upload": None}, "upload", None),
    ],
)  # fmt: skip
def test_what_is_left_out_is_derived(changes: dict[str, Any], path: str, value: Any) -> None:
    found: Any = plan(**changes).run
    for key in path.split("."):
        found = found.get(key) if found is not None else None
    assert found == value


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, "prepare train merge upload"),
        ({"upload": None}, "prepare train"),
        ({"upload": None, "merge": {}}, "prepare train merge"),
        ({"upload": {"artifacts": ["Adapter"]}}, "prepare train upload"),
        ({"upload": {"artifacts": ["Adapter"]}, "merge": {}}, "prepare train merge upload"),
        ({"method": {"lora": None, "full": {}}}, "prepare train upload"),
        ({"method": {"lora": None, "ia3": {}}}, "prepare train merge upload"),
        ({"method": {"lora": None, "pTuning": {}}}, "prepare train upload"),
        ({"method": {"lora": None, "adapter": {}}}, "prepare train upload"),
        ({"method": {"lora": None, "full": {}}, "upload": None}, "prepare train"),
    ],
)
def test_stages_not_asked_for_do_not_exist(changes: dict[str, Any], stages: str) -> None:
    assert plan(**changes).stages == tuple(Stage(stage) for stage in stages.split())


def test_the_same_spec_and_image_give_the_same_hash() -> None:
    assert plan().hash == plan().hash
    assert len(plan().hash) == 12
    assert plan(scheduling={"priorityClassName": "high"}).hash == plan().hash


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"seed": 1}},
        {"rerunToken": "again"},
        {"trainer": {"image": "trainer:2"}},
    ],
)
def test_what_defines_the_run_changes_the_hash(changes: dict[str, Any]) -> None:
    assert plan(**changes).hash != plan().hash


def test_the_operators_image_is_the_default_and_part_of_the_hash() -> None:
    newer = Settings(trainer_image="trainer:2")
    assert plan(newer).trainer_image == "trainer:2"
    assert plan(newer).hash != plan().hash
    assert plan(newer, trainer={"image": "mine:1"}).trainer_image == "mine:1"


def test_every_data_set_of_a_mixture_has_its_defaults() -> None:
    run = plan(**MIXTURE).run
    assert "dataset" not in run
    assert run["datasets"] == [
        {
            "source": "hf://acme/a",
            "revision": "main",
            "split": "train",
            "format": {"sharegpt": {"conversations": "conversations"}},
            "loss": "Completions",
            "weight": "3",
        },
        {
            "source": "configmap://words/b.jsonl",
            "split": "train",
            "format": {"text": {"text": "text"}},
            "loss": "AllTokens",
            "weight": "1",
        },
    ]


def test_a_plan_that_continues_has_the_later_settings_of_the_spec_and_all_else_as_pinned() -> None:
    pinned = plan(rerunToken="a")
    asked = resource(rerunToken="b", upload={"repository": "acme/other"}, training={"seed": 7})
    made = continued(pinned, asked, Settings(trainer_image="trainer:2"), Stage.UPLOAD)
    assert made.run == {
        **pinned.run,
        "upload": {**pinned.run["upload"], "repository": "acme/other"},
        "rerunToken": "b",
        "continues": {
            "plan": pinned.hash,
            "stages": dict.fromkeys(("prepare", "train", "merge"), pinned.hash),
        },
        "planHash": made.hash,
    }
    assert made.trainer_image == "trainer:1"
    assert made.hash != pinned.hash


def test_every_stage_works_by_the_last_plan_that_told_it_something_else() -> None:
    first = plan()
    merged = resource(rerunToken="a", merge={"precision": "Float32"})
    second = continued(first, merged, SETTINGS, Stage.MERGE)
    uploaded = resource(rerunToken="b", merge={"precision": "Float32"}, upload={"private": True})
    third = continued(second, uploaded, SETTINGS, Stage.UPLOAD)
    assert [hash_for(third, stage) for stage in Stage] == [
        first.hash,
        first.hash,
        second.hash,
        third.hash,
    ]
    assert {hash_for(first, stage) for stage in Stage} == {first.hash}


def test_the_same_rerun_gives_the_same_plan_and_none_that_was_there_before() -> None:
    there = resource(rerunToken="a", upload={"private": True})
    back = resource(rerunToken="b")
    first = plan(rerunToken="b")
    second = continued(first, there, SETTINGS, Stage.UPLOAD)
    assert continued(first, there, SETTINGS, Stage.UPLOAD) == second
    third = continued(second, back, SETTINGS, Stage.UPLOAD)
    fourth = continued(third, there, SETTINGS, Stage.UPLOAD)
    assert len({made.hash for made in (first, second, third, fourth)}) == 4


def test_a_plan_that_continues_may_have_more_stages_or_fewer() -> None:
    pinned = plan()
    fewer = continued(pinned, resource(rerunToken="a", upload=None), SETTINGS, Stage.MERGE)
    assert fewer.stages == (Stage.PREPARE, Stage.TRAIN)
    again = continued(fewer, resource(rerunToken="b"), SETTINGS, Stage.MERGE)
    assert again.stages == pinned.stages


def test_the_trainer_knows_whose_workspace_it_works_in() -> None:
    pinned = plan()
    asked = resource(rerunToken="a", upload={"private": True})
    made = continued(pinned, asked, SETTINGS, Stage.UPLOAD)
    run = Run.model_validate(made.run)
    assert [run.works_by(stage) for stage in Stage] == [*[pinned.hash] * 3, made.hash]
    assert Run.model_validate(pinned.run).works_by("prepare") == pinned.hash
