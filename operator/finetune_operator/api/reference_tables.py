"""One node of a structural schema → the Markdown that documents it. What stands around the tables
on the page is in `reference`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

_DEFAULT = re.compile(r"\s*Default: (.+?)\.$")
# Whole numbers above are a bound for parsers, not for people.
_NO_LIMIT = 2**53 - 1


class Tables:
    """The sections of a page. An object that is like one before is a link to that one."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def sections(self, path: str, node: Json) -> Iterator[str]:
        """The object's section, and those of the objects in it. `path` is `spec.datasets[]`."""
        level = "##" if "." not in path else "###"
        required = node.get("required", ())
        members = {name: f"{path}.{name}" for name in node["properties"]}
        new = [(name, place) for name, place in members.items() if self._is_new(node, name, place)]
        rows = [
            self._row(place, node["properties"][name], required=name in required)
            for name, place in members.items()
        ]
        yield f'<a id="{anchor(path)}"></a>\n\n{level} {path}\n'
        if "description" in node:
            yield f"{escaped(_told(node)[0])}\n"
        yield table(("Field", "Type", "Default", "Meaning"), rows)
        if "x-kubernetes-validations" in node:
            yield rules(node)
        for name, place in new:
            suffix, child = _object_in(node["properties"][name])
            yield from self.sections(f"{place}{suffix}", child)

    def _is_new(self, parent: Json, name: str, place: str) -> bool:
        _, child = _object_in(parent["properties"][name])
        if "properties" not in child:
            return False
        return self._places.setdefault(_key(child), anchor(place)) == anchor(place)

    def _row(self, path: str, node: Json, *, required: bool) -> tuple[str, str, str, str]:
        name = path.rpartition(".")[2]
        _, inner = _object_in(node)
        place = self._places.get(_key(inner)) if "properties" in inner else None
        meaning, default = _told(node)
        if not meaning and "properties" in inner:
            meaning, _ = _told(inner)
        # A list's own rules, and a value's; an object's stand below its table.
        if "properties" not in node:
            meaning = " ".join([meaning, *(f"Rule: {one}." for one in _messages(node))]).strip()
        if "properties" not in inner and "items" in node:
            said = (f"Of each: {one}." for one in _messages(node["items"]))
            meaning = " ".join([meaning, *said]).strip()
        kind = _type(node)
        if place is not None:
            kind = kind.replace("object", f"[object](#{place})")
        # The address of an object is its section.
        mark = "" if place == anchor(path) else f'<a id="{anchor(path)}"></a>'
        shown = f"{mark}`{name}`" + (" **required**" if required else "")
        return shown, kind, escaped(default), escaped(meaning)


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown; the cells are Markdown already."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), ""])


def rules(node: Json) -> str:
    """The rules of an object in words; those that differ in the field's name alone are one."""
    grouped: dict[str, list[str]] = {}
    for rule in node["x-kubernetes-validations"]:
        field = rule.get("fieldPath", "").removeprefix(".")
        same = rule["message"].replace(field, "FIELD") if field else rule["message"]
        grouped.setdefault(same, []).append(field)
    lines = []
    for message, fields in grouped.items():
        if len(fields) == 1:
            lines.append(f"* {escaped(message.replace('FIELD', fields[0]))}.")
        else:
            names = ", ".join(f"`{field}`" for field in fields)
            lines.append(f"* {escaped(message)}. FIELD is each of {names}.")
    return "\n".join(["Rules:\n", *lines, ""])


def anchor(path: str) -> str:
    """The address of a field on the page."""
    return path.replace("[]", "")


def escaped(text: str) -> str:
    """Plain text in a cell of a table."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")
    return text.replace("__", "\\_\\_")


def _object_in(node: Json) -> tuple[str, Json]:
    """The object that a field holds, or a list of which: `[]` and its items."""
    return ("[]", node["items"]) if "items" in node else ("", node)


def _key(node: Json) -> str:
    """Equal for objects with the same members: a default below a list is the operator's, and told
    in words alone.
    """
    return json.dumps(_bare(node.get("properties", {})), sort_keys=True) + json.dumps(
        [node.get("required"), node.get("x-kubernetes-validations")], sort_keys=True
    )


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    # A member called `default` is an object, a default of one is not.
    return {
        key: _bare(item)
        for key, item in value.items()
        if key != "default" or (isinstance(item, dict) and "type" in item)
    }


def _told(node: Json) -> tuple[str, str]:
    """What a field means, and its default: the schema's, or the one that its description tells."""
    description = node.get("description", "")
    default = node.get("default")
    found = _DEFAULT.search(description)
    if found is not None:
        return description[: found.start()].strip(), found[1]
    if default is None or isinstance(default, dict):
        return description, ""
    return description, str(default) if "enum" in node else json.dumps(default)


def _messages(node: Json) -> list[str]:
    return [rule["message"] for rule in node.get("x-kubernetes-validations", [])]


def _type(node: Json) -> str:
    if "enum" in node:
        return "one of " + ", ".join(f"`{word}`" for word in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return _with("integer or string", _range(node, "Length"), "characters")
    match node["type"]:
        case "string" if node.get("format") == "date-time":
            return "time"
        case "string":
            return _with("string", _range(node, "Length"), "characters")
        case "integer":
            return _with("integer", _range(node, "imum"), "")
        case "array":
            return _with(f"list of {_grouped(node['items'])}", _range(node, "Items"), "items")
        case "object" if "additionalProperties" in node:
            values = _grouped(node["additionalProperties"])
            return _with(f"map to {values}", _range(node, "Properties"), "entries")
        case kind:
            return str(kind)


def _grouped(node: Json) -> str:
    kind = _type(node)
    return f"({kind})" if "," in kind else kind


def _with(kind: str, limits: str, unit: str) -> str:
    return f"{kind}, {limits} {unit}".rstrip() if limits else kind


def _range(node: Json, what: str) -> str:
    """As in `1 to 64`; empty when there is no bound that matters."""
    least, most = node.get(f"min{what}"), node.get(f"max{what}")
    if most is not None and most >= _NO_LIMIT:
        most = None
    if least is None and most is None:
        return ""
    more = "more than" if node.get("exclusiveMinimum") else "at least"
    less = "less than" if node.get("exclusiveMaximum") else "at most"
    if least is None:
        return f"{less} {most}"
    if most is None:
        return f"{more} {least}"
    if more == "at least" and less == "at most":
        return f"{least} to {most}"
    return f"{more} {least}, {less} {most}"
