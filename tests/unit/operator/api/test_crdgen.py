"""The generated CRD: what is in the repository is what the models say, and it keeps the rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_operator.api.crdgen import UNSEEN, definition, render
from unit.operator.api import offline

CRD = Path(__file__).parents[4] / "crds" / "finetunejobs.yaml"
NODES = dict(offline.nodes())


def test_the_file_in_the_repository_is_up_to_date() -> None:
    assert CRD.read_text() == render(), "run `make crd`"


def test_generating_twice_gives_the_same_bytes() -> None:
    assert render() == render()


def test_the_file_is_far_below_what_etcd_and_kubectl_take() -> None:
    assert CRD.stat().st_size < 200 * 1024


def test_the_file_reads_back_as_what_was_generated() -> None:
    assert yaml.safe_load(CRD.read_text()) == definition()


def test_kubectl_shows_the_columns_that_the_readme_shows() -> None:
    columns = definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if "priority" not in column]
    assert narrow == ["Phase", "Stage", "Progress", "Step", "Loss", "Age"]


def test_every_column_shows_a_field_that_exists() -> None:
    for column in definition()["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".")
        known = path in NODES or path == "metadata.creationTimestamp"
        assert known or path.rpartition(".")[0] == "status.metrics", path


def test_every_rule_points_at_a_field_that_exists() -> None:
    for path, node in NODES.items():
        for rule in node.get("x-kubernetes-validations", []):
            if "fieldPath" in rule:
                assert f"{path}{rule['fieldPath']}".removeprefix(".") in NODES


def test_the_status_is_a_subresource_with_one_default_that_says_it_was_never_seen() -> None:
    assert definition()["spec"]["versions"][0]["subresources"] == {"status": {}}
    defaults = {p: n["default"] for p, n in NODES.items() if "default" in n}
    assert {p: d for p, d in defaults.items() if p.startswith("status")} == {"status": UNSEEN}
    assert UNSEEN["observedGeneration"] >= NODES["status.observedGeneration"]["minimum"]


def _fields(prefix: str = "") -> Iterator[Any]:
    for path, node in NODES.items():
        if path.startswith(("spec", "status")) and path.startswith(prefix):
            yield pytest.param(node, id=path)


@pytest.mark.parametrize("node", list(_fields()))
def test_every_field_is_bounded_and_no_float(node: dict[str, Any]) -> None:
    match node.get("type", "int-or-string"):
        case "string":
            assert "maxLength" in node or "enum" in node
        case "array":
            assert "maxItems" in node
        case "object":
            assert (
                "properties" in node
                or "maxProperties" in node
                or node.keys()
                <= {
                    "type",
                    "description",
                }
            )
        case "int-or-string":
            assert "maxLength" in node
        case kind:
            assert kind in ("integer", "boolean")


@pytest.mark.parametrize("node", list(_fields("spec")))
def test_every_field_that_a_user_writes_is_described(node: dict[str, Any]) -> None:
    assert "description" in node or node["type"] == "string", "only a list's strings may go without"


@pytest.mark.parametrize("rule", list(offline.rules()), ids=lambda rule: rule["message"][:60])
def test_every_message_is_a_sentence_that_tells_what_to_do(rule: dict[str, Any]) -> None:
    message = rule["message"]
    assert not message.endswith("."), "the API server joins messages with its own punctuation"
    assert any(word in message for word in ("must", "remove", "set ", "use ", "create"))
    assert len(message) <= 250
