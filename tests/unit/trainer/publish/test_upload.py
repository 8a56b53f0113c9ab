from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from huggingface_hub import HfApi, ModelCard, constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer.merge import stage as merge
from finetune_trainer.outcome import RetryableError, UserError
from finetune_trainer.publish import stage
from finetune_trainer.report import page
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, write_json
from hub.fixture import HubServer
from unit.trainer.artifacts import save_adapter, save_base, tiny_run

SetToken = Callable[[str | None], None]


@pytest.fixture
def api(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    # Read from HF_ENDPOINT when the client was imported, which was long ago.
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.endpoint)
    template = f"{hub_server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return hub_server.api(hub_server.write_token)


@pytest.fixture
def set_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetToken:
    monkeypatch.setenv("FINETUNE_SECRETS", str(tmp_path / "secrets"))
    file = tmp_path / "secrets" / "upload" / "token"

    def set_to(token: str | None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{token}\n") if token else file.unlink(missing_ok=True)

    return set_to


@pytest.fixture(autouse=True)
def _write_token(api: HfApi, set_token: SetToken, hub_server: HubServer) -> None:
    set_token(hub_server.write_token)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after merge; no test changes it."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    save_adapter(workspace.adapter, save_base(workspace.model))
    (workspace.model / ".finetune.json").write_text("{}")
    message, result = merge(tiny_run(), workspace)
    for name, values in (
        ("merge", result),
        ("train", {"steps": 5, "validationLoss": 2.5, "baseValidationLoss": 3.5}),
    ):
        document = {"stage": name, "outcome": "Succeeded", "message": message, "result": values}
        write_json(workspace.result(name), document)
    write_json(workspace.prepare / "report.json", {"rows": 10, "rowsKept": 9, "tokens": 100})
    preview = {"examples": [{"passages": [{"pieces": [{"text": "a row of the data"}]}]}]}
    write_json(workspace.prepare / "preview.json", preview)
    losses = [{"step": step, "time": 1.0, "loss": 5 - step} for step in range(1, 5)]
    workspace.history.write_text("".join(json.dumps(line) + "\n" for line in losses))
    return workspace.root


@pytest.fixture
def workspace(trained: Path) -> Workspace:
    return Workspace(trained)


def run_for(repository: str | None = None, **upload: Any) -> Run:
    name = repository or f"tester/{uuid.uuid4().hex[:8]}"
    return tiny_run(upload={"repository": name, "artifacts": ["Merged", "Adapter"]} | upload)


def name_of(run: Run) -> str:
    assert run.upload is not None
    return run.upload.repository


def commits(api: HfApi, run: Run, branch: str = "main") -> list[str]:
    return [commit.commit_id for commit in api.list_repo_commits(name_of(run), revision=branch)]


def test_everything_arrives_in_one_commit(api: HfApi, workspace: Workspace) -> None:
    run = run_for()
    message, result = stage(run, workspace)
    name = name_of(run)
    assert result["repository"] == name
    assert result["url"] == f"{constants.ENDPOINT}/{name}"
    assert result["commit"][:12] in message
    made = api.list_repo_commits(name)
    assert made[0].commit_id == result["commit"]
    assert len(made) == 2  # the Hub's own first commit, and ours
    assert "planHash: 0f4c2b6a9d31" in made[0].message
    files = set(api.list_repo_files(name))
    assert {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "finetune/run.json",
        "finetune/report.json",
        "finetune/report.html",
        "finetune/loss.png",
    } <= files
    assert not [file for file in files if ".finetune" in file or file == "adapter/README.md"]


def test_what_was_uploaded_loads_and_speaks(
    api: HfApi, workspace: Workspace, tmp_path: Path
) -> None:
    run = run_for()
    stage(run, workspace)
    local = api.snapshot_download(name_of(run), local_dir=tmp_path / "download")
    model = AutoModelForCausalLM.from_pretrained(local)
    tokenizer = AutoTokenizer.from_pretrained(local)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]


def test_the_card_has_the_results_and_the_plan_is_beside_it(
    api: HfApi, workspace: Workspace, tmp_path: Path
) -> None:
    run = run_for()
    stage(run, workspace)
    local = Path(api.snapshot_download(name_of(run), local_dir=tmp_path / "download"))
    card = ModelCard((local / "README.md").read_text())
    assert "| Base model | 3.5000 |" in card.text
    assert card.data.get("base_model") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    plan = json.loads((local / "finetune" / "run.json").read_text())
    assert Run.model_validate(plan) == run
    report = json.loads((local / "finetune" / "report.json").read_text())
    assert report["planHash"] == run.plan_hash
    assert report["train"]["steps"] == 5


def test_the_card_shows_the_curve_and_leads_to_the_report(
    api: HfApi, workspace: Workspace, tmp_path: Path
) -> None:
    run = run_for()
    stage(run, workspace)
    local = Path(api.snapshot_download(name_of(run), local_dir=tmp_path / "download"))
    links = re.findall(r"\]\((finetune/[^)]+)\)", (local / "README.md").read_text())
    assert {"finetune/loss.png", "finetune/report.html"} <= set(links)
    assert [link for link in links if not (local / link).exists()] == []
    report_page = (local / "finetune" / "report.html").read_text()
    assert name_of(run) in report_page
    assert "a row of the data" not in report_page


def test_without_a_report_there_is_a_commit_all_the_same(
    api: HfApi, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(page, "report_page", broken)
    run = run_for()
    _, result = stage(run, workspace)
    assert result["commit"]
    assert "finetune/report.html" not in api.list_repo_files(name_of(run))


def test_a_second_upload_makes_no_second_commit(api: HfApi, workspace: Workspace) -> None:
    run = run_for()
    _, first = stage(run, workspace)
    message, second = stage(run, workspace)
    assert second == first
    assert message.startswith("Already uploaded")
    assert len(commits(api, run)) == 2


def test_another_plan_is_another_commit(api: HfApi, workspace: Workspace) -> None:
    run = run_for()
    _, first = stage(run, workspace)
    _, second = stage(run.model_copy(update={"plan_hash": "another"}), workspace)
    assert second["commit"] != first["commit"]


def test_a_branch_is_made_and_main_left_alone(api: HfApi, workspace: Workspace) -> None:
    run = run_for(branch="candidates")
    _, result = stage(run, workspace)
    assert result["url"].endswith("/tree/candidates")
    assert commits(api, run, "candidates")[0] == result["commit"]
    assert "model.safetensors" not in api.list_repo_files(name_of(run))


def test_an_adapter_alone_lies_at_the_root_with_its_tokenizer(
    api: HfApi, workspace: Workspace
) -> None:
    run = run_for(artifacts=["Adapter"])
    stage(run, workspace)
    files = set(api.list_repo_files(name_of(run)))
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= files
    assert not files & {"config.json", "model.safetensors", "adapter/adapter_config.json"}


def test_weights_of_an_earlier_run_go_and_other_files_stay(
    api: HfApi, workspace: Workspace
) -> None:
    run = run_for()
    name = name_of(run)
    api.create_repo(name)
    for path in ("model-00001-of-00002.safetensors", "adapter_config.json", "notes.md", "m.gguf"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=path, repo_id=name)
    stage(run, workspace)
    files = set(api.list_repo_files(name))
    assert not files & {"model-00001-of-00002.safetensors", "adapter_config.json"}
    assert {"notes.md", "m.gguf", "model.safetensors"} <= files


def test_nothing_of_an_earlier_tokenizer_is_loaded_with_the_new_one(
    api: HfApi, workspace: Workspace
) -> None:
    run = run_for()
    name = name_of(run)
    api.create_repo(name)
    stale = (
        "added_tokens.json",
        "tokenizer.model",
        "additional_chat_templates/tools.jinja",
        "special_tokens_map.json",
    )
    kept = ("data/tokenizer.model", "vocabulary-notes.txt")
    for path in (*stale, *kept):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=path, repo_id=name)
    stage(run, workspace)
    files = set(api.list_repo_files(name))
    assert not files & set(stale) - {file.name for file in workspace.merged.iterdir()}
    assert {*kept, "tokenizer.json"} <= files


def test_a_lone_adapter_leaves_no_generation_settings_of_an_earlier_model(
    api: HfApi, workspace: Workspace
) -> None:
    run = run_for(artifacts=["Adapter"])
    name = name_of(run)
    api.create_repo(name)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="generation_config.json", repo_id=name)
    stage(run, workspace)
    assert "generation_config.json" not in api.list_repo_files(name)


def test_a_private_repository_is_made_private(api: HfApi, workspace: Workspace) -> None:
    run = run_for(private=True)
    stage(run, workspace)
    assert api.repo_info(name_of(run)).private


def test_nothing_private_goes_to_a_public_repository(api: HfApi, workspace: Workspace) -> None:
    run = run_for(private=True)
    api.create_repo(name_of(run), private=False)
    with pytest.raises(UserError, match="is public"):
        stage(run, workspace)
    assert "model.safetensors" not in api.list_repo_files(name_of(run))


def test_a_refused_token_says_what_to_correct(workspace: Workspace, set_token: SetToken) -> None:
    set_token("hf_expired")
    with pytest.raises(UserError, match=r"refused the token \(spec\.upload\.tokenSecretRef\)") as e:
        stage(run_for(), workspace)
    assert constants.ENDPOINT in str(e.value)
    assert "spec.rerunToken" in str(e.value)
    assert workspace.merged.is_dir()


def test_a_missing_token_says_what_to_set(workspace: Workspace, set_token: SetToken) -> None:
    set_token(None)
    with pytest.raises(UserError, match=r"spec\.upload\.tokenSecretRef"):
        stage(run_for(), workspace)


@pytest.mark.parametrize("which", ["read_token", "outsider_token"])
def test_a_token_without_the_right_to_write_names_the_repository(
    workspace: Workspace, set_token: SetToken, hub_server: HubServer, which: str
) -> None:
    set_token(getattr(hub_server, which))
    run = run_for(f"acme/{uuid.uuid4().hex[:8]}")
    with pytest.raises(UserError, match=f"may not write to {name_of(run)}"):
        stage(run, workspace)


@pytest.mark.parametrize("name", ["acme/a/b", "acme/two words", "acme/--", "acme/x.git"])
def test_a_name_that_no_repository_can_have_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UserError, match=r"spec\.upload\.repository"):
        stage(run_for(name), workspace)


@pytest.mark.parametrize(
    ("prefix", "status"), [("/api/models/{}/commit", 503), ("/xet/", 413)], ids=["commit", "xet"]
)
def test_a_hub_that_fails_or_is_busy_is_tried_again_later(
    api: HfApi, workspace: Workspace, hub_server: HubServer, prefix: str, status: int
) -> None:
    run = run_for()
    fault = {"prefix": prefix.format(name_of(run)), "status": status, "times": 50}

    def faults(method: str, body: bytes | None = None) -> None:
        request = Request(f"{hub_server.endpoint}/admin/faults", data=body, method=method)
        request.add_header("Authorization", f"Bearer {hub_server.write_token}")
        urlopen(request).close()

    faults("POST", json.dumps(fault).encode())
    try:
        with pytest.raises(RetryableError, match=f"answered {status} for the upload to "):
            stage(run, workspace)
    finally:
        faults("DELETE")
    stage(run, workspace)


def test_a_hub_that_cannot_be_reached_is_tried_again_later(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:9"):
        stage(run_for(), workspace)


def test_a_commit_that_came_in_between_is_built_upon(
    api: HfApi, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The moment between reading the head and committing cannot be hit from outside.
    run, real = run_for(), HfApi.create_commit
    rivals = iter([True, False])

    def late(self: HfApi, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        if next(rivals, False):
            rival = HfApi(endpoint=self.endpoint, token=self.token)
            monkeypatch.setattr(HfApi, "create_commit", real)
            rival.upload_file(path_or_fileobj=b"x", path_in_repo="rival.txt", repo_id=repo_id)
            monkeypatch.setattr(HfApi, "create_commit", late)
        return real(self, repo_id, *args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", late)
    stage(run, workspace)
    assert {"rival.txt", "model.safetensors"} <= set(api.list_repo_files(name_of(run)))


def test_the_verb_works_as_a_process_of_its_own_and_imports_no_torch(
    api: HfApi, workspace: Workspace, hub_server: HubServer, tmp_path: Path
) -> None:
    run = run_for()
    plan = tmp_path / "run.json"
    plan.write_text(run.model_dump_json(by_alias=True))
    code = (
        "import sys; from finetune_trainer.__main__ import main; status = main(['upload']);"
        "print('torch' in sys.modules); sys.exit(status)"
    )
    environment = {
        **os.environ,
        **hub_server.environment(tmp_path / "home"),
        "FINETUNE_RUN_FILE": str(plan),
        "FINETUNE_WORKSPACE": str(workspace.root),
        "FINETUNE_TERMINATION_LOG": str(tmp_path / "termination-log"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    said = json.loads((tmp_path / "termination-log").read_text())
    assert said["result"]["commit"] == commits(api, run)[0]
    workspace.result("upload").unlink()


@pytest.mark.parametrize("where", ["merged/NOTICE", "adapter/NOTICE"])
def test_a_link_out_of_the_workspace_is_not_published(
    workspace: Workspace, tmp_path: Path, where: str
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace.root, root)
    secret = tmp_path / "token"
    secret.write_text("hf_hush")
    (root / where).symlink_to(secret)
    with pytest.raises(UserError, match=r'NOTICE" in the workspace is a link to a file outside'):
        stage(run_for(), Workspace(root))


def test_a_link_within_the_workspace_is_published(
    api: HfApi, workspace: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace.root, root)
    (root / "merged" / "NOTICE").symlink_to(root / "model" / "config.json")
    run = run_for()
    stage(run, Workspace(root))
    assert "NOTICE" in api.list_repo_files(name_of(run))
