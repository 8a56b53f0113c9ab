"""What an end-to-end test works with: a namespace, the objects in it, and waiting for them.

Everything goes through kubectl, as a user's commands would.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster import locks
from cluster.handle import Cluster
from stack import hub, whole

Json = dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """A cluster on which the operator runs and a Hub answers."""

    cluster: Cluster


def tiny_job(name: str, **spec: Any) -> Json:
    """A FineTuneJob that trains the tiny model in seconds; `spec` replaces whole members."""
    base: Json = {
        "model": {"source": f"hf://{hub.TINY_MODEL}"},
        "dataset": {
            "source": f"hf://{hub.TINY_DATA}",
            "format": {"questionAnswer": {"question": "question", "answer": "answer"}},
            "validation": {"fraction": "0.1"},
        },
        "method": {"lora": {"rank": 4}},
        "training": {"maxSteps": 12, "sequenceLength": 128, "sequencesPerStep": 4},
        # Two runs fit a node with two CPUs, beside the operator and the Hub.
        "resources": {"gpusPerNode": 1, "cpu": "800m", "memory": "2Gi"},
        "storage": {"size": "1Gi"},
        "upload": {"repository": f"acme/{name}", "tokenSecretRef": {"name": "hf-write"}},
    }
    merged = {**copy.deepcopy(base), **spec}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {key: value for key, value in merged.items() if value is not None},
    }


class Bench:
    """One namespace and the verbs a test needs in it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, input=input)

    def create_token_secret(self, name: str, token: str) -> None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"token": token},
        }
        self.kubectl("apply", "-f", "-", input=json.dumps(secret))

    def apply(self, resource: Json) -> str:
        self.kubectl("apply", "-f", "-", input=json.dumps(resource))
        return str(resource["metadata"]["name"])

    def patch_spec(self, name: str, spec: Json) -> None:
        self.kubectl("patch", "ftj", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def get(self, name: str) -> Json:
        return dict(json.loads(self.kubectl("get", "ftj", name, "-o", "json")))

    def items(self, kind: str, selector: str = "") -> list[Json]:
        text = self.kubectl("get", kind, "-l", selector, "-o", "json")
        return list(json.loads(text)["items"])

    def jobs(self, name: str) -> list[str]:
        """Names of the run's Jobs, in order of creation."""
        found = self.items("jobs", f"finetune.dev/run={name}")
        found.sort(key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))
        return [job["metadata"]["name"] for job in found]

    def wait(
        self,
        name: str,
        until: Callable[[Json], bool],
        what: str,
        *,
        seconds: float = 180,
        final: tuple[str, ...] = ("Failed", "Succeeded"),
    ) -> Json:
        """The resource once `until` holds for its status; in a `final` phase it never will."""
        deadline = time.monotonic() + seconds
        while True:
            resource = self.get(name)
            status = resource.get("status", {})
            if until(status):
                return resource
            if status.get("phase") in final or time.monotonic() > deadline:
                raise AssertionError(f"{name} did not come to {what}: {json.dumps(status)}")
            time.sleep(0.5)

    def evict(self, job: str) -> None:
        """What `kubectl drain` does to each pod of a node."""
        (pod,) = self.items("pods", f"batch.kubernetes.io/job-name={job}")
        name = pod["metadata"]["name"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))

    def wait_for_phase(self, name: str, phase: str, seconds: float = 240) -> Json:
        return self.wait(name, lambda status: status.get("phase") == phase, phase, seconds=seconds)

    def wait_for_step(self, name: str, step: int, seconds: float = 180) -> Json:
        """The resource once training has reported at least `step` steps."""
        return self.wait(
            name,
            lambda status: status.get("progress", {}).get("step", 0) >= step,
            f"step {step}",
            seconds=seconds,
        )

    def events(self, name: str) -> list[str]:
        """The run's events as "Reason: message", oldest first."""
        found = self.items("events")
        found = [event for event in found if event["involvedObject"]["name"] == name]
        return [f"{event['reason']}: {event['message']}" for event in found]

    def describe(self) -> str:
        return self.kubectl("describe", "ftj") + self.kubectl("get", "pods", "-o", "wide")


@contextmanager
def bench_on(cluster: Cluster, prefix: str, *, alone: bool = False) -> Iterator[Bench]:
    """A bench in a namespace of its own, with the Hub's write token in `hf-write`. Several at a
    time share the operator; `alone` nobody else has a run on the cluster.
    """
    lock = locks.exclusive if alone else locks.shared
    turn = lock(whole.OPERATOR_LOCK, "a test on the cluster")
    with turn, cluster.namespace(prefix) as namespace:
        bench = Bench(cluster, namespace)
        bench.create_token_secret("hf-write", hub.WRITE_TOKEN)
        yield bench


def condition(resource: Json, type: str) -> Json:
    """The condition of that type, `{}` if there is none."""
    conditions = resource["status"].get("conditions", [])
    return next((found for found in conditions if found["type"] == type), {})


def stage(resource: Json, name: str) -> Json:
    """The stage of that name in status."""
    return next(found for found in resource["status"]["stages"] if found["name"] == name)
