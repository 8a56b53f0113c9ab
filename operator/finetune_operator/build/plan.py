"""The ConfigMap that pins a plan, and the plan read back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import Json, owned_metadata
from finetune_operator.core.model import Plan, Settings
from finetune_operator.core.naming import plan_name
from finetune_operator.core.plan import stages_of
from finetune_operator.vocabulary import ANNOTATION_PLAN_HASH

RUN = "run.json"
IMAGE = "trainer-image"
AUTHORITY = "ca.crt"


def plan_config_map(resource: FineTuneJob, plan: Plan, settings: Settings) -> Json:
    """The ConfigMap; immutable, so that nobody changes what a run is while it runs."""
    metadata = owned_metadata(resource, plan_name(resource.metadata.name, plan.hash))
    metadata["annotations"] = {ANNOTATION_PLAN_HASH: plan.hash}
    data = {RUN: json.dumps(plan.run, indent=2, ensure_ascii=False), IMAGE: plan.trainer_image}
    if settings.progress_ca is not None:
        data[AUTHORITY] = settings.progress_ca
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": data,
    }


def plan_of(config_map: Mapping[str, Any]) -> Plan:
    """The plan that a ConfigMap pins."""
    data = config_map["data"]
    run = json.loads(data[RUN])
    return Plan(hash=run["planHash"], run=run, stages=stages_of(run), trainer_image=data[IMAGE])
