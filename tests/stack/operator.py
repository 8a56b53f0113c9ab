"""Install the operator from `manifests/base`, through an overlay made for the cluster at hand.

Only what a user's own overlay would change is changed: the two images, the Hub's address, and that
the test bed's GPUs are only pretended.
"""

from __future__ import annotations

import json
from pathlib import Path

from cluster.handle import Cluster

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "finetune-system"
DEPLOYMENT = "finetune-operator"


def install(cluster: Cluster, *, hub_endpoint: str) -> None:
    """Apply CRD, RBAC and Deployment, and wait until the operator is ready."""
    overlay = ROOT / "build" / f"overlay-{cluster.provider}"
    overlay.mkdir(parents=True, exist_ok=True)
    kustomization = render(
        operator_image=cluster.image("operator"),
        trainer_image=cluster.image("trainer"),
        hub_endpoint=hub_endpoint,
    )
    # Kustomize reads JSON as well as YAML.
    (overlay / "kustomization.yaml").write_text(json.dumps(kustomization, indent=1))
    cluster.kubectl("apply", "-k", str(overlay))
    cluster.kubectl(
        *("rollout", "status", f"deployment/{DEPLOYMENT}", "-n", NAMESPACE, "--timeout=180s")
    )


def render(*, operator_image: str, trainer_image: str, hub_endpoint: str) -> dict[str, object]:
    """The overlay's kustomization."""
    name, _, tag = operator_image.rpartition(":")
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "operator",
                            "env": [
                                {"name": "FINETUNE_TRAINER_IMAGE", "value": trainer_image},
                                {"name": "HF_ENDPOINT", "value": hub_endpoint},
                                {"name": "FINETUNE_ALLOW_CPU", "value": "true"},
                            ],
                        }
                    ]
                }
            }
        },
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../manifests/base"],
        "images": [{"name": "finetune-operator", "newName": name, "newTag": tag}],
        "patches": [{"patch": json.dumps(patch)}],
    }


def restart(cluster: Cluster) -> None:
    """Delete the operator's pod, as a node failure would; the Deployment makes another."""
    cluster.kubectl("delete", "pod", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name={DEPLOYMENT}")


def logs(cluster: Cluster) -> str:
    """The operator's log, for the report of a failed test."""
    return cluster.kubectl("logs", "-n", NAMESPACE, f"deployment/{DEPLOYMENT}", "--tail=200")
