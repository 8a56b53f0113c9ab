"""The Job of `merge`: CPU only, offline, nothing but the workspace."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import HELPER_RESOURCES, OFFLINE, Json, Parts, stage_job
from finetune_operator.core.model import CreateJob, Settings


def merge_job(resource: FineTuneJob, action: CreateJob, settings: Settings) -> Json:
    """The Job that makes adapter and base model one."""
    parts = Parts(env=[OFFLINE], resources=HELPER_RESOURCES)
    return stage_job(resource, action, parts, settings.platform)
