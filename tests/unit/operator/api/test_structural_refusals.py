"""What a CRD cannot say is refused with the field's path, never dropped without a word."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from finetune_operator.api.schema import LIST_MAP_KEYS, Remedy
from finetune_operator.api.structural import NotStructural
from unit.operator.api.models import Defaulted, Left, Recursive, Right, Word, converted

REFUSED: tuple[tuple[str, Any, dict[str, Any], str], ...] = (
    ("a float", float, {}, "it has type number: floats do not round-trip, use Decimal."),
    ("an unbounded string", str, {}, "it has no maxLength."),
    ("a pattern without a remedy", str, {"max_length": 9, "pattern": "^a$"}, "a remedy in words"),
    (
        "a pattern that RE2 does not know",
        Annotated[str, Field(max_length=9, json_schema_extra={"pattern": "^(?!a)b$"}), Remedy("b")],
        {},
        "RE2",
    ),
    ("an integer without a maximum", int, {"ge": 0}, "it has no maximum."),
    ("an integer without a minimum", int, {"le": 9}, "it has no minimum."),
    ("a multiple", int, {"ge": 0, "le": 9, "multiple_of": 3}, "it says multipleOf"),
    ("an unbounded list", list[Word], {}, "it has no maxItems."),
    ("a list of unbounded strings", list[str], {"max_length": 2}, "it[] has no maxLength."),
    ("a set", set[Word], {"max_length": 2}, "it says uniqueItems"),
    ("a tuple", tuple[Word, Word], {}, "it says prefixItems"),
    ("an unbounded map", dict[str, Word], {}, "it has no maxProperties."),
    ("a map of anything", dict[str, Any], {"max_length": 2}, "it takes any value"),
    ("anything", Any, {}, "no such type"),
    ("two types", Word | bool, {}, "it is a union: use optional members"),
    (
        "a discriminated union",
        Annotated[Left | Right, Field(discriminator="kind")],
        {},
        "it has description, discriminator, oneOf, title: no such type",
    ),
    ("a model inside itself", Recursive, {}, "contains Recursive inside itself"),
    ("a field without description", Word, {"description": None}, "it has no description."),
    ("another format", Word, {"json_schema_extra": {"format": "uri"}}, "it has the format uri"),
    ("examples", Word, {"examples": ["a"]}, "it says examples, which a CRD cannot express"),
    (
        "a default inside a list item",
        list[Defaulted],
        {"max_length": 2},
        "it[].size has a default inside a list item",
    ),
    (
        "a default that members contradict",
        Defaulted,
        {"default": Defaulted(size=5)},
        "it has a default that differs from its members' defaults",
    ),
    (
        "a default whose members are required",
        Left,
        {"default": Left(kind="left")},
        "it has a default that its members do not lead to",
    ),
    (
        "a list keyed by an optional member",
        list[Defaulted],
        {"max_length": 2, "json_schema_extra": {LIST_MAP_KEYS: ["name"]}, "defaults": False},
        "it is keyed by name, which its items may lack",
    ),
)


@pytest.mark.parametrize(
    ("annotation", "field", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_it_refuses(annotation: Any, field: dict[str, Any], message: str) -> None:
    with pytest.raises(NotStructural) as refusal:
        converted(annotation, **field)
    assert message in str(refusal.value)
