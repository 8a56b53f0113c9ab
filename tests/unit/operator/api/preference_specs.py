"""Good and bad specs of task Preference, one sentence each, as in `good_specs` and `bad_specs`."""

from __future__ import annotations

from unit.operator.api.jobs import ABSENT, Case, Json

_PREFERENCE: Json = {"spec.task": "Preference", "spec.dataset.format": {"preference": {}}}
_PART: Json = {"source": "hf://acme/part", "format": {"text": {}}}
_PAIRS: Json = {"source": "hf://acme/pairs", "format": {"preference": {}}}
_COLUMNS: Json = {"prompt": "prompt", "completion": "completion"}
_JUDGED: Json = {"spec.task": "Preference", "spec.dataset.format": {"preference": _COLUMNS}}
_KTO: Json = {"spec.training.preference": {"loss": "KTO"}}
_ONE_ANSWER = (
    "dataset.format.preference.completion is one answer, but training.preference.loss compares "
    "two: set loss to KTO, or name the columns chosen and rejected"
)
_ONE_OR_TWO = "completion is a row's only answer: remove completion, or chosen and rejected"


def _several(*parts: Json) -> Json:
    return {"spec.dataset": ABSENT, "spec.datasets": list(parts)}


GOOD_PREFERENCES = (
    Case("preferences", _PREFERENCE),
    Case(
        "preferences of several data sets",
        {
            "spec.task": "Preference",
            "spec.dataset": ABSENT,
            "spec.datasets": [{**_PART, "format": {"preference": {}}}] * 2,
        },
    ),
    Case(
        "preferences with columns and loss of one's own",
        {
            "spec.task": "Preference",
            "spec.dataset.format": {"preference": {"prompt": "question", "chosen": "good"}},
            "spec.dataset.loss": "Completions",
            "spec.training.preference": {"loss": "SimPO", "beta": "2.5", "gamma": "0"},
        },
    ),
    Case("the odds ratio", {**_PREFERENCE, "spec.training.preference": {"loss": "ORPO"}}),
    Case("answers judged one by one", {**_JUDGED, **_KTO}),
    Case(
        "answers judged one by one, with weights and a column of one's own",
        {
            "spec.task": "Preference",
            "spec.dataset.format": {"preference": {**_COLUMNS, "label": "liked"}},
            "spec.training.preference": {
                "loss": "KTO",
                "beta": "0.3",
                "desirableWeight": "1.33",
                "undesirableWeight": "100",
            },
        },
    ),
    Case("pairs as answers judged one by one", {**_PREFERENCE, **_KTO}),
    Case(
        "pairs beside answers judged one by one",
        {
            "spec.task": "Preference",
            **_several({**_PAIRS, "format": {"preference": _COLUMNS}}, _PAIRS),
            **_KTO,
        },
    ),
)

BAD_PREFERENCES = (
    Case(
        "a loss on the last turn of preferred answers",
        {**_PREFERENCE, "spec.dataset.loss": "LastTurn"},
        "format.preference trains the answers alone: remove loss, or set it to Completions",
    ),
    Case(
        "preference from one answer each",
        {"spec.task": "Preference"},
        "task Preference needs dataset.format.preference: set it to the columns with the answers",
    ),
    Case(
        "preference from one answer each in the second data set",
        {"spec.task": "Preference", **_several(_PAIRS, _PART)},
        "task Preference needs dataset.format.preference: set it to the columns with the answers",
    ),
    Case(
        "two answers to generate from in the second data set",
        _several(_PART, _PAIRS),
        "dataset.format.preference is for task Preference: set task, or another format",
    ),
    Case(
        "two answers to generate from",
        {"spec.dataset.format": {"preference": {}}},
        "dataset.format.preference is for task Preference: set task, or another format",
    ),
    Case(
        "a preference loss without preferences",
        {"spec.training.preference": {"loss": "DPO"}},
        "training.preference is for task Preference: set task, or remove training.preference",
    ),
    Case(
        "a margin for a loss that has none",
        {**_PREFERENCE, "spec.training.preference": {"loss": "DPO", "gamma": "1"}},
        "gamma is SimPO's margin: remove gamma, or set loss to SimPO",
    ),
    Case(
        "preferences that count for nothing",
        {**_PREFERENCE, "spec.training.preference": {"beta": "0"}},
        'beta must be greater than 0 and at most 100, for example "0.1"',
    ),
    Case(
        "a margin beyond reason",
        {**_PREFERENCE, "spec.training.preference": {"loss": "SimPO", "gamma": "101"}},
        'gamma must be at most 100, for example "0.5"',
    ),
    Case("one answer for a loss that compares two", _JUDGED, _ONE_ANSWER),
    Case(
        "one answer in the second data set for a loss that compares two",
        {
            "spec.task": "Preference",
            **_several(_PAIRS, {**_PAIRS, "format": {"preference": _COLUMNS}}),
            "spec.training.preference": {"loss": "SimPO"},
        },
        _ONE_ANSWER,
    ),
    Case(
        "one answer and two",
        {
            "spec.task": "Preference",
            "spec.dataset.format": {"preference": {**_COLUMNS, "rejected": "bad"}},
            **_KTO,
        },
        _ONE_OR_TWO,
    ),
    Case(
        "an answer to nothing",
        {
            "spec.task": "Preference",
            "spec.dataset.format": {"preference": {"completion": "completion"}},
            **_KTO,
        },
        "completion needs the column that it follows: set prompt",
    ),
    Case(
        "a label of two answers",
        {
            "spec.task": "Preference",
            "spec.dataset.format": {"preference": {"label": "label"}},
            **_KTO,
        },
        "label judges completion: set completion, or remove label",
    ),
    Case(
        "a weight for a loss that has none",
        {**_PREFERENCE, "spec.training.preference": {"undesirableWeight": "2"}},
        "desirableWeight and undesirableWeight are KTO's: remove them, or set loss to KTO",
    ),
    Case(
        "desirable answers that count for nothing",
        {**_PREFERENCE, "spec.training.preference": {"loss": "KTO", "desirableWeight": "0"}},
        'the weight must be greater than 0 and at most 100, for example "1.5"',
    ),
    Case(
        "a weight beyond reason",
        {**_PREFERENCE, "spec.training.preference": {"loss": "KTO", "undesirableWeight": "101"}},
        'the weight must be greater than 0 and at most 100, for example "1.5"',
    ),
)
