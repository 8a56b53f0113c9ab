"""The API server's verdict without an API server: pydantic for the schema, a CEL library for rules.

What it leaves out: metadata other than the name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import cel
from pydantic import ValidationError

from finetune_operator.api.crdgen import definition
from finetune_operator.api.spec import Spec

Json = dict[str, Any]
_MISSING = object()


@cache
def schema() -> Json:
    """The generated schema of the resource."""
    root: Json = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def refusals(job: Json, *, old: Json | None = None) -> list[str]:
    """Why the API server would refuse to create the job, or to change `old` into it."""
    given = _without_nulls(job)
    if errors := schema_errors(given["spec"]):
        return errors
    before = _MISSING if old is None else defaulted(old)
    return list(_broken_rules(defaulted(given), before, schema()))


def defaulted(job: Json) -> Json:
    """The job as the API server stores it: without nulls, with defaults."""
    filled: Json = _defaulted(_without_nulls(job), schema())
    return filled


def schema_errors(spec: Json) -> list[str]:
    """What pydantic alone refuses, as strict as the API server is."""
    try:
        Spec.model_validate_json(json.dumps(spec), strict=True, extra="forbid")
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return []


def rule_errors(job: Json) -> list[str]:
    """What the rules alone refuse."""
    return list(_broken_rules(defaulted(job), _MISSING, schema()))


def nodes(node: Json | None = None, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every node of the schema with its path; items of lists stand at index 0."""
    node = schema() if node is None else node
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".removeprefix("."))
    if "items" in node:
        yield from nodes(node["items"], f"{path}[0]")


def rules() -> Iterator[Json]:
    """Every rule of the schema."""
    for _, node in nodes():
        yield from node.get("x-kubernetes-validations", [])


def _broken_rules(value: Any, old: Any, node: Json) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", []):
        names = {"self": value}
        if rule.get("optionalOldSelf"):
            some = cel.OptionalValue
            names["oldSelf"] = some.none() if old is _MISSING else some.of(old)
        elif "oldSelf" in rule["rule"]:
            if old is _MISSING:
                continue
            names["oldSelf"] = old
        if cel.evaluate(rule["rule"], names) is not True:
            yield rule["message"]
    if isinstance(value, dict):
        for name, child in node.get("properties", {}).items():
            if name in value:
                before = old.get(name, _MISSING) if isinstance(old, dict) else _MISSING
                yield from _broken_rules(value[name], before, child)
    if isinstance(value, list):
        for item in value:
            yield from _broken_rules(item, _MISSING, node["items"])


def _defaulted(value: Any, node: Json) -> Any:
    if isinstance(value, list):
        return [_defaulted(item, node["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, child in node.get("properties", {}).items():
        if name not in filled and "default" in child:
            filled[name] = copy.deepcopy(child["default"])
        if name in filled:
            filled[name] = _defaulted(filled[name], child)
    return filled


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value
