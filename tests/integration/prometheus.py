"""A real Prometheus beside a test: it scrapes one target every second and evaluates our rules."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from integration.operator_process import ROOT, free_port
from integration.world import until

RULES = ROOT / "manifests" / "monitoring" / "rules.yaml"


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

    def ask(self, path: str, **query: str) -> Any:
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """Of the first series of an instant query, None if there is none."""
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules by name, with what became of their last evaluation."""
        groups = self.ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


@contextlib.contextmanager
def running(binary: Path, directory: Path, target_port: int) -> Iterator[Prometheus]:
    """One that scrapes this port of this machine, until the block ends."""
    target = {"targets": [f"127.0.0.1:{target_port}"]}
    scrape = {"job_name": "operator", "honor_labels": True, "static_configs": [target]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [scrape],
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
