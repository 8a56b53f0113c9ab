"""Every YAML block of README and docs/ is one that its reader can use: the API server takes what is
an object, Helm what are values, and no block is looked at by nobody.

FineTuneJobs, and parts of them, are in test_crd.py, beside what else may be said of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster import tools
from cluster.errors import ClusterError
from cluster.handle import Cluster, KubectlError
from cluster.tools import Helm
from integration.documents import Document, objects, unknown, values
from unit.helm.chart import CHART, rendered

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
FILES = [
    Document(str(path.relative_to(ROOT)), path.read_text())
    for folder in ("flux", "monitoring")
    for path in sorted((ROOT / "manifests" / folder).glob("*.yaml"))
    if path.name not in ("kustomization.yaml", "rules.yaml")
]
OBJECTS = [*objects(ROOT), *FILES]
# Where the kinds of others are defined.
CRDS: dict[str, Callable[[], Path]] = {
    "argoproj.io": tools.argo_crds,
    "monitoring.coreos.com": tools.monitoring_crds,
    "kustomize.toolkit.fluxcd.io": tools.flux_crds,
    "kueue.x-k8s.io": tools.kueue_crds,
}


@pytest.fixture(scope="module")
def server(own_control_plane: Cluster) -> Cluster:
    """An API server with the kinds and the namespaces that the documents use."""
    for group in {group_of(document) for document in OBJECTS} & CRDS.keys():
        kinds = {document.content["kind"] for document in OBJECTS if group_of(document) == group}
        try:
            folder = CRDS[group]()
        except ClusterError as error:
            pytest.skip(str(error))
        for path, name, kind in definitions(folder):
            if kind in kinds:
                own_control_plane.kubectl("apply", "--server-side", "-f", str(path))
                own_control_plane.wait_for_crd(name)
    for name in {document.content["metadata"].get("namespace") for document in OBJECTS} - {None}:
        own_control_plane.kubectl("create", "namespace", name, check=False)
    return own_control_plane


def group_of(document: Document) -> str:
    return str(document.content["apiVersion"]).partition("/")[0]


def definitions(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The CustomResourceDefinitions in a folder, each with its name and the kind it defines.

    By their lines: they are megabytes, and have what PyYAML cannot read.
    """
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text()
        if "\nkind: CustomResourceDefinition\n" in text:
            (name,) = re.findall(r"^  name: (\S+)$", text, re.MULTILINE)
            (kind,) = re.findall(r"^    kind: (\S+)$", text, re.MULTILINE)
            yield path, name, kind


def accepted(server: Cluster, text: str) -> str:
    strictly = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    return server.kubectl(*strictly, input=text)


@pytest.mark.parametrize("document", OBJECTS, ids=str)
def test_the_api_server_takes_what_we_show(server: Cluster, document: Document) -> None:
    accepted(server, document.text)


def test_the_check_sees_a_misspelt_field(server: Cluster) -> None:
    (flux,) = (document for document in FILES if "flux" in document.place)
    with pytest.raises(KubectlError, match="sourceReff"):
        accepted(server, flux.text.replace("sourceRef", "sourceReff"))


@pytest.mark.parametrize("document", list(values(ROOT, DEFAULTS)), ids=str)
def test_helm_takes_the_values_that_we_show(helm: Helm, document: Document) -> None:
    rendered(helm, document.content)


def test_no_block_is_looked_at_by_nobody() -> None:
    assert unknown(ROOT, DEFAULTS) == [], "what is it a part of? See integration/documents.py"
