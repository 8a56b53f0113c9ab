"""`make cli`, as a person types it in a clone: from then on kubectl has the plug-in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cluster import tools
from integration.operator_process import ROOT


def test_make_cli_installs_the_plug_in_and_the_trainer(tmp_path: Path) -> None:
    kubectl, scripts = tools.ensure("kubectl"), tmp_path / "bin"
    without_ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(scripts)}
    subprocess.run(["make", "cli"], cwd=ROOT, env={**without_ours, **places}, check=True)

    def typed(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{scripts}:{kubectl.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert typed("kubectl", "finetune", "--version").stdout == "0.1.0\n"
    # The trainer is beside it: it looks for the model.
    sample = str(ROOT / "manifests" / "samples" / "pvc.yaml")
    claims = [f"--volume={claim}={tmp_path}" for claim in ("models", "datasets")]
    ended = typed("finetune", "run", sample, *claims, "--until=prepare")
    assert ended.stderr.startswith('error: spec.model.source names "qwen2.5-7b-instruct", which')
