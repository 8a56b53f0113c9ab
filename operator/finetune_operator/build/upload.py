"""The Job of `upload`: the only one that gets the write token."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import (
    HELPER_RESOURCES,
    Json,
    Parts,
    hub_env,
    stage_job,
    token_volume,
)
from finetune_operator.core.model import CreateJob, Settings


def upload_job(resource: FineTuneJob, action: CreateJob, settings: Settings) -> Json:
    """The Job that publishes the result."""
    secret = resource.spec.upload.token_secret_ref if resource.spec.upload else None
    volumes, mounts = token_volume("upload", secret)
    return stage_job(
        resource,
        action,
        Parts(env=hub_env(settings), volumes=volumes, mounts=mounts, resources=HELPER_RESOURCES),
        settings.platform,
    )
