"""The four stage Jobs: what they share, and what only one of them has."""

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob, Platform, Settings
from finetune_operator.core.plan import continued
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import Stage
from unit.operator.builders import RUN, SETTINGS, UID, plan, resource

PROGRESS = Settings(
    trainer_image="trainer:1",
    hub_endpoint="http://hub.example",
    progress_url="https://operator.example:8443/",
    progress_ca="PEM",
)


def built(
    stage: str, attempt: int = 1, settings: Settings = SETTINGS, **changes: Any
) -> dict[str, Any]:
    action = CreateJob(Stage(stage), attempt, plan(settings, **changes))
    return manifest(action, resource(**changes), settings)


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"])


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(job)["containers"]
    return dict(only)


def environment(job: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", "") for entry in container(job)["env"]}


def mounts(job: dict[str, Any]) -> dict[str, Any]:
    return {mount["mountPath"]: mount["name"] for mount in container(job)["volumeMounts"]}


def volume(job: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (entry for entry in pod(job)["volumes"] if entry["name"] == name)
    return dict(found)


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_is_one_try_in_a_restricted_pod(stage: Stage) -> None:
    job = built(stage, 3)
    assert job["metadata"]["name"] == f"{RUN}-{stage}-3"
    assert job["spec"]["backoffLimit"] == 0
    assert pod(job)["restartPolicy"] == "Never"
    assert pod(job)["automountServiceAccountToken"] is False
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert container(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container(job)["args"] == [stage]
    assert "command" not in container(job)


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_is_owned_and_found_by_its_labels(stage: Stage) -> None:
    job = built(stage, 2)
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (UID, True, True)
    labels = {
        "app.kubernetes.io/name": "finetune-trainer",
        "app.kubernetes.io/component": stage,
        "app.kubernetes.io/part-of": "finetune-operator",
        "app.kubernetes.io/managed-by": "finetune-operator",
        "finetune.dev/run": RUN,
        "finetune.dev/stage": stage,
        "finetune.dev/attempt": "2",
    }
    assert job["metadata"]["labels"] == labels
    assert job["spec"]["template"]["metadata"]["labels"] == labels
    assert job["metadata"]["annotations"] == {
        "finetune.dev/plan-hash": plan().hash,
        "finetune.dev/template-hash": template_hash(resource(), stage),
    }


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_gets_the_same_plan_and_workspace(stage: Stage) -> None:
    job = built(stage)
    assert mounts(job)["/etc/finetune"] == "run"
    assert volume(job, "run")["configMap"]["name"] == f"{RUN}-plan-{plan().hash[:8]}"
    assert volume(job, mounts(job)["/workspace"])["persistentVolumeClaim"] == {
        "claimName": f"{RUN}-workspace"
    }


@pytest.mark.parametrize("stage", list(Stage))
def test_a_stage_that_a_rerun_leaves_as_it_was_is_given_the_plan_of_then(stage: Stage) -> None:
    asked = resource(rerunToken="a", upload={"private": True})
    made = continued(plan(), asked, SETTINGS, Stage.UPLOAD)
    job = manifest(CreateJob(stage, 2, made), asked, SETTINGS)
    its_plan = made.hash if stage is Stage.UPLOAD else plan().hash
    assert volume(job, "run")["configMap"]["name"] == f"{RUN}-plan-{its_plan[:8]}"
    assert job["metadata"]["annotations"]["finetune.dev/plan-hash"] == its_plan


def test_a_claim_of_the_users_takes_the_workspaces_place() -> None:
    job = built("prepare", storage={"claimName": "shared"})
    assert volume(job, "workspace")["persistentVolumeClaim"]["claimName"] == "shared"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("prepare", {"HF_ENDPOINT": "http://hub.example"}),
        (
            "train",
            {
                "HF_HUB_OFFLINE": "1",
                "FINETUNE_NODES": "1",
                "FINETUNE_NODE_RANK": "",
                "FINETUNE_METRICS_PORT": "9400",
                "FINETUNE_STALL_SECONDS": "3600",
                "FINETUNE_PROCESSES_PER_NODE": "1",
                "FINETUNE_MASTER_ADDR": "demo-train-2-0",
                "FINETUNE_MASTER_PORT": "29500",
                "KUBEFLOW_TRAINER_SERVER_URL": "https://operator.example:8443/apis/"
                "trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs/demo/status",
                "KUBEFLOW_TRAINER_SERVER_TOKEN": "/var/run/secrets/finetune/progress/token",
                "KUBEFLOW_TRAINER_SERVER_CA_CERT": "/var/run/secrets/finetune/progress/ca.crt",
            },
        ),
        ("merge", {"HF_HUB_OFFLINE": "1"}),
        ("upload", {"HF_ENDPOINT": "http://hub.example"}),
    ],
)
def test_the_environment_is_the_contracts(stage: str, expected: dict[str, str]) -> None:
    common = {
        "FINETUNE_STAGE": stage,
        "FINETUNE_ATTEMPT": "2",
        "HF_HOME": "/tmp/hf",
        "HOME": "/tmp",
    }
    assert environment(built(stage, 2, PROGRESS)) == common | expected


TOKENS: dict[str, Any] = {
    "model": {"tokenSecretRef": {"name": "read-model", "key": "hf"}},
    "dataset": {"tokenSecretRef": {"name": "read-data"}},
}


@pytest.mark.parametrize(
    ("stage", "secrets"),
    [
        ("prepare", {"model": "read-model", "dataset": "read-data"}),
        ("train", {}),
        ("merge", {}),
        ("upload", {"upload": "hf-write"}),
    ],
)
def test_tokens_are_mounted_only_where_they_are_needed(stage: str, secrets: dict[str, str]) -> None:
    job = built(stage, **TOKENS)
    found = {
        path.removeprefix("/var/run/secrets/finetune/"): volume(job, name)["secret"]["secretName"]
        for path, name in mounts(job).items()
        if path.startswith("/var/run/secrets/")
    }
    assert found == secrets


def test_only_the_named_key_of_a_secret_is_mounted() -> None:
    secret = volume(built("prepare", **TOKENS), "model-token")["secret"]
    assert secret["items"] == [{"key": "hf", "path": "token"}]
    assert secret["defaultMode"] == 0o440


def test_claims_named_as_sources_are_mounted_read_only_in_prepare_alone() -> None:
    changes: dict[str, Any] = {
        "model": {"source": "pvc://models/base"},
        "dataset": {"source": "pvc://data/a/b.jsonl"},
    }
    job = built("prepare", **changes)
    assert {"/sources/model", "/sources/dataset"} <= set(mounts(job))
    assert volume(job, "model-source")["persistentVolumeClaim"] == {
        "claimName": "models",
        "readOnly": True,
    }
    assert "/sources/model" not in mounts(built("train", **changes))


def test_a_config_map_named_as_source_is_mounted_with_its_key_alone() -> None:
    job = built("prepare", dataset={"source": "configmap://words/a.jsonl"})
    name = mounts(job)["/sources/dataset"]
    assert volume(job, name)["configMap"] == {
        "name": "words",
        "items": [{"key": "a.jsonl", "path": "a.jsonl"}],
    }


MIXTURE: dict[str, Any] = {
    "dataset": None,
    "datasets": [
        {
            "source": "hf://acme/a",
            "format": {"text": {}},
            "tokenSecretRef": {"name": "read-a"},
        },
        {"source": "pvc://data/b", "format": {"text": {}}},
        {
            "source": "hf://acme/c",
            "format": {"text": {}},
            "tokenSecretRef": {"name": "read-c"},
        },
    ],
}


def test_code_of_ones_own_is_mounted_read_only_where_it_is_read_and_run() -> None:
    own = {"module": "losses", "function": "focal", "configMapRef": {"name": "my-losses"}}
    changes: dict[str, Any] = {"training": {"loss": own}}
    mount = {"name": "loss", "mountPath": "/etc/finetune/loss", "readOnly": True}
    for stage in ("prepare", "train"):
        job = built(stage, **changes)
        assert volume(job, "loss")["configMap"] == {"name": "my-losses"}
        assert mount in container(job)["volumeMounts"]
    for stage in ("merge", "upload"):
        assert "/etc/finetune/loss" not in mounts(built(stage, **changes))
    assert "/etc/finetune/loss" not in mounts(
        built("train", training={"loss": {"module": "a", "function": "b"}})
    )


def test_every_data_set_of_a_mixture_has_its_own_mounts() -> None:
    job = built("prepare", **MIXTURE)
    found = mounts(job)
    secrets = "/var/run/secrets/finetune"
    assert volume(job, found[f"{secrets}/datasets-0"])["secret"]["secretName"] == "read-a"
    assert volume(job, found[f"{secrets}/datasets-2"])["secret"]["secretName"] == "read-c"
    claim = volume(job, found["/sources/datasets-1"])["persistentVolumeClaim"]
    assert claim == {"claimName": "data", "readOnly": True}
    assert not {f"{secrets}/datasets-1", "/sources/datasets-0", "/sources/dataset"} & set(found)


def test_the_secret_of_any_data_set_is_part_of_its_pods() -> None:
    other = {**MIXTURE["datasets"][2], "tokenSecretRef": {"name": "new"}}
    changed = {**MIXTURE, "datasets": [*MIXTURE["datasets"][:2], other]}
    before, after = resource(**MIXTURE), resource(**changed)
    assert template_hash(before, Stage.PREPARE) != template_hash(after, Stage.PREPARE)
    assert template_hash(before, Stage.TRAIN) == template_hash(after, Stage.TRAIN)


def test_training_pods_start_together_and_find_pod_0_by_name() -> None:
    job = built("train", 4, resources={"nodes": 3, "gpusPerNode": 8})
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    assert pod(job)["subdomain"] == "demo-train"
    assert environment(job)["FINETUNE_MASTER_ADDR"] == "demo-train-4-0.demo-train"
    assert environment(job)["FINETUNE_PROCESSES_PER_NODE"] == "8"


def test_what_the_plan_holds_comes_from_there_whatever_the_spec_says_now() -> None:
    pinned: dict[str, Any] = {
        "model": {"source": "pvc://models/base"},
        "resources": {"nodes": 2, "gpusPerNode": 4},
    }
    moved_on = resource(model={"source": "pvc://other/base"}, resources={"nodes": 8})
    train = manifest(CreateJob(Stage.TRAIN, 1, plan(**pinned)), moved_on, SETTINGS)
    assert train["spec"]["completions"] == 2
    assert environment(train)["FINETUNE_NODES"] == "2"
    assert environment(train)["FINETUNE_PROCESSES_PER_NODE"] == "4"
    assert container(train)["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    prepare = manifest(CreateJob(Stage.PREPARE, 1, plan(**pinned)), moved_on, SETTINGS)
    assert volume(prepare, "model-source")["persistentVolumeClaim"]["claimName"] == "models"


def test_a_job_ends_with_its_first_bad_pod() -> None:
    rules = built("train")["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert rules[1]["onExitCodes"] == {
        "containerName": "train",
        "operator": "NotIn",
        "values": [0],
    }


def test_training_gets_what_it_asked_for_and_helpers_no_limits() -> None:
    asked = {"gpusPerNode": 2, "cpu": "7500m", "memory": "64Gi", "sharedMemory": "8Gi"}
    train = built("train", resources=asked)
    limits = {"nvidia.com/gpu": "2", "cpu": "7500m", "memory": "64Gi"}
    assert container(train)["resources"] == {"limits": limits, "requests": limits}
    assert environment(train)["FINETUNE_CPUS"] == "7"
    assert volume(train, "shm")["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    for helper in ("prepare", "merge", "upload"):
        assert set(container(built(helper, resources=asked))["resources"]) == {"requests"}
        assert "/dev/shm" not in mounts(built(helper))


def test_only_an_operator_that_was_told_so_lets_training_fall_back_to_the_cpu() -> None:
    told = replace(SETTINGS, allow_cpu=True)
    assert environment(built("train", settings=told))["FINETUNE_ALLOW_CPU"] == "true"
    assert "FINETUNE_ALLOW_CPU" not in environment(built("train"))


# Empty selectors mean all: they must arrive as they are.
AFFINITY = {
    "nodeAffinity": {},
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}
        ]
    },
}


def test_every_stage_runs_where_training_may_because_the_volume_lives_there() -> None:
    scheduling = {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": AFFINITY,
        "priorityClassName": "high",
        "schedulerName": "mine",
        "runtimeClassName": "nvidia",
    }
    for stage in Stage:
        spec = pod(built(stage, scheduling=scheduling))
        assert spec["nodeSelector"] == {"pool": "gpu"}
        assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert spec["affinity"] == AFFINITY
        assert spec["priorityClassName"] == "high"
        assert spec.get("runtimeClassName") == ("nvidia" if stage is Stage.TRAIN else None)


def test_the_platforms_defaults_hold_where_the_run_says_nothing_else() -> None:
    platform = Platform(node_selector={"pool": "gpu", "zone": "a"}, priority_class="batch")
    settings = replace(SETTINGS, platform=platform)
    own = {"nodeSelector": {"zone": "b", "arch": "amd64"}, "priorityClassName": "high"}
    for stage in Stage:
        spec = pod(built(stage, settings=settings))
        assert spec["nodeSelector"] == {"pool": "gpu", "zone": "a"}
        assert spec["priorityClassName"] == "batch"
        spec = pod(built(stage, settings=settings, scheduling=own))
        assert spec["nodeSelector"] == {"pool": "gpu", "zone": "b", "arch": "amd64"}
        assert spec["priorityClassName"] == "high"


def test_another_default_of_the_platform_makes_no_job_another_one() -> None:
    """A new version of the operator must not replace what runs or waits."""
    platform = Platform(node_selector={"pool": "gpu"}, priority_class="batch")
    newer = built("train", settings=replace(SETTINGS, platform=platform))
    assert newer["metadata"]["annotations"] == built("train")["metadata"]["annotations"]


def test_the_image_is_the_plans_and_pulled_as_the_spec_says() -> None:
    job = built(
        "merge",
        trainer={
            "image": "mine:2",
            "imagePullPolicy": "Never",
            "imagePullSecrets": [{"name": "registry"}],
        },
    )
    assert container(job)["image"] == "mine:2"
    assert container(job)["imagePullPolicy"] == "Never"
    assert pod(job)["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize("stage", Stage)
def test_scratch_has_an_end(stage: Stage) -> None:
    assert volume(built(stage), "tmp")["emptyDir"] == {"sizeLimit": "16Gi"}


def test_training_has_time_to_save_a_checkpoint_when_it_is_stopped() -> None:
    assert pod(built("train"))["terminationGracePeriodSeconds"] == 120
    assert pod(built("upload"))["terminationGracePeriodSeconds"] == 30


def test_progress_is_reported_with_a_token_for_this_run_only() -> None:
    sources = volume(built("train", settings=PROGRESS), "progress")["projected"]["sources"]
    assert sources[0]["serviceAccountToken"]["audience"] == "finetune.dev/team-a/demo"
    assert sources[1]["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert sources[1]["configMap"]["optional"] is True


def test_without_an_endpoint_nothing_is_reported() -> None:
    assert not [name for name in environment(built("train")) if name.startswith("KUBEFLOW")]


def test_only_training_has_a_port_for_prometheus() -> None:
    job = built("train")
    (port,) = container(job)["ports"]
    told = int(environment(job)["FINETUNE_METRICS_PORT"])
    assert port == {"name": "metrics", "containerPort": told}
    assert told > 1024  # a restricted pod may not listen below
    for stage in ("prepare", "merge", "upload"):
        assert "ports" not in container(built(stage))
