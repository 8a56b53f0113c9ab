"""The Job of `prepare`: network and read tokens, no GPU; claims named as sources, read-only."""

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


def prepare_job(resource: FineTuneJob, action: CreateJob, settings: Settings) -> Json:
    """The Job that downloads, checks and tokenizes."""
    spec, run = resource.spec, action.plan.run
    volumes: list[Json] = []
    mounts: list[Json] = []
    for use, source, secret in (
        ("model", run["model"]["source"], spec.model.token_secret_ref),
        ("dataset", run["dataset"]["source"], spec.dataset.token_secret_ref),
    ):
        for more_volumes, more_mounts in (
            token_volume(use, secret),
            _claim_volume(use, source),
        ):
            volumes += more_volumes
            mounts += more_mounts
    return stage_job(
        resource,
        action,
        Parts(env=hub_env(settings), volumes=volumes, mounts=mounts, resources=HELPER_RESOURCES),
    )


def _claim_volume(use: str, source: str) -> tuple[list[Json], list[Json]]:
    if not source.startswith("pvc://"):
        return [], []
    claim = source.removeprefix("pvc://").partition("/")[0]
    volume = {
        "name": f"{use}-source",
        "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
    }
    return [volume], [{"name": f"{use}-source", "mountPath": f"/sources/{use}", "readOnly": True}]
