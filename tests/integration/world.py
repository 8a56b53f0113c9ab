"""A namespace in which a test is the user and plays the nodes: the control plane has none.

Everything else is real: API server, Job controller, scheduler, garbage collector.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kubernetes.client import BatchV1Api, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import NotFoundException
from kubernetes.config import new_client_from_config

from cluster.handle import Cluster
from finetune_operator.vocabulary import API_VERSION, GROUP, KIND, PLURAL, VERSION
from unit.operator.builders import MINIMAL, merged

Json = dict[str, Any]
T = TypeVar("T")
# Less than the operator waits for its second look at everything, which would hide a missed event.
PATIENCE = 28.0


def until(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """What the condition returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


class World:
    """FineTuneJobs, their Jobs and pods in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        client = new_client_from_config(config_file=str(cluster.kubeconfig))
        self.cluster = cluster
        self.namespace = namespace
        self._core, self._batch, self._custom = (
            CoreV1Api(client),
            BatchV1Api(client),
            CustomObjectsApi(client),
        )
        self._client = client

    # The user.

    def apply(self, name: str, labels: Json | None = None, **changes: Any) -> Json:
        """Create a FineTuneJob: the shortest spec with these changes."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "labels": labels or {}},
            "spec": merged(MINIMAL, changes),
        }
        created: Json = self._custom.create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, body
        )
        return created

    def change(self, name: str, **spec: Any) -> None:
        """Merge into the spec."""
        self._custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name, {"spec": spec}
        )

    def forget_status(self, name: str) -> None:
        """Nobody has ever looked at it."""
        self._custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.namespace, PLURAL, name, {"status": None}
        )

    def delete(self, name: str) -> None:
        self._custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    def status(self, name: str) -> Json:
        found: Json = self._custom.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name
        )
        return dict(found.get("status", {}))

    def uid(self, name: str) -> str:
        found = self._custom.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name
        )
        return str(found["metadata"]["uid"])

    def condition(self, name: str, kind: str) -> Json:
        """A condition of the FineTuneJob, {} when it has none of this type."""
        for condition in self.status(name).get("conditions", []):
            if condition["type"] == kind:
                return dict(condition)
        return {}

    def wait_for_phase(self, name: str, phase: str, seconds: float = PATIENCE) -> Json:
        """The status once the run is in this phase."""

        def reached() -> Json | None:
            status = self.status(name)
            return status if status.get("phase") == phase else None

        return until(reached, f"{name} is {phase}, not {self.status(name)}", seconds)

    def wait_for_message(self, name: str, part: str, seconds: float = PATIENCE) -> str:
        """The run's message once it contains this."""

        def told() -> str | None:
            message = str(self.status(name).get("message"))
            return message if part in message else None

        return until(told, f"{part!r} in {self.status(name).get('message')!r}", seconds)

    def events(self, name: str) -> list[Json]:
        """Events about the FineTuneJob, oldest first."""
        found = self._json(
            self._core.list_namespaced_event(
                self.namespace, field_selector=f"involvedObject.name={name}"
            )
        )
        return sorted(found["items"], key=lambda event: str(event["firstTimestamp"]))

    # The cluster.

    def jobs(self) -> list[str]:
        found = self._json(self._batch.list_namespaced_job(self.namespace))
        return sorted(job["metadata"]["name"] for job in found["items"])

    def job(self, name: str) -> Json | None:
        try:
            return self._json(self._batch.read_namespaced_job(name, self.namespace))
        except NotFoundException:
            return None

    def wait_for_job(self, name: str, seconds: float = PATIENCE) -> Json:
        return until(lambda: self.job(name), f"there is a Job {name}, only {self.jobs()}", seconds)

    def plan_of(self, job: str) -> Json:
        """The run.json that the pods of this Job are given."""
        volumes = self.wait_for_job(job)["spec"]["template"]["spec"]["volumes"]
        name = next(each for each in volumes if each["name"] == "run")["configMap"]["name"]
        found = self._json(self._core.read_namespaced_config_map(name, self.namespace))
        return dict(json.loads(found["data"]["run.json"]))

    def create_job(self, name: str) -> None:
        """A Job of somebody else's."""
        container = {"name": "x", "image": "x"}
        pod = {"restartPolicy": "Never", "containers": [container]}
        body = {"metadata": {"name": name}, "spec": {"suspend": True, "template": {"spec": pod}}}
        self._batch.create_namespaced_job(self.namespace, body)

    def delete_job(self, name: str) -> None:
        self._batch.delete_namespaced_job(name, self.namespace, propagation_policy="Background")

    def storage_class(self, *, grows: bool) -> str:
        """A storage class of this namespace's own; its name."""
        name = f"{self.namespace}-{'growing' if grows else 'fixed'}"
        self._apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": "kubernetes.io/no-provisioner",
                "allowVolumeExpansion": grows,
            }
        )
        return name

    def volume(self, storage_class: str, claim: str) -> None:
        """A volume of 50Gi for this claim."""
        spec = {
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "claimRef": {"namespace": self.namespace, "name": claim},
            "hostPath": {"path": "/nowhere"},
        }
        metadata = {"name": f"{self.namespace}-{claim}"}
        self._apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
        )

    def claim(self, name: str) -> Json:
        return self._json(self._core.read_namespaced_persistent_volume_claim(name, self.namespace))

    @contextlib.contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Meanwhile an object that is deleted stays, as a claim does that pods use."""
        finalizers = json.dumps({"metadata": {"finalizers": ["example.com/held"]}})
        self.cluster.kubectl("patch", "-n", self.namespace, what, "--type=merge", "-p", finalizers)
        yield
        freed = json.dumps({"metadata": {"finalizers": None}})
        self.cluster.kubectl("patch", "-n", self.namespace, what, "--type=merge", "-p", freed)

    def make_claim(self, name: str) -> None:
        """A claim of the user's."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        body = {"metadata": {"name": name}, "spec": spec}
        self._core.create_namespaced_persistent_volume_claim(self.namespace, body)

    def delete_claim(self, name: str) -> None:
        self._core.delete_namespaced_persistent_volume_claim(name, self.namespace)

    def allow_no_pods(self) -> None:
        """A quota that refuses every further pod."""
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"pods": "0"}},
        }
        self._core.create_namespaced_resource_quota(self.namespace, quota)

    # The nodes.

    def pods(self, job: str) -> list[Json]:
        """The pods that the Job controller has made."""
        found = self._json(
            self._core.list_namespaced_pod(
                self.namespace, label_selector=f"batch.kubernetes.io/job-name={job}"
            )
        )
        return list(found["items"])

    def pod_names(self) -> list[str]:
        """All pods of the namespace."""
        found = self._json(self._core.list_namespaced_pod(self.namespace))
        return [pod["metadata"]["name"] for pod in found["items"]]

    def wait_for_pod_called(self, beginning: str) -> str:
        """A pod whose name begins so."""

        def called() -> str | None:
            return next((name for name in self.pod_names() if name.startswith(beginning)), None)

        return until(called, f"there is a pod {beginning}…")

    def wait_for_pod(self, job: str) -> str:
        self.wait_for_job(job)
        pods = until(lambda: self.pods(job), f"there is a pod of {job}")
        return str(pods[0]["metadata"]["name"])

    def run(self, job: str) -> str:
        """Let the Job's first pod run; its name."""
        pod = self.wait_for_pod(job)
        ready = {"type": "Ready", "status": "True"}
        self._set_status(pod, {"phase": "Running", "conditions": [ready]})
        return pod

    def run_on(self, node: str, job: str) -> str:
        """Let the Job's first pod run on this node; its name."""
        pod = self.wait_for_pod(job)
        self.bind(pod, node)
        container = {
            "name": self._container(job),
            "image": "x",
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "state": {"running": {}},
        }
        ready = {"type": "Ready", "status": "True"}
        self._set_status(
            pod, {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}
        )
        return pod

    def bind(self, pod: str, node: str = "nowhere") -> None:
        """Give the pod a node, so that only its kubelet can end it: that is, this test."""
        binding = {
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._core.create_namespaced_pod_binding(
            pod, self.namespace, binding, _preload_content=False
        )

    def evict(self, pod: str) -> None:
        """What `kubectl drain` does to each pod of a node."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        self._core.create_namespaced_pod_eviction(pod, self.namespace, eviction)

    def block(self, pod: str, reason: str, message: str) -> None:
        """Let a pod that has its node not come up."""
        self.bind(pod)
        container = {
            "name": "stage",
            "image": "x",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }
        self._set_status(pod, {"phase": "Pending", "containerStatuses": [container]})

    def finish(self, job: str, code: int = 0, message: str = "", **result: Any) -> None:
        """Let the Job's first pod end as the stage contract says."""
        self.finish_pod(self.wait_for_pod(job), self._container(job), code, message, **result)

    def finish_pod(
        self, pod: str, container: str, code: int = 0, message: str = "", **result: Any
    ) -> None:
        """Let a pod end."""
        document = json.dumps({"message": message, "result": result}) if message else ""
        terminated = {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": document,
            "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        ended = {
            "name": container,
            "image": "x",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": terminated},
        }
        self._set_status(
            pod,
            {
                "phase": "Failed" if code else "Succeeded",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [ended],
            },
        )

    def wait_for_end_of(self, job: str, seconds: float = PATIENCE) -> None:
        """Stop the pods of a Job that is being deleted, and wait until it is gone."""

        def gone() -> bool:
            found = self.job(job)
            if found is not None and "deletionTimestamp" in found["metadata"]:
                self.stop_pods(job)
            return found is None

        until(gone, f"{job} is gone", seconds)

    def stop_pods(self, job: str) -> None:
        """What a kubelet does with pods that are being deleted."""
        for pod in self.pods(job):
            name = pod["metadata"]["name"]
            with contextlib.suppress(NotFoundException):
                self._core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)

    def _container(self, job: str) -> str:
        found = self.job(job)
        assert found is not None
        return str(found["spec"]["template"]["spec"]["containers"][0]["name"])

    def _set_status(self, pod: str, status: Json) -> None:
        self._core.patch_namespaced_pod_status(pod, self.namespace, {"status": status})

    def _apply(self, manifest: Json) -> None:
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))

    def _json(self, typed: Any) -> Json:
        return dict(self._client.sanitize_for_serialization(typed))
