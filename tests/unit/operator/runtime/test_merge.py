from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.runtime.merge import merge_patch
from unit.operator.builders import merged


@pytest.mark.parametrize(
    ("name", "old", "new", "patch"),
    [
        ("equal objects need none", {"a": {"b": [1]}}, {"a": {"b": [1]}}, {}),
        ("what is new is added", {}, {"a": 1}, {"a": 1}),
        ("what is gone is removed", {"a": 1}, {}, {"a": None}),
        (
            "only what differs is sent",
            {"a": {"b": 1, "c": 2}},
            {"a": {"b": 1, "c": 3}},
            {"a": {"c": 3}},
        ),
        ("a list is replaced whole", {"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ("an object may take a value's place", {"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_patch(name: str, old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(old, new) == patch, name
    assert merged(old, patch) == new
