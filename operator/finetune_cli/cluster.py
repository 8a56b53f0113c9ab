"""The cluster as this plug-in uses it: FineTuneJobs, what belongs to a run, logs; plain JSON.

Whatever fails comes out as a `CliError`. How a request is made is client.py's matter.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetune_cli import refused
from finetune_cli.errors import CliError, Exit
from finetune_cli.options import Target
from finetune_operator.vocabulary import GROUP, LABEL_RUN, PLURAL, VERSION

if TYPE_CHECKING:
    from finetune_cli.client import Client

Json = dict[str, Any]
READ_SECONDS = 30.0
# A watch is asked for anew after so long; a cluster that is away for less is waited for.
WATCH_SECONDS, PATIENCE_SECONDS = 240.0, 60.0
# How much later than asked for a watch may end.
WATCH_SLACK = 5.0


class Cluster:
    """One namespace of one cluster; `namespace` is the one that the command is about."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.namespace = namespace
        self._client = client

    @classmethod
    def connect(cls, target: Target) -> Cluster:
        """By the options, else the kubeconfig, else the service account of the pod we are in."""
        # Here and not above: it takes longer to import than all the rest (client.py).
        from finetune_cli.client import connect

        return cls(*connect(target))

    def runs(
        self,
        *,
        everywhere: bool = False,
        selector: str | None = None,
        seconds: float = READ_SECONDS,
    ) -> list[Json]:
        """All FineTuneJobs of the namespace, or of all namespaces, by namespace and name."""
        path = f"/{PLURAL}" if everywhere else f"/namespaces/{self.namespace}/{PLURAL}"
        query = {"labelSelector": selector} if selector else {}
        found = self._runs("list FineTuneJobs", "GET", path, query=query, seconds=seconds)
        items: list[Json] = found["items"]
        return sorted(
            items, key=lambda run: (run["metadata"]["namespace"], run["metadata"]["name"])
        )

    def run(self, name: str) -> Json:
        """One FineTuneJob."""
        return self._of(name, "read FineTuneJobs", "GET")

    def change(self, name: str, spec: Mapping[str, Any]) -> Json:
        """Merge into a run's spec; None removes a field."""
        return self._patch(name, {"spec": spec})

    def annotate(self, name: str, annotations: Mapping[str, str]) -> Json:
        """Set annotations of a run."""
        return self._patch(name, {"metadata": {"annotations": annotations}})

    def follow(self, name: str, deadline: float | None = None) -> Iterator[Json]:
        """The run as it is, and again whenever it changes. Ends when the run is deleted, or at the
        deadline (of `time.monotonic`). A cluster that is away for a moment is waited for.
        """
        seen, lost_at, stale = self.run(name), None, False
        yield seen
        while deadline is None or time.monotonic() < deadline:
            try:
                if stale:
                    newest, stale, lost_at = self.run(name), False, None
                    if _version(newest) != _version(seen):
                        seen = newest
                        yield seen
                for event in self._events(name, _version(seen), deadline):
                    if event["type"] == "DELETED":
                        return
                    if event["type"] == "ERROR":
                        break
                    seen = event["object"]
                    yield seen
            except CliError as error:
                lost_at = lost_at or time.monotonic()
                if error.code != Exit.NO_CLUSTER or time.monotonic() > lost_at + PATIENCE_SECONDS:
                    raise
                time.sleep(1)
            stale = True

    def pods(self, name: str) -> list[Json]:
        """The pods of all Jobs of a run that are still there, oldest first."""
        query = {"labelSelector": f"{LABEL_RUN}={name}"}
        found = self._call("list pods", "GET", self._core("pods"), query=query)
        return sorted(found["items"], key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def jobs(self, name: str) -> list[Json]:
        """The Jobs of a run."""
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        query = {"labelSelector": f"{LABEL_RUN}={name}"}
        items: list[Json] = self._call("list Jobs", "GET", path, query=query)["items"]
        return items

    def config_map(self, name: str) -> Json | None:
        """A ConfigMap; None when it is not there."""
        try:
            return self._call("read ConfigMaps", "GET", self._core("configmaps", name))
        except refused.Missing:
            return None

    def create_pod(self, manifest: Json) -> Json:
        """The pod as it was created."""
        query = {"fieldManager": "kubectl-finetune"}
        return self._call("create pods", "POST", self._core("pods"), body=manifest, query=query)

    def pod(self, name: str) -> Json:
        """One pod."""
        return self._call("read pods", "GET", self._core("pods", name))

    def delete_pod(self, name: str) -> None:
        """Delete a pod, at once."""
        query = {"gracePeriodSeconds": 0}
        self._call("delete pods", "DELETE", self._core("pods", name), query=query)

    def log_lines(self, pod: str, query: Mapping[str, Any]) -> Iterator[str]:
        """The log of a pod's one container; `query` as the API server takes it (follow, …)."""
        # Nothing may come for long from a process that works.
        seconds = None if query.get("follow") else READ_SECONDS
        path = self._core("pods", pod, "log")
        return self._client.lines("read logs", path, query=query, seconds=seconds)

    def _events(self, name: str, version: str, deadline: float | None) -> Iterator[Json]:
        left = WATCH_SECONDS if deadline is None else deadline - time.monotonic()
        seconds = max(1, round(min(left, WATCH_SECONDS)))
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": seconds,
        }
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}"
        lines = self._client.lines(
            "watch FineTuneJobs", path, query=query, seconds=seconds + WATCH_SLACK
        )
        for line in lines:
            yield json.loads(line)

    def _patch(self, name: str, body: Mapping[str, Any]) -> Json:
        query = {"fieldValidation": "Strict", "fieldManager": "kubectl-finetune"}
        return self._of(name, "change FineTuneJobs", "PATCH", body=body, query=query)

    def _of(self, name: str, doing: str, method: str, **options: Any) -> Json:
        path = f"/namespaces/{self.namespace}/{PLURAL}/{name}"
        return self._runs(doing, method, path, name=name, **options)

    def _runs(
        self, doing: str, method: str, path: str, *, name: str | None = None, **options: Any
    ) -> Json:
        try:
            return self._call(doing, method, f"/apis/{GROUP}/{VERSION}{path}", **options)
        except refused.Missing as error:
            if name is not None and refused.is_about_an_object(error.body):
                known = [str(run["metadata"]["name"]) for run in self.runs()]
                alike = difflib.get_close_matches(name, known, n=1)
                raise refused.not_there(name, self.namespace, alike) from None
            raise refused.unknown_resource(self._served()) from None

    def _served(self) -> list[str] | None:
        try:
            group = self._call("read the API groups", "GET", f"/apis/{GROUP}")
        except CliError:
            return None
        return [version["version"] for version in group["versions"]]

    def _core(self, *parts: str) -> str:
        return "/".join((f"/api/v1/namespaces/{self.namespace}", *parts))

    def _call(self, doing: str, method: str, path: str, **options: Any) -> Json:
        return self._client.call(doing, method, path, **{"seconds": READ_SECONDS, **options})


def _version(run: Json) -> str:
    return str(run["metadata"]["resourceVersion"])
