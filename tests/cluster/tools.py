"""Tools that people use on a cluster, helm and kustomize, and what GitOps tools read, the real
ones; and others' CRDs.

Built from the pins in `go/`; where nothing can be built, those on PATH.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import binaries
from cluster.errors import ClusterError

NAMES = ("helm", "kubectl")
GITOPS = "finetune-gitops"
# Whose kinds the chart and the examples use; the modules are read, never built.
ARGO_CD = "github.com/argoproj/argo-cd/v3@v3.2.0"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
FLUX = "github.com/fluxcd/kustomize-controller@v1.7.3"
KUEUE = "sigs.k8s.io/kueue@v0.19.0"


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


def monitoring_crds() -> Path:
    """The folder with the CRDs of the Prometheus operator. ClusterError if it cannot be had."""
    return _module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"


def argo_crds() -> Path:
    """The folder with the CRDs of Argo CD. ClusterError if it cannot be had."""
    return _module(ARGO_CD) / "manifests" / "crds"


def flux_crds() -> Path:
    """The folder with the CRD of Flux' Kustomization. ClusterError if it cannot be had."""
    return _module(FLUX) / "config" / "crd" / "bases"


def kueue_crds() -> Path:
    """The folder with the CRDs of Kueue. ClusterError if it cannot be had."""
    return _module(KUEUE) / "config" / "components" / "crd" / "bases"


def _module(reference: str) -> Path:
    """Where a Go module's files are, in Go's module cache."""
    if problem := binaries.go_problem():
        raise ClusterError(problem)
    with tempfile.TemporaryDirectory() as elsewhere:
        command = ["go", "mod", "download", "-json", reference]
        result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    if result.returncode != 0:
        raise ClusterError(f"{reference} cannot be had: {result.stdout}{result.stderr}")
    return Path(json.loads(result.stdout)["Dir"])


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


@dataclass(frozen=True)
class GitOps:
    """What Argo CD and Flux make of resources, by the program in `go/gitops`."""

    binary: Path

    def lua(self, script: str, resource: dict[str, Any]) -> Any:
        """What an Argo CD script returns for a resource; ToolError if it fails."""
        return self._asked(script, resource)

    def kstatus(self, resource: dict[str, Any]) -> str:
        """What Flux waits for: InProgress, Failed, Current or Terminating."""
        return str(self._asked("", resource))

    def _asked(self, script: str, resource: dict[str, Any]) -> Any:
        request = json.dumps({"script": script, "objects": [resource]})
        (answer,) = json.loads(_run([str(self.binary)], request))
        if "error" in answer:
            raise ToolError(answer["error"])
        return answer.get("value")


def _run(command: list[str], text: str | None = None) -> str:
    result = subprocess.run(command, input=text or "", capture_output=True, text=True)
    if result.returncode != 0:
        raise ToolError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
