"""pydantic's JSON schema → Kubernetes' structural schema. Strict: what has no exact counterpart,
no bound or no description is an error, never dropped without a word.

One node at a time; what stands around the schemas in a CRD is in `crdgen`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_operator.api.schema import (
    DEFAULTS_WHEN_READ,
    INT_OR_STRING,
    LIST_MAP_KEYS,
    REMEDY,
    RULES,
)

Json = dict[str, Any]

_COMMON = {"type", "title", "description", "default", RULES}
_BY_TYPE = {
    "boolean": _COMMON,
    "integer": _COMMON | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "string": _COMMON
    | {"minLength", "maxLength", "pattern", "format", "enum", "const", REMEDY, INT_OR_STRING},
    "array": _COMMON | {"items", "minItems", "maxItems", LIST_MAP_KEYS, DEFAULTS_WHEN_READ},
    "object": _COMMON
    | {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
}
# Python's and Rust's additions to what RE2, and so the API server, understands.
_NOT_RE2 = re.compile(r"\(\?[=!<]|\(\?P=|\\[ZzAbB1-9]|'")


class NotStructural(Exception):
    """A model says something that a CRD cannot."""


@dataclass(frozen=True, slots=True)
class Converter:
    """Where the conversion stands. `defaults` is off for status: absent means not known yet.

    `when_read` is on below a list whose items get their defaults from the operator: server-side
    apply and clients would disagree about a default in a list.
    """

    definitions: Json
    defaults: bool = True
    path: str = ""
    in_list: bool = False
    when_read: bool = False
    expanding: frozenset[str] = field(default_factory=frozenset)

    def convert(self, schema: Json) -> Json:
        """The structural schema of one node and all below it."""
        if "$ref" in schema:
            return self._inlined(schema)
        if "anyOf" in schema:
            return self.convert(self._without_null(schema))
        kind = schema.get("type")
        if kind not in _BY_TYPE:
            reason = "floats do not round-trip, use Decimal" if kind == "number" else "no such type"
            raise self._error(f"has {_shown(schema)}: {reason}")
        if unknown := sorted(schema.keys() - _BY_TYPE[kind]):
            raise self._error(f"says {', '.join(unknown)}, which a CRD cannot express for a {kind}")
        node: Json = {}
        if "description" in schema:
            node["description"] = " ".join(schema["description"].split())
        if not schema.get(INT_OR_STRING):
            node["type"] = kind
        node |= getattr(self, f"_{kind}")(schema)
        if validations := self._validations(schema):
            node["x-kubernetes-validations"] = validations
        if schema.get("default") is not None and self.defaults:
            node |= self._default(schema["default"], node)
        return node

    def _inlined(self, schema: Json) -> Json:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in self.expanding:
            raise self._error(f"contains {name} inside itself, and a CRD has no recursion")
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        inner = replace(self, expanding=self.expanding | {name})
        return inner.convert({**self.definitions[name], **siblings})

    def _without_null(self, schema: Json) -> Json:
        options = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if len(options) != 1:
            raise self._error("is a union: use optional members and a rule that wants exactly one")
        return {**options[0], **{key: value for key, value in schema.items() if key != "anyOf"}}

    def _boolean(self, _: Json) -> Json:
        return {}

    def _integer(self, schema: Json) -> Json:
        node: Json = {"format": "int64"}
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if exclusive in schema:
                node |= {bound: schema[exclusive], exclusive: True}
            elif bound in schema:
                node[bound] = schema[bound]
            elif self.defaults:
                raise self._error(f"has no {bound}")
        return node

    def _string(self, schema: Json) -> Json:
        if "const" in schema or "enum" in schema:
            return {"enum": schema.get("enum") or [schema["const"]]}
        if schema.get("format", "date-time") != "date-time":
            raise self._error(f"has the format {schema['format']}, which is not checked everywhere")
        if "maxLength" not in schema:
            raise self._error("has no maxLength")
        if _NOT_RE2.search(schema.get("pattern", "")):
            raise self._error("has a pattern that RE2 or a CEL literal cannot hold")
        if schema.get(INT_OR_STRING):
            if not {"pattern", REMEDY} <= schema.keys():
                raise self._error("takes a number or a string and has no pattern with a remedy")
            return {INT_OR_STRING: True, "maxLength": schema["maxLength"]}
        node: Json = {
            key: schema[key] for key in ("format", "minLength", "maxLength") if key in schema
        }
        if "pattern" in schema and not self.defaults:
            node["pattern"] = schema["pattern"]
        return node

    def _array(self, schema: Json) -> Json:
        if "maxItems" not in schema:
            raise self._error("has no maxItems")
        node: Json = {key: schema[key] for key in ("minItems", "maxItems") if key in schema}
        inner = replace(
            self,
            path=f"{self.path}[]",
            in_list=True,
            when_read=self.when_read or schema.get(DEFAULTS_WHEN_READ, False),
        )
        node["items"] = items = inner.convert(schema.get("items", {}))
        if keys := schema.get(LIST_MAP_KEYS):
            if missing := sorted(set(keys) - set(items.get("required", []))):
                raise self._error(f"is keyed by {', '.join(missing)}, which its items may lack")
            node |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
        return node

    def _object(self, schema: Json) -> Json:
        values = schema.get("additionalProperties")
        if "properties" in schema or values is None:
            return self._properties(schema)
        if "maxProperties" not in schema:
            raise self._error("has no maxProperties")
        node: Json = {
            key: schema[key] for key in ("minProperties", "maxProperties") if key in schema
        }
        if not isinstance(values, dict):
            raise self._error("takes any value: say of what")
        inner = replace(self, path=f"{self.path}{{}}", in_list=True)
        return node | {"additionalProperties": inner.convert(values)}

    def _properties(self, schema: Json) -> Json:
        node: Json = {}
        if required := schema.get("required"):
            node["required"] = required
        if properties := schema.get("properties"):
            node["properties"] = {}
            for name, value in properties.items():
                inner = replace(self, path=f"{self.path}.{name}")
                node["properties"][name] = converted = inner.convert(value)
                if "description" not in converted:
                    raise inner._error("has no description")
        return node

    def _validations(self, schema: Json) -> list[Json]:
        """The rules of a node; a pattern becomes the first, so that people read its remedy."""
        rules: list[Json] = schema.get(RULES, [])
        pattern = schema.get("pattern")
        if pattern is None or not self.defaults:
            return rules
        if REMEDY not in schema:
            raise self._error("has a pattern without a remedy in words")
        value = "string(self)" if schema.get(INT_OR_STRING) else "self"
        matches = f"{value}.matches(r'{pattern}')"
        # One error for one mistake: a value that is no number is not measured as one.
        guarded = [{**rule, "rule": f"!{matches} || ({rule['rule']})"} for rule in rules]
        return [{"rule": matches, "message": schema[REMEDY]}, *guarded]

    def _default(self, default: Any, node: Json) -> Json:
        if self.when_read:
            return {} if isinstance(default, dict) else _told(default, node)
        if self.in_list:
            raise self._error("has a default inside a list item, where clients and server differ")
        if not isinstance(default, dict):
            return {"default": default} | _told(default, node)
        if "properties" not in node or node.get("required"):
            raise self._error("has a default that its members do not lead to")
        # The API server fills {} from the members' defaults, which must say the same.
        if _filled(node) != _without_nulls(default):
            raise self._error("has a default that differs from its members' defaults")
        return {"default": {}} if _filled(node) else {}

    def _error(self, what: str) -> NotStructural:
        return NotStructural(f"{self.path.lstrip('.') or 'the root'} {what}.")


def _filled(node: Json) -> Json:
    members = node.get("properties", {}).items()
    return {
        name: _filled(member) if member["default"] == {} else member["default"]
        for name, member in members
        if "default" in member
    }


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _told(default: Any, node: Json) -> Json:
    """The description with the default in it, of which kubectl explain shows nothing else."""
    description = node.get("description", "Default")
    if "Default" in description:
        return {}
    shown = default if "enum" in node else json.dumps(default)
    return {"description": f"{description} Default: {shown}."}


def _shown(schema: Json) -> str:
    return (
        f"type {schema['type']}" if "type" in schema else (", ".join(sorted(schema)) or "no type")
    )
