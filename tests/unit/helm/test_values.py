"""Values: every one documented, known to the schema, and nothing else taken for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.tools import Helm, ToolError
from unit.helm.chart import CHART, Json, rendered
from unit.helm.values_table import PAGE, page, values

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
PARENTS_OWN = "global"

# Values, and what Helm must say about them.
REFUSED: list[tuple[Json, str]] = [
    ({"imag": {}}, "at '': additional properties 'imag' not allowed"),
    ({"image": {"tagg": "v1"}}, "at '/image': additional properties 'tagg' not allowed"),
    ({"image": {"tag": 1.2}}, "at '/image/tag': got number, want string"),
    ({"image": {"repository": ""}}, "at '/image/repository'"),
    ({"image": {"repository": "a@sha256:0f"}}, "at '/image/repository'"),
    ({"image": {"digest": "0f"}}, "at '/image/digest'"),
    ({"image": {"pullPolicy": "always"}}, "at '/image/pullPolicy'"),
    ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0'"),
    ({"crds": {"enabled": True}}, "at '/crds': additional properties 'enabled' not allowed"),
    ({"rbac": {"create": "yes"}}, "at '/rbac/create': got string, want boolean"),
    ({"serviceAccount": {"name": ""}}, "at '/serviceAccount/name'"),
    ({"watch": {"namespaces": "team-a"}}, "at '/watch/namespaces': got string, want array"),
    ({"watch": {"namespaces": ["Team_A"]}}, "at '/watch/namespaces/0'"),
    ({"operator": {"logFormat": "xml"}}, "at '/operator/logFormat'"),
    ({"operator": {"workers": 0}}, "at '/operator/workers': minimum: got 0, want 1"),
    ({"operator": {"replicas": 2}}, "at '/operator': additional properties 'replicas' not allowed"),
    ({"runs": {"storageClass": "a"}}, "additional properties 'storageClass' not allowed"),
    ({"runs": {"nodeSelector": {"pool": True}}}, "at '/runs/nodeSelector/pool'"),
    ({"runs": {"nodeSelector": {"a,b": "c"}}}, "'a,b'"),
    ({"runs": {"nodeSelector": {"a": "b,c=d"}}}, "at '/runs/nodeSelector/a'"),
    ({"runs": {"hubEndpoint": "hub.example.com"}}, "at '/runs/hubEndpoint'"),
    ({"runs": {"allowCpu": "true"}}, "at '/runs/allowCpu': got string, want boolean"),
    ({"limits": {"gpusPerRun": -1}}, "at '/limits/gpusPerRun': minimum: got -1, want 0"),
    ({"limits": {"gpusPerRun": "8"}}, "at '/limits/gpusPerRun': got string"),
    ({"limits": {"gpus": 8}}, "at '/limits': additional properties 'gpus' not allowed"),
    ({"limits": {"imageRegistries": ["a,b"]}}, "at '/limits/imageRegistries/0'"),
    ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    ({"podAnnotations": {"a": 1}}, "at '/podAnnotations/a': got number, want string"),
    ({"tolerations": [{"efect": "x"}]}, "additional properties 'efect' not allowed"),
    ({"affinity": {"node": {}}}, "at '/affinity': additional properties 'node' not allowed"),
    ({"networkPolicy": {"apiServerPorts": [0]}}, "at '/networkPolicy/apiServerPorts/0'"),
    ({"metrics": {"serviceMonitor": {}}}, "additional properties 'serviceMonitor' not allowed"),
    ({"metrics": {"podMonitor": {"interval": "30"}}}, "at '/metrics/podMonitor/interval'"),
    (
        {"metrics": {"prometheusRule": {"runbookBaseURL": "wiki/x"}}},
        "at '/metrics/prometheusRule/runbookBaseURL'",
    ),
    ({"metrics": {"dashboards": {"labelValue": 1}}}, "at '/metrics/dashboards/labelValue'"),
    ({"argocd": {"blocking": "no"}}, "at '/argocd/blocking'"),
    ({"metrics": {"dashboards": {"folders": "x"}}}, "additional properties 'folders' not allowed"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_wrong_value_is_refused_by_name(helm: Helm, wrong: Json, said: str) -> None:
    with pytest.raises(ToolError) as refused:
        rendered(helm, wrong)
    assert said in str(refused.value)


def test_no_object_of_the_schema_takes_what_it_does_not_know() -> None:
    for path, schema in objects_of(SCHEMA):
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path


def test_schema_and_values_name_the_same() -> None:
    assert leaves_of(SCHEMA) - {PARENTS_OWN} == set(paths_of(DEFAULTS))


def test_every_value_is_documented_in_one_line() -> None:
    documented = [one.path for one in values()]
    assert len(documented) == len(set(documented))
    for path in paths_of(DEFAULTS):
        assert any(path == one or path.startswith(f"{one}.") for one in documented), path


def test_the_table_in_the_documentation_is_todays() -> None:
    assert PAGE.read_text() == page(), "run make helm-docs"


def test_the_chart_can_be_a_part_of_another(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "platform"
    (parent / "charts").mkdir(parents=True)
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: platform\nversion: 0.1.0\n")
    (parent / "charts" / "finetune-operator").symlink_to(CHART)
    said = helm(
        *("template", "platform", str(parent)),
        values={"global": {"region": "a"}, "finetune-operator": {"limits": {"gpusPerRun": 3}}},
    )
    assert "FINETUNE_MAX_GPUS" in said


def objects_of(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    if schema.get("type") == "object":
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from objects_of(part, f"{path}.{name}")
    if "items" in schema:
        yield from objects_of(schema["items"], f"{path}[]")


def leaves_of(schema: Json, path: str = "") -> set[str]:
    """Paths of what values.yaml gives: what has no named parts, or only parts without defaults."""
    parts = schema.get("properties", {})
    if not parts or path in {"affinity"}:
        return {path}
    return set().union(
        *(leaves_of(part, f"{path}.{name}".lstrip(".")) for name, part in parts.items())
    )


def paths_of(found: Any, path: str = "") -> Iterator[str]:
    if path == "resources":
        yield from (f"{path}.{name}" for name in found)
    elif isinstance(found, dict) and found:
        for name, part in found.items():
            yield from paths_of(part, f"{path}.{name}".lstrip("."))
    else:
        yield path
