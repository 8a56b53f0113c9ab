"""What a stage mounts in a cluster, a process of this machine has; or a sentence says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_cli.errors import CliError
from finetune_cli.local.bindings import Bindings, config_maps_of, paths
from finetune_cli.local.mounts import Mount, environment, mounts, pod_of
from finetune_operator.build.manifests import manifest
from finetune_operator.core.model import CreateJob, Settings
from finetune_operator.core.plan import make_plan
from finetune_operator.vocabulary import Stage
from unit.operator.builders import resource

SETTINGS = Settings(trainer_image="local", progress_url="http://127.0.0.1:1")
WORKSPACE = Path("/runs/demo")
Json = dict[str, Any]


def pod(stage: Stage, **changes: Any) -> Json:
    run = resource(**changes)
    action = CreateJob(stage, 1, make_plan(run, SETTINGS))
    return dict(pod_of(manifest(action, run, SETTINGS)))


def mounted(stage: Stage, bindings: Bindings, **changes: Any) -> dict[str, Mount]:
    return {mount.at: mount for mount in mounts(pod(stage, **changes), bindings, WORKSPACE)}


def variables(stage: Stage, inherited: dict[str, str], **changes: Any) -> dict[str, str]:
    made = pod(stage, **changes)
    found = mounts(made, Bindings(token="t"), WORKSPACE)
    return environment(made, Path("/scratch"), found, inherited)


def test_claims_config_maps_and_secrets_are_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text("x = 1")
    bindings = Bindings(
        volumes={"models": Path("/data/models")},
        config_maps={"rows": {"rows.jsonl": "{}", "more": ""}, "losses": tmp_path},
        secrets={"hf-read": tmp_path / "loss.py"},
        token="hf_token",
    )
    found = mounted(
        Stage.PREPARE,
        bindings,
        model={"source": "pvc://models/base", "tokenSecretRef": {"name": "hf-read"}},
        dataset={
            "source": "configmap://rows/rows.jsonl",
            "tokenSecretRef": {"name": "hf-other"},
        },
        training={"loss": {"module": "loss", "function": "f", "configMapRef": {"name": "losses"}}},
    )
    secrets = "/var/run/secrets/finetune"
    assert found["/workspace"].content == WORKSPACE
    assert found["/sources/model"].content == Path("/data/models")
    assert found["/sources/dataset"].content == {"rows.jsonl": b"{}"}
    assert found["/etc/finetune/loss"].content == {"loss.py": tmp_path / "loss.py"}
    assert found[f"{secrets}/model"].content == {"token": tmp_path / "loss.py"}
    assert found[f"{secrets}/dataset"].content == {"token": b"hf_token"}


CLAIM = {"dataset": {"source": "pvc://rows/a.jsonl"}}
TABLE: list[tuple[Stage, Json, Bindings, str]] = [
    (
        Stage.PREPARE,
        {"model": {"source": "pvc://models/base"}},
        Bindings(),
        "spec.model.source is on the claim models, which is in no cluster here: say --volume "
        "models=DIR with the directory that holds the same.",
    ),
    (
        Stage.PREPARE,
        {
            "dataset": None,
            "datasets": [
                {"source": "hf://a/b", "format": {"text": {}}},
                {"source": "pvc://rows/a", "format": {"text": {}}},
            ],
        },
        Bindings(),
        "spec.datasets[1].source is on the claim rows, ",
    ),
    (
        Stage.PREPARE,
        {"dataset": {"source": "configmap://rows/a.jsonl"}},
        Bindings(),
        "spec.dataset.source names the ConfigMap rows, which is in no cluster here: say "
        "--config-map rows=DIR with a directory of its files, or put it into the same file.",
    ),
    (
        Stage.PREPARE,
        {"dataset": {"source": "configmap://rows/a.jsonl"}},
        Bindings(config_maps={"rows": {"b.jsonl": ""}}),
        "spec.dataset.source names the key a.jsonl of ConfigMap rows, which has b.jsonl: correct "
        "the field or add the file.",
    ),
    (
        Stage.TRAIN,
        {"training": {"loss": {"module": "m", "function": "f", "configMapRef": {"name": "own"}}}},
        Bindings(),
        "spec.training.loss.configMapRef names the ConfigMap own, ",
    ),
    (
        Stage.PREPARE,
        {"model": {"tokenSecretRef": {"name": "hf-read"}}},
        Bindings(),
        "spec.model.tokenSecretRef names the Secret hf-read, which is in no cluster here: put the "
        "token into HF_TOKEN, or say --secret hf-read=FILE.",
    ),
    (
        Stage.UPLOAD,
        {},
        Bindings(),
        "spec.upload.tokenSecretRef names the Secret hf-write, which is in no cluster here: put "
        "the token into HF_TOKEN, or say --secret hf-write=FILE, or --until merge to leave that "
        "stage out.",
    ),
]


@pytest.mark.parametrize(("stage", "changes", "bindings", "sentence"), TABLE)
def test_what_this_machine_does_not_have_is_told_with_field_and_option(
    stage: Stage, changes: Json, bindings: Bindings, sentence: str
) -> None:
    with pytest.raises(CliError) as refused:
        mounted(stage, bindings, **changes)
    assert refused.value.message.startswith(sentence)


def test_places_are_below_the_scratch_and_homes_stay_a_persons_own() -> None:
    told = variables(Stage.TRAIN, {"HOME": "/home/me", "HF_HOME": "/big/hf", "PATH": "/bin"})
    assert {name: told[name] for name in ("HOME", "HF_HOME", "PATH")} == {
        "HOME": "/home/me",
        "HF_HOME": "/big/hf",
        "PATH": "/bin",
    }
    assert told["FINETUNE_WORKSPACE"] == "/runs/demo"
    assert told["FINETUNE_RUN_FILE"] == "/scratch/etc/finetune/run.json"
    progress = "/scratch/var/run/secrets/finetune/progress/token"
    assert told["KUBEFLOW_TRAINER_SERVER_TOKEN"] == progress
    assert told["KUBEFLOW_TRAINER_SERVER_URL"].startswith("http://127.0.0.1:1/apis/")
    assert (told["FINETUNE_NODE_RANK"], told["HF_HUB_OFFLINE"]) == ("0", "1")
    assert "FINETUNE_METRICS_PORT" not in told


def test_only_a_stage_that_asks_for_accelerators_sees_them() -> None:
    asks = {"resources": {"gpusPerNode": 2}}
    there = {"CUDA_VISIBLE_DEVICES": "0,1"}
    seen = {stage: variables(stage, there, **asks)["CUDA_VISIBLE_DEVICES"] for stage in Stage}
    assert seen == {"prepare": "", "train": "0,1", "merge": "", "upload": ""}
    assert variables(Stage.TRAIN, there)["CUDA_VISIBLE_DEVICES"] == ""
    assert variables(Stage.TRAIN, {}, **asks)["FINETUNE_PROCESSES_PER_NODE"] == "2"


def test_config_maps_may_stand_in_the_same_file() -> None:
    documents = [
        {"kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"a": "1"}},
        {"kind": "Secret", "metadata": {"name": "other"}},
        None,
    ]
    assert config_maps_of(documents) == {"rows": {"a": "1"}}


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("models", '--volume "models" must be NAME=DIR.'),
        ("=/tmp", '--volume "=/tmp" must be NAME=DIR.'),
        ("models=/none", "--volume models: /none is not a directory: name one that is there."),
    ],
)
def test_an_option_that_names_nothing_is_refused(pair: str, sentence: str) -> None:
    with pytest.raises(CliError) as refused:
        paths("--volume", [pair], directory=True)
    assert refused.value.message == sentence


@pytest.mark.parametrize("key", ["../../.bashrc", "/etc/passwd", "..", ".", "..data", "a/b", ""])
def test_a_key_that_would_be_written_elsewhere_is_refused(key: str) -> None:
    rows = {"kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {key: "1"}}
    with pytest.raises(CliError, match="rename it"):
        config_maps_of([rows])
