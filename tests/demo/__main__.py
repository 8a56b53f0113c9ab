"""`python -m demo`: bring everything up, apply the sample, watch it, prove the result.

Reads as the story that it tells; each step is a function of `stack` or of a module beside this one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from cluster import locks, progress, provider
from cluster.errors import ClusterError
from cluster.handle import Cluster, KubectlError
from demo import proof, view
from finetune_cli.words import span
from stack import hub, operator, whole

SAMPLE = Path("manifests/samples/smollm2-wordnet.yaml")
NAMESPACE = "finetune-demo"
POLL_SECONDS = 1.0
LIMIT_SECONDS = 30 * 60
# Commands up to this length have their comments below each other.
ALIGNED = 84


def main() -> int:
    """Run the demo; 0 when the proof holds."""
    started = time.monotonic()
    try:
        with locks.shared(whole.OPERATOR_LOCK, "a test without operator"):
            show()
    except (ClusterError, KubectlError, proof.ProofError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    print(f"\nAll of it in {span(time.monotonic() - started)}. `make cluster-down` ends it.")
    return 0


def show() -> None:
    """The story from beginning to end; whatever goes wrong is raised."""
    cluster = provider.choose(os.environ).provide()
    heading(f"Cluster: {cluster.provider}  (export KUBECONFIG={cluster.kubeconfig})")
    with progress.step("Hub in the cluster"):
        hub.install(cluster)
    with hub.reachable(cluster) as api:
        hub.seed_real(api)
    with progress.step("Operator from manifests/base"):
        operator.install(cluster, hub_endpoint=hub.ENDPOINT)
    name = apply_sample(cluster)
    resource = watch(cluster, name)
    conclude(cluster, resource)
    invite(cluster, resource)


def heading(text: str) -> None:
    """Begin a part of the story."""
    print(f"\n==> {text}", flush=True)


def apply_sample(cluster: Cluster) -> str:
    """Create namespace and token Secret, then apply the sample as a user would; its name."""
    heading(f"kubectl apply -n {NAMESPACE} -f {SAMPLE}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    secret = {
        "kind": "Secret",
        "metadata": {"name": "hf-write", "namespace": NAMESPACE},
        "stringData": {"token": hub.WRITE_TOKEN},
    }
    for thing in (namespace, secret):
        cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", **thing}))
    text = SAMPLE.read_text()
    print(text.rstrip())
    name = str(yaml.safe_load(text)["metadata"]["name"])
    # A run of an earlier demo would answer at once with its old result.
    if cluster.kubectl("get", "ftj", name, "-n", NAMESPACE, "--ignore-not-found", "-o", "name"):
        print(f"\nThe {name} of an earlier demo is deleted first; what it has published stays.")
        cluster.kubectl("delete", "ftj", name, "-n", NAMESPACE)
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(SAMPLE))
    return name


def watch(cluster: Cluster, name: str) -> dict[str, Any]:
    """Print the run's line whenever it changes, until it has ended; the resource then.

    Raises:
        ProofError: it failed, or did not end in time.
    """
    heading(f"kubectl get ftj {name} -n {NAMESPACE} -w, with more in a line")
    deadline, last = time.monotonic() + LIMIT_SECONDS, ""
    while time.monotonic() < deadline:
        resource = get(cluster, name)
        line = view.line(resource)
        if line != last:
            print(f"  {time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line
        if view.is_over(resource):
            print("\n".join(["", *view.stage_table(resource)]))
            if resource["status"]["phase"] == "Succeeded":
                return resource
            raise proof.ProofError(resource["status"].get("message", "the run failed"))
        time.sleep(POLL_SECONDS)
    raise proof.ProofError(f"the run did not end within {LIMIT_SECONDS // 60} minutes")


def get(cluster: Cluster, name: str) -> dict[str, Any]:
    """The resource as it stands."""
    text = cluster.kubectl("get", "ftj", name, "-n", NAMESPACE, "-o", "json")
    return dict(json.loads(text))


def conclude(cluster: Cluster, resource: dict[str, Any]) -> None:
    """Fetch what was published and compare it with the base.

    Raises:
        ProofError: anything about it is off.
    """
    artifacts = resource["status"]["artifacts"]
    repository, commit = artifacts["repository"], artifacts["commit"]
    heading(f"Proof: {repository} at commit {commit}")
    found = proof.losses(resource)
    print(f"  validation loss  base {found.base:.4f}  tuned {found.tuned:.4f}")
    with tempfile.TemporaryDirectory() as scratch, hub.reachable(cluster) as api:
        folders = {"tuned": Path(scratch) / "tuned", "base": Path(scratch) / "base"}
        names = proof.download(api.endpoint, repository, commit, folders["tuned"])
        base = resource["spec"]["model"]["source"].removeprefix("hf://")
        proof.download(
            api.endpoint, base, resource["status"]["resolved"]["modelCommit"], folders["base"]
        )
        print("  published: " + ", ".join(names))
        spoken = {who: proof.answers(folder) for who, folder in folders.items()}
    for question, before, after in zip(
        proof.QUESTIONS, spoken["base"], spoken["tuned"], strict=True
    ):
        print(f"\n  {question}\n    base   {before}\n    tuned  {after}")
    if spoken["base"] == spoken["tuned"]:
        raise proof.ProofError("base and tuned model give the same answers")


def invite(cluster: Cluster, resource: dict[str, Any]) -> None:
    """Say what can be looked at and tried on the cluster that is there now."""
    name, repository = resource["metadata"]["name"], resource["status"]["artifacts"]["repository"]
    tools = "" if shutil.which("kubectl") else f" PATH=$PATH:{cluster.kubectl_binary.parent}"
    heading("Your turn")
    commands = (
        (f"export KUBECONFIG={cluster.kubeconfig}{tools}", ""),
        (f"kubectl describe ftj {name} -n {NAMESPACE}", ""),
        ("make cli", "the plug-in, into ~/.local/bin, which belongs on the PATH"),
        (f"kubectl finetune status {name} -n {NAMESPACE}", "stages, numbers, the loss curve"),
        (f"kubectl finetune report {name} -n {NAMESPACE} --workspace", "the page to look at"),
        (f"kubectl logs job/{name}-prepare-1 -n {NAMESPACE}", "the data; what is trained"),
        (
            f"sed 's,{name},mine,; s,{repository},demo/mine,' {SAMPLE} > mine.yaml",
            "then change in it what you like",
        ),
        (f"kubectl apply -n {NAMESPACE} -f mine.yaml", "its write token is there: Secret hf-write"),
        (f"kubectl get ftj -n {NAMESPACE} -w", ""),
        (f"kubectl port-forward -n {hub.NAMESPACE} service/{hub.SERVICE} 8000:80", "the Hub"),
        (f"curl localhost:8000/{repository}/raw/main/README.md", "the model card on it"),
    )
    width = max(len(command) for command, why in commands if why and len(command) <= ALIGNED)
    for command, why in commands:
        print(f"  {command:<{width}}  # {why}" if why else f"  {command}")


if __name__ == "__main__":
    sys.exit(main())
