"""The pytest plugin (`-p cluster.fixture`): `control_plane` and `cluster`, one each per session.

Only wiring belongs here: which cluster is chosen is in `provider.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator

import pytest

from cluster import binaries, images, provider
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
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # Whatever fails here fails again, with its message, in the test that asks for it.
    with contextlib.suppress(ClusterError), _through_capture(session.config):
        if "control_plane" in wanted and _buildable():
            binaries.ensure(binaries.CONTROL_PLANE)
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
    with contextlib.ExitStack() as stack:
        with _visible(request.config):
            running = stack.enter_context(plane.temporary())
        yield Cluster(
            kubeconfig=running.kubeconfig,
            provider="control-plane",
            kubectl_binary=binaries.path_of("kubectl"),
            image=images.no_node,
            audit_log=running.audit_log,
        )


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A whole cluster that runs pods; brought up when it is ours, and left up."""
    with _visible(request.config):
        found = provider.choose(os.environ).provide()
    return dataclasses.replace(found, image=_visible_image(request.config, found.image))
