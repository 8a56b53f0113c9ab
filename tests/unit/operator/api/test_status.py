"""The status as it is written: small, and with a value for every field when all is known."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.status import Status
from unit.operator.api.statuses import FULL_STATUS


def test_the_full_status_of_the_tests_sets_every_field() -> None:
    assert _unset(FULL_STATUS.model_dump()) == []


def test_an_empty_status_says_nothing() -> None:
    assert [key for key, value in Status().model_dump(exclude_none=True).items() if value] == []


def _unset(value: Any, path: str = "status") -> list[str]:
    match value:
        case None:
            return [path]
        case dict():
            return [p for key, item in value.items() for p in _unset(item, f"{path}.{key}")]
        case list():
            return [p for item in value for p in _unset(item, f"{path}[]")] if value else [path]
    return []
