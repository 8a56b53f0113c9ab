"""The GitOps examples to copy: Argo CD's and Flux's own schemas take them, and no difference is
hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import tools
from cluster.errors import ClusterError
from cluster.handle import Cluster, KubectlError
from unit.gitops.argocd import ACTIONS, ARGOCD, ROOT
from unit.gitops.test_flux import documented

FLUX = ROOT / "manifests" / "flux"
EXAMPLES = [*sorted((ARGOCD / "applications").glob("*.yaml")), *sorted(FLUX.glob("*.yaml"))]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(own_control_plane: Cluster) -> Cluster:
    """An API server with Argo CD's and Flux's kinds and their namespaces."""
    try:
        argo, flux = tools.argo_crds(), tools.flux_crds()
    except ClusterError as error:
        pytest.skip(str(error))
    crds = {
        "applications.argoproj.io": argo / "application-crd.yaml",
        "appprojects.argoproj.io": argo / "appproject-crd.yaml",
        "kustomizations.kustomize.toolkit.fluxcd.io": (
            flux / "kustomize.toolkit.fluxcd.io_kustomizations.yaml"
        ),
    }
    for name, path in crds.items():
        own_control_plane.kubectl("apply", "--server-side", "-f", str(path))
        own_control_plane.wait_for_crd(name)
    for namespace in ("argocd", "flux-system"):
        own_control_plane.kubectl("create", "namespace", namespace)
    return own_control_plane


def accepted(server: Cluster, text: str) -> str:
    strictly = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    return server.kubectl(*strictly, input=text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_tools_own_schema_takes_the_example(server: Cluster, path: Path) -> None:
    accepted(server, path.read_text())


def test_flux_takes_the_documented_check_of_suspended_runs(server: Cluster) -> None:
    example = yaml.safe_load((FLUX / "runs.yaml").read_text())
    example["spec"]["healthCheckExprs"] = [documented()]
    accepted(server, yaml.safe_dump(example))


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (ARGOCD / "applications" / "runs.yaml", "syncOptions", "syncOption"),
        (FLUX / "runs.yaml", "dependsOn", "dependOn"),
    ],
    ids=["argocd", "flux"],
)
def test_the_check_sees_a_misspelt_field(
    server: Cluster, path: Path, right: str, wrong: str
) -> None:
    with pytest.raises(KubectlError, match=wrong):
        accepted(server, path.read_text().replace(right, wrong))


def application(name: str) -> Json:
    found: Json = yaml.safe_load((ARGOCD / "applications" / f"{name}.yaml").read_text())
    return found


def test_the_operator_comes_before_the_runs_and_nothing_is_ignored() -> None:
    waves = [
        int(application(name)["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for name in ("project", "operator", "runs")
    ]
    assert waves == sorted(set(waves))
    for name in ("operator", "runs"):
        spec = application(name)["spec"]
        assert "ignoreDifferences" not in spec
        assert "ServerSideApply=true" in spec["syncPolicy"]["syncOptions"]
        assert "Replace=true" not in spec["syncPolicy"]["syncOptions"]


def test_the_project_allows_what_both_need() -> None:
    project, operator = application("project")["spec"], application("operator")["spec"]
    runs = application("runs")["spec"]
    for spec in (operator, runs):
        assert spec["project"] == "finetune"
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert spec["destination"] in project["destinations"]
    assert (ROOT / operator["source"]["path"] / "Chart.yaml").exists()
    [role] = project["roles"]
    for action in (path.parent.name for path in ACTIONS.glob("*/action.lua")):
        assert any(f"FineTuneJob/{action}, " in policy for policy in role["policies"])
