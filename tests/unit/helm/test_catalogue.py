"""What catalogues of charts are told is true, and is what other files say."""

from __future__ import annotations

import base64
import re
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from cluster.tools import Helm
from finetune_cli.validation import problems
from finetune_operator.api.crdgen import definition
from unit.helm import catalogue
from unit.helm.chart import CHART, ROOT

METADATA: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
# Of Artifact Hub's format for changes.
KINDS = {"added", "changed", "deprecated", "removed", "fixed", "security"}


def told(name: str) -> Any:
    return yaml.safe_load(METADATA["annotations"][f"artifacthub.io/{name}"])


def test_it_is_what_the_other_files_say() -> None:
    assert (CHART / "Chart.yaml").read_text() == catalogue.whole(), "run make helm-docs"


def test_the_icon_is_in_it_and_helm_finds_nothing_wrong_with_it(helm: Helm) -> None:
    kind, _, data = METADATA["icon"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    picture = ElementTree.fromstring(base64.b64decode(data))
    assert picture.attrib["viewBox"] == "0 0 64 64"
    assert "icon" not in helm("lint", "--strict", str(CHART))


def test_the_crd_and_its_example_are_ours() -> None:
    (crd,) = told("crds")
    made = definition()
    (version,) = made["spec"]["versions"]
    assert crd["name"] == made["metadata"]["name"]
    assert (crd["kind"], crd["version"]) == (made["spec"]["names"]["kind"], version["name"])
    (example,) = told("crdsExamples")
    assert problems(example) == []


def test_every_entry_of_the_changelog_is_told_as_plain_text() -> None:
    entries = told("changes")
    newest = catalogue.CHANGELOG.read_text().split("\n## [")[1]
    assert len(entries) == len(re.findall(r"^\* ", newest, re.MULTILINE))
    assert {entry["kind"] for entry in entries} <= KINDS
    assert not any(re.search(r"[*`]|\]\(", entry["description"]) for entry in entries)


def test_no_more_is_claimed_than_the_page_of_capabilities_shows() -> None:
    page = (ROOT / "docs" / "capabilities.md").read_text()
    levels = re.findall(r"^## Level [IV]+: (.+?) \((whole|in part)\)$", page, re.MULTILINE)
    assert [name.lower() for name, how in levels if how == "whole"][-1] == catalogue.CAPABILITIES


@pytest.mark.parametrize("name", ["operator", "license", "category"])
def test_what_a_catalogue_sorts_by_is_there(name: str) -> None:
    assert told(name)
