"""SIGTERM to a stage as a pod would get it: to the first process, with the stage at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unit.trainer.artifacts import EXAMPLE

PACKAGE = Path(__file__).parents[3] / "trainer-image"

# Blocks in the stage's own code, inside a handler that swallows whatever is raised.
CODE = """
import sys, time, types
from pathlib import Path
from finetune_trainer import __main__
def stage(run, workspace):
    while True:
        try:
            Path(sys.argv[2]).touch()
            time.sleep(60)
        except Exception:
            pass
package = types.ModuleType("slow")
package.stage = stage
sys.modules["slow"] = package
__main__.VERBS = {sys.argv[1]: "slow"}
sys.exit(__main__.main([sys.argv[1]]))
"""


@pytest.mark.parametrize("verb", ["prepare", "merge", "upload"])
def test_sigterm_ends_a_stage_at_once_with_the_code_that_costs_no_attempt(
    tmp_path: Path, verb: str
) -> None:
    started = tmp_path / "started"
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, verb, str(started)],
        env={
            **os.environ,
            "PYTHONPATH": str(PACKAGE),
            "FINETUNE_RUN_FILE": str(EXAMPLE),
            "FINETUNE_WORKSPACE": str(tmp_path / "workspace"),
            "FINETUNE_TERMINATION_LOG": str(tmp_path / "log"),
        },
    )
    try:
        while not started.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 13
    finally:
        process.kill()
    said = json.loads((tmp_path / "log").read_text())
    assert (said["stage"], said["outcome"]) == (verb, "Preempted")
    assert json.loads((tmp_path / "workspace" / "results" / f"{verb}.json").read_text()) == said
