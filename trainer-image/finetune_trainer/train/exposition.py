"""`/metrics`: the latest values of a run for Prometheus, from rank 0.

Names and units follow Prometheus' conventions (base units, `_total` for counters). What a run is
called is not said here: Prometheus knows the pod that it scrapes, and its labels.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PORT = "FINETUNE_METRICS_PORT"
PREFIX = "finetune_train_"

COUNTERS = {
    "current_step": ("steps", "Optimizer steps done, also by former attempts"),
    "tokens": ("tokens", "Tokens trained on since this process started, all ranks"),
    "skipped_steps": ("skipped_steps", "Steps skipped because loss or gradient was not finite"),
}
GAUGES = {
    "total_steps": ("planned_steps", "Optimizer steps of the whole run"),
    "current_epoch": ("epoch", "Passes over the data done"),
    "loss": ("loss", "Mean training loss per target since the last value"),
    "learning_rate": ("learning_rate", "Learning rate of the last step"),
    "grad_norm": ("gradient_norm", "L2 norm of the last step's gradient, before clipping"),
    "tokens_per_second": ("tokens_per_second", "Tokens a second, all ranks"),
    "supervised_tokens_per_second": (
        "supervised_tokens_per_second",
        "Tokens a second that are trained on, all ranks",
    ),
    "mfu": ("mfu_ratio", "Share of the accelerators' bfloat16 peak that training needs"),
    "peak_memory_bytes": (
        "peak_memory_bytes",
        "Most memory of rank 0 so far, of the accelerator if there is one",
    ),
    "data_wait_seconds": ("data_wait_seconds", "Wait for data per step, rank 0"),
    "eta": ("remaining_seconds", "Estimated time left"),
    "last_checkpoint": (
        "last_checkpoint_timestamp_seconds",
        "When the newest checkpoint was written, before the first when this attempt began to "
        "train, in seconds since the epoch",
    ),
}
EVALUATED = {"eval_": "validation_", "base_eval_": "base_validation_"}


class Exposition(Collector):
    """Serves the last value of every metric at `port` of every interface; with no port, nothing."""

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._server: WSGIServer | None = None
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Exposition:
        """At the port that the environment names."""
        port = os.environ.get(PORT)
        return cls(int(port) if port else None)

    def __enter__(self) -> Exposition:
        if self._port is not None:
            registry = CollectorRegistry()
            registry.register(self)
            try:
                server, _ = start_http_server(self._port, registry=registry)
            except OSError as error:
                # Somebody else has the port: no reason not to train.
                print(f"no metrics at port {self._port}: {error}", file=sys.stderr, flush=True)
                return self

            self._port = server.server_port
            self._server = server
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    @property
    def port(self) -> int | None:
        """Where it listens."""
        return self._port

    def put(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta_seconds: float | None
    ) -> None:
        """Make these the latest values; one that is not among `metrics` stays."""
        values = {"current_step": step, "total_steps": total_steps, **metrics}
        if eta_seconds is not None:
            values["eta"] = eta_seconds
        with self._lock:
            self._values |= values

    def saved(self) -> None:
        """All up to now is safe: a checkpoint has been written, or training begins."""
        with self._lock:
            self._values["last_checkpoint"] = time.time()

    def collect(self) -> Iterator[Metric]:
        """The latest values, for a scrape."""
        with self._lock:
            values = dict(self._values)
        for name, value in values.items():
            if math.isfinite(value):
                yield _family(name, value)


def _family(name: str, value: float) -> Metric:
    if name in COUNTERS:
        short, help_text = COUNTERS[name]
        return CounterMetricFamily(PREFIX + short, help_text, value=value)
    if name in GAUGES:
        short, help_text = GAUGES[name]
        return GaugeMetricFamily(PREFIX + short, help_text, value=value)
    for prefix, words in EVALUATED.items():
        if name.startswith(prefix):
            measured = name.removeprefix(prefix)
            help_text = f"The {measured} on held-out data"
            return GaugeMetricFamily(f"{PREFIX}{words}{measured}", help_text, value=value)
    return GaugeMetricFamily(PREFIX + name, f"The run's {name}", value=value)
