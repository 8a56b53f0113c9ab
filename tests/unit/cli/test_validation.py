"""The sentences of `validate`. That the verdicts are the API server's is asked in
unit/operator/api/test_agreement.py and integration/test_crd.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.validation import problems
from unit.operator.api.jobs import ABSENT, job

TABLE: list[tuple[dict[str, Any], str]] = [
    (
        {"spec.method.lora.rnk": 8},
        "spec.method.lora.rnk: is not a field: did you mean rank?",
    ),
    (
        {"spec.trainning": {}},
        "spec.trainning: is not a field: did you mean training?",
    ),
    (
        {"spec.model.source": "gpt2"},
        "spec.model.source: must be hf://OWNER/NAME (Hugging Face Hub) or pvc://CLAIM/PATH",
    ),
    ({"spec.model": ABSENT}, "spec.model: is required: The base model."),
    (
        {"spec.training": {"epochs": "3"}},
        "spec.training.epochs: must be a whole number, without quotes",
    ),
    (
        {"spec.training": {"learningRate": 2e-4}},
        "spec.training.learningRate: must be a string: put it in quotes",
    ),
    (
        {"spec.training": {"epochs": 0}},
        "spec.training.epochs: must be greater than or equal to 1",
    ),
    ({"spec.method.lora": []}, "spec.method.lora: must be an object"),
    ({"metadata.name": "Big"}, "metadata.name must be at most 48 characters"),
    ({"spec.method.full": {}}, "spec.method: "),
    ({"apiVersion": "v1"}, "apiVersion: must be finetune.dev/v1alpha1, not 'v1'"),
    ({"kind": "Job"}, "kind: must be FineTuneJob, not 'Job'"),
    ({"spec": ABSENT}, "spec: is required"),
    ({"metadata": ABSENT}, "metadata.name: is required"),
]


@pytest.mark.parametrize(("changes", "sentence"), TABLE, ids=[row[1][:40] for row in TABLE])
def test_a_problem_is_told_with_its_path_and_remedy(changes: dict[str, Any], sentence: str) -> None:
    found = [str(problem) for problem in problems(job(changes))]
    assert [text for text in found if text.startswith(sentence)], found


@pytest.mark.parametrize("document", [None, 7, "text", ["a"]])
def test_what_is_no_object_is_told(document: object) -> None:
    assert str(problems(document)[0]).startswith("it is not an object")


def test_a_good_job_has_no_problem() -> None:
    assert problems(job()) == []


@pytest.mark.parametrize("name", ["x; true", "a\nb", "Team", "a.b", "x" * 64])
def test_what_is_no_namespace_is_told(name: str) -> None:
    document = job({"metadata": {"name": "demo", "namespace": name}})
    assert [problem.path for problem in problems(document)] == ["metadata.namespace"]
