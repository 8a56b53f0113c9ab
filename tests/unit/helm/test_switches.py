"""What each value of the chart changes."""

from __future__ import annotations

import inspect
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.tools import Helm
from finetune_operator import config
from unit.gitops.argocd import ARGOCD, read
from unit.helm.chart import (
    CHART,
    EVERYTHING,
    NAMESPACE,
    NAMESPACED,
    NOTHING,
    ROOT,
    Identity,
    Json,
    environment,
    only,
    rendered,
)

# Ports, Service and Secret belong to one another, and to the operator's own manifests.
FIXED_IN_A_CLUSTER = {
    "FINETUNE_HEALTH_PORT",
    "FINETUNE_METRICS_PORT",
    "FINETUNE_PROGRESS_PORT",
    "FINETUNE_PROGRESS_URL",
    "FINETUNE_TLS_DIR",
}
SWITCHES: list[Json] = [{}, EVERYTHING, NAMESPACED, NOTHING]


def kinds(objects: dict[Identity, Json]) -> set[str]:
    return {kind for kind, _, _ in objects}


def rights(role: Json) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def pod(objects: dict[Identity, Json]) -> Json:
    found: Json = only(objects, "Deployment")["spec"]["template"]["spec"]
    return found


def test_the_chart_is_in_order(helm: Helm) -> None:
    helm("lint", "--strict", str(CHART))


def test_the_crd_in_the_chart_is_the_generated_one_and_stays_when_the_chart_goes(
    helm: Helm,
) -> None:
    crd = only(rendered(helm), "CustomResourceDefinition")
    generated = yaml.load((ROOT / "crds" / "finetunejobs.yaml").read_text(), yaml.CSafeLoader)
    assert crd["spec"] == generated["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_package_needs_nothing_beside_it(helm: Helm, tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as found:
        (crd,) = (one for one in found if one.name.endswith("crds/finetunejobs.yaml"))
        assert crd.isreg()
        assert crd.size == (ROOT / "crds" / "finetunejobs.yaml").stat().st_size


def test_what_others_provide_is_left_out(helm: Helm) -> None:
    objects = rendered(helm, NOTHING)
    assert kinds(objects) == {"Service", "Deployment"}
    assert pod(objects)["serviceAccountName"] == "theirs"


def test_with_names_of_namespaces_nothing_but_token_reviews_is_granted_beyond_them(
    helm: Helm,
) -> None:
    everywhere = rendered(helm)["ClusterRole", "", "finetune-operator"]
    objects = rendered(helm, NAMESPACED)
    reviews = {("authentication.k8s.io", "tokenreviews", "create")}
    beyond = objects["ClusterRole", "", f"finetune-operator-{NAMESPACE}"]
    assert rights(beyond) == reviews
    assert ("ClusterRole", "", "finetune-operator") not in objects
    for namespace in ("team-a", NAMESPACE):
        within = objects["Role", namespace, "finetune-operator-runs"]
        assert rights(within) == rights(everywhere) - reviews
        binding = objects["RoleBinding", namespace, "finetune-operator-runs"]
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "another", "namespace": NAMESPACE}
        ]
    home = objects["Role", NAMESPACE, "finetune-operator"]
    assert rights(home) == {("", "secrets", "create")}
    monitor = objects["PodMonitor", NAMESPACE, "finetune-operator-runs"]["spec"]
    assert monitor["namespaceSelector"] == {"matchNames": ["team-a", NAMESPACE]}


@pytest.mark.parametrize("values", SWITCHES)
def test_every_pod_is_restricted_whatever_is_switched(helm: Helm, values: Json) -> None:
    spec = pod(rendered(helm, values))
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("values", SWITCHES)
def test_the_operator_understands_what_the_chart_tells_it(helm: Helm, values: Json) -> None:
    assert config.read([], environment(rendered(helm, values))).trainer_image


def test_every_default_and_limit_reaches_the_operator(helm: Helm) -> None:
    told = config.read([], environment(rendered(helm, NAMESPACED)))
    assert told == config.Config(
        trainer_image="registry.example.com/finetune-trainer:v9",
        storage_class="shared",
        node_selector={"pool": "gpu", "example.com/zone": "a"},
        priority_class="batch",
        max_gpus=8,
        image_registries=("ghcr.io", "registry.example.com/ml"),
        hub_endpoint="https://hub.example.com",
        allow_cpu=True,
        namespaces=(NAMESPACE, "team-a"),
        log_format="json",
        workers=4,
        tls_directory=told.tls_directory,
    )


def test_what_the_operator_can_be_told_the_chart_can_say() -> None:
    known = re.findall(r'"((?:FINETUNE|HF)_[A-Z_]+)"', inspect.getsource(config))
    told = re.findall(
        r"name: ((?:FINETUNE|HF)_[A-Z_]+)", (CHART / "templates/_env.tpl").read_text()
    )
    assert set(known) - set(told) == FIXED_IN_A_CLUSTER


def test_a_limit_of_no_gpus_is_a_limit(helm: Helm) -> None:
    assert environment(rendered(helm, {"limits": {"gpusPerRun": 0}}))["FINETUNE_MAX_GPUS"] == "0"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "finetune-operator:dev"),
        ({"tag": "v1"}, "finetune-operator:v1"),
        ({"repository": "r.example.com/o", "tag": "v1"}, "r.example.com/o:v1"),
        ({"tag": "v1", "digest": f"sha256:{'a' * 64}"}, f"finetune-operator@sha256:{'a' * 64}"),
    ],
)
def test_an_image_is_named_by_tag_or_digest(helm: Helm, image: Json, reference: str) -> None:
    (container,) = pod(rendered(helm, {"image": image}))["containers"]
    assert container["image"] == reference


def test_the_trainers_image_is_named_by_digest_in_the_same_way(helm: Helm) -> None:
    digest = f"sha256:{'a' * 64}"
    image = {"repository": "r.example.com/t", "tag": "v1", "digest": digest}
    told = environment(rendered(helm, {"runs": {"image": image}}))
    assert told["FINETUNE_TRAINER_IMAGE"] == f"r.example.com/t@{digest}"


def test_the_operators_pod_is_placed_as_the_values_say(helm: Helm) -> None:
    objects = rendered(helm, EVERYTHING)
    spec = pod(objects)
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert spec[name] == EVERYTHING[name]
    assert spec["imagePullSecrets"] == EVERYTHING["imagePullSecrets"]
    metadata = only(objects, "Deployment")["spec"]["template"]["metadata"]
    assert metadata["labels"] == {"app.kubernetes.io/name": "finetune-operator", "team": "platform"}
    assert metadata["annotations"] == {"example.com/note": "yes"}


def test_only_training_pods_reach_the_operator_and_it_only_the_api_server(helm: Helm) -> None:
    objects = rendered(helm, EVERYTHING)
    spec: dict[str, Any] = objects["NetworkPolicy", NAMESPACE, "finetune-operator"]["spec"]
    reports, scrapes, probes = spec["ingress"]
    assert reports["ports"] == [{"port": "progress"}]
    assert reports["from"][0]["podSelector"]["matchLabels"]["finetune.dev/stage"] == "train"
    assert scrapes["ports"] == [{"port": "metrics"}]
    assert probes == {"ports": [{"port": "health"}]}
    allowed = {rule["port"] for egress in spec["egress"] for rule in egress["ports"]}
    assert allowed == {443, 16443, 53}


def test_training_pods_reach_their_peers_the_operator_and_names(helm: Helm) -> None:
    objects = rendered(helm, EVERYTHING)
    spec = objects["NetworkPolicy", "default", "finetune-operator-training"]["spec"]
    training = {
        "matchLabels": {
            "app.kubernetes.io/managed-by": "finetune-operator",
            "finetune.dev/stage": "train",
        }
    }
    assert spec["podSelector"] == training
    peers, operator, names = spec["egress"]
    assert peers == {"to": [{"podSelector": training}]}
    assert operator["ports"] == [{"port": "progress"}]
    (place,) = operator["to"]
    assert place["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    assert {rule["port"] for rule in names["ports"]} == {53}
    assert spec["ingress"] == [
        {"from": [{"podSelector": training}]},
        {"ports": [{"port": "metrics"}]},
    ]


def test_pods_of_training_are_scraped_once_a_run(helm: Helm) -> None:
    objects = rendered(helm, EVERYTHING)
    monitor = objects["PodMonitor", NAMESPACE, "finetune-operator-runs"]
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == ("metrics", "30s")
    assert endpoint["relabelings"][0]["regex"] == "0"


def test_the_operator_is_scraped_with_the_labels_that_it_gives(helm: Helm) -> None:
    monitor = rendered(helm, EVERYTHING)["PodMonitor", NAMESPACE, "finetune-operator"]
    assert monitor["metadata"]["labels"]["release"] == "p"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "honorLabels": True, "interval": "30s"}


def test_alerts_lead_to_the_runbooks_of_those_who_installed_the_chart(helm: Helm) -> None:
    rule = only(rendered(helm, EVERYTHING), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "p"
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    addresses = {each["annotations"]["runbook_url"] for each in alerts if "alert" in each}
    assert "https://wiki.example.com/finetune/FineTuneJobStalled.md" in addresses
    assert all(address.startswith("https://wiki.example.com/finetune/F") for address in addresses)


def test_the_sidecar_finds_dashboards_by_the_label_and_in_the_folder_of_the_values(
    helm: Helm,
) -> None:
    found = [
        (name, one["metadata"])
        for (kind, namespace, name), one in rendered(helm, EVERYTHING).items()
        if (kind, namespace) == ("ConfigMap", "monitoring")
    ]
    assert [name for name, _ in found] == [
        f"finetune-operator-dashboard-{name}" for name in ("fleet", "operator", "run")
    ]
    for _, metadata in found:
        assert metadata["labels"]["dashboards.example.com/load"] == "yes"
        assert metadata["annotations"] == {"example.com/folder": "Machine learning"}


@pytest.mark.parametrize(
    ("blocking", "patch"), [(True, "argocd-cm.yaml"), (False, "argocd-cm-non-blocking.yaml")]
)
def test_argo_cd_is_told_what_the_patch_in_the_repository_tells_it(
    helm: Helm, blocking: bool, patch: str
) -> None:
    objects = rendered(helm, {"argocd": {"enabled": True, "blocking": blocking}})
    told = objects["ConfigMap", NAMESPACE, "finetune-operator-argocd"]["data"]
    assert told == read(ARGOCD / patch)["data"]
