"""The claim of the workspace, when the spec names none of its own."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import AccessMode, Reclaim
from finetune_operator.build.common import Json, owned_metadata
from finetune_operator.core.naming import workspace_name

# Room for base model, checkpoints with optimizer state, adapter and merged model of some 7 billion
# weights.
DEFAULT_SIZE = "50Gi"


def workspace_claim(resource: FineTuneJob, storage_class: str | None = None) -> Json:
    """The claim, of this class unless the spec names another.

    With reclaim Retain it has no owner and so outlives the FineTuneJob.
    """
    storage = resource.spec.storage
    metadata = owned_metadata(resource, workspace_name(resource.metadata.name))
    if storage.reclaim is Reclaim.RETAIN:
        del metadata["ownerReferences"]
    several = resource.spec.resources.nodes > 1
    default_mode = AccessMode.READ_WRITE_MANY if several else AccessMode.READ_WRITE_ONCE
    spec: Json = {
        "accessModes": [str(storage.access_mode or default_mode)],
        "resources": {"requests": {"storage": storage.size or DEFAULT_SIZE}},
    }
    if wanted := storage.storage_class_name or storage_class:
        spec["storageClassName"] = wanted
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }
