"""The pod of `helm test`; that it tells the truth of an operator is in integration/test_helm.py."""

from __future__ import annotations

import ast
import re

import pytest

from cluster.tools import Helm
from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob
from finetune_operator.core.naming import progress_path
from finetune_operator.runtime.serving import service_hosts
from finetune_operator.vocabulary import Stage
from unit.helm.chart import (
    CHART,
    EVERYTHING,
    NAMESPACE,
    Json,
    hook_pod,
    only,
    rendered,
)
from unit.helm.flows import passes, pod_of
from unit.operator.builders import SETTINGS, plan, resource


def container(pod: Json) -> Json:
    (found,) = pod["spec"]["containers"]
    return dict(found)


def test_it_runs_when_helm_test_asks_for_it_and_goes_when_all_is_well(helm: Helm) -> None:
    annotations = hook_pod(helm)["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "test"
    assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_it_is_the_operators_image_as_restricted_as_the_operator(helm: Helm, values: Json) -> None:
    pod = hook_pod(helm, values)
    deployment = only(rendered(helm, values), "Deployment")["spec"]["template"]["spec"]
    (operator,) = deployment["containers"]
    for name in ("image", "securityContext"):
        assert container(pod)[name] == operator[name]
    for name in ("securityContext", "imagePullSecrets", "nodeSelector", "tolerations"):
        assert pod["spec"].get(name) == deployment.get(name)
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_it_asks_where_training_pods_report(helm: Helm) -> None:
    told = {entry["name"]: entry["value"] for entry in container(hook_pod(helm))["env"]}
    host, _, port = told["OPERATOR_URL"].removeprefix("https://").partition(":")
    assert host in service_hosts(NAMESPACE)
    (service,) = only(rendered(helm), "Service")["spec"]["ports"]
    assert int(port) == service["port"]
    assert f'"{progress_path("helm-test", "helm-test")}"' in container(hook_pod(helm))["args"][0]


def test_it_is_given_what_clients_verify_with_and_no_key(helm: Helm) -> None:
    (volume,) = hook_pod(helm)["spec"]["volumes"]
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    assert {item["key"] for source in sources for item in source["items"]} == {"ca.crt", "tls.crt"}


def test_no_service_takes_it_for_the_operator(helm: Helm) -> None:
    labels = hook_pod(helm)["metadata"]["labels"]
    selector = only(rendered(helm), "Service")["spec"]["selector"]
    assert not selector.items() <= labels.items()


def test_a_network_that_lets_training_through_lets_it_through(helm: Helm) -> None:
    closed = {"networkPolicy": {"enabled": True, "trainingNamespaces": [NAMESPACE]}}
    objects = rendered(helm, closed)
    policies = [found for (kind, _, _), found in objects.items() if kind == "NetworkPolicy"]
    operator = pod_of(NAMESPACE, only(objects, "Deployment")["spec"]["template"])
    pod = hook_pod(helm, closed)
    assert passes(policies, pod_of(NAMESPACE, pod), operator, 8443)
    job = manifest(CreateJob(Stage.PREPARE, 1, plan()), resource(), SETTINGS)
    assert not passes(policies, pod_of(NAMESPACE, job["spec"]["template"]), operator, 8443)


def test_what_it_runs_is_python_for_the_interpreter_of_the_image(helm: Helm) -> None:
    found = container(hook_pod(helm))
    code = (CHART / "files" / "tests" / "reach.py").read_text()
    assert ast.dump(ast.parse(found["args"][0])) == ast.dump(ast.parse(code))
    entry = re.search(r'ENTRYPOINT \["([^"]+)"', (CHART.parents[1] / "Dockerfile").read_text())
    assert entry is not None
    assert found["command"] == [entry[1], "-c"]
