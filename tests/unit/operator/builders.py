"""Short ways to say what a test is about: a resource, a Job, an observation.

Everything that a test does not name has a value that does not matter to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator.api.resource import FineTuneJob, Metadata
from finetune_operator.api.spec import Spec
from finetune_operator.api.status import Status
from finetune_operator.core.model import JobRecord, JobState, Plan, Settings, Termination
from finetune_operator.core.naming import job_name
from finetune_operator.core.plan import make_plan
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import Stage

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(trainer_image="trainer:1")
RUN = "demo"
UID = "11111111-2222-3333-4444-555555555555"

MINIMAL: dict[str, Any] = {
    "model": {"source": "hf://acme/base"},
    "dataset": {"source": "hf://acme/data", "format": {"questionAnswer": {}}},
    "method": {"lora": {}},
    "upload": {"repository": "acme/tuned", "tokenSecretRef": {"name": "hf-write"}},
}


def later(seconds: float) -> datetime:
    """A moment after NOW."""
    return NOW + timedelta(seconds=seconds)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch applied: None removes."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def spec(**changes: Any) -> Spec:
    """The minimal spec, changed as a merge patch would (camelCase)."""
    return Spec.model_validate(merged(MINIMAL, changes))


def resource(
    name: str = RUN,
    status: Status | None = None,
    generation: int = 1,
    deleted: bool = False,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **changes: Any,
) -> FineTuneJob:
    """A FineTuneJob with the minimal spec and these changes."""
    return FineTuneJob(
        metadata=Metadata(
            name=name,
            namespace="team-a",
            uid=UID,
            generation=generation,
            resource_version="1",
            deletion_timestamp="2026-01-31T12:00:00Z" if deleted else None,
            labels=dict(labels or {}),
            annotations=dict(annotations or {}),
        ),
        spec=spec(**changes),
        status=status or Status(),
    )


def plan(settings: Settings = SETTINGS, **changes: Any) -> Plan:
    """The plan of the minimal spec with these changes."""
    return make_plan(resource(**changes), settings)


def job(
    stage: Stage | str,
    attempt: int = 1,
    state: JobState = JobState.RUNNING,
    of: Plan | None = None,
    **fields: Any,
) -> JobRecord:
    """A stage Job of the minimal plan."""
    stage = Stage(stage)
    record = JobRecord(
        name=job_name(RUN, stage, attempt),
        uid=f"uid-{stage}-{attempt}",
        owner_uid=UID,
        stage=stage,
        attempt=attempt,
        plan_hash=(of or plan()).hash,
        template_hash=template_hash(resource(), stage),
        state=state,
    )
    return dataclasses.replace(record, **fields)


def ended(
    code: int | None = None,
    message: str = "",
    result: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Termination:
    """What a pod leaves that kept the contract."""
    document = {"message": message, "result": dict(result or {})} if message or result else {}
    return Termination(exit_code=code, document=document, **fields)
