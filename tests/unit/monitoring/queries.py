"""Every query that people will run: of the dashboards' panels, variables and marks, and the rules.

Read from what is shipped, the JSON and the YAML, not from the code that writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unit.monitoring import generated

Json = dict[str, Any]
DASHBOARDS = generated.MONITORING / "dashboards"
NAMES = ("fleet", "operator", "run")
# What stands for a number that has nothing to count: without it a query of nothing shows.
_OR_ZERO = " or vector(0)"


@dataclass(frozen=True)
class Query:
    """PromQL and where it stands. `instant`: only the latest value is asked for."""

    place: str
    expr: str
    instant: bool = False

    def __str__(self) -> str:
        return self.place

    def filled(self, values: Mapping[str, str]) -> str:
        """The query with Grafana's variables replaced, and nothing in the place of nothing."""
        text = self.expr.removesuffix(_OR_ZERO)
        for name in sorted(values, key=len, reverse=True):
            text = text.replace(f"${name}", values[name])
        assert "$" not in re.sub(r'"\$\d"', "", text), text
        return text


@dataclass(frozen=True)
class Values:
    """A variable's query: the values of a label of some series."""

    place: str
    series: str
    label: str

    def __str__(self) -> str:
        return self.place


def board(name: str) -> Json:
    """A dashboard as it is shipped."""
    found: Json = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return found


def panels(name: str) -> Iterator[Json]:
    """Its panels without rows, those in closed rows included."""
    for panel in board(name)["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", ())


def of_panels() -> Iterator[Query]:
    """Of all panels of Prometheus' data."""
    for name in NAMES:
        for panel in panels(name):
            for target in panel["targets"]:
                if target["datasource"]["type"] == "prometheus":
                    place = f"{name}: {panel['title']} {target['refId']}"
                    yield Query(place, target["expr"], target.get("instant", False))


def of_marks() -> Iterator[Query]:
    """Of all marks on time axes."""
    for name in NAMES:
        for mark in board(name)["annotations"]["list"]:
            yield Query(f"{name}: marks {mark['name']}", mark["expr"])


def of_rules() -> Iterator[Query]:
    """Of recording rules and alerts."""
    for rule in generated.rules():
        name = rule.get("alert", rule.get("record"))
        yield Query(f"rule {name}", rule["expr"], instant=True)


def of_variables() -> Iterator[Values]:
    """Of all variables that ask Prometheus."""
    for name in NAMES:
        for variable in board(name)["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert found is not None, variable
                yield Values(f"{name}: variable {variable['name']}", found[1], found[2])


def metrics(expr: str) -> set[str]:
    """Names of the series that a query reads."""
    text = re.sub(r'"[^"]*"', "", expr)
    text = re.sub(r"\b(?:by|on|group_left|without|ignoring)\s*\([^)]*\)", "", text)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    names = re.findall(r"(?<![\w:$])([A-Za-z_:][\w:]*)(?!\w*\s*\()", text)
    return {name for name in names if "_" in name or name == "ALERTS"}
