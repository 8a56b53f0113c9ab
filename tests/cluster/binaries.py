"""Kubernetes, etcd, CoreDNS and other tools as executables, built from the Go modules in `go/`.

The cache is keyed by the module files and the build flags, so every clone with the same pins
shares one build. Running what was built is not decided here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import locks, paths, progress
from cluster.errors import ClusterError

MINIMUM_GO = (1, 24)
CONTROL_PLANE = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
NODE = ("kubelet", "kube-proxy", "coredns", "pause")


@dataclass(frozen=True)
class Module:
    """A folder with a go.mod, and the main packages to build from it."""

    name: str
    packages: dict[str, str]

    @property
    def directory(self) -> Path:
        return paths.PACKAGE / "go" / self.name

    def version(self, module: str) -> str:
        text = (self.directory / "go.mod").read_text()
        found = re.search(rf"^\s*{re.escape(module)} v(\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"{self.directory / 'go.mod'} does not require {module}: add it.")
        return found.group(1)


_KUBERNETES = Module(
    "kubernetes",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        **{
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kube-proxy",
            )
        },
    },
)
_COREDNS = Module("coredns", {"coredns": "finetune.dev/cluster/coredns"})
_HELM = Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
_GITOPS = Module("gitops", {"finetune-gitops": "finetune.dev/cluster/gitops"})
_PAUSE = Module("pause", {"pause": "finetune.dev/cluster/pause"})
MODULES = (_KUBERNETES, _COREDNS, _HELM, _GITOPS, _PAUSE)


def _linker_flags(module: Module) -> str:
    flags = ["-s", "-w"]
    if module is _KUBERNETES:
        version = module.version("k8s.io/kubernetes")
        major, minor, _ = version.split(".", 2)
        package = "k8s.io/component-base/version"
        for name, value in (
            ("gitVersion", f"v{version}"),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        ):
            flags += ["-X", f"{package}.{name}={value}"]
    return " ".join(flags)


def _build_arguments(module: Module) -> list[str]:
    return [
        "-mod=readonly",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        _linker_flags(module),
    ]


def key(module: Module) -> str:
    """What the executables are made of: pins, sources, flags and platform."""
    digest = hashlib.sha256()
    for part in (
        *(path.read_bytes() for path in sorted(module.directory.iterdir())),
        " ".join(_build_arguments(module)).encode(),
        f"{platform.system()}/{platform.machine()}".encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def path_of(name: str) -> Path:
    """Where the executable is, once built."""
    module = next(module for module in MODULES if name in module.packages)
    return paths.binaries() / f"{module.name}-{key(module)}" / name


def missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if not path_of(name).exists()]


def go_version() -> tuple[int, int] | None:
    """The (major, minor) of the Go toolchain on PATH, or None."""
    if shutil.which("go") is None:
        return None
    result = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True)
    found = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return (int(found.group(1)), int(found.group(2))) if found else None


def go_problem() -> str | None:
    """Why nothing can be built here, or None."""
    version = go_version()
    wanted = ".".join(map(str, MINIMUM_GO))
    if version is None:
        return f"Go {wanted} or newer is not on PATH: install it from go.dev."
    if version < MINIMUM_GO:
        return f"Go {'.'.join(map(str, version))} is too old: install Go {wanted} or newer."
    return None


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """Build what is not in the cache; return where each executable is."""
    names = tuple(names)
    if missing(names):
        problem = go_problem()
        if problem:
            raise ClusterError(problem)
        with locks.exclusive(paths.binaries() / ".lock", "building Kubernetes"):
            todo = missing(names)
            for index, name in enumerate(todo, 1):
                _build(name, f"{index} of {len(todo)}")
    return {name: path_of(name) for name in names}


def _build(name: str, position: str) -> None:
    module = next(module for module in MODULES if name in module.packages)
    target = path_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    log = target.parent / f"{name}.log"
    # The caller's own flags and workspace would change what is built behind the key's back.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    arguments = ["go", "build", "-v", *_build_arguments(module), "-o", str(partial)]
    step = progress.step(f"build {name} ({position})", detail=lambda: _build_detail(log))
    with log.open("w") as output, step:
        result = subprocess.run(
            [*arguments, module.packages[name]],
            cwd=module.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        if result.returncode != 0:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            raise ClusterError(f"Building {name} failed; see {log}:\n{tail}")
        partial.replace(target)


def _build_detail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    if not lines:
        return ""
    if lines[-1].startswith("go: downloading"):
        return f"{len(lines)} modules downloaded"
    return f"{sum(not line.startswith('go: ') for line in lines)} packages compiled"
