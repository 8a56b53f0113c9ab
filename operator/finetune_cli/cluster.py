"""The cluster as this plug-in uses it: FineTuneJobs, pods of a run and their logs; plain JSON.

The only place that imports the official client. Whatever fails comes out as a `CliError`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)
from urllib3.exceptions import HTTPError, MaxRetryError

from finetune_cli import refused
from finetune_cli.errors import CliError, Exit
from finetune_cli.options import Target
from finetune_operator.vocabulary import GROUP, LABEL_RUN, PLURAL, VERSION

Json = dict[str, Any]
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
# A watch is asked for anew after so long; a cluster that is away for less is waited for.
WATCH_SECONDS, PATIENCE_SECONDS = 240.0, 60.0
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Cluster:
    """One namespace of one cluster; `namespace` is the one that the command is about."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._client = client
        self._server = str(client.configuration.host)

    @classmethod
    def connect(cls, target: Target) -> Cluster:
        """By the options, else the kubeconfig, else the service account of the pod we are in."""
        # Its warnings about retries would be a second voice beside the one sentence.
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)
        logging.getLogger("kubernetes").setLevel(logging.CRITICAL)
        place = target.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        configuration = Configuration()
        try:
            namespace = _configure(configuration, target)
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0].strip(" .") if str(error) else "it is empty"
            raise refused.no_access(place, reason) from None
        configuration.retries = False
        return cls(ApiClient(configuration), target.namespace or namespace)

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
        query = {"fieldValidation": "Strict", "fieldManager": "kubectl-finetune"}
        return self._of(name, "change FineTuneJobs", "PATCH", body={"spec": spec}, query=query)

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
        found = self._core("list pods", "/pods", {"labelSelector": f"{LABEL_RUN}={name}"})
        return sorted(found["items"], key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def jobs(self, name: str) -> list[Json]:
        """The Jobs of a run."""
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        query = {"labelSelector": f"{LABEL_RUN}={name}"}
        items: list[Json] = self._call("list Jobs", "GET", path, query=query)["items"]
        return items

    def config_map(self, name: str) -> Json | None:
        """A ConfigMap; None when it is not there."""
        return self._core("read ConfigMaps", f"/configmaps/{name}", {}, missing={}) or None

    def log_lines(self, pod: str, query: Mapping[str, Any]) -> Iterator[str]:
        """The log of a pod's one container; `query` as the API server takes it (follow, …)."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        # Nothing may come for long from a process that works.
        seconds = None if query.get("follow") else READ_SECONDS
        answer = self._send("read logs", "GET", path, query=query, seconds=seconds)
        with self._sentences("read logs"):
            yield from _lines(answer)

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
        doing = "watch FineTuneJobs"
        answer = self._send(doing, "GET", path, query=query, seconds=seconds + CONNECT_SECONDS)
        with self._sentences(doing):
            for line in _lines(answer):
                yield json.loads(line)

    def _of(self, name: str, doing: str, method: str, **options: Any) -> Json:
        path = f"/namespaces/{self.namespace}/{PLURAL}/{name}"
        return self._runs(doing, method, path, name=name, **options)

    def _runs(
        self, doing: str, method: str, path: str, *, name: str | None = None, **options: Any
    ) -> Json:
        try:
            return self._call(doing, method, f"/apis/{GROUP}/{VERSION}{path}", **options)
        except _Missing as error:
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

    def _core(
        self, doing: str, path: str, query: Mapping[str, Any], missing: Json | None = None
    ) -> Json:
        path = f"/api/v1/namespaces/{self.namespace}{path}"
        try:
            return self._call(doing, "GET", path, query=query)
        except _Missing:
            if missing is None:
                raise
            return missing

    def _call(self, doing: str, method: str, path: str, **options: Any) -> Json:
        with self._sentences(doing):
            answer: Json = json.loads(self._send(doing, method, path, **options).data)
        return answer

    def _send(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        seconds: float | None = READ_SECONDS,
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        with self._sentences(doing):
            method, url, headers, body, form = self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(
                method, url, headers, body, form, _request_timeout=(CONNECT_SECONDS, seconds)
            )
            if answer.status >= 400:
                raise ApiException(status=answer.status, body=answer.read())
        return answer.response

    def _sentences(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return _in_sentences(doing, self._server, self.namespace)


class _Missing(CliError):
    """A 404, before it is known of what."""

    def __init__(self, message: str, body: Any) -> None:
        super().__init__(message, Exit.NOT_FOUND)
        self.body = body


@contextlib.contextmanager
def _in_sentences(doing: str, server: str, namespace: str) -> Iterator[None]:
    """What the client raises in this block leaves it as a sentence."""
    try:
        yield
    except ApiException as error:
        body = error.body or error.reason
        if error.status == 404:
            said = f"The cluster cannot {doing} in namespace {namespace}: it is not there (404)."
            raise _Missing(said, body) from None
        status = int(error.status or 0)
        raise refused.from_answer(status, body, doing, server, namespace) from None
    except (HTTPError, OSError, ConfigException) as error:
        raise refused.no_answer(server, _cause(error)) from None


def _version(run: Json) -> str:
    return str(run["metadata"]["resourceVersion"])


def _cause(error: BaseException) -> str:
    if isinstance(error, MaxRetryError) and error.reason:
        error = error.reason
    # "HTTPSConnection(…): Failed to establish a new connection: [Errno 111] Connection refused"
    return str(error).rpartition(": ")[2].partition("] ")[2] or str(error).rpartition(": ")[2]


def _lines(answer: Any) -> Iterator[str]:
    rest = b""
    for piece in answer.stream(amt=None, decode_content=True):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _configure(configuration: Any, target: Target) -> str:
    chosen = target.kubeconfig or os.environ.get("KUBECONFIG")
    default = Path("~/.kube/config").expanduser()
    if not chosen and not default.exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
        load_incluster_config(configuration)
        return _SERVICE_ACCOUNT.read_text().strip()
    if not chosen and not default.exists():
        raise ConfigException("there is no such file")
    # Of several in KUBECONFIG, as kubectl takes them, one may be missing.
    if chosen and not any(Path(part).expanduser().exists() for part in chosen.split(os.pathsep)):
        raise ConfigException("there is no such file")
    contexts, active = list_kube_config_contexts(target.kubeconfig)
    if target.context:
        names = {context["name"]: context for context in contexts}
        if target.context not in names:
            raise ConfigException(
                f"it has no context {target.context}, only {', '.join(sorted(names))}"
            )
        active = names[target.context]
    load_kube_config(target.kubeconfig, target.context, configuration)
    return str(active["context"].get("namespace") or "default")
