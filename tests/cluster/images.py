"""Stub; the real one follows."""

from __future__ import annotations

from cluster.errors import ClusterError


def reference(name: str) -> str:
    raise ClusterError(f"image {name}: not built yet by this package")


def from_environment(name: str) -> str:
    return reference(name)


def load_into_kind(name: str, kind: str) -> str:
    return reference(name + kind)


def no_node(name: str) -> str:
    return reference(name)
