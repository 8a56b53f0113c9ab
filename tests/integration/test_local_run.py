"""`finetune run` as a person calls it, with the real trainer, a real tiny model and the test Hub:
to the end, and by way of a signal and a kill to the same end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetune_cli.errors import Exit
from hub.fixture import HubServer
from unit.trainer.prepare.plans import questions
from unit.trainer.tiny import write_tiny_model

ROOT = Path(__file__).parents[2]
REPOSITORY = "tester/local-run"
STEPS = 60
PATIENCE_SECONDS = 240.0
# Several processes that import torch, on a machine that does other things too.
pytestmark = pytest.mark.timeout(900)
Json = dict[str, Any]


class Desk:
    """A folder with a file to run, a model, and the command that pip would install."""

    def __init__(self, folder: Path, hub: HubServer) -> None:
        self.folder = folder
        self.hub = hub
        write_tiny_model(folder / "models" / "base")
        self.script = folder / "finetune"
        self.script.write_text("from finetune_cli.__main__ import main\nmain()\n")
        self.file = self.write("run.yaml", maxSteps=STEPS)

    def write(self, name: str, *, upload: bool = True, **training: Any) -> Path:
        rows = "".join(json.dumps(row) + "\n" for row in questions(60))
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}}
        run: Json = {
            "apiVersion": "finetune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tiny"},
            "spec": {
                "model": {"source": "pvc://models/base"},
                "dataset": {
                    "source": "configmap://rows/rows.jsonl",
                    "format": {"questionAnswer": {}},
                },
                "method": {"lora": {"rank": 4}},
                # More threads than free cores wait for each other at every operation.
                "resources": {"cpu": "1"},
                "training": {
                    "sequencesPerStep": 2,
                    "sequenceLength": 128,
                    "learningRate": "0.01",
                    "precision": "Float32",
                    "checkpoint": {"everySteps": 10},
                    **training,
                },
                "upload": {
                    "repository": REPOSITORY,
                    "tokenSecretRef": {"name": "hf-write"},
                },
            },
        }
        if not upload:
            del run["spec"]["upload"]
        file = self.folder / name
        file.write_text(yaml.safe_dump_all([{**data, "data": {"rows.jsonl": rows}}, run]))
        return file

    def start(self, workspace: str, *options: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.script), "run", str(self.file)]
        command += ["--workspace", str(self.folder / workspace)]
        command += ["--volume", f"models={self.folder / 'models'}", *options]
        home = self.hub.environment(self.folder / "hf", self.hub.write_token)
        paths = f"{ROOT / 'operator'}:{ROOT / 'trainer-image'}"
        return subprocess.Popen(
            command,
            env={**os.environ, **home, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, workspace: str, *options: str, **env: str) -> tuple[int, str, str]:
        process = self.start(workspace, *options, **env)
        out, err = process.communicate(timeout=4 * PATIENCE_SECONDS)
        return process.returncode, out, err

    def losses(self, workspace: str) -> dict[int, float]:
        try:
            text = (self.folder / workspace / "history.jsonl").read_text()
        except FileNotFoundError:
            return {}
        whole = text[: text.rfind("\n") + 1].splitlines()
        return {line["step"]: line["loss"] for line in map(json.loads, whole) if "loss" in line}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, hub_server: HubServer) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), hub_server)


@pytest.fixture(scope="module")
def whole(desk: Desk) -> tuple[int, str, str]:
    """A run that nothing has disturbed."""
    return desk.run("whole")


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_becomes_a_published_model(desk: Desk, whole: tuple[int, str, str]) -> None:
    code, out, err = whole
    assert (code, err) == (Exit.OK, "")
    lines = out.splitlines()
    assert lines[0] == "tiny: Preparing  prepare runs."
    assert any(line.startswith("tiny: Merging  merge runs.") for line in lines)
    root = desk.folder / "whole"
    shown = {line.split()[0]: line for line in lines[-4:]}
    assert shown.keys() == {"adapter", "merged", "published", "report"}
    assert str(root / "report.html") in shown["report"]
    assert REPOSITORY in (root / "report.html").read_text()
    model = AutoModelForCausalLM.from_pretrained(root / "merged")
    files = desk.hub.api(desk.hub.read_token).list_repo_files(REPOSITORY)
    assert {"model.safetensors", "finetune/report.html", "README.md"} <= set(files)
    published = desk.hub.api(desk.hub.read_token).hf_hub_download(
        REPOSITORY, "model.safetensors", cache_dir=desk.folder / "cache"
    )
    first = load_file(published)["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(first, model.model.layers[0].mlp.up_proj.weight.detach())


def test_a_finished_run_is_not_run_again(desk: Desk, whole: tuple[int, str, str]) -> None:
    before = (desk.folder / "whole" / "results" / "train.json").stat().st_mtime_ns
    code, out, _ = desk.run("whole")
    assert code == Exit.OK
    assert out.startswith("This run has ended already: --start-over does it again.\n")
    assert (desk.folder / "whole" / "results" / "train.json").stat().st_mtime_ns == before


def test_stopped_and_killed_it_comes_to_the_same_end(
    desk: Desk, whole: tuple[int, str, str]
) -> None:
    process = desk.start("broken", "--until", "merge")
    until(lambda: len(desk.losses("broken")) >= 5, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == Exit.INTERRUPTED
    assert err == "error: Suspended in train: run the same command again to go on.\n"
    stopped_at = len(desk.losses("broken"))
    assert stopped_at < STEPS
    assert (desk.folder / "broken" / "checkpoints" / f"step-{stopped_at}").is_dir()

    process = desk.start("broken", "--until", "merge")
    until(lambda: len(desk.losses("broken")) >= stopped_at + 5, process)
    stage = int((desk.folder / "broken" / "local" / "lock").read_text().split()[-1])
    process.kill()
    os.kill(stage, signal.SIGKILL)
    process.communicate()
    assert len(desk.losses("broken")) < STEPS

    code, out, err = desk.run("broken", "--until", "merge", "-o", "json")
    assert (code, err) == (Exit.OK, "")
    status = json.loads(out)["status"]
    assert status["phase"] == "Suspended"
    assert [(entry["name"], entry["attempt"]) for entry in status["stages"]] == [
        ("prepare", 1),
        ("train", 3),
        ("merge", 1),
        ("upload", 0),
    ]
    assert status.get("attempts", []) == []
    assert desk.losses("broken") == desk.losses("whole")
    tensors = [
        load_file(desk.folder / name / "adapter" / "adapter_model.safetensors")
        for name in ("whole", "broken")
    ]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


def test_several_processes_train_as_on_a_node(desk: Desk) -> None:
    desk.file, before = desk.write("two.yaml", upload=False, maxSteps=4), desk.file
    options = ("--gpus", "2", "-o", "json")
    code, out, err = desk.run("two", *options, FINETUNE_ALLOW_CPU="true")
    desk.file = before
    assert (code, err) == (Exit.OK, "")
    assert json.loads(out)["status"]["resolved"]["strategy"] == "DDP"
    assert len(list((desk.folder / "two" / "logs").glob("heartbeat-*.json"))) == 2
