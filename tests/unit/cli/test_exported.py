"""What export-job prints are the operator's objects, and every difference is one that is explained.

That an API server takes them, and a Job controller tries again, is asked in
tests/integration/test_export_job.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.errors import Exit
from finetune_cli.exported import Export, exported
from finetune_cli.preview import besides, flat, resource_of
from finetune_operator.build.manifests import manifest
from finetune_operator.core.attempts import ATTEMPTS, NEVER_AGAIN, NOT_COUNTED
from finetune_operator.core.failure import explain
from finetune_operator.core.model import CreateJob, Settings
from finetune_operator.core.plan import make_plan
from finetune_operator.vocabulary import ExitCode
from unit.cli.calls import ROOT, SAMPLE, cli
from unit.operator.builders import ended, job

Json = dict[str, Any]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
SETTINGS = Settings(trainer_image="trainer:1")
# Of a Job with one pod; of one with several the last two are the operator's.
EXPLAINED = {"metadata.ownerReferences", "metadata.namespace"}
ATTEMPTS_OF_ITS_OWN = {"spec.backoffLimit", "spec.podFailurePolicy"}


def document(path: Path) -> Json:
    found: Json = yaml.safe_load(path.read_text())
    return found


def export(path: str = SAMPLE, settings: Settings = SETTINGS, **changes: Any) -> Export:
    found = document(Path(path))
    return exported({**found, "spec": {**found["spec"], **changes}}, settings)


def of_the_operator(found: Json, settings: Settings = SETTINGS) -> list[Json]:
    resource = resource_of(found, "default")
    plan = make_plan(resource, settings)
    jobs = [manifest(CreateJob(stage, 1, plan), resource, settings) for stage in plan.stages]
    return [*besides(resource, plan, settings), *jobs]


def differences(ours: Json, theirs: Json) -> set[str]:
    """Paths of two members at which two objects differ."""
    one, other = set(flat(ours)), set(flat(theirs))
    return {".".join(path.split("[")[0].split(".")[:2]) for path, _ in one ^ other}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_objects_are_the_operators_but_for_what_is_explained(path: Path) -> None:
    found = document(path)
    ours, theirs = exported(found, SETTINGS), of_the_operator(found)
    for one, other in zip([*ours.besides, *ours.jobs], theirs, strict=True):
        alone = one["kind"] == "Job" and one["spec"].get("parallelism", 1) == 1
        expected = ATTEMPTS_OF_ITS_OWN if alone else set()
        assert differences(one, other) - EXPLAINED == expected, one["metadata"]["name"]


def test_what_an_operator_adds_for_progress_is_all_that_is_missing() -> None:
    endpoint = Settings("trainer:1", progress_url="https://operator:8443", progress_ca="PEM")
    (train,) = (item for item in export().jobs if item["metadata"]["name"].endswith("train-1"))
    theirs = of_the_operator(document(Path(SAMPLE)), endpoint)
    (other,) = (item for item in theirs if item["metadata"]["name"].endswith("train-1"))
    ours = train["spec"]["template"]["spec"]
    full = other["spec"]["template"]["spec"]
    kept = [volume for volume in full["volumes"] if volume["name"] != "progress"]
    assert ours["volumes"] == kept
    [container], [reporting] = ours["containers"], full["containers"]
    variables = [v for v in reporting["env"] if not v["name"].startswith("KUBEFLOW_TRAINER")]
    assert container["env"] == variables
    assert len(reporting["env"]) == len(variables) + 3


@pytest.mark.parametrize("code", [1, 3, *range(10, 15), 137])
def test_a_job_tries_again_after_what_the_operator_tries_again_after(code: int) -> None:
    reason = explain(job("train"), ended(code)).reason
    [container] = (spec := export().jobs[1]["spec"])["template"]["spec"]["containers"]
    actions = [
        rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        if code in rule.get("onExitCodes", {}).get("values", [])
        and rule["onExitCodes"]["containerName"] == container["name"]
    ]
    expected = ["FailJob"] if reason in NEVER_AGAIN else []
    assert actions == (["Ignore"] if reason in NOT_COUNTED else expected)
    assert spec["backoffLimit"] == ATTEMPTS - 1


def test_a_pod_that_the_cluster_stops_is_not_counted() -> None:
    rules = export().jobs[0]["spec"]["podFailurePolicy"]["rules"]
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    assert {"action": "Ignore", "onPodConditions": disrupted} in rules
    assert rules[0]["onExitCodes"]["values"] == [ExitCode.USER_ERROR, ExitCode.NON_FINITE_LOSS]


def test_several_pods_have_one_attempt_as_they_can_only_start_again_together() -> None:
    train = export(str(ROOT / "manifests/samples/two-nodes.yaml")).jobs[1]
    assert train["spec"]["parallelism"] == 2
    assert train["spec"]["backoffLimit"] == 0


def test_what_kueue_would_start_all_at_once_comes_as_a_script_only(tmp_path: Path) -> None:
    queued = tmp_path / "queued.yaml"
    labels = "labels: {kueue.x-k8s.io/queue-name: gpus}"
    text = Path(SAMPLE).read_text().replace("{name: gemma-math}", f"{{name: gemma-math, {labels}}}")
    queued.write_text(text)
    ended = cli("export-job", str(queued), "--trainer-image", "t:1")
    assert ended.returncode == Exit.USAGE
    assert "say -o sh for a script" in ended.stderr
    script = cli("export-job", str(queued), "--trainer-image", "t:1", "-o", "sh").stdout
    assert script.count("suspend: true") == 4


def test_objects_name_a_namespace_only_if_somebody_has_named_one(tmp_path: Path) -> None:
    def namespaces(*words: str, path: str = SAMPLE) -> set[str | None]:
        shown = cli("export-job", path, "--trainer-image", "t:1", "-o", "json", *words).stdout
        return {item["metadata"].get("namespace") for item in json.loads(shown)["items"]}

    assert namespaces() == {None}
    assert namespaces("-n", "team") == {"team"}
    own = tmp_path / "own.yaml"
    own.write_text(
        Path(SAMPLE).read_text().replace("{name: gemma-math}", "{name: a, namespace: b}")
    )
    assert namespaces(path=str(own)) == {"b"}
    ended = cli("export-job", str(own), "--trainer-image", "t:1", "-n", "team")
    assert "names the namespace b, and --namespace team" in ended.stderr


OPTIONS = {
    "--trainer-image": ("FINETUNE_TRAINER_IMAGE", "registry.example/trainer:7"),
    "--storage-class": ("FINETUNE_STORAGE_CLASS", "fast"),
    "--node-selector": ("FINETUNE_NODE_SELECTOR", "pool=gpu,zone=a"),
    "--priority-class": ("FINETUNE_PRIORITY_CLASS", "batch"),
    "--hub-endpoint": ("HF_ENDPOINT", "https://hub.example"),
}


def test_what_an_operator_is_told_is_told_by_options_or_the_operators_variables() -> None:
    words = [word for option, (_, value) in OPTIONS.items() for word in (option, value)]
    variables = dict(OPTIONS.values())
    shown = cli("export-job", SAMPLE, *words, "--allow-cpu").stdout
    assert cli("export-job", SAMPLE, FINETUNE_ALLOW_CPU="true", **variables).stdout == shown
    claim, _, prepare, train, *_ = yaml.safe_load_all(shown)
    assert claim["spec"]["storageClassName"] == "fast"
    pod = train["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu", "zone": "a"}
    assert pod["priorityClassName"] == "batch"
    [container] = pod["containers"]
    assert container["image"] == "registry.example/trainer:7"
    assert {"name": "FINETUNE_ALLOW_CPU", "value": "true"} in container["env"]
    [container] = prepare["spec"]["template"]["spec"]["containers"]
    assert {"name": "HF_ENDPOINT", "value": "https://hub.example"} in container["env"]
