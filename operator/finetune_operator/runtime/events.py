"""Events on a FineTuneJob, as `kubectl describe` shows them: the manifest. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from finetune_operator.api.resource import Metadata
from finetune_operator.core.model import Event
from finetune_operator.vocabulary import API_VERSION, KIND, MANAGER

Json = dict[str, Any]

MESSAGE_LIMIT = 1024


def manifest(event: Event, *, about: Metadata, version: int, index: int, now: datetime) -> Json:
    """The event number `index` about the status write that made `version`.

    Both name it, so that a repeated POST of the same event is refused as a duplicate.
    """
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{version:x}.{index}", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": _shortened(event.message),
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
