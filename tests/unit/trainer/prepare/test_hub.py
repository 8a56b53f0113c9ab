"""Model and data from a Hub, by the real client.

Once in a process of its own, as in a pod; the other tests save the seconds of its start.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from huggingface_hub import constants
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from safetensors.torch import load_file

from finetune_trainer.__main__ import main
from finetune_trainer.data.examples import Examples
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from hub.fixture import HubServer
from unit.trainer.prepare.plans import mixture, plan, questions, write_rows
from unit.trainer.tiny import write_tiny_model


class Pod:
    """Runs the stage against this Hub with the files that a pod has."""

    def __init__(self, hub: HubServer, root: Path) -> None:
        self.root = root
        self.hub = hub
        self.workspace = Workspace(root / "workspace")
        self.plan_file = root / "run.json"
        self.log = root / "termination-log"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "FINETUNE_RUN_FILE": str(self.plan_file),
            "FINETUNE_WORKSPACE": str(self.workspace.root),
            "FINETUNE_SECRETS": str(self.root / "secrets"),
            "FINETUNE_TERMINATION_LOG": str(self.log),
        }

    def token(self, purpose: str, token: str) -> None:
        file = self.root / "secrets" / purpose / "token"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(token + "\n")

    def run(self, run: Run) -> tuple[int, dict[str, Any]]:
        """The exit code and the termination message."""
        self.plan_file.write_text(run.model_dump_json(by_alias=True))
        code = main(["prepare"])
        return code, json.loads(self.log.read_text())

    def run_alone(self, run: Run) -> tuple[int, dict[str, Any]]:
        """The same in a fresh process that inherits no variable: no token, no cache of a user."""
        self.plan_file.write_text(run.model_dump_json(by_alias=True))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HOME": str(self.root / "home"),
            "HF_HOME": str(self.root / "home" / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }
        command = [sys.executable, "-m", "finetune_trainer", "prepare"]
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        print(process.stdout, process.stderr)
        return process.returncode, json.loads(self.log.read_text())


@pytest.fixture
def pod(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    pod = Pod(hub_server, tmp_path)
    for name, value in pod.environment.items():
        monkeypatch.setenv(name, value)
    # The client reads HF_ENDPOINT when it is imported, which was before this Hub started.
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub_server.endpoint + template)
    return pod


@pytest.fixture(scope="module")
def repositories(hub_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model, a private copy of it, and a data set with two splits and a second revision."""
    api = hub_server.api(hub_server.write_token)
    root = tmp_path_factory.mktemp("repositories")
    write_tiny_model(root / "model")
    (root / "model" / "original").mkdir()
    (root / "model" / "original" / "consolidated.pth").write_bytes(b"0" * 1000)
    (root / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for name, private in (("initech/tiny", False), ("initech/secret", True)):
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=root / "model")
    api.create_repo("initech/bert", exist_ok=True)
    config = json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    for name, content in (("config.json", config), ("model.safetensors", "x")):
        api.upload_file(repo_id="initech/bert", path_in_repo=name, path_or_fileobj=content.encode())
    api.create_repo("initech/old", exist_ok=True)
    for name in ("config.json", "pytorch_model.bin"):
        api.upload_file(repo_id="initech/old", path_in_repo=name, path_or_fileobj=b"{}")
    api.create_repo("initech/rows", repo_type="dataset", exist_ok=True)
    write_rows(root / "data" / "train.jsonl", questions(20))
    write_rows(root / "data" / "test.jsonl", questions(6))
    api.upload_folder(repo_id="initech/rows", repo_type="dataset", folder_path=root / "data")
    api.create_tag("initech/rows", tag="first", repo_type="dataset")
    write_rows(root / "data" / "train.jsonl", questions(30))
    api.upload_folder(repo_id="initech/rows", repo_type="dataset", folder_path=root / "data")
    lines = "".join(json.dumps(row) + "\n" for row in questions(20)).encode()
    packed = {
        "train-a.jsonl.gz": gzip.compress(lines),
        "train-b.jsonl.zst": zstandard.compress(lines),
    }
    for name, contents in (
        ("initech/packed", packed),
        ("initech/broken", {"train.jsonl": lines + b'{"question": "a", \n'}),
    ):
        api.create_repo(name, repo_type="dataset", private=name == "initech/packed", exist_ok=True)
        for file, data in contents.items():
            api.upload_file(
                repo_id=name, repo_type="dataset", path_in_repo=file, path_or_fileobj=data
            )


pytestmark = pytest.mark.usefixtures("repositories")


def hub_plan(model: str = "initech/tiny", data: str = "initech/rows", **dataset: Any) -> Run:
    return plan(model={"source": f"hf://{model}"}, dataset={"source": f"hf://{data}", **dataset})


def test_model_and_data_arrive_at_the_commit_that_the_revision_named(pod: Pod) -> None:
    code, document = pod.run_alone(hub_plan(validation={"split": "test"}))
    assert code == 0, document
    api = pod.hub.api()
    assert document["result"]["modelCommit"] == api.model_info("initech/tiny").sha
    assert document["result"]["datasetCommit"] == api.dataset_info("initech/rows").sha
    report = json.loads((pod.workspace.prepare / "report.json").read_bytes())
    assert report["modelLicense"] == {"license": "apache-2.0"}
    assert len(Examples(pod.workspace.data / "train")) == 30
    assert len(Examples(pod.workspace.data / "validation")) == 6
    assert load_file(pod.workspace.model / "model.safetensors")
    left = {path.name for path in pod.workspace.model.iterdir()}
    assert not left & {"original", ".cache", "README.md"}
    assert not list(pod.workspace.root.rglob("*.tmp"))


def test_packed_files_and_several_data_sets_each_with_its_token(pod: Pod) -> None:
    pod.token("datasets-1", pod.hub.read_token)
    parts = [
        {"source": f"hf://initech/{name}", "format": {"questionAnswer": {}}}
        for name in ("rows", "packed")
    ]
    run = mixture(parts, model={"source": "hf://initech/tiny"})
    code, document = pod.run(run)
    assert code == 0, document
    assert len(Examples(pod.workspace.data / "train")) == 30 + 40
    api = pod.hub.api(pod.hub.read_token)
    commits = [api.dataset_info(f"initech/{name}").sha or "" for name in ("rows", "packed")]
    assert document["result"]["datasetCommit"] == ",".join(commit[:12] for commit in commits)


def test_a_broken_line_is_named_in_a_file_of_the_hub(pod: Pod) -> None:
    code, document = pod.run(hub_plan(data="initech/broken"))
    assert code == 10
    assert document["message"] == (
        'Data set hf://initech/broken cannot be read: "train.jsonl" is not JSON in line 21 '
        "(Expecting property name enclosed in double quotes): correct the line."
    )


def test_a_tag_names_an_earlier_commit(pod: Pod) -> None:
    code, _ = pod.run(hub_plan(revision="first"))
    assert code == 0
    assert len(Examples(pod.workspace.data / "train")) == 20


def test_a_model_that_is_there_is_not_fetched_again(pod: Pod) -> None:
    assert pod.run(hub_plan())[0] == 0
    weights = pod.workspace.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    code, _ = pod.run(hub_plan().model_copy(update={"plan_hash": "2222"}))
    assert code == 0
    assert weights.stat().st_mtime_ns == before


def test_a_private_model_is_read_with_its_token(pod: Pod) -> None:
    pod.token("model", pod.hub.read_token)
    assert pod.run(hub_plan("initech/secret"))[0] == 0


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (hub_plan("initech/none"), "Model hf://initech/none was not found on "),
        (hub_plan("initech/secret"), "set spec.model.tokenSecretRef"),
        (hub_plan("initech/bert"), "not a causal language model (BertForMaskedLM)"),
        (hub_plan("initech/old"), "has only pytorch_model.bin"),
        (hub_plan(data="initech/none"), "Data set hf://initech/none was not found on "),
        (hub_plan(revision="gone"), 'spec.dataset.revision names "gone"'),
        (hub_plan(split="trian"), 'names "trian"; the data set has: '),
        (hub_plan(subset="nosuch"), "spec.dataset.subset"),
    ],
)
def test_what_is_not_there_is_a_user_error(pod: Pod, run: Run, sentence: str) -> None:
    code, document = pod.run(run)
    assert (code, document["outcome"]) == (10, "UserError"), document
    assert sentence in document["message"]


def test_a_refused_token_is_named_by_its_field(pod: Pod) -> None:
    pod.token("model", "hf_never_issued")
    code, document = pod.run(hub_plan())
    assert code == 10
    assert "refused the token in spec.model.tokenSecretRef" in document["message"]


def test_a_hub_that_cannot_be_reached_can_be_tried_again(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, document = pod.run(hub_plan())
    assert code == 11
    assert "could not be reached for model hf://initech/tiny" in document["message"]


def test_a_busy_hub_can_be_tried_again(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client waits and tries again by itself; here it need not wait.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    fault = {"prefix": "/api/models/initech/tiny", "status": 503, "times": 50}
    headers = {"Authorization": f"Bearer {pod.hub.write_token}"}
    url = f"{pod.hub.endpoint}/admin/faults"
    with httpx.Client(headers=headers) as client:
        client.post(url, json=fault).raise_for_status()
        try:
            code, document = pod.run(hub_plan())
        finally:
            client.delete(url)
    assert code == 11
    assert "answered 503 for model hf://initech/tiny" in document["message"]


def test_a_gated_model_names_what_to_accept(pod: Pod) -> None:
    api = pod.hub.api(pod.hub.write_token)
    api.update_repo_settings("initech/tiny", gated="manual")
    try:
        code, document = pod.run(hub_plan())
    finally:
        api.update_repo_settings("initech/tiny", gated=False)
    assert code == 10
    assert "Model hf://initech/tiny is gated" in document["message"]
    assert "spec.model.tokenSecretRef" in document["message"]


def test_an_interrupted_download_is_completed(pod: Pod) -> None:
    assert pod.run(hub_plan())[0] == 0
    weights = pod.workspace.model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    (pod.workspace.model / "tokenizer.json").unlink()
    assert pod.run(hub_plan().model_copy(update={"plan_hash": "2222"}))[0] == 0
    assert weights.read_bytes() == whole
    assert (pod.workspace.model / "tokenizer.json").exists()


def test_a_full_disk_is_said_to_be_one(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file size limit stands for the volume's end; writes beyond it fail with EFBIG, not ENOSPC,
    # so the error is raised where the client writes.
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    monkeypatch.setattr("huggingface_hub.file_download.xet_get", full)
    code, document = pod.run(hub_plan())
    assert code == 10
    assert "spec.storage.size" in document["message"]


def test_a_data_sets_card_may_not_name_files_of_the_pod(pod: Pod) -> None:
    (pod.root / "token.txt").write_text("hf_hush\n")
    name = "initech/greedy"
    api = pod.hub.api(pod.hub.write_token)
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    card = f"configs:\n- config_name: default\n  data_files: {pod.root}/token.txt\n"
    for path, content in (("README.md", f"---\n{card}---\n"), ("train.txt", "x\n")):
        api.upload_file(
            repo_id=name,
            repo_type="dataset",
            path_in_repo=path,
            path_or_fileobj=content.encode(),
        )
    code, document = pod.run(hub_plan(data=name))
    assert code == 10
    assert "hf_hush" not in document["message"]
    assert "data_files" in document["message"]
