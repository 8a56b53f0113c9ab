"""Requests to the API server by the official client: JSON or lines come out, and whatever fails
comes out as a `CliError`.

The only module that imports that client, which takes longer than all the rest of a command: whoever
needs a cluster imports this one when it comes to that (`Cluster.connect`). What is asked for, and
what it means, is known in cluster.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
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
from finetune_cli.options import Target

Json = dict[str, Any]
CONNECT_SECONDS = 5.0
_CONTENT = {"PATCH": "application/merge-patch+json", "POST": "application/json"}
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Client:
    """The API server; `namespace` is the one that its refusals are about."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._server = str(api.configuration.host)

    def call(self, doing: str, method: str, path: str, **options: Any) -> Json:
        """The answer of one request; `doing` is as in "list pods". Options: see `_send`.

        Raises:
            refused.Missing: it is not there.
            CliError: whatever else is in the way.
        """
        with self._sentences(doing):
            answer: Json = json.loads(self._send(method, path, **options).data)
        return answer

    def lines(
        self, doing: str, path: str, *, query: Mapping[str, Any], seconds: float | None
    ) -> Iterator[str]:
        """An answer line by line, as it comes; `seconds`: how long nothing may come."""
        with self._sentences(doing):
            yield from _lines(self._send("GET", path, query=query, seconds=seconds))

    def _send(
        self,
        method: str,
        path: str,
        *,
        seconds: float | None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _CONTENT[method]
        method, url, headers, body, form = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(
            method, url, headers, body, form, _request_timeout=(CONNECT_SECONDS, seconds)
        )
        if answer.status >= 400:
            raise ApiException(status=answer.status, body=answer.read())
        return answer.response

    @contextlib.contextmanager
    def _sentences(self, doing: str) -> Iterator[None]:
        """What the client raises in this block leaves it as a sentence."""
        try:
            yield
        except ApiException as error:
            body = error.body or error.reason
            if error.status == 404:
                raise refused.Missing(doing, self._namespace, body) from None
            status = int(error.status or 0)
            raise refused.from_answer(status, body, doing, self._server, self._namespace) from None
        except (HTTPError, OSError, ConfigException) as error:
            raise refused.no_answer(self._server, _cause(error)) from None


def connect(target: Target) -> tuple[Client, str]:
    """A client and the namespace that a command is about: by the options, else the kubeconfig, else
    the service account of the pod we are in.
    """
    # Its warnings about retries would be a second voice beside the one sentence.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("kubernetes").setLevel(logging.CRITICAL)
    configuration = Configuration()
    try:
        found = _configure(configuration, target)
    except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0].strip(" .") if str(error) else "it is empty"
        place = target.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise refused.no_access(place, reason) from None
    configuration.retries = False
    namespace = target.namespace or found
    return Client(ApiClient(configuration), namespace), namespace


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
