"""A real Prometheus beside a test: it scrapes targets every two seconds and evaluates our rules."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from integration.operator_process import ROOT, free_port
from integration.world import until

RULES = ROOT / "manifests" / "monitoring" / "rules.yaml"


class QueryError(Exception):
    """Prometheus refused a query; the message holds it and the reason."""


@dataclass(frozen=True)
class Target:
    """What is scraped: a port of this machine, with the labels that a PodMonitor would give it."""

    job: str
    port: int
    honor_labels: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready") as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def ask(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The data of an answer. QueryError if it is refused."""
        try:
            with urlopen(f"{self._url}/api/v1/{path}?{urlencode(query or {})}") as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise QueryError(f"{path} {query}: {error.read().decode()}") from error

    def value(self, expression: str) -> float | None:
        """Of the first series of an instant query, None if there is none."""
        found = self.ask("query", {"query": expression})["result"]
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules by name, with what became of their last evaluation."""
        groups = self.ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


@contextlib.contextmanager
def running(binary: Path, directory: Path, *targets: Target) -> Iterator[Prometheus]:
    """One that scrapes these, until the block ends."""
    scrapes = [
        {
            "job_name": target.job,
            "honor_labels": target.honor_labels,
            "static_configs": [
                {"targets": [f"127.0.0.1:{target.port}"], "labels": dict(target.labels)}
            ],
        }
        for target in targets
    ]
    config = {
        "global": {
            "scrape_interval": "2s",
            # A machine that is busy answers late, which is no operator that is down.
            "scrape_timeout": "2s",
            "evaluation_interval": "1s",
        },
        "rule_files": [str(RULES)],
        "scrape_configs": scrapes,
    }
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        str(binary),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        made = Prometheus(port)
        until(made.ready, "Prometheus is ready")
        yield made
    finally:
        process.terminate()
        process.wait(timeout=20)
