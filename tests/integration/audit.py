"""The API server's audit log: who wrote what. Level Metadata, so what was written is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from integration.world import until

Json = dict[str, Any]

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def writes_on(log: Path, namespace: str, resource: str) -> list[Json]:
    """Every successful write on such a resource of this namespace, its subresources included."""
    return [
        entry
        for entry in _entries(log)
        if entry["verb"] in WRITES
        and entry.get("objectRef", {}).get("namespace") == namespace
        and entry["objectRef"].get("resource") == resource
        and entry.get("responseStatus", {}).get("code", 500) < 300
    ]


def requests_of(log: Path, user: str) -> list[Json]:
    """Everything that `user` has asked for. Whoever could not say who it is has no name here."""
    return [entry for entry in _entries(log) if entry["user"].get("username") == user]


def wait_for_write(log: Path, namespace: str, resource: str, name: str) -> None:
    """Until the log, which is written in batches, is as far as this write."""

    def seen() -> bool:
        found = writes_on(log, namespace, resource)
        return any(entry["objectRef"].get("name") == name for entry in found)

    until(seen, f"{resource}/{name} is in the audit log")


def _entries(log: Path) -> list[Json]:
    # The last line may be half written.
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
