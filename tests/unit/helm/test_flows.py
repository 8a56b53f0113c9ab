"""The chart's NetworkPolicies let pass what a run needs and nothing else, as far as they can tell.

Read by `flows.py` from the objects; that a network enforces them is the network plug-in's promise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from cluster.tools import Helm
from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob
from finetune_operator.vocabulary import Stage
from unit.helm.chart import NAMESPACE, Json, only, rendered
from unit.helm.flows import Outside, Peer, Pod, passes, pod_of
from unit.operator.builders import SETTINGS, plan, resource

TEAM = "team-a"
Flow = tuple[Peer, Peer, int, str]


def stage(stage: Stage, name: str = "demo", namespace: str = TEAM) -> Pod:
    """A pod of a run as the operator makes it."""
    job = manifest(CreateJob(stage, 1, plan()), resource(name), SETTINGS)
    return pod_of(namespace, job["spec"]["template"])


RANK, OTHER_RUN = stage(Stage.TRAIN), stage(Stage.TRAIN, "another")
ELSEWHERE = stage(Stage.TRAIN, namespace="team-b")
PREPARE, UPLOAD = stage(Stage.PREPARE), stage(Stage.UPLOAD)
STRANGER = Pod(TEAM, {"app": "web"}, {"metrics": 9400})
PROMETHEUS = Pod("monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
API_SERVER, HUB, NODE = Outside("API server"), Outside("Hub"), Outside("node")
METADATA = Outside("169.254.169.254")

REPORTS, HEALTH, METRICS = 8443, 8080, 8081
OPERATOR = Pod(
    NAMESPACE,
    {"app.kubernetes.io/name": "finetune-operator"},
    {"progress": REPORTS, "health": HEALTH, "metrics": METRICS},
)
NEEDED: dict[str, Flow] = {
    "progress": (RANK, OPERATOR, REPORTS, "TCP"),
    "rendezvous": (RANK, RANK, 29500, "TCP"),
    "collectives": (RANK, RANK, 41234, "TCP"),
    "names": (RANK, DNS, 53, "UDP"),
    "long names": (RANK, DNS, 53, "TCP"),
    "training's metrics": (PROMETHEUS, RANK, 9400, "TCP"),
    "operator's metrics": (PROMETHEUS, OPERATOR, METRICS, "TCP"),
    "probes": (NODE, OPERATOR, HEALTH, "TCP"),
    "API server by its Service": (OPERATOR, API_SERVER, 443, "TCP"),
    "API server by its endpoint": (OPERATOR, API_SERVER, 6443, "TCP"),
    "operator's names": (OPERATOR, DNS, 53, "UDP"),
    "operator's long names": (OPERATOR, DNS, 53, "TCP"),
    "download": (PREPARE, HUB, 443, "TCP"),
    "publish": (UPLOAD, HUB, 443, "TCP"),
}
REFUSED: dict[str, Flow] = {
    "training to the Hub": (RANK, HUB, 443, "TCP"),
    "training to the cloud's metadata": (RANK, METADATA, 80, "TCP"),
    "training to the API server": (RANK, API_SERVER, 6443, "TCP"),
    "training to a pod beside it": (RANK, STRANGER, 9400, "TCP"),
    "training to another port of the operator": (RANK, OPERATOR, 9090, "TCP"),
    "training to another namespace's": (RANK, ELSEWHERE, 29500, "TCP"),
    "another namespace's training": (ELSEWHERE, RANK, 29500, "TCP"),
    "a pod beside it to training": (STRANGER, RANK, 29500, "TCP"),
    "prepare to training": (PREPARE, RANK, 29500, "TCP"),
    "the world to training": (NODE, RANK, 29500, "TCP"),
    "a report of no training pod": (STRANGER, OPERATOR, REPORTS, "TCP"),
    "a report of prepare": (PREPARE, OPERATOR, REPORTS, "TCP"),
    "a report from the world": (NODE, OPERATOR, REPORTS, "TCP"),
    "a scrape from the world": (NODE, OPERATOR, METRICS, "TCP"),
    "the operator to training": (OPERATOR, RANK, 29500, "TCP"),
    "the operator to the cloud's metadata": (OPERATOR, METADATA, 80, "TCP"),
}
# No policy of this API tells them from what is needed: addresses are the cluster's, and a selector
# cannot say "of the same run".
NOT_TOLD_APART: dict[str, Flow] = {
    "training to another run's training": (RANK, OTHER_RUN, 29500, "TCP"),
    "training to anybody's port of names": (RANK, HUB, 53, "UDP"),
    "operator to anybody's port 443": (OPERATOR, HUB, 443, "TCP"),
    "anybody to training's metrics": (NODE, RANK, 9400, "TCP"),
}


@pytest.fixture(scope="module")
def objects(helm: Helm) -> dict[tuple[str, str, str], Json]:
    switched = {"networkPolicy": {"enabled": True, "trainingNamespaces": [TEAM, "team-b"]}}
    return rendered(helm, switched)


@pytest.fixture(scope="module")
def policies(objects: dict[tuple[str, str, str], Json]) -> list[Json]:
    return [found for (kind, _, _), found in objects.items() if kind == "NetworkPolicy"]


def test_the_operators_pod_is_as_the_chart_makes_it(
    objects: dict[tuple[str, str, str], Json],
) -> None:
    made = pod_of(NAMESPACE, only(objects, "Deployment")["spec"]["template"])
    assert (made.labels, made.ports) == (OPERATOR.labels, OPERATOR.ports)


@pytest.mark.parametrize("flow", NEEDED.values(), ids=NEEDED)
def test_what_is_needed_passes(policies: list[Json], flow: Flow) -> None:
    assert passes(policies, *flow)


@pytest.mark.parametrize("flow", REFUSED.values(), ids=REFUSED)
def test_what_is_not_needed_does_not_pass(policies: list[Json], flow: Flow) -> None:
    assert passes([], *flow), "without policies everything does"
    assert not passes(policies, *flow)


@pytest.mark.parametrize("flow", NOT_TOLD_APART.values(), ids=NOT_TOLD_APART)
def test_what_no_policy_tells_apart_is_known(policies: list[Json], flow: Flow) -> None:
    assert passes(policies, *flow)


def without_one(policies: list[Json]) -> Iterator[tuple[str, list[Json]]]:
    """The policies without one of their rules or ports, one after the other."""
    for number, policy in enumerate(policies):
        for way in ("ingress", "egress"):
            for index, rule in enumerate(policy["spec"][way]):
                fewer = copy.deepcopy(policies)
                del fewer[number]["spec"][way][index]
                yield f"{policy['metadata']['name']} {way} {index}", fewer
                for port in range(len(rule.get("ports", []))):
                    fewer = copy.deepcopy(policies)
                    ports = fewer[number]["spec"][way][index]["ports"]
                    del ports[port]
                    if ports:
                        yield f"{policy['metadata']['name']} {way} {index} port {port}", fewer


def test_no_rule_and_no_port_can_be_left_out(policies: list[Json]) -> None:
    ours = [policy for policy in policies if policy["metadata"]["namespace"] != "team-b"]
    left_out = list(without_one(ours))
    assert len(left_out) > 10
    for what, fewer in left_out:
        assert not all(passes(fewer, *flow) for flow in NEEDED.values()), what
