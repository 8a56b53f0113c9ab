"""A training pod as the progress endpoint sees it: reports with real tokens, over real TLS."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cluster.handle import Cluster
from finetune_operator.core.naming import progress_audience, progress_path


def settings(port: int, tls: Path) -> dict[str, str]:
    """What an operator outside the cluster is told, so that it takes reports."""
    return {
        "FINETUNE_PROGRESS_URL": f"https://localhost:{port}",
        "FINETUNE_PROGRESS_PORT": str(port),
        "FINETUNE_TLS_DIR": str(tls),
    }


class Reporter:
    """Pods of one namespace that report to an operator with these settings."""

    def __init__(self, cluster: Cluster, namespace: str, port: int, tls: Path) -> None:
        self.url = f"https://localhost:{port}"
        self._cluster = cluster
        self._namespace = namespace
        self.authority = tls / "ca.crt"

    def audience(self, run: str) -> str:
        return progress_audience(self._namespace, run)

    def token(self, audience: str, *pod: str) -> str:
        """A token of the default account, bound to the pod if one is named."""
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod[0]}") if pod else ()
        arguments = ("create", "token", "default", "-n", self._namespace)
        return self._cluster.kubectl(*arguments, f"--audience={audience}", *bound).strip()

    def report(self, run: str, token: str, **status: Any) -> int:
        """Send a report as transformers does; the answer's status."""
        return self.answer(run, token, **status)[0]

    def answer(self, run: str, token: str, **status: Any) -> tuple[int, Any]:
        """The same; the answer's status and what it says."""
        request = Request(
            self.url + progress_path(self._namespace, run),
            data=json.dumps({"trainerStatus": status}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        trusted = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urlopen(request, timeout=5, context=trusted) as answer:
                return int(answer.status), json.loads(answer.read())
        except HTTPError as error:
            return error.code, None

    def report_step(self, run: str, token: str, step: int, total: int) -> int:
        """Send a report of a training that has come to this step."""
        metrics = [
            {"name": "current_step", "value": str(step)},
            {"name": "total_steps", "value": str(total)},
            {"name": "loss", "value": "1.93"},
        ]
        return self.report(run, token, progressPercentage=100 * step // total, metrics=metrics)
