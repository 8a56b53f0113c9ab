"""The hash changes with what a stage's pods are made of, and with nothing else.

What they are made of is asked of build itself, so that the two cannot drift apart.
"""

from typing import Any

import pytest

from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import Stage
from unit.operator.builders import SETTINGS, plan, resource

BEFORE: dict[str, Any] = {"resources": {"gpusPerNode": 1}}
CHANGES: list[dict[str, Any]] = [
    {},
    {"model": {"tokenSecretRef": {"name": "hf-read"}}},
    {"dataset": {"tokenSecretRef": {"name": "hf-read"}}},
    {"upload": {"tokenSecretRef": {"name": "other"}}},
    {"resources": {"gpusPerNode": 1, "cpu": "8"}},
    {"resources": {"gpusPerNode": 1, "memory": "64Gi"}},
    {"resources": {"gpusPerNode": 1, "sharedMemory": "8Gi"}},
    {"resources": {"gpusPerNode": 1, "gpuResourceName": "amd.com/gpu"}},
    {"storage": {"size": "1Ti"}},
    {"scheduling": {"nodeSelector": {"pool": "gpu"}}},
    {"scheduling": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}},
    {"scheduling": {"affinity": {"nodeAffinity": {}}}},
    {"scheduling": {"priorityClassName": "high"}},
    {"scheduling": {"runtimeClassName": "nvidia"}},
    {"scheduling": {"schedulerName": "mine"}},
    {"trainer": {"imagePullPolicy": "Never"}},
    {"trainer": {"imagePullSecrets": [{"name": "registry"}]}},
    {"runPolicy": {"stallSeconds": 600}},
    {"suspend": True},
    {"rerunToken": "2"},
]


def pods(stage: Stage, changes: dict[str, Any]) -> Any:
    action = CreateJob(stage, 1, plan(**BEFORE))
    return manifest(action, resource(**{**BEFORE, **changes}), SETTINGS)["spec"]["template"]["spec"]


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_hash_and_the_pods_change_together(stage: Stage, changes: dict[str, Any]) -> None:
    other_pods = pods(stage, changes) != pods(stage, {})
    before, after = resource(**BEFORE), resource(**{**BEFORE, **changes})
    assert (template_hash(after, stage) != template_hash(before, stage)) is other_pods


def test_a_default_written_out_is_no_change() -> None:
    written = resource(resources={"gpuResourceName": "nvidia.com/gpu"})
    assert template_hash(written, Stage.TRAIN) == template_hash(resource(), Stage.TRAIN)
