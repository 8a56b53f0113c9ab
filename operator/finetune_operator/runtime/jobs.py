"""A stage Job as the watch shows it → JobRecord. Pure; which run it belongs to, but no cache."""

from __future__ import annotations

from typing import Any

from finetune_operator.core.model import JobRecord, JobState
from finetune_operator.core.naming import ATTEMPT_LIMIT, job_name
from finetune_operator.vocabulary import (
    ANNOTATION_PLAN_HASH,
    ANNOTATION_TEMPLATE_HASH,
    GROUP,
    KIND,
    LABEL_ATTEMPT,
    LABEL_STAGE,
    Stage,
)

Json = dict[str, Any]


def owner_of(manifest: Json) -> tuple[str, str] | None:
    """Name and uid of the FineTuneJob that controls this object, if one does."""
    for reference in manifest["metadata"].get("ownerReferences", ()):
        ours = reference.get("kind") == KIND and reference["apiVersion"].startswith(f"{GROUP}/")
        if ours and reference.get("controller"):
            return reference["name"], reference["uid"]
    return None


def project(job: Json) -> JobRecord | None:
    """The record of a stage Job; None for a Job that is not one of ours."""
    metadata = job["metadata"]
    owner = owner_of(job)
    labels = metadata.get("labels", {})
    try:
        stage, attempt = Stage(labels.get(LABEL_STAGE)), int(labels.get(LABEL_ATTEMPT, ""))
    except ValueError:
        return None
    # Labels and an owner can be written by anybody; the name is taken once in a namespace.
    if owner is None or metadata["name"] != job_name(owner[0], stage, attempt):
        return None
    if not 1 <= attempt <= ATTEMPT_LIMIT:
        return None
    status = job.get("status", {})
    state, reason, message = _state(job)
    return JobRecord(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner[1],
        stage=stage,
        attempt=attempt,
        plan_hash=metadata.get("annotations", {}).get(ANNOTATION_PLAN_HASH, ""),
        template_hash=metadata.get("annotations", {}).get(ANNOTATION_TEMPLATE_HASH, ""),
        state=state,
        reason=reason,
        message=message,
        start_time=status.get("startTime"),
        completion_time=_completion_time(status),
    )


def _state(job: Json) -> tuple[JobState, str, str]:
    status = job.get("status", {})
    conditions = {
        condition["type"]: condition
        for condition in status.get("conditions", ())
        if condition["status"] == "True"
    }
    for kind, state in (("Complete", JobState.SUCCEEDED), ("Failed", JobState.FAILED)):
        if kind in conditions:
            condition = conditions[kind]
            return state, condition.get("reason", ""), condition.get("message", "")
    if "deletionTimestamp" in job["metadata"]:
        return JobState.DELETING, "", ""
    if "Suspended" in conditions or job["spec"].get("suspend"):
        return JobState.SUSPENDED, "", ""
    # An attempt needs all of its pods: one that is being stopped has ended it.
    if "FailureTarget" in conditions or status.get("terminating"):
        return JobState.STOPPING, "", ""
    waits = _started(status) < job["spec"].get("parallelism", 1)
    return JobState.WAITING if waits else JobState.RUNNING, "", ""


def _started(status: Json) -> int:
    """Pods that run or have run: a Job on its way to Complete does not wait again."""
    uncounted = status.get("uncountedTerminatedPods") or {}
    return sum(
        [
            *(status.get(count) or 0 for count in ("ready", "succeeded", "failed")),
            *(len(uncounted.get(count) or ()) for count in ("succeeded", "failed")),
        ]
    )


def _completion_time(status: Json) -> str | None:
    for condition in status.get("conditions", ()):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            moment = status.get("completionTime") or condition.get("lastTransitionTime")
            return str(moment) if moment else None
    return None
