"""The objects beside the Jobs: plan, claim, Service."""

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.build.manifests import Creation, manifest
from finetune_operator.build.plan import plan_of
from finetune_operator.core.model import (
    CreateClaim,
    CreatePlan,
    CreateService,
    Platform,
    Settings,
)
from finetune_operator.core.plan import continued
from finetune_operator.vocabulary import Stage
from unit.operator.builders import SETTINGS, UID, plan, resource


def built(action: Creation, settings: Settings = SETTINGS, **changes: Any) -> dict[str, Any]:
    return manifest(action, resource(**changes), settings)


def test_the_plan_is_pinned_in_an_immutable_config_map() -> None:
    made = built(CreatePlan(plan()))
    assert made["immutable"] is True
    assert made["metadata"]["name"] == f"demo-plan-{plan().hash[:8]}"
    assert made["metadata"]["ownerReferences"][0]["uid"] == UID
    assert json.loads(made["data"]["run.json"])["planHash"] == plan().hash
    assert "ca.crt" not in made["data"]


def test_the_endpoints_authority_lies_beside_the_plan() -> None:
    settings = Settings(trainer_image="trainer:1", progress_ca="PEM")
    assert built(CreatePlan(plan()), settings)["data"]["ca.crt"] == "PEM"


@pytest.mark.parametrize("changes", [{}, {"upload": None}, {"trainer": {"image": "mine:1"}}])
def test_a_pinned_plan_reads_back_as_it_was(changes: dict[str, Any]) -> None:
    assert plan_of(built(CreatePlan(plan(**changes)))) == plan(**changes)


def test_a_plan_that_continues_another_reads_back_as_it_was() -> None:
    asked = resource(rerunToken="a", upload=None)
    made = continued(plan(), asked, SETTINGS, Stage.MERGE)
    assert plan_of(built(CreatePlan(made))) == made


def test_the_claim_goes_with_its_owner_unless_it_is_to_be_kept() -> None:
    claim = built(CreateClaim())
    assert claim["metadata"]["name"] == "demo-workspace"
    assert claim["metadata"]["ownerReferences"][0]["uid"] == UID
    kept = built(CreateClaim(), storage={"reclaim": "Retain"})
    assert "ownerReferences" not in kept["metadata"]
    assert kept["metadata"]["labels"] == claim["metadata"]["labels"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "50Gi"}},
            },
        ),
        (
            {"storage": {"size": "1Ti", "storageClassName": "fast"}},
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Ti"}},
                "storageClassName": "fast",
            },
        ),
        (
            {"resources": {"nodes": 2}},
            {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "50Gi"}},
            },
        ),
        (
            {"storage": {"accessMode": "ReadWriteMany"}},
            {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "50Gi"}},
            },
        ),
    ],
)
def test_the_claim_is_what_storage_asks_for(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert built(CreateClaim(), **changes)["spec"] == expected


def test_the_platforms_storage_class_is_for_claims_that_name_none() -> None:
    settings = replace(SETTINGS, platform=Platform(storage_class="shared"))
    assert built(CreateClaim(), settings)["spec"]["storageClassName"] == "shared"
    own = built(CreateClaim(), settings, storage={"storageClassName": "fast"})
    assert own["spec"]["storageClassName"] == "fast"


def test_training_pods_of_every_attempt_are_found_by_one_headless_service() -> None:
    service = built(CreateService())
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {
        "app.kubernetes.io/managed-by": "finetune-operator",
        "finetune.dev/run": "demo",
        "finetune.dev/stage": "train",
    }
