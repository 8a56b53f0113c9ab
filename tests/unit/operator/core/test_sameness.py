import dataclasses
from typing import Any

import pytest

from finetune_operator.core.model import Plan
from finetune_operator.core.plan import stages_of
from finetune_operator.core.sameness import same_run
from unit.operator.builders import SETTINGS, plan, resource

ADAPTER: dict[str, Any] = {"upload": {"artifacts": ["Adapter"]}}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"rerunToken": "again"}, True),
        ({"resources": {"memory": "64Gi"}}, True),
        ({"resources": {"nodes": 2}}, False),
        ({"training": {"seed": 1}}, False),
        ({"parallelism": {"strategy": "Auto"}}, True),
        ({"parallelism": {"strategy": "FSDP"}}, False),
        ({"training": {"checkpoint": {"keep": 5}}}, False),
        ({"dataset": {"validation": {"fraction": "0.1"}}}, False),
        ({"upload": None}, False),
        ({"upload": {"private": True}}, False),
    ],
)
def test_a_rerun_compares_what_the_stages_are_told(changes: dict[str, Any], same: bool) -> None:
    assert same_run(resource(**changes), plan(), SETTINGS) is same


def older(path: str, **changes: Any) -> Plan:
    """The plan of an operator that did not know this key yet."""
    made = plan(**changes)

    def without(run: Any, keys: list[str]) -> dict[str, Any]:
        if len(keys) == 1:
            return {key: value for key, value in run.items() if key != keys[0]}
        return {**run, keys[0]: without(run[keys[0]], keys[1:])}

    run = without(made.run, path.split("."))
    return dataclasses.replace(made, run=run, stages=stages_of(run))


@pytest.mark.parametrize(
    ("unknown", "changes"),
    [
        ("training.precision", {"training": {"precision": "Bfloat16"}}),
        ("training.compile", {"training": {"compile": "Never"}}),
        ("training.packing", {"training": {"packing": False}}),
        (
            "task",
            {
                "task": "Preference",
                "dataset": {"format": {"preference": {}, "questionAnswer": None}},
            },
        ),
        ("training.checkpoint", {"training": {"checkpoint": {"keep": 5}}}),
        ("training.scheduler.type", {"training": {"scheduler": {"type": "Linear"}}}),
        ("training.samplesAtEvaluation", {"training": {"samplesAtEvaluation": 2}}),
        ("training.loadBestModelAtEnd", {"training": {"loadBestModelAtEnd": True}}),
        ("training.earlyStopping", {"training": {"earlyStopping": {"patience": 2}}}),
        ("training.checkpoint.everySeconds", {"training": {"checkpoint": {"everySeconds": 60}}}),
        ("training.scheduler.minRatio", {"training": {"scheduler": {"minRatio": "0.1"}}}),
        ("training.neftuneNoiseAlpha", {"training": {"neftuneNoiseAlpha": "5"}}),
        ("training.loss", {"training": {"loss": {"module": "a", "function": "b"}}}),
        ("training.optimizer", {"training": {"optimizer": {"type": "SGD"}}}),
        ("training.learningRate", {"training": {"learningRate": "1e-5"}}),
        ("method.lora.dropout", {"method": {"lora": {"dropout": "0.1"}}}),
        ("method.lora.rslora", {"method": {"lora": {"rslora": True}}}),
        ("method.lora.loraPlusRatio", {"method": {"lora": {"loraPlusRatio": "16"}}}),
        ("method.lora.dora", {"method": {"lora": {"dora": True}}}),
        ("method.lora.initialization", {"method": {"lora": {"initialization": "PiSSA"}}}),
        ("method.lora.modulesToSave", {"method": {"lora": {"modulesToSave": ["lm_head"]}}}),
        ("method.lora.quantization", {"method": {"lora": {"quantization": "NF4"}}}),
        ("merge.base", {"merge": {"base": "Dequantized"}}),
        ("method.lora.alpha", {"method": {"lora": {"alpha": 7}}}),
        ("dataset.loss", {"dataset": {"loss": "AllTokens"}}),
        ("parallelism", {"parallelism": {"strategy": "FSDP"}}),
        ("upload.private", {"upload": {"private": True}}),
        ("merge.precision", {"merge": {"precision": "Float32"}}),
    ],
)
def test_a_key_that_is_new_counts_if_the_user_has_set_it(
    unknown: str, changes: dict[str, Any]
) -> None:
    assert same_run(resource(), older(unknown), SETTINGS)
    assert not same_run(resource(**changes), older(unknown), SETTINGS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"upload": None}, {}),
        (ADAPTER, {**ADAPTER, "merge": {}}),
        ({"dataset": {"validation": {"fraction": "0.1"}}}, {}),
        ({"dataset": {"subset": "a"}}, {}),
    ],
)
def test_a_part_that_comes_or_goes_counts(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert not same_run(resource(**after), plan(**before), SETTINGS)


def mixture(*changes: dict[str, Any]) -> dict[str, Any]:
    parts = [
        {"source": f"hf://acme/{n}", "format": {"text": {}}, **c} for n, c in enumerate(changes)
    ]
    return {"dataset": None, "datasets": parts}


@pytest.mark.parametrize(
    ("after", "same"),
    [
        (mixture({}, {}), True),
        (mixture({}, {"weight": "1"}), False),
        (mixture({}, {"split": "test"}), False),
        (mixture({}, {}, {}), False),
        (mixture({}), False),
        ({}, False),
    ],
)
def test_every_data_set_of_a_mixture_counts(after: dict[str, Any], same: bool) -> None:
    assert same_run(resource(**after), plan(**mixture({}, {})), SETTINGS) is same


def test_a_key_that_is_new_inside_a_list_counts_if_the_user_has_set_it() -> None:
    pinned = plan(**mixture({}, {}))
    parts = [{k: v for k, v in part.items() if k != "split"} for part in pinned.run["datasets"]]
    older = dataclasses.replace(pinned, run={**pinned.run, "datasets": parts})
    assert same_run(resource(**mixture({}, {})), older, SETTINGS)
    assert not same_run(resource(**mixture({}, {"split": "test"})), older, SETTINGS)


def test_a_data_set_in_place_of_several_counts() -> None:
    assert not same_run(resource(**mixture({})), plan(), SETTINGS)
