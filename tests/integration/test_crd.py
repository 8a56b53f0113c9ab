"""The real API server says about every spec what the schema promises, in words that help.

That schema, rules and pydantic agree without a server is in unit/operator/api/test_agreement.py, on
the same cases.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import ApiException

from cluster.handle import Cluster, KubectlError
from cluster.tools import GitOps
from finetune_operator.api.crdgen import UNSEEN, definition
from finetune_operator.api.spec import Spec
from integration.crd_server import Server, install, namespace_of, refusal
from integration.documents import Document, finetunejobs
from unit.operator.api import bounds, offline
from unit.operator.api.bad_specs import BAD
from unit.operator.api.good_specs import GOOD
from unit.operator.api.jobs import Case, Json, job
from unit.operator.api.started import ALLOWED, REFUSED, Change
from unit.operator.api.statuses import FULL_STATUS

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(finetunejobs(ROOT))
RULES = {rule["message"] for rule in offline.rules()}


@pytest.fixture(scope="module")
def server(control_plane: Cluster) -> Iterator[Server]:
    install(control_plane, definition())
    with namespace_of(control_plane) as server:
        yield server


def test_flux_does_not_take_a_run_for_done_that_nobody_has_looked_at(
    server: Server, gitops: GitOps
) -> None:
    body = job()
    server.create(body, dry_run=False)
    created = server.read(body["metadata"]["name"])
    assert created["status"] == UNSEEN
    assert gitops.kstatus(created) == "InProgress"
    server.delete(body["metadata"]["name"])


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_spec_is_accepted(server: Server, case: Case) -> None:
    server.create(case.job)


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_spec_is_refused_in_words_that_help(server: Server, case: Case) -> None:
    assert case.message in refusal(server.create, case.job)


def test_every_field_refuses_what_is_beyond_its_bounds(server: Server) -> None:
    said = {str(case): (case.message, refusal(server.create, case.job)) for case in bounds.bad()}
    assert len(said) > 200
    assert {k: v for k, v in said.items() if v[0] not in v[1]} == {}


def test_every_field_accepts_the_edge_of_its_bounds(server: Server) -> None:
    for case in bounds.edges():
        server.create(case.job)


@pytest.mark.parametrize("case", BAD, ids=str)
def test_offline_validation_finds_the_same_broken_rules(server: Server, case: Case) -> None:
    said = refusal(server.create, case.job)
    if "were not checked" in said or "unknown field" in said or "spec" not in case.job:
        return  # the schema was broken first, and the server looked no further
    assert {m for m in RULES if m in said} == set(offline.rule_errors(case.job))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_we_show_to_people_can_be_applied(
    control_plane: Cluster, server: Server, document: Document
) -> None:
    options = ("--dry-run=server", "-n", server.namespace, "-f", "-")
    control_plane.kubectl("apply", *options, input=document.text)
    control_plane.kubectl("apply", "--server-side", *options, input=document.text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_we_show_to_people_passes_offline(document: Document) -> None:
    assert offline.refusals(document.content) == []


def test_server_side_apply_refuses_an_unknown_field(control_plane: Cluster, server: Server) -> None:
    apply = ("apply", "--server-side", "-n", server.namespace, "-f", "-")
    with pytest.raises(KubectlError, match=r"\.spec\.trainig: field not declared in schema"):
        control_plane.kubectl(*apply, input=json.dumps(job({"spec.trainig": {}})))


def test_a_generated_name_is_accepted(server: Server) -> None:
    server.create(job({"metadata": {"generateName": "sweep-"}}))


def test_the_server_fills_in_what_the_models_default_to(server: Server) -> None:
    stored = server.create(job())["spec"]
    assert stored == offline.defaulted(job())["spec"]
    assert Spec.model_validate(stored) == Spec.model_validate(job()["spec"])


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_what_defines_a_started_run_may_not_change(server: Server, change: Change) -> None:
    with _started(server, change) as new:
        said = refusal(server.replace, new)
    for name in change.fields:
        assert (
            f"spec.{name}: Forbidden: spec.{name} may not change after the run has started" in said
        )
    assert said.count("Forbidden") == len(change.fields)


@pytest.mark.parametrize("change", ALLOWED, ids=str)
def test_what_does_not_define_the_run_may_change(server: Server, change: Change) -> None:
    with _started(server, change) as new:
        server.replace(new)


@contextlib.contextmanager
def _started(server: Server, change: Change) -> Iterator[Json]:
    """The old job on the server, its status written; the new one as a client would send it."""
    stored = server.create(change.old, dry_run=False)
    name = stored["metadata"]["name"]
    try:
        if change.started:
            stored = server.set_status(name, change.old["status"])
        new = change.new
        new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        yield new
    finally:
        server.delete(name)


def test_a_status_of_every_field_is_stored_as_it_was_written(server: Server) -> None:
    server.create(job({"metadata.name": "full-status"}), dry_run=False)
    written = FULL_STATUS.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert server.set_status("full-status", written)["status"] == written


def test_a_status_of_unknown_words_is_refused(server: Server) -> None:
    server.create(job({"metadata.name": "odd-status"}), dry_run=False)
    with pytest.raises(ApiException, match="Unsupported value"):
        server.set_status("odd-status", {"phase": "Dreaming"})


def test_a_change_of_spec_keeps_the_status_and_a_change_of_status_the_spec(server: Server) -> None:
    server.create(job({"metadata.name": "apart"}), dry_run=False)
    stored = server.set_status("apart", {"phase": "Pending"})
    assert stored["metadata"]["generation"] == 1
    changed = job({"metadata.name": "apart", "spec.suspend": True, "status": {"phase": "Failed"}})
    changed["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    stored = server.replace(changed, dry_run=False)
    assert stored["metadata"]["generation"] == 2
    assert stored["status"]["phase"] == "Pending"


def test_kubectl_shows_how_far_a_run_is(control_plane: Cluster, server: Server) -> None:
    server.create(job({"metadata.name": "shown"}), dry_run=False)
    server.set_status(
        "shown",
        {
            "phase": "Training",
            "stage": "train",
            "message": "Training on 3 GPUs",
            "progress": {"display": {"percent": "52%", "step": "489/940"}},
            "metrics": {"loss": "0.8114"},
        },
    )
    shown = control_plane.kubectl("get", "ftj", "shown", "-n", server.namespace).splitlines()
    assert shown[0].split() == ["NAME", "PHASE", "STAGE", "PROGRESS", "STEP", "LOSS", "AGE"]
    assert shown[1].split()[:-1] == ["shown", "Training", "train", "52%", "489/940", "0.8114"]
    wide = control_plane.kubectl("get", "finetune", "-o", "wide", "-n", server.namespace)
    assert "Training on 3 GPUs" in wide


def test_runs_are_selected_by_their_phase_and_model(control_plane: Cluster, server: Server) -> None:
    for name, phase in (("chosen", "Failed"), ("passed-over", "Training")):
        server.create(job({"metadata.name": name}), dry_run=False)
        server.set_status(name, {"phase": phase})
    source = job()["spec"]["model"]["source"]
    selector = f"status.phase=Failed,spec.model.source={source}"
    listed = control_plane.kubectl(
        *("get", "ftj", "-n", server.namespace, "-o", "name", "--field-selector", selector)
    )
    assert listed.split() == ["finetunejob.finetune.dev/chosen"]


def test_kubectl_explains_every_field_of_the_spec(control_plane: Cluster, server: Server) -> None:
    explained = control_plane.kubectl("explain", "finetunejob.spec", "--recursive")
    for name in offline.schema()["properties"]["spec"]["properties"]:
        assert f"  {name}\t" in explained
    assert "<no description>" not in control_plane.kubectl("explain", "finetunejob.spec.training")
