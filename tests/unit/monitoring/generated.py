"""What is generated for monitoring: `make monitoring` writes it, a test compares it.

The PrometheusRule wraps manifests/monitoring/rules.yaml; the tables of docs/metrics.md come from
the code that serves the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric

from finetune_operator.runtime.census import Census
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.store import Store
from finetune_trainer.train import exposition

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "manifests" / "monitoring"
RULES = MONITORING / "rules.yaml"
WRAPPED = MONITORING / "prometheusrule.yaml"
PAGE = ROOT / "docs" / "metrics.md"
BEGIN, END = "<!-- {}: begin (make monitoring) -->", "<!-- {}: end -->"


def rules() -> Iterator[dict[str, Any]]:
    """The rules, in order."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def wrapped() -> str:
    """The same rules for the Prometheus operator."""
    return (
        "# Generated from rules.yaml: make monitoring\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        "  name: finetune-operator\n"
        "  namespace: finetune-system\n"
        "  labels:\n"
        "    app.kubernetes.io/name: finetune-operator\n"
        "spec:\n"
    ) + "".join(
        f"  {line}\n" if line else "\n"
        for line in RULES.read_text().splitlines()
        if not line.startswith("#")
    )


def of_operator() -> list[Metric]:
    """The families that the operator serves, whether they have samples yet or not."""
    registry = Meter().registry
    registry.register(Census(Store()))
    return [family for family in registry.collect() if family.name.startswith("finetune")]


def of_trainer() -> list[Metric]:
    """The families that training serves, but for what else is measured on held-out data."""
    names = (*exposition.COUNTERS, *exposition.GAUGES, "eval_loss", "base_eval_loss")
    served = exposition.Exposition(None)
    served.put(0, 0, dict.fromkeys(names, 0.0), 0.0)
    return list(served.collect())


def exposed() -> set[str]:
    """Names of all series that are served."""
    names = set()
    for family in (*of_operator(), *of_trainer()):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        suffixes["info"] = ["_info"]
        names |= {family.name + suffix for suffix in suffixes.get(family.type, [""])}
    return names


def table(families: Iterable[Metric]) -> str:
    """A row for each family."""
    rows = ["| Metric | Type | What it is |", "|---|---|---|"]
    for family in families:
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        rows.append(f"| `{family.name}{suffix}` | {family.type} | {family.documentation} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with its tables as they must be."""
    for name, families in (("operator", of_operator()), ("training", of_trainer())):
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{table(families)}\n{end}{after}"
    return text


if __name__ == "__main__":
    WRAPPED.write_text(wrapped())
    PAGE.write_text(page(PAGE.read_text()))
