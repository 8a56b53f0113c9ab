"""The runs of every method that the end-to-end tests start are accepted, and none is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.methods import EVERY
from finetune_operator.api.method import Initialization, Method
from finetune_operator.api.optimization import OptimizerType
from unit.operator.api import offline
from unit.operator.api.jobs import job


@pytest.mark.parametrize("changes", EVERY.values(), ids=EVERY)
def test_the_run_of_a_method_is_accepted(changes: dict[str, Any]) -> None:
    assert offline.refusals(job({f"spec.{part}": value for part, value in changes.items()})) == []


def test_every_method_initialization_and_optimizer_has_a_run() -> None:
    methods = [changes["method"] for changes in EVERY.values()]
    known = {field.alias for field in Method.model_fields.values()}
    assert {name for method in methods for name in method} == known
    begun = {method.get("lora", {}).get("initialization", "Default") for method in methods}
    assert begun == set(Initialization) - {Initialization.GAUSSIAN}
    training = [changes.get("training", {}) for changes in EVERY.values()]
    used = {each.get("optimizer", {}).get("type", "AdamW") for each in training}
    assert used == set(OptimizerType)
