"""docs/api-reference.md: today's, and nothing of the CRD is missing on it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.crdgen import definition
from finetune_operator.api.reference import CONDITIONS, PHASES, page
from finetune_operator.api.reference_tables import Tables, rules
from finetune_operator.vocabulary import ConditionType, Phase
from unit.operator.api import offline

FILE = Path(__file__).parents[4] / "docs" / "api-reference.md"
PAGE = page()
# Section → its rows: name of the field → the row.
ROWS: dict[str, dict[str, str]] = {
    place: dict(re.findall(r"^\| (?:<a id=\"[^\"]+\"></a>)?`(\w+)`(.*)$", text, re.MULTILINE))
    for place, text in re.findall(
        r'^<a id="([^"]+)"></a>\n\n##+ [^\n]+\n(.*?)(?=^<a id=|^## |\Z)', PAGE, re.M | re.S
    )
}
Json = dict[str, Any]


def test_the_file_in_the_repository_is_up_to_date() -> None:
    assert FILE.read_text() == PAGE, "run `make crd`"


def fields(node: Json, section: str) -> Iterator[tuple[str, str, Json, str]]:
    """Every field of the schema as a reader finds it: section, name, node and row."""
    for name, child in node["properties"].items():
        row = ROWS[section].get(name, "")
        yield section, name, child, row
        inner = child.get("items", child)
        if "properties" in inner:
            (place,) = re.findall(r"\[object\]\(#([^)]+)\)", row)
            yield from fields(inner, place)


def all_fields() -> list[tuple[str, str, Json, str]]:
    root = offline.schema()["properties"]
    return [found for name in ("spec", "status") for found in fields(root[name], name)]


def test_every_field_has_a_row_with_its_description() -> None:
    found = all_fields()
    assert len(found) > 300
    for section, name, node, row in found:
        assert row, f"{section}.{name}"
        told = node.get("description") or node.get("items", {}).get("description", "")
        plain = html.unescape(row).replace("\\", "")
        assert told.partition("Default:")[0].strip() in plain, f"{section}.{name}"


def test_every_default_limit_and_choice_is_in_the_row() -> None:
    for section, name, node, row in all_fields():
        place, plain = f"{section}.{name}", html.unescape(row)
        for word in node.get("enum", ()):
            assert f"`{word}`" in plain, place
        default = node.get("default")
        if default is not None and not isinstance(default, dict):
            assert str(default).lower() in plain.lower(), place
        for bound in ("minimum", "maxLength", "maxItems", "maxProperties"):
            if "enum" not in node and node.get("format") != "date-time" and bound in node:
                assert str(node[bound]) in plain, (place, bound)


def test_what_is_required_says_so() -> None:
    assert "**required**" in ROWS["spec"]["model"]
    assert "**required**" not in ROWS["spec"]["dataset"]


def test_every_field_has_an_address_of_its_own() -> None:
    addresses = re.findall(r'<a id="([^"]+)">', PAGE)
    assert sorted(addresses) == sorted(set(addresses))
    assert {"spec.training.learningRate", "spec.datasets", "status.attempts"} <= set(addresses)


@pytest.mark.parametrize("rule", list(offline.rules()), ids=lambda rule: rule["message"][:60])
def test_every_rule_is_there_in_words(rule: Json) -> None:
    plain = html.unescape(PAGE).replace("\\", "")
    grouped = rule["message"].replace(rule.get("fieldPath", ".").removeprefix("."), "FIELD")
    assert rule["message"] in plain or grouped in plain


def test_rules_that_differ_in_the_field_alone_are_one() -> None:
    said = [{"message": f"spec.{x} is fixed", "fieldPath": f".spec.{x}"} for x in ("a", "b")]
    assert rules({"x-kubernetes-validations": [*said, {"message": "c | d"}]}) == (
        "Rules:\n\n* FIELD is fixed. FIELD is each of `spec.a`, `spec.b`.\n* c \\| d.\n"
    )


def test_an_object_that_was_described_is_linked_to() -> None:
    leaf = {"type": "object", "properties": {"x": {"type": "boolean", "description": "An x."}}}
    text = "\n".join(
        Tables().sections(
            "spec",
            {
                "properties": {
                    "a": {**leaf, "description": "First."},
                    "b": {
                        "type": "array",
                        "maxItems": 2,
                        "items": {**leaf},
                        "description": "Then.",
                    },
                }
            },
        )
    )
    assert "### spec.a" in text
    assert "### spec.b" not in text
    assert '| <a id="spec.b"></a>`b` | list of [object](#spec.a), at most 2 items |' in text


def test_every_column_phase_and_condition_is_there() -> None:
    for column in definition()["spec"]["versions"][0]["additionalPrinterColumns"]:
        assert f"| {column['name']} | `{column['jsonPath'].removeprefix('.')}` |" in PAGE
    assert PHASES.keys() == set(Phase)
    assert CONDITIONS.keys() == set(ConditionType)
