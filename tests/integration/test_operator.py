"""The operator on a real control plane, with its own rights: what a user sees of a run's life."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from kubernetes.client.exceptions import ApiException

from cluster.handle import Cluster
from integration.audit import requests_of
from integration.operator_process import USER, OperatorProcess, install, kubeconfig
from integration.world import World, until


@pytest.fixture(scope="module")
def operator(
    control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    install(control_plane)
    directory = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(
        kubeconfig(control_plane, directory / "kubeconfig"), directory / "log"
    )
    process.start()
    yield process
    assert process.stop() == 0
    print(process.log.read_text())


@pytest.fixture
def world(control_plane: Cluster, operator: OperatorProcess) -> Iterator[World]:
    with control_plane.namespace("operator") as namespace:
        yield World(control_plane, namespace)


def test_a_run_goes_through_its_stages_to_success(world: World) -> None:
    world.apply("demo")
    world.finish("demo-prepare-1", message="1800 examples of 2000 rows.", totalSteps=200)
    world.run("demo-train-1")
    world.finish("demo-train-1", message="Loss 1.93 after 200 steps.", steps=200, loss=1.93)
    world.finish("demo-merge-1", message="Merged 210 tensors.", merged="/workspace/merged")
    world.finish(
        "demo-upload-1", message="Published acme/tuned.", repository="acme/tuned", commit="abc123"
    )
    world.cluster.kubectl(
        *("wait", "-n", world.namespace, "--for=condition=Succeeded", "ftj/demo", "--timeout=50s")
    )
    status = world.wait_for_phase("demo", "Succeeded")
    assert [stage["state"] for stage in status["stages"]] == ["Succeeded"] * 4
    assert status["artifacts"]["commit"] == "abc123"
    assert world.condition("demo", "Ready")["status"] == "True"
    assert world.condition("demo", "Stalled")["status"] == "False"
    assert all(c["observedGeneration"] == 1 for c in status["conditions"])
    assert world.jobs() == ["demo-merge-1", "demo-prepare-1", "demo-train-1", "demo-upload-1"]


def test_a_users_error_reaches_status_condition_and_event_word_for_word(world: World) -> None:
    sentence = 'dataset.format.questionAnswer.question names column "q", which the data lacks.'
    world.apply("typo")
    world.finish("typo-prepare-1", code=10, message=sentence)
    status = world.wait_for_phase("typo", "Failed")
    assert sentence in status["message"]
    failed = world.condition("typo", "Failed")
    assert (failed["status"], failed["reason"], failed["message"]) == (
        "True",
        "UserError",
        status["message"],
    )
    assert world.condition("typo", "Stalled")["status"] == "True"
    told = until(
        lambda: [e for e in world.events("typo") if e["type"] == "Warning"], "a Warning event"
    )
    assert sentence in told[-1]["message"]
    described = world.cluster.kubectl("describe", "-n", world.namespace, "ftj/typo")
    assert described.count(sentence) >= 3
    assert world.jobs() == ["typo-prepare-1"]


def test_a_failure_that_may_pass_is_tried_again(world: World) -> None:
    world.apply("flaky")
    world.finish("flaky-prepare-1", code=11, message="The Hub did not answer.")
    world.wait_for_job("flaky-prepare-2", seconds=30)
    [attempt] = world.status("flaky")["attempts"]
    assert (attempt["job"], attempt["exitCode"]) == ("flaky-prepare-1", 11)
    world.finish("flaky-prepare-2", message="Done.")
    world.wait_for_job("flaky-train-1")


def test_a_job_deleted_by_hand_is_made_again_under_another_number(world: World) -> None:
    world.apply("lost")
    world.wait_for_pod("lost-prepare-1")
    world.delete_job("lost-prepare-1")
    world.wait_for_job("lost-prepare-2", seconds=30)
    assert world.status("lost")["attempts"][0]["reason"] == "JobDeleted"


def test_a_job_that_left_the_watch_is_not_taken_for_deleted(world: World) -> None:
    world.apply("hidden")
    world.run("hidden-prepare-1")
    # While it waits, a Job makes way for what is changed below.
    world.wait_for_message("hidden", "prepare runs")
    until(lambda: (world.job("hidden-prepare-1") or {})["status"].get("ready"), "it is counted")
    label = "app.kubernetes.io/managed-by-"
    world.cluster.kubectl("label", "-n", world.namespace, "job/hidden-prepare-1", label)
    world.change("hidden", scheduling={"priorityClassName": "low"})
    until(lambda: world.status("hidden")["observedGeneration"] == 2, "the change is seen")
    assert world.status("hidden").get("attempts", []) == []
    world.finish("hidden-prepare-1", message="Done.")
    world.wait_for_job("hidden-train-1", seconds=30)
    assert world.jobs() == ["hidden-prepare-1", "hidden-train-1"]


def test_a_drained_node_costs_no_attempt(world: World) -> None:
    world.apply("drained")
    world.finish("drained-prepare-1", message="Done.")
    world.bind(world.wait_for_pod("drained-train-1"))
    world.evict(world.run("drained-train-1"))
    world.wait_for_message("drained", "train is being stopped")
    world.finish("drained-train-1", code=143)
    world.stop_pods("drained-train-1")
    world.wait_for_job("drained-train-2", seconds=30)
    status = world.status("drained")
    assert [attempt["reason"] for attempt in status["attempts"]] == ["Disrupted"]
    assert [stage.get("failures", 0) for stage in status["stages"]] == [0] * 4


def test_suspending_stops_the_stage_and_resuming_goes_on_with_it(world: World) -> None:
    world.apply("paused")
    world.finish("paused-prepare-1", message="Done.")
    world.run("paused-train-1")
    world.change("paused", suspend=True)
    world.wait_for_end_of("paused-train-1")
    world.wait_for_phase("paused", "Suspended")
    assert world.condition("paused", "Suspended")["status"] == "True"
    world.change("paused", suspend=False)
    world.wait_for_job("paused-train-2")
    assert "attempts" not in world.status("paused")


def test_suspended_from_the_start_nothing_is_made(world: World) -> None:
    world.apply("later", suspend=True)
    world.wait_for_phase("later", "Suspended")
    assert world.jobs() == []
    world.change("later", suspend=False)
    world.wait_for_job("later-prepare-1")


def test_a_new_rerun_token_tries_a_failed_stage_again(world: World) -> None:
    world.apply("again")
    world.finish("again-prepare-1", code=10, message="The token may not read acme/base.")
    world.wait_for_phase("again", "Failed")
    world.change("again", rerunToken="2")
    world.finish("again-prepare-2", message="Done.")
    world.wait_for_job("again-train-1")
    assert world.condition("again", "Failed")["status"] == "False"


def test_a_new_rerun_token_with_another_spec_starts_over(world: World) -> None:
    world.apply("other")
    world.finish("other-prepare-1", message="Done.")
    world.wait_for_pod("other-train-1")
    before = world.status("other")["planHash"]
    world.change("other", rerunToken="2", method={"lora": {"rank": 8}})
    world.wait_for_end_of("other-train-1")
    world.wait_for_job("other-prepare-2")
    assert until(lambda: world.status("other")["planHash"], "a plan") != before


def test_a_corrected_secret_reaches_the_stage_that_waits_for_it(world: World) -> None:
    world.apply("mistyped", model={"tokenSecretRef": {"name": "hf-raed"}})
    world.wait_for_pod("mistyped-prepare-1")
    world.change("mistyped", rerunToken="2", model={"tokenSecretRef": {"name": "hf-read"}})
    job = world.wait_for_job("mistyped-prepare-2")
    volumes = job["spec"]["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if "secret" in v] == ["hf-read"]
    assert "attempts" not in world.status("mistyped")
    assert world.job("mistyped-prepare-1") is None


def test_corrected_nodes_reach_the_stage_that_cannot_be_scheduled(world: World) -> None:
    world.apply("nowhere", scheduling={"nodeSelector": {"pool": "gqu"}})
    world.wait_for_message("nowhere", "prepare waits: ")
    world.change("nowhere", scheduling={"nodeSelector": {"pool": "gpu"}})
    job = world.wait_for_job("nowhere-prepare-2")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert "attempts" not in world.status("nowhere")


def failed_on(world: World, name: str, claim: str, *, grows: bool) -> None:
    """A run that failed, on a bound claim that can grow or cannot."""
    kind = world.storage_class(grows=grows)
    world.volume(kind, claim)
    world.apply(name, storage={"size": "50Gi", "storageClassName": kind})
    world.finish(f"{name}-prepare-1", code=10, message="The workspace volume is full.")
    world.wait_for_phase(name, "Failed")
    until(lambda: world.claim(claim)["status"]["phase"] == "Bound", "the claim is bound")


def test_a_larger_volume_makes_a_full_run_go_on(world: World) -> None:
    failed_on(world, "full", "full-workspace", grows=True)
    world.change("full", rerunToken="2", storage={"size": "100Gi"})
    world.wait_for_job("full-prepare-2")
    requests = world.claim("full-workspace")["spec"]["resources"]["requests"]
    assert requests == {"storage": "100Gi"}


def test_a_volume_that_cannot_grow_is_told_with_the_remedy(world: World) -> None:
    failed_on(world, "fixed", "fixed-workspace", grows=False)
    world.change("fixed", rerunToken="2", storage={"size": "100Gi"})
    message = world.wait_for_message("fixed", "fixed-workspace cannot grow to 100Gi: set spec.")
    assert "volume expansion" in message
    assert world.status("fixed")["rerunToken"] == "2"
    # And the remedy works: without the claim nothing is left to go on with.
    world.delete_claim("fixed-workspace")
    world.change("fixed", rerunToken="3")
    world.wait_for_job("fixed-prepare-2")
    assert world.claim("fixed-workspace")["spec"]["resources"]["requests"] == {"storage": "100Gi"}


def test_a_job_of_somebody_else_under_our_name_ends_the_run(world: World) -> None:
    world.create_job("taken-prepare-1")
    world.apply("taken")
    status = world.wait_for_phase("taken", "Failed")
    assert "Job taken-prepare-1 exists and does not belong to this FineTuneJob" in status["message"]
    assert world.condition("taken", "Stalled")["status"] == "True"
    assert world.jobs() == ["taken-prepare-1"]


def test_what_a_pod_waits_for_is_told(world: World) -> None:
    world.apply("big", resources={"gpusPerNode": 3})
    message = world.wait_for_message("big", "no nodes available")
    assert message.startswith("prepare waits: ")


def test_one_running_pod_does_not_hide_the_one_that_is_stuck(world: World) -> None:
    world.apply("half", resources={"nodes": 2})
    world.finish("half-prepare-1", message="Done.")
    world.run("half-train-1")
    pods = until(
        lambda: found if len(found := world.pods("half-train-1")) == 2 else None, "two pods"
    )
    [stuck] = [pod for pod in pods if pod["status"]["phase"] == "Pending"]
    world.block(stuck["metadata"]["name"], "ErrImagePull", "too many requests")
    message = world.wait_for_message("half", "too many requests", seconds=30)
    assert message.startswith("train waits for its image: check FINETUNE_TRAINER_IMAGE")
    until(
        lambda: [event for event in world.events("half") if event["type"] == "Warning"],
        "a Warning of it",
    )


def test_what_only_an_event_tells_is_told_too(world: World) -> None:
    world.allow_no_pods()
    world.apply("poor")
    world.wait_for_message("poor", "exceeded quota")


def test_a_refused_job_waits_until_it_may_be_made(world: World) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    world.cluster.kubectl("apply", "-n", world.namespace, "-f", "-", input=json.dumps(quota))
    world.apply("denied")
    message = world.wait_for_message("denied", "exceeded quota")
    assert "denied-prepare-1" in message
    assert world.condition("denied", "Failed").get("status") != "True"
    world.cluster.kubectl("delete", "-n", world.namespace, "quota/none")
    world.wait_for_job("denied-prepare-1", seconds=30)


def test_a_webhook_that_is_away_is_told_in_status(world: World) -> None:
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"away-{world.namespace}"},
        "webhooks": [
            {
                "name": "away.acme.dev",
                "clientConfig": {"url": "https://127.0.0.1:9/"},
                "rules": [
                    {
                        "apiGroups": ["batch"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["jobs"],
                    }
                ],
                "namespaceSelector": _only(world),
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    with _applied(world, webhook):
        world.apply("alone")
        message = world.wait_for_message("alone", "failed calling webhook", seconds=30)
        assert message.startswith("Job alone-prepare-1 cannot be created now")
        assert world.condition("alone", "Ready")["reason"] == "Unavailable"
        assert world.condition("alone", "Reconciling")["status"] == "True"
    world.wait_for_job("alone-prepare-1", seconds=30)


def test_what_a_policy_denies_may_be_allowed_later(world: World) -> None:
    name = f"no-jobs-{world.namespace}"
    api = "admissionregistration.k8s.io/v1"
    rule = {
        "apiGroups": ["batch"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["jobs"],
    }
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "Not before Monday."}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": _only(world)},
        },
    }
    with _applied(world, policy), _applied(world, binding):
        # The API server takes a policy into force when it has compiled it.
        until(lambda: _refuses_jobs(world), "the policy is in force")
        world.apply("early")
        world.wait_for_message("early", "Not before Monday.")
        assert world.condition("early", "Failed")["status"] == "False"
    world.wait_for_job("early-prepare-1", seconds=30)


def test_nodes_find_each_other_through_a_service(world: World) -> None:
    world.apply("wide", resources={"nodes": 2})
    world.finish("wide-prepare-1", message="Done.")
    job = world.wait_for_job("wide-train-1")
    assert job["spec"]["parallelism"] == 2
    subdomain = job["spec"]["template"]["spec"]["subdomain"]
    assert world.cluster.kubectl("get", "-n", world.namespace, f"service/{subdomain}", "-o", "name")


def test_a_claim_that_nodes_cannot_share_is_refused_before_anything_is_made(world: World) -> None:
    world.make_claim("mine")
    world.apply("narrow", resources={"nodes": 2}, storage={"claimName": "mine"})
    status = world.wait_for_phase("narrow", "Failed")
    assert status["message"].startswith(
        "spec.storage.claimName is mine, which is ReadWriteOnce, but spec.resources.nodes is 2: "
    )
    assert world.jobs() == []
    world.change("narrow", resources={"nodes": 1}, rerunToken="2")
    world.wait_for_job("narrow-prepare-1")


def test_many_at_once_each_get_their_first_job_once(world: World) -> None:
    names = [f"many-{number}" for number in range(30)]
    for name in names:
        world.apply(name)
    for name in names:
        world.wait_for_phase(name, "Preparing")
    assert world.jobs() == sorted(f"{name}-prepare-1" for name in names)
    told = [[event["reason"] for event in world.events(name)] for name in names]
    assert [reasons.count("Started") for reasons in told] == [1] * len(names)


def test_deleting_a_run_leaves_nothing(world: World) -> None:
    world.apply("brief")
    world.wait_for_pod("brief-prepare-1")
    world.delete("brief")
    world.stop_pods("brief-prepare-1")
    kinds = "jobs,pods,configmaps,persistentvolumeclaims"
    selector = ("-l", "app.kubernetes.io/managed-by=finetune-operator", "-o", "name")
    until(
        lambda: not world.cluster.kubectl("get", kinds, "-n", world.namespace, *selector),
        "everything is collected",
        seconds=60,
    )


def test_a_run_that_is_deleted_and_made_again_at_once_comes_to_run(world: World) -> None:
    world.apply("twice")
    world.wait_for_pod("twice-prepare-1")
    before = world.claim("twice-workspace")["metadata"]["uid"]
    # As on a node: the claim stays for a while after the FineTuneJob.
    with world.held("pvc/twice-workspace"):
        world.delete("twice")
        world.apply("twice")
        world.wait_for_message("twice", "is still being deleted")
        assert world.condition("twice", "Failed")["status"] == "False"
    uid = world.uid("twice")

    def started() -> bool:
        job = world.job("twice-prepare-1")
        return job is not None and job["metadata"]["ownerReferences"][0]["uid"] == uid

    until(started, f"prepare of the second run: {world.status('twice')}", seconds=60)
    assert world.claim("twice-workspace")["metadata"]["uid"] != before


def test_the_operator_is_healthy_and_was_never_refused(
    operator: OperatorProcess, control_plane: Cluster
) -> None:
    with urlopen(f"http://127.0.0.1:{operator.health_port}/healthz") as answer:
        assert answer.status == 200
    log = operator.log.read_text()
    assert "Traceback" not in log
    assert "is forbidden: User" not in log
    if control_plane.audit_log is not None:
        refused = [
            entry["requestURI"]
            for entry in requests_of(control_plane.audit_log, USER)
            if entry.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        ]
        assert refused == []


def _only(world: World) -> dict[str, dict[str, str]]:
    return {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}


@contextlib.contextmanager
def _applied(world: World, manifest: dict[str, Any]) -> Iterator[None]:
    """An object of the cluster, for a while."""
    text = json.dumps(manifest)
    world.cluster.kubectl("apply", "-f", "-", input=text)
    try:
        yield
    finally:
        world.cluster.kubectl("delete", "-f", "-", input=text)


def _refuses_jobs(world: World) -> bool:
    name = "probe"
    try:
        world.create_job(name)
    except ApiException:
        return True
    world.delete_job(name)
    until(lambda: world.job(name) is None, "the probe is gone")
    return False


def test_a_deleted_run_that_a_finalizer_keeps_gives_its_gpus_back(world: World) -> None:
    world.apply("kept")
    world.run("kept-prepare-1")
    kubectl, about = world.cluster.kubectl, ("-n", world.namespace, "ftj", "kept")
    patch = '{"metadata": {"finalizers": %s}}'
    kubectl("patch", *about, "--type=merge", "-p", patch % '["acme.example/audit"]')
    kubectl("delete", *about, "--wait=false")
    world.stop_pods("kept-prepare-1")
    until(lambda: world.jobs() == [], "its Job is gone")
    assert kubectl("get", *about, "-o", "jsonpath={.metadata.deletionTimestamp}")
    kubectl("patch", *about, "--type=merge", "-p", patch % "null")
