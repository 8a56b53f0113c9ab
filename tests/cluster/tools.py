"""Tools that people use on a cluster: helm and kustomize, the real ones.

Built from the pins in `go/`; where nothing can be built, those on PATH.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import binaries
from cluster.errors import ClusterError


class ToolError(Exception):
    """A tool failed; the message holds the command and what it said."""


def ensure(name: str) -> Path:
    """Where the tool is. ClusterError if there is none and it cannot be built."""
    if not binaries.missing([name]) or binaries.go_problem() is None:
        return binaries.ensure([name])[name]
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not on PATH and cannot be built. {binaries.go_problem()}")
    return Path(found)


def kustomize(kubectl: Path, folder: Path) -> str:
    """The objects of a kustomization, as YAML."""
    return _run([str(kubectl), "kustomize", str(folder)])


@dataclass(frozen=True)
class Helm:
    """helm, against a cluster if it is given access to one."""

    binary: Path
    options: tuple[str, ...] = field(default=())

    def on(self, kubeconfig: Path, namespace: str) -> Helm:
        """The same against this cluster and namespace."""
        return Helm(self.binary, ("--kubeconfig", str(kubeconfig), "--namespace", namespace))

    def __call__(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """Run it; its standard output. ToolError if it fails."""
        given = () if values is None else ("--values", "-")
        text = None if values is None else json.dumps(values)
        return _run([str(self.binary), *arguments, *given, *self.options], text)


def _run(command: list[str], text: str | None = None) -> str:
    result = subprocess.run(command, input=text or "", capture_output=True, text=True)
    if result.returncode != 0:
        raise ToolError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
