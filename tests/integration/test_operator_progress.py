"""Progress reports on the real endpoint, with real tokens judged by the real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.handle import Cluster
from finetune_operator.core.naming import progress_path
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT
from integration.operator_process import OperatorProcess, free_port, install, kubeconfig
from integration.reporter import Reporter, settings
from integration.world import World, until


class Endpoint(Reporter):
    """The operator and its progress endpoint, in a namespace of its own."""

    def __init__(self, world: World, directory: Path) -> None:
        port = free_port()
        self.world = world
        self.tls = directory / "tls"
        super().__init__(world.cluster, world.namespace, port, self.tls)
        self.operator = OperatorProcess(
            kubeconfig(world.cluster, directory / "kubeconfig"),
            directory / "log",
            {"FINETUNE_WATCH_NAMESPACES": world.namespace, **settings(port, self.tls)},
        )


@pytest.fixture
def endpoint(control_plane: Cluster, tmp_path: Path) -> Iterator[Endpoint]:
    install(control_plane)
    with control_plane.namespace("progress") as namespace:
        made = Endpoint(World(control_plane, namespace), tmp_path)
        made.operator.start()
        yield made
        made.operator.kill()


def token_of_training(endpoint: Endpoint) -> str:
    """The token of the pod that trains the run `demo`, which is applied."""
    world = endpoint.world
    world.apply("demo")
    world.finish("demo-prepare-1", message="Done.", totalSteps=200)
    return endpoint.token(endpoint.audience("demo"), world.run("demo-train-1"))


def test_reports_of_the_training_pod_reach_status(endpoint: Endpoint) -> None:
    world = endpoint.world
    token = token_of_training(endpoint)
    # The operator may not have seen the Job yet that it has just made.
    until(lambda: endpoint.report_step("demo", token, 84, 200) == 200, "a report is taken")
    status = until(
        lambda: (s := world.status("demo")).get("progress", {}).get("step") and s, "step in status"
    )
    assert (status["progress"]["step"], status["progress"]["percent"]) == (84, 42)
    assert status["metrics"]["loss"] == "1.93"
    columns = world.cluster.kubectl("get", "-n", world.namespace, "ftj", "demo")
    assert "42%" in columns
    assert "84/200" in columns


def test_a_request_for_a_checkpoint_reaches_the_training_pod_and_a_bad_one_the_user(
    endpoint: Endpoint,
) -> None:
    world = endpoint.world
    token = token_of_training(endpoint)
    until(lambda: endpoint.report_step("demo", token, 84, 200) == 200, "a report is taken")
    assert endpoint.answer("demo", token) == (200, {})

    def ask(value: str) -> None:
        annotation = f"{ANNOTATION_CHECKPOINT}={value}"
        about = ("-n", world.namespace, "ftj/demo", "--overwrite", annotation)
        world.cluster.kubectl("annotate", *about)

    ask("2026-01-31T12:00:00Z")
    passed_on = {"checkpointRequestedAt": "2026-01-31T12:00:00Z"}
    until(lambda: endpoint.answer("demo", token) == (200, passed_on), "the request is passed on")

    ask("soon")
    until(lambda: endpoint.answer("demo", token) == (200, {}), "the bad one is not")
    world.wait_for_message("demo", f'Annotation {ANNOTATION_CHECKPOINT} is "soon", which is no')
    told = until(
        lambda: [e for e in world.events("demo") if e["reason"] == "CheckpointRequestInvalid"],
        "an event tells of it",
    )
    assert [event["type"] for event in told] == ["Warning"]

    metrics = [{"name": "current_step", "value": "90"}, {"name": "checkpoint_step", "value": "89"}]
    assert endpoint.report("demo", token, metrics=metrics) == 200
    until(
        lambda: world.status("demo").get("progress", {}).get("checkpointStep") == 89,
        "the newest checkpoint is in status",
    )


def test_the_pinned_plan_carries_the_authority_for_the_pods(endpoint: Endpoint) -> None:
    world = endpoint.world
    world.apply("demo")
    world.finish("demo-prepare-1", message="Done.")
    job = world.wait_for_job("demo-train-1")
    [container] = job["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["KUBEFLOW_TRAINER_SERVER_URL"] == endpoint.url + progress_path(
        world.namespace, "demo"
    )
    found = world.cluster.kubectl(
        *("get", "configmaps", "-n", world.namespace, "-o", "jsonpath={.items[*].data.ca\\.crt}")
    )
    assert (endpoint.tls / "ca.crt").read_text().strip() in found


def test_nobody_else_may_report(endpoint: Endpoint) -> None:
    world = endpoint.world
    for run in ("demo", "other"):
        world.apply(run)
    world.finish("demo-prepare-1", message="Done.")
    prepare, train = world.wait_for_pod("other-prepare-1"), world.run("demo-train-1")
    audience = endpoint.audience("demo")
    until(
        lambda: endpoint.report("demo", endpoint.token(audience, train)) == 200,
        "the training pod may",
    )
    for name, run, token, status in (
        ("for another audience", "demo", endpoint.token("kubernetes", train), 401),
        ("no token at all", "demo", "x", 401),
        ("for another run", "other", endpoint.token(audience, train), 401),
        ("of a pod of another run", "demo", endpoint.token(audience, prepare), 403),
        ("of no pod", "demo", endpoint.token(audience), 403),
        ("for a run that is not there", "nobody", endpoint.token(audience, train), 401),
    ):
        assert endpoint.report(run, token) == status, name
