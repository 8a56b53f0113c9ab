import dataclasses
from typing import Any

import pytest

from finetune_operator.api.spec import AFTER_TRAINING
from finetune_operator.core.model import Plan
from finetune_operator.core.plan import FIRST_READER, stages_of
from finetune_operator.core.sameness import first_changed
from finetune_operator.vocabulary import Stage
from unit.operator.builders import SETTINGS, plan, resource

ADAPTER: dict[str, Any] = {"upload": {"artifacts": ["Adapter"]}}
PREPARE, MERGE, UPLOAD = Stage.PREPARE, Stage.MERGE, Stage.UPLOAD


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, None),
        ({"rerunToken": "again"}, None),
        ({"resources": {"memory": "64Gi"}}, None),
        ({"resources": {"nodes": 2}}, PREPARE),
        ({"training": {"seed": 1}}, PREPARE),
        ({"parallelism": {"strategy": "Auto"}}, None),
        ({"parallelism": {"strategy": "FSDP"}}, PREPARE),
        ({"training": {"checkpoint": {"keep": 5}}}, PREPARE),
        ({"dataset": {"validation": {"fraction": "0.1"}}}, PREPARE),
        ({"tracking": {"tensorboard": {}}}, PREPARE),
        ({"merge": {"precision": "Float32"}}, MERGE),
        ({"merge": {}}, None),
        ({"upload": {"private": True}}, UPLOAD),
        ({"upload": {"repository": "acme/other"}}, UPLOAD),
        ({"upload": {"branch": "next"}}, UPLOAD),
        ({"upload": {"artifacts": ["Merged"]}}, UPLOAD),
        ({"upload": {"tokenSecretRef": {"name": "other"}}}, None),
        ({"upload": {"private": True}, "merge": {"precision": "Float32"}}, MERGE),
        ({"upload": {"private": True}, "training": {"seed": 1}}, PREPARE),
        (ADAPTER, MERGE),
        ({"upload": None}, MERGE),
        ({"upload": None, "merge": {}}, UPLOAD),
    ],
)
def test_a_rerun_compares_what_each_stage_is_told(
    changes: dict[str, Any], first: Stage | None
) -> None:
    assert first_changed(resource(**changes), plan(), SETTINGS) is first


METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "full": {},
    "adapter": {},
    "ia3": {},
    "prompt": {"virtualTokens": 8},
    "prefix": {"virtualTokens": 8},
    "pTuning": {"virtualTokens": 8},
}
FORMATS: dict[str, dict[str, Any]] = {
    "questionAnswer": {"question": "q", "answer": "a"},
    "messages": {},
    "text": {"column": "text"},
}
SEVERAL = [{"source": "hf://acme/other", "format": {"messages": {}}, "weight": "1"}]


def only(members: dict[str, dict[str, Any]], chosen: str) -> dict[str, Any]:
    """A choice with this member, and without the one that the minimal spec has."""
    return {**dict.fromkeys(members), chosen: members[chosen]}


@pytest.mark.parametrize("after", METHODS)
@pytest.mark.parametrize("before", METHODS)
def test_another_method_begins_with_prepare(before: str, after: str) -> None:
    pinned = plan(method=only(METHODS, before))
    first = first_changed(resource(method=only(METHODS, after)), pinned, SETTINGS)
    assert first is (None if after == before else PREPARE)


@pytest.mark.parametrize("after", FORMATS)
@pytest.mark.parametrize("before", FORMATS)
def test_another_format_begins_with_prepare(before: str, after: str) -> None:
    pinned = plan(dataset={"format": only(FORMATS, before)})
    asked = resource(dataset={"format": only(FORMATS, after)})
    assert first_changed(asked, pinned, SETTINGS) is (None if after == before else PREPARE)


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"dataset": None, "datasets": SEVERAL}), ({"dataset": None, "datasets": SEVERAL}, {})],
)
def test_several_data_sets_instead_of_one_begin_with_prepare(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert first_changed(resource(**after), plan(**before), SETTINGS) is PREPARE


def test_the_api_promises_to_keep_what_is_trained_where_no_stage_before_is_told() -> None:
    assert set(FIRST_READER) == set(AFTER_TRAINING)


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
    first = FIRST_READER.get(unknown.split(".")[0], PREPARE)
    assert first_changed(resource(), older(unknown), SETTINGS) is None
    assert first_changed(resource(**changes), older(unknown), SETTINGS) is first


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        ({"upload": None}, {}, MERGE),
        ({"upload": None, "merge": {}}, {}, UPLOAD),
        (ADAPTER, {**ADAPTER, "merge": {}}, MERGE),
        (ADAPTER, {}, MERGE),
        ({"dataset": {"validation": {"fraction": "0.1"}}}, {}, PREPARE),
        ({"dataset": {"subset": "a"}}, {}, PREPARE),
    ],
)
def test_a_part_that_comes_or_goes_counts(
    before: dict[str, Any], after: dict[str, Any], first: Stage
) -> None:
    assert first_changed(resource(**after), plan(**before), SETTINGS) is first


def mixture(*changes: dict[str, Any]) -> dict[str, Any]:
    parts = [
        {"source": f"hf://acme/{n}", "format": {"text": {}}, **c} for n, c in enumerate(changes)
    ]
    return {"dataset": None, "datasets": parts}


@pytest.mark.parametrize(
    ("after", "first"),
    [
        (mixture({}, {}), None),
        (mixture({}, {"weight": "1"}), PREPARE),
        (mixture({}, {"split": "test"}), PREPARE),
        (mixture({}, {}, {}), PREPARE),
        (mixture({}), PREPARE),
        ({}, PREPARE),
    ],
)
def test_every_data_set_of_a_mixture_counts(after: dict[str, Any], first: Stage | None) -> None:
    assert first_changed(resource(**after), plan(**mixture({}, {})), SETTINGS) is first


def test_a_key_that_is_new_inside_a_list_counts_if_the_user_has_set_it() -> None:
    pinned = plan(**mixture({}, {}))
    parts = [{k: v for k, v in part.items() if k != "split"} for part in pinned.run["datasets"]]
    older = dataclasses.replace(pinned, run={**pinned.run, "datasets": parts})
    assert first_changed(resource(**mixture({}, {})), older, SETTINGS) is None
    assert first_changed(resource(**mixture({}, {"split": "test"})), older, SETTINGS) is PREPARE


def test_a_data_set_in_place_of_several_counts() -> None:
    assert first_changed(resource(**mixture({})), plan(), SETTINGS) is PREPARE
