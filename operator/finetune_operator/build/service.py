"""The headless Service that gives training pods names for one another."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import Json, owned_metadata, selector
from finetune_operator.build.train import MASTER_PORT
from finetune_operator.core.naming import service_name
from finetune_operator.vocabulary import LABEL_STAGE, Stage


def train_service(resource: FineTuneJob) -> Json:
    """One Service for all attempts: host names carry the attempt."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned_metadata(resource, service_name(resource.metadata.name)),
        "spec": {
            "clusterIP": "None",
            # Peers look each other up before any of them could pass for ready.
            "publishNotReadyAddresses": True,
            "selector": {**selector(resource), LABEL_STAGE: str(Stage.TRAIN)},
            "ports": [{"name": "rendezvous", "port": MASTER_PORT}],
        },
    }
