"""The chart as Helm renders it, as objects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from cluster.tools import Helm

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "finetune-operator"
NAMESPACE = "finetune-system"
_TEMPLATE = ("template", "finetune-operator", str(CHART), "--namespace", NAMESPACE)
Json = dict[str, Any]
Identity = tuple[str, str, str]

# Every switch on, every value another than its default.
EVERYTHING: Json = {
    "image": {
        "repository": "registry.example.com/finetune-operator",
        "digest": f"sha256:{'0f' * 32}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"name": "another", "annotations": {"example.com/role": "none"}},
    "operator": {"logFormat": "json", "workers": 4},
    "runs": {
        "image": {"repository": "registry.example.com/finetune-trainer", "tag": "v9"},
        "storageClassName": "shared",
        "nodeSelector": {"pool": "gpu", "example.com/zone": "a"},
        "priorityClassName": "batch",
        "hubEndpoint": "https://hub.example.com",
        "allowCpu": True,
    },
    "limits": {"gpusPerRun": 8, "imageRegistries": ["registry.example.com/ml", "ghcr.io"]},
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"example.com/note": "yes"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
            }
        }
    },
    "priorityClassName": "system-cluster-critical",
    "networkPolicy": {
        "enabled": True,
        "apiServerPorts": [443, 16443],
        "trainingNamespaces": ["default"],
    },
    "metrics": {
        "podMonitor": {"enabled": True, "labels": {"release": "p"}, "interval": "30s"},
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "p"},
            "runbookBaseURL": "https://wiki.example.com/finetune/",
        },
        "dashboards": {
            "enabled": True,
            "label": "dashboards.example.com/load",
            "labelValue": "yes",
            "folder": "Machine learning",
            "folderAnnotation": "example.com/folder",
            "namespace": "monitoring",
        },
    },
    "argocd": {"enabled": True, "blocking": False},
}
# What manifests/monitoring has.
MONITORING: Json = {
    "metrics": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    }
}
NAMESPACED: Json = {**EVERYTHING, "watch": {"namespaces": ["team-a", NAMESPACE]}}
NOTHING: Json = {
    "crds": {"install": False},
    "rbac": {"create": False, "userRoles": False},
    "serviceAccount": {"create": False, "name": "theirs"},
}


def rendered(helm: Helm, values: Json | None = None) -> dict[Identity, Json]:
    """The objects of a release in the base's namespace."""
    return by_identity(helm(*_TEMPLATE, "--skip-tests", values=values))


def hook_pod(helm: Helm, values: Json | None = None) -> Json:
    """The pod that `helm test` starts."""
    show = ("--show-only", "templates/tests/reach.yaml")
    return only(by_identity(helm(*_TEMPLATE, *show, values=values)), "Pod")


def by_identity(text: str) -> dict[Identity, Json]:
    """The objects of a YAML stream."""
    objects: Iterable[Json] = (found for found in yaml.load_all(text, yaml.CSafeLoader) if found)
    return {_identity(found): found for found in objects}


def only(objects: dict[Identity, Json], kind: str) -> Json:
    """The one object of this kind."""
    (found,) = (found for (one, _, _), found in objects.items() if one == kind)
    return found


def environment(objects: dict[Identity, Json]) -> dict[str, str]:
    """What the operator is told."""
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def _identity(found: Json) -> Identity:
    metadata = found["metadata"]
    return found["kind"], metadata.get("namespace", ""), metadata["name"]
