"""The API server's verdict on a FineTuneJob without an API server: pydantic for the schema, a CEL
library for the rules.

What it leaves out: metadata other than the name. The integration tests hold it against a server.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune_operator.api.crdgen import definition
from finetune_operator.api.spec import Spec
from finetune_operator.vocabulary import API_VERSION, GROUP, KIND

Json = dict[str, Any]
_MISSING = object()
_NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TYPES = {
    "int_type": "must be a whole number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "string_type": "must be a string: put it in quotes",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a path, as a person reads it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@cache
def schema() -> Json:
    """The generated schema of the resource."""
    root: Json = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def is_ours(document: Any) -> bool:
    """Whether a document is a FineTuneJob or meant as one; what clearly is another kind is not."""
    if not isinstance(document, dict):
        return True
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return True
    return kind.lower() == KIND.lower() or version.partition("/")[0] == GROUP


def problems(document: Any) -> list[Problem]:
    """Why the API server would refuse to create this document; none: it would be accepted."""
    if not isinstance(document, dict):
        return [Problem("", "it is not an object with apiVersion, kind, metadata and spec.")]
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.get(key) != wanted:
            return [Problem(key, f"must be {wanted}, not {document.get(key)!r}")]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return [Problem("metadata.name", "is required: the name of the run")]
    if not is_namespace(str(metadata.get("namespace") or "default")):
        return [Problem("metadata.namespace", "must be a-z, 0-9 and '-', at most 63 characters")]
    if not isinstance(document.get("spec"), dict):
        return [Problem("spec", "is required: `kubectl explain ftj.spec` tells its fields")]
    return refusals(document)


def is_namespace(name: str) -> bool:
    """Whether a namespace can have this name."""
    return _NAMESPACE.fullmatch(name) is not None


def refusals(job: Json, *, old: Json | None = None) -> list[Problem]:
    """Why the API server would refuse to create the job, or to change `old` into it."""
    given = without_nulls(job)
    if errors := schema_problems(given["spec"]):
        return errors
    before = _MISSING if old is None else defaulted(old)
    return list(_broken_rules(defaulted(given), before, schema(), ""))


def defaulted(job: Json) -> Json:
    """The job as the API server stores it: without nulls, with defaults."""
    filled: Json = _defaulted(without_nulls(job), schema())
    return filled


def schema_problems(spec: Json) -> list[Problem]:
    """What pydantic alone refuses, as strict as the API server is."""
    try:
        Spec.model_validate_json(json.dumps(spec), strict=True, extra="forbid")
    except ValidationError as error:
        return [_in_words(detail) for detail in error.errors()]
    return []


def rule_problems(job: Json) -> list[Problem]:
    """What the rules alone refuse."""
    return list(_broken_rules(defaulted(job), _MISSING, schema(), ""))


def without_nulls(value: Any) -> Any:
    """As the API server drops them."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


@cache
def _cel() -> Any:
    # The package imports a command line of its own, which takes as long as the rest of ours: an
    # empty module stands in for it.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    return importlib.import_module("cel")


def _in_words(detail: ErrorDetails) -> Problem:
    path = "spec" + "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return Problem(path, f"is not a field{_suggestion(detail['loc'])}")
        case "missing":
            said = _node(detail["loc"]).get("description", "")
            return Problem(path, f"is required: {said}")
        case "string_pattern_mismatch":
            return Problem(path, _node(detail["loc"])["x-kubernetes-validations"][0]["message"])
        case kind if kind in _TYPES:
            return Problem(path, _TYPES[kind])
    said = re.sub(r"^(Input|String|List|Value) should ", "must ", detail["msg"])
    return Problem(path, said)


def _node(path: tuple[int | str, ...]) -> Json:
    node: Json = schema()["properties"]["spec"]
    for key in path:
        node = node.get("items", {}) if isinstance(key, int) else _member(node, key)
    return node


def _member(node: Json, key: str) -> Json:
    found: Json = node.get("properties", {}).get(key) or node.get("additionalProperties") or {}
    return found


def _suggestion(path: tuple[int | str, ...]) -> str:
    known = list(_node(path[:-1]).get("properties", {}))
    alike = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if alike:
        return f": did you mean {alike[0]}?"
    return f": there are {', '.join(known)}" if known else ""


def _broken_rules(value: Any, old: Any, node: Json, path: str) -> Iterator[Problem]:
    for rule in node.get("x-kubernetes-validations", []):
        names = {"self": value}
        if rule.get("optionalOldSelf"):
            some = _cel().OptionalValue
            names["oldSelf"] = some.none() if old is _MISSING else some.of(old)
        elif "oldSelf" in rule["rule"]:
            if old is _MISSING:
                continue
            names["oldSelf"] = old
        if _cel().evaluate(rule["rule"], names) is not True:
            yield Problem(path + rule.get("fieldPath", "") if path else "", rule["message"])
    if isinstance(value, dict):
        for name, child in node.get("properties", {}).items():
            if name in value:
                before = old.get(name, _MISSING) if isinstance(old, dict) else _MISSING
                inner = f"{path}.{name}" if path else name
                yield from _broken_rules(value[name], before, child, inner)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _broken_rules(item, _MISSING, node["items"], f"{path}[{index}]")


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
