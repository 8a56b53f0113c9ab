"""The stage as its container runs it: torch in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan

WITH_TORCH = 99
SCRIPT = f"""
import sys
from finetune_trainer.__main__ import main

code = main(["prepare"])
sys.exit({WITH_TORCH} if "torch" in sys.modules else code)
"""


def prepared(run: Run, workspace: Workspace, tmp_path: Path) -> tuple[int, str]:
    """Exit code and message of the stage in a fresh interpreter."""
    log = tmp_path / "termination-log"
    (tmp_path / "run.json").write_text(run.model_dump_json(by_alias=True))
    environment = {
        **os.environ,
        "FINETUNE_RUN_FILE": str(tmp_path / "run.json"),
        "FINETUNE_WORKSPACE": str(workspace.root),
        "FINETUNE_TERMINATION_LOG": str(log),
        "FINETUNE_CPUS": "2",
    }
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, check=False, stderr=subprocess.PIPE
    )
    # Neither what libraries tell their developers, nor a trace of what is the user's to correct.
    for noise in (b"Warning", b"Failed to load", b"Traceback"):
        assert noise not in ended.stderr, ended.stderr.decode()
    return ended.returncode, json.loads(log.read_text())["message"]


@pytest.mark.usefixtures("sources")
def test_the_process_that_tokenizes_does_without_torch(
    workspace: Workspace, tmp_path: Path
) -> None:
    code, message = prepared(plan(), workspace, tmp_path)
    assert (code, message[:25]) == (Outcome.SUCCEEDED, "Prepared 40 of 40 rows: 1")


@pytest.mark.usefixtures("sources")
def test_what_torch_finds_wrong_is_told_as_ever(workspace: Workspace, tmp_path: Path) -> None:
    run = plan(method={"lora": {"targetModules": ["q_porj"]}})
    code, message = prepared(run, workspace, tmp_path)
    assert code == Outcome.USER_ERROR
    assert message.startswith('spec.method.lora.targetModules names "q_porj"')
