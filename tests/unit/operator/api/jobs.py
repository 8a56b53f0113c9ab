"""FineTuneJobs as JSON for tests: a minimal one, and changes to it written as dotted paths."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.vocabulary import API_VERSION, KIND

Json = dict[str, Any]

ABSENT = object()
"""As the value of a change: the field is removed."""

_MINIMAL: Json = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "job"},
    "spec": {
        "model": {"source": "hf://acme/model"},
        "dataset": {"source": "hf://acme/data", "format": {"questionAnswer": {}}},
        "method": {"lora": {}},
    },
}


def job(changes: Mapping[str, Any] | None = None, *, base: Json | None = None) -> Json:
    """The minimal job with changes: `{"spec.training.epochs": 2}`; `a.b[0]` is a list's item."""
    changed = copy.deepcopy(_MINIMAL if base is None else base)
    for path, value in (changes or {}).items():
        put(changed, path, value)
    return changed


def put(document: Json, path: str, value: Any) -> None:
    """Set the value at a path, with the objects on the way."""
    *parents, last = _keys(path)
    holder: Any = document
    for key in parents:
        holder = holder[key] if isinstance(key, int) else holder.setdefault(key, {})
    if value is ABSENT:
        del holder[last]
    else:
        holder[last] = copy.deepcopy(value)


def get(document: Json, path: str) -> Any:
    """The value at a path, or ABSENT."""
    value: Any = document
    for key in _keys(path):
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value


def _keys(path: str) -> list[str | int]:
    """`a.b[0]` is a, b, 0."""
    keys: list[str | int] = []
    for part in path.replace("[", ".[").split("."):
        keys.append(int(part[1:-1]) if part.startswith("[") else part)
    return keys


@dataclass(frozen=True)
class Case:
    """A job in a sentence and, when it is bad, a fragment of what the API server says about it."""

    sentence: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    base: Json | None = None

    @property
    def job(self) -> Json:
        return job(self.changes, base=self.base)

    def __str__(self) -> str:
        return self.sentence
