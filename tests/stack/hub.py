"""The test Hub as a Deployment of the cluster, and what the tests put on it.

The server is tests/hub; here it is only installed, reached and filled.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi

import hub.seed
from cluster.handle import Cluster
from hub.seed.tiny import REPO as TINY_MODEL
from stack.forward import forwarded

__all__ = ["ENDPOINT", "TINY_DATA", "TINY_MODEL", "install", "reachable", "seed_real", "seed_tiny"]

TINY_DATA = "tiny/questions"
MANIFEST = Path(hub.__file__).parent / "deployment.yaml"
NAMESPACE = "finetune-hub"
SERVICE = "hub"
ENDPOINT = f"http://{SERVICE}.{NAMESPACE}.svc"
WRITE_TOKEN = "hf_demo_write"
READ_TOKEN = "hf_demo_read"
TOKENS = {
    WRITE_TOKEN: {"name": "demo", "scope": "write"},
    READ_TOKEN: {"name": "reader", "scope": "read"},
}


@contextmanager
def reachable(cluster: Cluster) -> Iterator[HfApi]:
    """The Hub's real client with the write token, through a port-forward."""
    with forwarded(cluster, namespace=NAMESPACE, target=f"service/{SERVICE}", port=80) as endpoint:
        yield HfApi(endpoint=endpoint, token=WRITE_TOKEN)


def install(cluster: Cluster) -> None:
    """Run the server and wait until it answers."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(namespace))
    manifests = "\n---\n".join(json.dumps(found) for found in render(cluster.image("hub")))
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", input=manifests)
    cluster.kubectl("rollout", "status", "deployment/hub", "-n", NAMESPACE, "--timeout=180s")


def render(image: str) -> list[dict[str, Any]]:
    """The server's manifests with our tokens and the image of this cluster."""
    manifests = list(yaml.safe_load_all(MANIFEST.read_text()))
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            manifest["stringData"] = {"tokens.json": json.dumps(TOKENS)}
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return manifests


def seed_real(api: HfApi) -> None:
    """A real small model and a real data set."""
    hub.seed.seed_wordnet(api)
    hub.seed.seed_smollm2(api)


def seed_tiny(api: HfApi) -> None:
    """A model of random weights and a few dozen questions, for speed."""
    hub.seed.seed_tiny_model(api)
    rows = [
        {"question": f"What is {a} and {b}?", "answer": f"It is the number {a + b}."}
        for a in range(8)
        for b in range(8)
    ]
    api.create_repo(TINY_DATA, repo_type="dataset", exist_ok=True)
    api.upload_file(
        repo_id=TINY_DATA,
        repo_type="dataset",
        path_in_repo="train.jsonl",
        path_or_fileobj=io.BytesIO("\n".join(map(json.dumps, rows)).encode()),
    )
