"""The client of the progress protocol (docs/stage-contract.md): latest values, from a thread, never
in a step's way; and what the answers ask for.

A report that cannot be sent is dropped; the next one carries newer values, and the termination
message the last.
"""

from __future__ import annotations

import json
import math
import os
import ssl
import sys
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from finetune_trainer.train import answer

URL = "KUBEFLOW_TRAINER_SERVER_URL"
CA_CERT = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"
PERIOD = "FINETUNE_PROGRESS_SECONDS"

REQUEST_SECONDS = 5.0
MAXIMUM_METRICS = 16
MAXIMUM_BYTES = 64
# Counted since the process started: Prometheus makes rates of it, a status can make nothing of it.
NOT_REPORTED = frozenset({"tokens"})
CHECKPOINT_STEP = "checkpoint_step"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to report; the two files are read again for every report, because they are renewed."""

    url: str
    token_file: Path | None
    ca_file: Path | None

    @classmethod
    def from_environment(cls) -> Endpoint | None:
        """The endpoint that the environment names; None if nothing can be reported."""
        url = os.environ.get(URL)
        if not url:
            return None
        token, ca = os.environ.get(TOKEN), os.environ.get(CA_CERT)
        if ca and not Path(ca).exists():
            # The run was planned before there was an endpoint: its authority is not known here.
            print(f"progress is not reported: there is no {ca}", file=sys.stderr, flush=True)
            return None
        return cls(url, Path(token) if token else None, Path(ca) if ca else None)


def report(
    step: int, total_steps: int, metrics: Mapping[str, float], eta_seconds: float | None
) -> dict[str, Any]:
    """The protocol's body for `step` finished steps, without NaN and infinite values."""
    # The most telling first: there is a limit.
    values: dict[str, float] = {"current_step": step, "total_steps": total_steps}
    first = {name for name in metrics if name == CHECKPOINT_STEP or "eval_" in name}
    values |= {name: value for name, value in metrics.items() if name in first}
    values |= {name: value for name, value in metrics.items() if name not in NOT_REPORTED}
    status: dict[str, Any] = {
        "progressPercentage": min(100, 100 * step // max(1, total_steps)),
        "metrics": [
            {"name": name, "value": f"{value:.6g}" if isinstance(value, float) else str(value)}
            for name, value in values.items()
            if math.isfinite(value) and len(name.encode()) <= MAXIMUM_BYTES
        ][:MAXIMUM_METRICS],
        "lastUpdatedTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if eta_seconds is not None and math.isfinite(eta_seconds):
        status["estimatedRemainingSeconds"] = max(0, round(eta_seconds))
    return {"trainerStatus": status}


class Reporter:
    """Posts the last value of every metric each `period` seconds at most, the first and the last at
    once.
    """

    def __init__(self, endpoint: Endpoint | None, period: float | None = None) -> None:
        self._endpoint = endpoint
        self._period = float(os.environ.get(PERIOD, "5")) if period is None else period
        self._values: dict[str, float] = {}
        self._place: tuple[int, int, float | None] | None = None
        self._latest: dict[str, Any] | None = None
        self._requested: str | None = None
        self._closed = False
        self._failing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Reporter:
        if self._endpoint:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._endpoint:
            # One request under way and one for the last values.
            self._thread.join(2 * REQUEST_SECONDS + 1)

    def put(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta_seconds: float | None
    ) -> None:
        """Make this the latest report; returns at once.

        A metric that is not among `metrics` keeps its value: a validation loss must not get lost
        because the next step came before it was sent.
        """
        with self._changed:
            self._values |= metrics
            self._place = step, total_steps, eta_seconds
            self._renew()

    def saved(self, step: int) -> None:
        """The newest checkpoint is that of `step`; 0: there is none. Returns at once."""
        with self._changed:
            self._values[CHECKPOINT_STEP] = step
            self._renew()

    def requested(self) -> str | None:
        """When a checkpoint was asked for last, as an answer has said; None if none has."""
        return self._requested

    def _renew(self) -> None:
        if self._place is None:
            return
        step, total_steps, eta_seconds = self._place
        self._latest = report(step, total_steps, self._values, eta_seconds)
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._closed)
                body, self._latest = self._latest, None
            if body is None:
                return
            self._send(body)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._period)

    def _send(self, body: dict[str, Any]) -> None:
        assert self._endpoint is not None
        try:
            said = post(self._endpoint, body)
            self._failing = False
            self._requested = answer.checkpoint_requested_at(said) or self._requested
        except (OSError, ValueError, HTTPException) as error:
            if not self._failing:
                print(f"progress cannot be reported for now: {error}", file=sys.stderr, flush=True)
            self._failing = True


def post(endpoint: Endpoint, body: dict[str, Any]) -> bytes:
    """One report, and what was answered, as far as it can matter.

    Raises:
        OSError: the endpoint or a file cannot be reached, or it answered with an error.
        HTTPException: it answered with what is no HTTP.
    """
    headers = {"Content-Type": "application/json"}
    if endpoint.token_file:
        headers["Authorization"] = f"Bearer {endpoint.token_file.read_text().strip()}"
    request = urllib.request.Request(
        endpoint.url, data=json.dumps(body).encode(), headers=headers, method="POST"
    )
    context = None
    if endpoint.url.startswith("https:"):
        context = ssl.create_default_context(cafile=endpoint.ca_file)
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS, context=context) as response:
        said: bytes = response.read(answer.MAXIMUM_BYTES)
    return said
