"""A run that exists outlives rules that are newer than it: an upgrade must not freeze what runs."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiException

from cluster.handle import Cluster
from finetune_operator.api.crdgen import definition
from integration.crd_server import Server, install, namespace_of
from unit.operator.api.jobs import Json, job

# Breaks a rule at the root, on the spec, on an object, on a value.
REFUSED_TODAY = {
    "metadata.name": "7b",
    "spec.model.source": "gpt2",
    "spec.method": {"full": {}},
    "spec.merge": {},
    "spec.training": {"epochs": 1, "maxSteps": 1, "learningRate": "7"},
}
SECONDS = 20.0


@pytest.fixture
def older(control_plane: Cluster) -> Iterator[Server]:
    """A server whose CRD has no rules yet; it has today's again afterwards."""
    if control_plane.provider != "control-plane":
        pytest.skip("changes the CRD of the whole cluster, which is not ours alone")
    install(control_plane, _without_rules(definition()))
    try:
        with namespace_of(control_plane) as server:
            _until(server, accepted=True)
            yield server
    finally:
        install(control_plane, definition())


def test_the_status_of_a_run_from_before_the_rules_is_still_written(
    control_plane: Cluster, older: Server
) -> None:
    older.create(job(REFUSED_TODAY), dry_run=False)
    install(control_plane, definition())
    _until(older, accepted=False)

    stored = older.set_status("7b", {"phase": "Training", "planHash": "0f4c2b6a9d31"})
    assert stored["status"]["phase"] == "Training"


def _without_rules(crd: Json) -> Json:
    def pruned(value: object) -> object:
        if isinstance(value, dict):
            return {k: pruned(v) for k, v in value.items() if k != "x-kubernetes-validations"}
        return [pruned(item) for item in value] if isinstance(value, list) else value

    without = pruned(copy.deepcopy(crd))
    assert isinstance(without, dict)
    return without


def _until(server: Server, *, accepted: bool) -> None:
    """The API server takes a moment to validate by a changed CRD."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            server.create(job({**REFUSED_TODAY, "metadata.name": "8b"}))
        except ApiException as error:
            if not accepted and "metadata.name must be" in json.loads(error.body)["message"]:
                return
        else:
            if accepted:
                return
        time.sleep(0.1)
    pytest.fail(f"the API server did not take the changed CRD within {SECONDS:.0f} s")
