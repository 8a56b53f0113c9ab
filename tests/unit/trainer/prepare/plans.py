"""A plan and a workspace for `prepare`, from folders that stand for mounted claims."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.data.examples import Examples
from finetune_trainer.run import Run
from unit.trainer.tiny import VOCABULARY


def plan(**changes: Any) -> Run:
    """A small run; `changes` replace top-level members, dictionaries are merged into them."""
    document: dict[str, Any] = {
        "contractVersion": "v1alpha1",
        "name": "tiny",
        "namespace": "default",
        "planHash": "1111",
        "model": {"source": "pvc://models/tiny"},
        "dataset": {"source": "pvc://data/rows.jsonl", "format": {"questionAnswer": {}}},
        "method": {"lora": {"rank": 4, "alpha": 8}},
        "training": {"epochs": 1, "sequencesPerStep": 2, "sequenceLength": 128},
        "resources": {},
    }
    for key, value in changes.items():
        old = document.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = {**old, **value}
        document[key] = value
    return Run.model_validate(document)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """`rows` as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(count: int) -> list[dict[str, str]]:
    """Rows with a question and an answer."""
    return [{"question": f"What is {n} plus 1?", "answer": f"{n + 1}"} for n in range(count)]


def mixture(parts: Iterable[Mapping[str, Any]], **changes: Any) -> Run:
    """A small run on several data sets."""
    document = plan(**changes).model_dump(mode="json", by_alias=True, exclude={"dataset"})
    return Run.model_validate({**document, "datasets": list(parts)})


def texts(examples: Examples) -> list[str]:
    """Each example as text."""
    return [
        "".join(VOCABULARY[token] for token in examples[index].tokens)
        for index in range(len(examples))
    ]
