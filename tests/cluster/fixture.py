"""The pytest plugin (`-p cluster.fixture`): clusters, `control_plane` and `cluster` one each per
session, and the tools that work on them.

Only wiring belongs here: which cluster is chosen is in `provider.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import binaries, images, packages, provider, tools
from cluster import control_plane as plane
from cluster.errors import ClusterError
from cluster.handle import Cluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cluster_lifecycle: brings the machine's cluster up and down; needs root and no user of it",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Do what takes minutes on a new machine before the clock of the first test runs."""
    # A worker of several has other tests to run until a fixture is there.
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # Whatever fails here fails again, with its message, in the test that asks for it.
    with contextlib.suppress(ClusterError), _through_capture(session.config):
        if wanted & {"control_plane", "own_control_plane"} and _buildable():
            binaries.ensure(binaries.CONTROL_PLANE)
        if "helm" in wanted:
            tools.ensure("helm")
        if "gitops" in wanted:
            tools.ensure(tools.GITOPS)
        if "kustomize" in wanted:
            tools.ensure("kubectl")
        if "cluster" in wanted:
            provider.choose(os.environ).provide()


def _buildable() -> bool:
    return not binaries.missing(binaries.CONTROL_PLANE) or binaries.go_problem() is None


@contextlib.contextmanager
def _through_capture(config: pytest.Config) -> Iterator[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _visible(config: pytest.Config) -> Iterator[None]:
    """Let progress through pytest's capture, and show an error as its sentence."""
    with _through_capture(config):
        try:
            yield
        except ClusterError as error:
            pytest.fail(str(error), pytrace=False)


def _visible_image(config: pytest.Config, image: Callable[[str], str]) -> Callable[[str], str]:
    built: dict[str, str] = {}

    def reference(name: str) -> str:
        if name not in built:
            with _visible(config):
                built[name] = image(name)
        return built[name]

    return reference


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An API server with controllers and scheduler but no node: no pod ever runs.

    A fresh one of this session's own wherever it can be built; else the same as `cluster`.
    """
    if not _buildable():
        yield request.getfixturevalue("cluster")
        return
    with _temporary_plane(request.config) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def own_control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An empty one, for tests of what only one can do in a cluster; skipped where none is built."""
    if not _buildable():
        pytest.skip(f"needs a control plane of its own. {binaries.go_problem()}")
    with _temporary_plane(request.config) as cluster:
        yield cluster


@contextlib.contextmanager
def _temporary_plane(config: pytest.Config) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        with _visible(config):
            running = stack.enter_context(plane.temporary())
        yield Cluster(
            kubeconfig=running.kubeconfig,
            provider="control-plane",
            kubectl_binary=binaries.path_of("kubectl"),
            image=images.no_node,
            audit_log=running.audit_log,
        )


@pytest.fixture(scope="session")
def helm(request: pytest.FixtureRequest) -> tools.Helm:
    """The real helm; no cluster is started for it."""
    return tools.Helm(_tool(request.config, "helm"))


@pytest.fixture(scope="session")
def gitops(request: pytest.FixtureRequest) -> tools.GitOps:
    """What Argo CD and Flux make of a resource; neither is started for it."""
    return tools.GitOps(_tool(request.config, tools.GITOPS))


@pytest.fixture(scope="session")
def kustomize(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """What `kubectl kustomize` makes of a folder."""
    return functools.partial(tools.kustomize, _tool(request.config, "kubectl"))


@pytest.fixture(scope="session")
def promtool(request: pytest.FixtureRequest) -> Path:
    """Prometheus' own checker of rules."""
    try:
        with _through_capture(request.config):
            return packages.ensure_command("promtool", "prometheus")
    except ClusterError as error:
        pytest.skip(str(error))


def _tool(config: pytest.Config, name: str) -> Path:
    try:
        with _through_capture(config):
            return tools.ensure(name)
    except ClusterError as error:
        if binaries.go_problem() is None:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A whole cluster that runs pods; brought up when it is ours, and left up."""
    with _visible(request.config):
        found = provider.choose(os.environ).provide()
    return dataclasses.replace(found, image=_visible_image(request.config, found.image))
