"""Cases derived from the schema: every field's type, bounds, words and members.

Each changes one field of the first good spec that holds the object around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unit.operator.api import offline
from unit.operator.api.good_specs import GOOD
from unit.operator.api.jobs import ABSENT, Case, Json, get

_BASES = [offline.defaulted(good.job) for good in GOOD]
_WRONG: dict[str, Any] = {
    "string": 7,
    "integer": "7",
    "boolean": "true",
    "object": "x",
    "array": "x",
}


def _spec_nodes() -> Iterator[tuple[str, Json]]:
    return ((path, node) for path, node in offline.nodes() if path.startswith("spec"))


def bad() -> Iterator[Case]:
    """One case for each way in which one field can break the schema."""
    for path, node in _spec_nodes():
        base = _holder(path)
        for what, value, message in _breaches(path, node):
            yield Case(f"{path} {what}", {path: value}, message, base)
        for name in node.get("required", []):
            yield Case(
                f"{path} without {name}",
                {f"{path}.{name}": ABSENT},
                f"{path}.{name}: Required value",
                _holder(f"{path}.{name}"),
            )
        if node.get("type") == "object" and "maxProperties" not in node:
            unknown = f"{path}.bogus"
            yield Case(
                f"{path} with an unknown member",
                {unknown: 1},
                f'unknown field "{unknown}"',
                _holder(unknown),
            )


def edges() -> Iterator[Case]:
    """The least and the greatest value of every field, and each of its words: all accepted."""
    for path, node in _spec_nodes():
        for value in _edges(node):
            yield _accepted(f"{path} at {str(value)[:20]}", path, value)


def _breaches(path: str, node: Json) -> Iterator[tuple[str, Any, str]]:
    if kind := node.get("type"):
        yield "of the wrong type", _WRONG[kind], f"must be of type {kind}"
    if "enum" in node:
        yield "with an unknown word", "Bogus", f'{path}: Unsupported value: "Bogus"'
    if "minimum" in node:
        low, high = node["minimum"], node["maximum"]
        yield "below its bound", low - 1, f"should be greater than or equal to {low}"
        yield "above its bound", high + 1, f"should be less than or equal to {high}"
    if "maxLength" in node:
        yield "too long", "a" * (node["maxLength"] + 1), f"{path}: Too long"
    if "minLength" in node:
        yield "empty", "", "should be at least 1 chars long"
    if "maxItems" in node:
        yield "with too many items", [_item(node["items"])] * (node["maxItems"] + 1), "Too many"
    if "minItems" in node:
        yield "without items", [], "should have at least 1 items"
    if "maxProperties" in node:
        many = {f"k{i}": "v" for i in range(node["maxProperties"] + 1)}
        yield "with too many members", many, "Too many"


def _edges(node: Json) -> Iterator[Any]:
    if "minimum" in node:
        yield from (node["minimum"], node["maximum"])
    if "minLength" in node:
        yield from ("a", "a" * node["maxLength"], "ü" * node["maxLength"])
    yield from node.get("enum", [])
    if node.get("type") == "boolean":
        yield from (True, False)


def _accepted(sentence: str, path: str, value: Any) -> Case:
    """In the first good spec whose other fields allow it: whether any does is what is tested."""
    cases = [Case(sentence, {path: value}, base=base) for base in _BASES if _holds(base, path)]
    return next((case for case in cases if not offline.refusals(case.job)), cases[0])


def _holder(path: str) -> Json:
    for base in _BASES:
        if _holds(base, path):
            return base
    raise AssertionError(f"good_specs has no case that holds the object around {path}: add one.")


def _holds(base: Json, path: str) -> bool:
    around = path[: -len("[0]")] if path.endswith("[0]") else path.rpartition(".")[0]
    return not around or get(base, around) not in (ABSENT, [])


def _item(node: Json) -> Any:
    return dict.fromkeys(node.get("required", []), "a") if "properties" in node else "a"
