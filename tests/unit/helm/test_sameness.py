"""Chart and kustomize base are the same operator: one cannot be changed without the other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.tools import Helm
from unit.helm.chart import MONITORING, NAMESPACE, ROOT, Identity, Json, by_identity, rendered

MANIFESTS = ROOT / "manifests"
# Helm's own words about a release.
OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "helm.sh/resource-policy",
}
# Helm makes it itself (--create-namespace), and could not delete it while the release is in it.
NOT_IN_THE_CHART = ("Namespace", "", NAMESPACE)


def in_any_order(found: Json) -> Json:
    """Its environment sorted by name: an overlay puts what it adds first."""
    if found["kind"] != "Deployment":
        return found
    sorted_ = copy.deepcopy(found)
    for container in sorted_["spec"]["template"]["spec"]["containers"]:
        container["env"].sort(key=lambda entry: entry["name"])
    return sorted_


def without_helm(objects: dict[Identity, Json]) -> dict[Identity, Json]:
    plain = copy.deepcopy(objects)
    for found in plain.values():
        for part in ("labels", "annotations"):
            kept = {k: v for k, v in found["metadata"].pop(part, {}).items() if k not in OF_HELM}
            if kept:
                found["metadata"][part] = kept
    return plain


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        ("base", None),
        ("overlays/namespaced", {"watch": {"namespaces": ["team-a"]}}),
        (
            "overlays/local",
            {
                "image": {
                    "repository": "registry.example.com/finetune-operator",
                    "tag": "v0.1.0",
                },
                "runs": {
                    "image": {
                        "repository": "registry.example.com/finetune-trainer",
                        "tag": "v0.1.0",
                    }
                },
            },
        ),
    ],
)
def test_chart_and_kustomization_make_the_same_objects(
    helm: Helm, kustomize: Callable[[Path], str], folder: str, values: Json | None
) -> None:
    wanted = by_identity(kustomize(MANIFESTS / folder))
    del wanted[NOT_IN_THE_CHART]
    made = without_helm(rendered(helm, values))
    assert made.keys() == wanted.keys()
    for identity, found in made.items():
        assert in_any_order(found) == in_any_order(wanted[identity]), identity


def test_chart_and_kustomization_watch_the_operator_in_the_same_way(
    helm: Helm, kustomize: Callable[[Path], str]
) -> None:
    wanted = by_identity(kustomize(MANIFESTS / "monitoring"))
    more = rendered(helm, MONITORING)
    for identity in rendered(helm):
        del more[identity]
    assert without_helm(more) == wanted


def test_every_object_says_of_what_it_is(helm: Helm) -> None:
    for found in rendered(helm).values():
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "finetune-operator"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
