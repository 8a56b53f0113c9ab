"""What a stage's Job is made of besides the plan, as a short hash that it carries.

Fields that the pinned plan holds are not in it: what follows when those change is in pinned.py.
What follows from another hash is decided in renewal.py.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.schema import ApiModel
from finetune_operator.core.queueing import queue_labels
from finetune_operator.vocabulary import Stage

HASH_LENGTH = 12
_OF_TRAINING = {"cpu", "memory", "shared_memory", "gpu_resource_name"}
_OF_PULLING = {"image_pull_policy", "image_pull_secrets"}


def template_hash(resource: FineTuneJob, stage: Stage) -> str:
    """The hash of what this stage's Job takes from spec and labels as they are now."""
    canonical = json.dumps(_parts(resource, stage), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_LENGTH]


def _parts(resource: FineTuneJob, stage: Stage) -> list[Any]:
    spec = resource.spec
    training = stage is Stage.TRAIN
    parts = [
        _json(spec.trainer, include=_OF_PULLING),
        _json(spec.scheduling, exclude=None if training else {"runtime_class_name"}),
    ]
    match stage:
        case Stage.PREPARE:
            parts.append(_json(spec.model.token_secret_ref))
            if spec.dataset is not None:
                parts.append(_json(spec.dataset.token_secret_ref))
            parts += [_json(dataset.token_secret_ref) for dataset in spec.datasets or ()]
        case Stage.TRAIN:
            parts.append(_json(spec.resources, include=_OF_TRAINING))
            if policy := _json(spec.run_policy):
                parts.append(policy)
        case Stage.UPLOAD:
            parts.append(_json(spec.upload.token_secret_ref if spec.upload else None))
    if queue := queue_labels(resource.metadata.labels):
        parts.append(queue)
    return parts


def _json(
    model: ApiModel | None, include: set[str] | None = None, exclude: set[str] | None = None
) -> Any:
    if model is None:
        return None
    # Without defaults: a field that a newer operator knows must not make every Job another one.
    return model.model_dump(mode="json", exclude_defaults=True, include=include, exclude=exclude)
