"""The printed containers do the run, each as a process of its own in place of a pod, with
nothing but what the objects give them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.exported import Export, exported
from finetune_operator.core.model import Settings
from unit.cli.calls import ROOT
from unit.trainer.prepare.plans import questions, write_rows
from unit.trainer.tiny import write_tiny_model

Json = dict[str, Any]
DOCUMENT: Json = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "tiny"},
    "spec": {
        "model": {"source": "pvc://models/base"},
        "dataset": {"source": "pvc://data/rows.jsonl", "format": {"questionAnswer": {}}},
        "method": {"lora": {"rank": 4}},
        "training": {
            "maxSteps": 2,
            "sequencesPerStep": 2,
            "sequenceLength": 128,
            "precision": "Float32",
        },
    },
}


def run(job: Json, export: Export, node: Path) -> subprocess.CompletedProcess[str]:
    """What a kubelet does with a Job's container, as far as a process needs it."""
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]][:2] == [
        "/etc/finetune",
        "/workspace",
    ]
    (plan,) = (item for item in export.besides if item["kind"] == "ConfigMap")
    (node / "run.json").write_text(plan["data"]["run.json"])
    environment = {entry["name"]: entry.get("value", "0") for entry in container["env"]}
    places = {
        "FINETUNE_RUN_FILE": node / "run.json",
        "FINETUNE_WORKSPACE": node / "workspace",
        "FINETUNE_SOURCES": node / "sources",
        "FINETUNE_TERMINATION_LOG": node / "termination-log",
        "HF_HOME": node / "hf",
        "HOME": node,
        "PYTHONPATH": ROOT / "trainer-image",
        "OMP_NUM_THREADS": 1,
    }
    return subprocess.run(
        [sys.executable, "-m", "finetune_trainer", *container["args"]],
        env={**environment, **{name: str(value) for name, value in places.items()}},
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(180)
def test_the_stages_train_without_anybody_to_report_to(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "sources" / "model" / "base")
    write_rows(tmp_path / "sources" / "dataset" / "rows.jsonl", questions(8))
    (tmp_path / "workspace").mkdir()
    export = exported(DOCUMENT, Settings(trainer_image="trainer:1"))

    for job in export.jobs:
        ended = run(job, export, tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        said = json.loads((tmp_path / "termination-log").read_text())
        assert job["metadata"]["name"] == f"tiny-{said['stage']}-1"
        assert said["outcome"] == "Succeeded"
        assert "progress" not in ended.stderr

    assert said["stage"] == "train"
    assert (tmp_path / "workspace" / "adapter" / "adapter_model.safetensors").exists()
    assert (tmp_path / "workspace" / "report.html").read_text().rstrip().endswith("</html>")
