"""The API server's verdict without an API server, in the words that the tests compare: the
plug-in's own validation, and the generated schema node by node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_cli import validation
from finetune_cli.validation import defaulted, schema

Json = dict[str, Any]

__all__ = ["defaulted", "nodes", "refusals", "rule_errors", "rules", "schema", "schema_errors"]


def refusals(job: Json, *, old: Json | None = None) -> list[str]:
    """Why the API server would refuse to create the job, or to change `old` into it."""
    return [problem.message for problem in validation.refusals(job, old=old)]


def schema_errors(spec: Json) -> list[str]:
    """What pydantic alone refuses, as strict as the API server is."""
    return [str(problem) for problem in validation.schema_problems(spec)]


def rule_errors(job: Json) -> list[str]:
    """What the rules alone refuse."""
    return [problem.message for problem in validation.rule_problems(job)]


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
