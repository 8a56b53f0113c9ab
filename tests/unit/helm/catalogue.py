"""The end of Chart.yaml, what catalogues show: the icon, and Artifact Hub's annotations.

Made from what says it first (icon.svg, the CRD's names, the first sample, the changelog):
`make helm-docs` writes it, a test reads it. No images are named while none are published.
"""

from __future__ import annotations

import base64
import json
import re
import textwrap
from collections.abc import Iterator

import yaml

from finetune_operator.vocabulary import GROUP, KIND, PLURAL, VERSION
from unit.helm.chart import CHART, ROOT

FILE = CHART / "Chart.yaml"
BEGIN = "# From here on: make helm-docs.\n"
CHANGELOG = ROOT / "docs" / "CHANGELOG.md"
# What docs/capabilities.md shows to be whole, in Artifact Hub's words.
CAPABILITIES = "deep insights"
_ENTRY = re.compile(r"^\* (.+?)(?=^\* |\Z)", re.MULTILINE | re.DOTALL)


def whole() -> str:
    """Chart.yaml with today's end."""
    before, _, _ = FILE.read_text().partition(BEGIN)
    notes = {
        "category": "ai-machine-learning",
        "license": "Apache-2.0",
        "operator": "true",
        "operatorCapabilities": CAPABILITIES,
        "crds": yaml.safe_dump([_crd()], sort_keys=False),
        "crdsExamples": yaml.safe_dump([_example()], sort_keys=False),
        "changes": "".join(_listed(kind, text) for kind, text in changes()),
    }
    lines = "".join(f"  artifacthub.io/{name}: {_value(text)}\n" for name, text in notes.items())
    return f"{before}{BEGIN}icon: {icon()}\nannotations:\n{lines}"


def icon() -> str:
    """The picture itself: there is no address to fetch it from."""
    return "data:image/svg+xml;base64," + base64.b64encode(_picture().encode()).decode()


def changes() -> Iterator[tuple[str, str]]:
    """The newest version's entries in the changelog, as plain text, each with its kind."""
    newest = CHANGELOG.read_text().split("\n## [")[1]
    for part in newest.split("\n### ")[1:]:
        heading, _, entries = part.partition("\n")
        for entry in _ENTRY.findall(entries.strip()):
            yield heading.lower(), _plain(entry)


def _picture() -> str:
    return (CHART / "icon.svg").read_text().strip()


def _crd() -> dict[str, str]:
    return {
        "kind": KIND,
        "version": VERSION,
        "name": f"{PLURAL}.{GROUP}",
        "displayName": KIND,
        "description": "A fine-tuning run, from data to a published model",
    }


def _example() -> object:
    return yaml.safe_load((ROOT / "manifests" / "samples" / "first.yaml").read_text())


def _listed(kind: str, text: str) -> str:
    return f"- kind: {kind}\n  description: {json.dumps(text, ensure_ascii=False)}\n"


def _plain(entry: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(entry.split()))
    return text.replace("**", "").replace("`", "")


def _value(text: str) -> str:
    if "\n" in text:
        return "|\n" + textwrap.indent(text, "    ").rstrip("\n")
    return json.dumps(text)


if __name__ == "__main__":
    FILE.write_text(whole())
