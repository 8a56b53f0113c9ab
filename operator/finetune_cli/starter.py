"""A first FineTuneJob from a few answers: what `init` writes. Pure; the caller validates it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_cli.output import text_of
from finetune_operator.vocabulary import API_VERSION, KIND

Json = dict[str, Any]

# Columns that most data sets of that form have.
FORMATS: Mapping[str, Json] = {
    "messages": {},
    "questionAnswer": {"question": "question", "answer": "answer"},
    "promptCompletion": {"prompt": "prompt", "completion": "completion"},
    "alpaca": {},
    "sharegpt": {},
    "text": {},
    "preference": {"chosen": "chosen", "rejected": "rejected"},
    "classification": {"text": "text", "label": "label"},
}
WRITE_SECRET = "hf-write"
_TASKS = {"preference": "Preference", "classification": "Classification"}
METHODS: Mapping[str, Json] = {
    "lora": {"lora": {"rank": 16}},
    "qlora": {"lora": {"rank": 16, "quantization": "NF4"}},
    "full": {"full": {}},
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person was asked."""

    name: str
    model: str
    dataset: str
    format: str
    method: str
    gpus: int
    repository: str | None
    columns: Mapping[str, str]
    # Reads from the Hub and publishes there; None: what is read is public.
    token_secret: str | None = None


def source(text: str) -> str:
    """OWNER/NAME means the Hub."""
    return text if "://" in text else f"hf://{text}"


def name_from(model: str, dataset: str) -> str:
    """A name to propose: the model's and the data's last words."""
    words = "-".join(part.rsplit("/", 1)[-1].split("-")[0] for part in (model, dataset))
    found = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return (found if found[:1].isalpha() else f"run-{found}")[:48].strip("-")


def document(answers: Answers) -> Json:
    """The FineTuneJob of these answers."""
    spec: Json = {}
    if task := _TASKS.get(answers.format):
        spec["task"] = task
    columns = {**FORMATS[answers.format], **answers.columns}
    spec["model"] = {"source": source(answers.model)}
    spec["dataset"] = {"source": source(answers.dataset), "format": {answers.format: columns}}
    if answers.token_secret:
        for part in (spec["model"], spec["dataset"]):
            if part["source"].startswith("hf://"):
                part["tokenSecretRef"] = {"name": answers.token_secret}
    spec["method"] = METHODS[answers.method]
    if answers.gpus:
        spec["resources"] = {"gpusPerNode": answers.gpus}
    if answers.repository:
        token = {"name": answers.token_secret or WRITE_SECRET}
        spec["upload"] = {"repository": answers.repository, "tokenSecretRef": token}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": answers.name},
        "spec": spec,
    }


def text(made: Json) -> str:
    """The file's content: the document that was made, and what to do with it."""
    lines = [
        "# Everything left out is derived: `kubectl finetune plan FILE` shows it, and",
        "# `kubectl explain ftj.spec` tells what else there is.",
    ]
    for secret in secrets_of(made):
        lines.append(
            f"# The token: kubectl create secret generic {secret} --from-literal=token=hf_…"
        )
    return "\n".join(lines) + "\n" + text_of(made)


def secrets_of(made: Json) -> list[str]:
    """The Secrets that a document names, each once."""
    parts = [part for part in made["spec"].values() if isinstance(part, dict)]
    found = (part["tokenSecretRef"]["name"] for part in parts if "tokenSecretRef" in part)
    return list(dict.fromkeys(found))
