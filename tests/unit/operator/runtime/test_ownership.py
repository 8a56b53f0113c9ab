from typing import Any

import pytest

from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateClaim
from finetune_operator.runtime.ownership import obstacle
from unit.operator.builders import SETTINGS, UID, merged, resource

RETAINED = {"reclaim": "Retain"}
GOING = {"deletionTimestamp": "2026-01-31T12:00:00Z"}


def claim(storage: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    made = manifest(CreateClaim(), resource(storage=storage), SETTINGS)
    return merged(made, {"metadata": changes})


def owned(uid: str, name: str = "demo", kind: str = "FineTuneJob") -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": uid, "controller": True}]}


@pytest.mark.parametrize(
    ("storage", "found", "expected"),
    [
        ({}, owned(UID), None),
        ({}, owned("former"), "of the former FineTuneJob is still being deleted"),
        ({}, owned("former") | GOING, "of the former FineTuneJob is still being deleted"),
        ({}, owned(UID) | GOING, "is still being deleted"),
        ({}, owned("other", kind="Notebook"), "does not belong to this FineTuneJob"),
        ({}, owned("other", name="other"), "does not belong to this FineTuneJob"),
        ({}, {"ownerReferences": None}, "does not belong to this FineTuneJob"),
        (RETAINED, {}, None),
        (RETAINED, GOING, "is still being deleted"),
        (RETAINED, owned("former"), "of the former FineTuneJob is still being deleted"),
        (RETAINED, {"labels": None}, "does not belong to this FineTuneJob"),
    ],
)
def test_whose_a_taken_name_is(
    storage: dict[str, Any], found: dict[str, Any], expected: str | None
) -> None:
    refusal = obstacle(claim(storage, found), claim(storage, {}), resource(storage=storage))
    assert (refusal is None) is (expected is None)
    if refusal is not None:
        assert refusal.message.startswith("PersistentVolumeClaim demo-workspace ")
        assert (expected or "") in refusal.message
        assert refusal.final is ("belong" in refusal.message)
        assert refusal.passes is not refusal.final
