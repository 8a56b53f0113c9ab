"""Which cluster the tests run on: ours, `kind`, or one that exists.

Three functions that each answer "can you?" with what is missing and "do!" with a handle. The kind
provider needs a Docker engine and is exercised only where one runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster import binaries, gpus, images, local, locks, paths, preflight, progress
from cluster.errors import ClusterError
from cluster.handle import Cluster

CHOICE = "FINETUNE_TEST_CLUSTER"
KIND_NAME = "finetune-tests"


class Provider(Protocol):
    """One way to have a cluster."""

    @property
    def name(self) -> str:
        """What the environment variable calls it."""

    def problems(self) -> list[str]:
        """What keeps this provider from working here; empty when it can."""

    def provide(self) -> Cluster:
        """The cluster, brought up if need be."""


@dataclass(frozen=True)
class Local:
    """The cluster of this package, on this machine."""

    name: str = "local"

    def problems(self) -> list[str]:
        return preflight.problems()

    def provide(self) -> Cluster:
        local.up()
        return Cluster(
            kubeconfig=paths.kubeconfig(),
            provider=self.name,
            kubectl_binary=binaries.path_of("kubectl"),
            image=images.reference,
            audit_log=local.audit_log(),
        )


@dataclass(frozen=True)
class Kind:
    """A cluster in containers of a Docker engine, kept between runs under a name of its own."""

    name: str = "kind"

    def problems(self) -> list[str]:
        found = [
            f"{command} is not on PATH: install it."
            for command in ("docker", "kind")
            if shutil.which(command) is None
        ]
        if found:
            return found
        if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
            return ["No Docker engine answers `docker info`: start one."]
        return []

    def provide(self) -> Cluster:
        kubeconfig = paths.state().parent / "kind-kubeconfig"
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(paths.state().parent / "kind.lock", "the kind cluster"):
            self._create(kubeconfig)
        cluster = Cluster(
            kubeconfig=kubeconfig,
            provider=self.name,
            kubectl_binary=_kubectl(),
            image=lambda name: images.load_into_kind(name, KIND_NAME),
        )
        for node in cluster.kubectl("get", "nodes", "-o", "name").split():
            cluster.kubectl(
                *("patch", node, "--subresource=status", "--type=merge"),
                *("-p", gpus.status_patch_text()),
            )
        return cluster

    @staticmethod
    def _create(kubeconfig: Path) -> None:
        listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True)
        if KIND_NAME in listed.stdout.split():
            action = ["export", "kubeconfig"]
        else:
            action = ["create", "cluster", "--wait", "120s"]
        command = ["kind", *action, "--name", KIND_NAME, "--kubeconfig", str(kubeconfig)]
        with progress.step(f"kind cluster {KIND_NAME}"):
            result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise ClusterError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")


@dataclass(frozen=True)
class Existing:
    """Whatever KUBECONFIG names; changed only inside the tests' own namespaces."""

    name: str = "existing"

    def problems(self) -> list[str]:
        if not self._kubeconfig():
            return ["KUBECONFIG does not name a file: set it to an existing cluster's kubeconfig."]
        return []

    def provide(self) -> Cluster:
        return Cluster(
            kubeconfig=Path(self._kubeconfig()),
            provider=self.name,
            kubectl_binary=_kubectl(),
            image=images.from_environment,
        )

    @staticmethod
    def _kubeconfig() -> str:
        for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep):
            if entry and Path(entry).is_file():
                return entry
        return ""


def _kubectl() -> Path:
    """Ours when it can be built, else the one on PATH."""
    if not binaries.missing(["kubectl"]) or binaries.go_problem() is None:
        return binaries.ensure(["kubectl"])["kubectl"]
    found = shutil.which("kubectl")
    if found is None:
        raise ClusterError("Neither kubectl nor Go is on PATH: install one of them.")
    return Path(found)


PROVIDERS: tuple[Provider, ...] = (Existing(), Local(), Kind())


def choose(environment: Mapping[str, str], providers: tuple[Provider, ...] = PROVIDERS) -> Provider:
    """The provider asked for, else the first that can; else what each is missing."""
    asked = environment.get(CHOICE, "")
    by_name = {provider.name: provider for provider in providers}
    if asked and asked not in by_name:
        raise ClusterError(f"{CHOICE}={asked} is unknown: use one of {', '.join(sorted(by_name))}.")
    candidates = (by_name[asked],) if asked else providers
    reasons = []
    for provider in candidates:
        problems = provider.problems()
        if not problems:
            return provider
        reasons += [f"  {provider.name}: {problem}" for problem in problems]
    raise ClusterError("No cluster to test on.\n" + "\n".join(reasons))
