"""The Job of `prepare`: network and read tokens, no GPU; claims and ConfigMaps named as sources or
for a loss, read-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import SecretKeyRef, Spec
from finetune_operator.build.common import (
    HELPER_RESOURCES,
    SOURCES_DIRECTORY,
    Json,
    Parts,
    hub_env,
    loss_volume,
    stage_job,
    token_volume,
)
from finetune_operator.core.model import CreateJob, Settings


def prepare_job(resource: FineTuneJob, action: CreateJob, settings: Settings) -> Json:
    """The Job that downloads, checks and tokenizes."""
    spec, run = resource.spec, action.plan.run
    volumes, mounts = loss_volume(action)
    uses = [("model", run["model"]["source"], spec.model.token_secret_ref), *_data(spec, run)]
    for use, source, secret in uses:
        for more_volumes, more_mounts in (
            token_volume(use, secret),
            _source_volume(use, source),
        ):
            volumes += more_volumes
            mounts += more_mounts
    return stage_job(
        resource,
        action,
        Parts(env=hub_env(settings), volumes=volumes, mounts=mounts, resources=HELPER_RESOURCES),
        settings.platform,
    )


def _data(spec: Spec, run: Mapping[str, Any]) -> Iterator[tuple[str, str, SecretKeyRef | None]]:
    """Use, source and Secret of every data set: what is read stands in the plan, with which token
    in the spec, as it is now.
    """
    if "dataset" in run:
        token = spec.dataset.token_secret_ref if spec.dataset else None
        yield "dataset", run["dataset"]["source"], token
        return
    given = spec.datasets or []
    for index, planned in enumerate(run["datasets"]):
        token = given[index].token_secret_ref if index < len(given) else None
        yield f"datasets-{index}", planned["source"], token


def _source_volume(use: str, source: str) -> tuple[list[Json], list[Json]]:
    scheme, _, path = source.partition("://")
    name, _, key = path.partition("/")
    volume: Json = {"name": f"{use}-source"}
    match scheme:
        case "pvc":
            volume["persistentVolumeClaim"] = {"claimName": name, "readOnly": True}
        case "configmap":
            # A key that is not there keeps the pod waiting, as a missing ConfigMap does.
            volume["configMap"] = {"name": name, "items": [{"key": key, "path": key}]}
        case _:
            return [], []
    return [volume], [
        {"name": f"{use}-source", "mountPath": f"{SOURCES_DIRECTORY}/{use}", "readOnly": True}
    ]
