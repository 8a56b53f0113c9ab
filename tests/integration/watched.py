"""The shipped queries as Grafana would send them to a Prometheus that has seen some runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from integration.prometheus import Prometheus
from unit.monitoring.queries import Query, Values

STEP_SECONDS = 1
# As long as any of these tests: a rate sees all that has happened.
WINDOW = "5m"


@dataclass(frozen=True)
class Watched:
    """`prometheus` has seen these runs of a namespace since `since`, seconds since the epoch."""

    prometheus: Prometheus
    namespace: str
    runs: tuple[str, ...]
    since: float

    def answers(self, query: Query) -> bool:
        """Whether any of the runs has a number to show."""
        return any(self._numbers(query, run) for run in self.runs)

    def series(self, query: Query, run: str) -> list[dict[str, Any]]:
        """The series that the query has for this run, over all the time."""
        asked = {"query": self._filled(query, run), "start": self.since, "end": time.time()}
        found: list[dict[str, Any]] = self.prometheus.ask(
            "query_range", {**asked, "step": STEP_SECONDS}
        )["result"]
        return found

    def choices(self, values: Values) -> list[str]:
        """What a variable offers."""
        series = self._filled(Query("", values.series), self.runs[0])
        asked = {"match[]": series, "start": self.since}
        found: list[str] = self.prometheus.ask(f"label/{values.label}/values", asked)
        return found

    def _numbers(self, query: Query, run: str) -> list[float]:
        if query.instant:
            asked = {"query": self._filled(query, run)}
            found = [[one["value"]] for one in self.prometheus.ask("query", asked)["result"]]
        else:
            found = [one["values"] for one in self.series(query, run)]
        numbers = (float(value) for values in found for _, value in values)
        return [number for number in numbers if math.isfinite(number)]

    def _filled(self, query: Query, run: str) -> str:
        places = {"namespace": self.namespace, "run": run, "job": ".*"}
        windows = {"__rate_interval": WINDOW, "__range": WINDOW, "__interval": f"{STEP_SECONDS}s"}
        return query.filled(places | windows)
