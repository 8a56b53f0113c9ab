"""What a CRD can say comes out as a structural schema; `test_structural_refusals` has the rest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from finetune_operator.api.schema import (
    DEFAULTS_WHEN_READ,
    INT_OR_STRING,
    LIST_MAP_KEYS,
    ApiModel,
    Cel,
    Remedy,
)
from unit.operator.api.models import Defaulted, Left, Shade, Word, converted

WORD = {"type": "string", "maxLength": 8}
Digit = Annotated[str, Field(max_length=8, pattern=r"^\d$"), Remedy("must be a digit")]
MATCHES = r"matches(r'^\d$')"

CONVERTED: tuple[tuple[str, Any, dict[str, Any], dict[str, Any]], ...] = (
    ("an optional string", Word | None, {"default": None}, WORD),
    (
        "a bounded integer",
        int,
        {"ge": 1, "le": 9, "default": 2},
        {
            "description": "It. Default: 2.",
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": 9,
            "default": 2,
        },
    ),
    (
        "an exclusive bound",
        int,
        {"gt": 0, "le": 9},
        {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "exclusiveMinimum": True,
            "maximum": 9,
        },
    ),
    (
        "words",
        Shade,
        {"default": Shade.DARK},
        {
            "description": "It. Default: Dark.",
            "type": "string",
            "enum": ["Dark", "Light"],
            "default": "Dark",
        },
    ),
    ("one word", Literal["a"], {}, {"type": "string", "enum": ["a"]}),
    (
        "a switch",
        bool,
        {"default": False},
        {"description": "It. Default: false.", "type": "boolean", "default": False},
    ),
    (
        "a time",
        Word,
        {"json_schema_extra": {"format": "date-time"}},
        {"type": "string", "format": "date-time", "maxLength": 8},
    ),
    (
        "a list",
        list[Word],
        {"max_length": 3, "min_length": 1},
        {"type": "array", "minItems": 1, "maxItems": 3, "items": WORD},
    ),
    (
        "a map",
        dict[str, Word],
        {"max_length": 3},
        {"type": "object", "maxProperties": 3, "additionalProperties": WORD},
    ),
    (
        "a pattern with its remedy as the first rule, which guards the others",
        Annotated[Digit, Cel("double(self) < 9.0", "<")],
        {},
        {
            "type": "string",
            "maxLength": 8,
            "x-kubernetes-validations": [
                {"rule": f"self.{MATCHES}", "message": "must be a digit"},
                {"rule": f"!self.{MATCHES} || (double(self) < 9.0)", "message": "<"},
            ],
        },
    ),
    (
        "a number or a string",
        Annotated[Digit, Field(json_schema_extra={INT_OR_STRING: True})],
        {},
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 8,
            "x-kubernetes-validations": [
                {"rule": f"string(self).{MATCHES}", "message": "must be a digit"}
            ],
        },
    ),
)


@pytest.mark.parametrize(
    ("annotation", "field", "node"), [c[1:] for c in CONVERTED], ids=[c[0] for c in CONVERTED]
)
def test_it_converts(annotation: Any, field: dict[str, Any], node: dict[str, Any]) -> None:
    assert converted(annotation, **field) == {"description": "It.", **node}


@pytest.mark.parametrize(
    ("annotation", "default", "told"),
    [
        (Shade, Shade.DARK, "It. Default: Dark."),
        (bool, False, "It. Default: false."),
        (Annotated[int, Field(ge=1, le=9)], 2, "It. Default: 2."),
        (Digit, "3", 'It. Default: "3".'),
        (Word | None, None, "It."),
        (Defaulted, Defaulted(), "It."),
    ],
)
def test_a_description_tells_the_default(annotation: Any, default: Any, told: str) -> None:
    assert converted(annotation, default=default)["description"] == told


def test_a_default_that_is_told_in_words_is_not_told_twice() -> None:
    told = "It. Default: as many as there are."
    assert converted(bool, default=True, description=told)["description"] == told


def test_a_models_default_is_filled_from_its_members() -> None:
    node = converted(Defaulted, default=Defaulted())
    assert node["default"] == {}
    assert node["properties"]["size"]["default"] == 3


def test_a_default_that_fills_nothing_is_left_out() -> None:
    class Empty(ApiModel):
        name: Word | None = Field(default=None, description="Name.")

    assert "default" not in converted(Empty, default=Empty())


def test_a_status_has_no_defaults() -> None:
    assert "default" not in converted(list[Word], max_length=2, default=[], defaults=False)


def test_the_defaults_of_items_may_be_the_readers_and_are_told() -> None:
    class Item(ApiModel):
        inner: Defaulted = Field(default=Defaulted(), description="Inner.")

    node = converted(list[Item], max_length=2, json_schema_extra={DEFAULTS_WHEN_READ: True})
    inner = node["items"]["properties"]["inner"]
    assert "default" not in inner
    assert "default" not in inner["properties"]["size"]
    assert inner["properties"]["size"]["description"].endswith("Default: 3.")


def test_a_list_keyed_by_a_required_member_becomes_a_map() -> None:
    node = converted(
        list[Left], max_length=2, json_schema_extra={LIST_MAP_KEYS: ["kind"]}, defaults=False
    )
    assert node["x-kubernetes-list-type"] == "map"
    assert node["x-kubernetes-list-map-keys"] == ["kind"]


def test_the_rules_of_an_object_stand_on_it_and_inside_lists_too() -> None:
    class Ruled(ApiModel):
        cel: ClassVar[tuple[Cel, ...]] = (
            Cel("has(self.a)", "set a", field_path=".a", forbidden=True),
        )
        a: Word | None = Field(default=None, description="A.")

    rule = {
        "rule": "has(self.a)",
        "message": "set a",
        "fieldPath": ".a",
        "reason": "FieldValueForbidden",
    }
    assert converted(Ruled)["x-kubernetes-validations"] == [rule]
    items = converted(list[Ruled], max_length=2)["items"]
    assert items["x-kubernetes-validations"] == [rule]


def test_a_fields_description_wins_over_its_models() -> None:
    assert converted(Defaulted, description="The field's own.")["description"] == "The field's own."
