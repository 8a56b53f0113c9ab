"""An adapter that PEFT does not know is loaded by what is published with it, as its card says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from finetune_trainer.publish import stage
from finetune_trainer.run import Run
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace, write_json
from hub.fixture import HubServer
from unit.trainer.tiny import tiny_tokenizer
from unit.trainer.train.made import LABELLED_MODEL, labelled_documents, plan, prepared_workspace

ADAPTER: dict[str, Any] = {"adapter": {"reductionFactor": 4, "targetModules": ["self_attn", "mlp"]}}
IDS = [[5, 80, 17, 95, 3, 60, 41, 8]]


@pytest.fixture
def api(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HfApi:
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.endpoint)
    template = f"{hub_server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("FINETUNE_SECRETS", str(tmp_path / "secrets"))
    token = tmp_path / "secrets" / "upload" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(hub_server.write_token)
    return hub_server.api(hub_server.write_token)


def published(api: HfApi, run: Run, workspace: Workspace, name: str) -> Run:
    """Train `run` with the base on the Hub, and publish what it leaves as `tester/NAME`."""
    base = f"tester/{name}-base"
    tiny_tokenizer().save_pretrained(workspace.model)
    api.create_repo(base)
    commit = api.upload_folder(repo_id=base, folder_path=workspace.model)
    run = run.model_copy(
        update={
            "model": run.model.model_copy(update={"source": f"hf://{base}"}),
            "upload": run.upload
            and run.upload.model_copy(
                update={"repository": f"tester/{name}", "artifacts": ["Adapter"]}
            ),
        }
    )
    known = {"modelCommit": commit.oid}
    write_json(workspace.result("prepare"), {"outcome": "Succeeded", "result": known})
    if run.task.has_labels:
        labels = list(LABELLED_MODEL["id2label"].values())
        write_json(workspace.prepare / "report.json", {**known, "labels": labels})
    train(run, workspace, Stop())
    stage(run, workspace)
    return run


@pytest.mark.parametrize("task", ["Generation", "Classification"])
def test_the_cards_code_loads_it_where_there_is_only_peft(
    task: str, api: HfApi, hub_server: HubServer, tmp_path: Path
) -> None:
    if task == "Generation":
        run, workspace = plan(ADAPTER), prepared_workspace(tmp_path / "workspace")
        base = AutoModelForCausalLM.from_pretrained(workspace.model)
    else:
        run = plan(ADAPTER, task=task, packing=False)
        workspace = prepared_workspace(
            tmp_path / "workspace", examples=labelled_documents, **LABELLED_MODEL
        )
        base = AutoModelForSequenceClassification.from_pretrained(workspace.model)
    name = f"bottleneck-{task.lower()}"
    published(api, run, workspace, name)
    with torch.no_grad():
        tuned = PeftModel.from_pretrained(base, workspace.adapter).eval()
        expected = tuned(input_ids=torch.tensor(IDS)).logits
        with tuned.disable_adapter():
            assert not torch.equal(tuned(input_ids=torch.tensor(IDS)).logits, expected)

    card = ModelCard.load(api.hf_hub_download(f"tester/{name}", "README.md"))
    (block,) = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    code = (
        "import importlib.util; assert importlib.util.find_spec('finetune_trainer') is None\n"
        f"{block}\nimport sys, torch\n"
        f"torch.save(model(input_ids=torch.tensor({IDS})).logits.detach(), sys.argv[1])"
    )
    done = subprocess.run(
        # Isolated: nothing of this repository can be imported.
        [sys.executable, "-I", "-c", code, str(tmp_path / "logits.pt")],
        cwd=tmp_path,
        env={**os.environ, **hub_server.environment(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
