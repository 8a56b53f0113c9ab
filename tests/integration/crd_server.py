"""The CRD on a real API server, and FineTuneJobs on it, written as strictly as kubectl does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes.client import ApiException, CustomObjectsApi
from kubernetes.config import new_client_from_config

from cluster.handle import Cluster
from finetune_operator.vocabulary import GROUP, PLURAL, VERSION
from unit.operator.api.jobs import Json


@dataclass(frozen=True)
class Server:
    """FineTuneJobs of one namespace."""

    api: Any
    namespace: str

    def create(self, body: Json, *, dry_run: bool = True) -> Json:
        return self._call(self.api.create_namespaced_custom_object, body, dry_run)

    def read(self, name: str) -> Json:
        found: Json = self.api.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name
        )
        return found

    def replace(self, body: Json, *, dry_run: bool = True) -> Json:
        name = body["metadata"]["name"]
        return self._call(self.api.replace_namespaced_custom_object, body, dry_run, name)

    def set_status(self, name: str, status: Json) -> Json:
        call = self.api.patch_namespaced_custom_object_status
        changed: Json = call(GROUP, VERSION, self.namespace, PLURAL, name, {"status": status})
        return changed

    def delete(self, name: str) -> None:
        self.api.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    def _call(self, call: Callable[..., Json], body: Json, dry_run: bool, *arguments: str) -> Json:
        options: Json = {"field_validation": "Strict"} | ({"dry_run": "All"} if dry_run else {})
        return call(GROUP, VERSION, self.namespace, PLURAL, *arguments, body, **options)


def install(control_plane: Cluster, crd: Json) -> None:
    """Apply the CRD and wait until it is served."""
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    control_plane.kubectl(*apply, input=json.dumps(crd))
    control_plane.wait_for_crd(f"{PLURAL}.{GROUP}")


@contextlib.contextmanager
def namespace_of(control_plane: Cluster) -> Iterator[Server]:
    """A namespace of one's own for FineTuneJobs."""
    api = CustomObjectsApi(new_client_from_config(config_file=str(control_plane.kubeconfig)))
    with control_plane.namespace("crd") as namespace:
        yield Server(api, namespace)


def refusal(call: Callable[[Json], Json], body: Json) -> str:
    """What the API server says against a body."""
    with pytest.raises(ApiException) as refused:
        call(body)
    assert refused.value.status in (400, 422), refused.value
    message: str = json.loads(refused.value.body)["message"]
    return message
