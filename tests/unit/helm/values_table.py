"""The chart's values as docs/helm.md lists them: `make helm-docs` writes it, a test reads it.

values.yaml is the source: above every value stands one line, `# -- what it is`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from unit.helm.chart import CHART, ROOT

PAGE = ROOT / "docs" / "helm.md"
BEGIN, END = "<!-- values: begin (make helm-docs) -->", "<!-- values: end -->"
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):(?P<value>.*)$")
_TOLD = "# -- "


@dataclass(frozen=True)
class Value:
    """A value of the chart: `limits.gpusPerRun`, its default as JSON, and what it is."""

    path: str
    default: str
    told: str


def values() -> Iterator[Value]:
    """The documented values, in the file's order."""
    text = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    parents: list[tuple[int, str]] = []
    told = ""
    for line in text.splitlines():
        if line.strip().startswith(_TOLD):
            told = line.strip().removeprefix(_TOLD)
            continue
        found = _LINE.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        parents = [one for one in parents if one[0] < indent] + [(indent, found["key"])]
        if told:
            path = [key for _, key in parents]
            default: object = defaults
            for key in path:
                default = default[key] if isinstance(default, dict) else None
            yield Value(".".join(path), json.dumps(default), told)
        told = ""


def table() -> str:
    """The table in Markdown."""
    rows = [f"| `{one.path}` | `{one.default}` | {one.told} |" for one in values()]
    return "\n".join(["| Value | Default | Meaning |", "|---|---|---|", *rows])


def page() -> str:
    """docs/helm.md with the table of today."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
