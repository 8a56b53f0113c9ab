"""The manifest that an action creates: which file builds what, and nothing about how it is sent."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import Json
from finetune_operator.build.merge import merge_job
from finetune_operator.build.plan import plan_config_map
from finetune_operator.build.prepare import prepare_job
from finetune_operator.build.service import train_service
from finetune_operator.build.train import train_job
from finetune_operator.build.upload import upload_job
from finetune_operator.build.workspace import workspace_claim
from finetune_operator.core.model import (
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    Settings,
)
from finetune_operator.vocabulary import Stage

Creation = CreatePlan | CreateClaim | CreateService | CreateJob

_JOBS = {
    Stage.PREPARE: prepare_job,
    Stage.TRAIN: train_job,
    Stage.MERGE: merge_job,
    Stage.UPLOAD: upload_job,
}


def manifest(action: Creation, resource: FineTuneJob, settings: Settings) -> Json:
    """What to POST for this action; apiVersion, kind and metadata say where."""
    match action:
        case CreatePlan(plan):
            return plan_config_map(resource, plan, settings)
        case CreateClaim():
            return workspace_claim(resource, settings.platform.storage_class)
        case CreateService():
            return train_service(resource)
        case CreateJob(stage):
            return _JOBS[stage](resource, action, settings)
