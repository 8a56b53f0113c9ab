"""Whatever `init` writes is valid."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import yaml

from finetune_cli.starter import FORMATS, METHODS, Answers, document, name_from, text
from finetune_cli.validation import problems

ANSWERS = Answers("run", "acme/base", "acme/data", "messages", "lora", 1, "acme/tuned", {})


@pytest.mark.parametrize(("form", "method"), list(itertools.product(FORMATS, METHODS)))
def test_every_choice_leads_to_a_valid_file(form: str, method: str) -> None:
    for gpus, repository in ((0, None), (8, "acme/tuned")):
        answers = Answers("run", "acme/base", "pvc://data/x", form, method, gpus, repository, {})
        found = [problem.path for problem in problems(document(answers))]
        # What the API itself refuses; `init` then says why and writes nothing.
        quantized_classes = (form, method) == ("classification", "qlora")
        assert found == (["spec.method.lora.quantization"] if quantized_classes else [])


def test_the_file_holds_the_document() -> None:
    assert yaml.safe_load(text(document(ANSWERS))) == document(ANSWERS)
    assert document(ANSWERS)["spec"]["model"] == {"source": "hf://acme/base"}


def test_a_secrets_token_reads_from_the_hub_and_publishes() -> None:
    made = document(replace(ANSWERS, dataset="pvc://data/x", token_secret="hf-acme"))
    spec, reference = made["spec"], {"name": "hf-acme"}
    assert spec["model"]["tokenSecretRef"] == spec["upload"]["tokenSecretRef"] == reference
    assert "tokenSecretRef" not in spec["dataset"]
    assert list(problems(made)) == []
    assert "create secret generic hf-acme" in text(made)


@pytest.mark.parametrize(
    ("model", "dataset", "name"),
    [
        ("google/gemma-2-2b-it", "nvidia/AceReason-Math", "gemma-acereason"),
        ("acme/7B", "acme/d_1", "run-7b-d-1"),
        ("pvc://models/x", "pvc://data/" + "y" * 90, "x-" + "y" * 46),
    ],
)
def test_a_name_is_proposed_that_the_api_server_takes(model: str, dataset: str, name: str) -> None:
    assert name_from(model, dataset) == name
