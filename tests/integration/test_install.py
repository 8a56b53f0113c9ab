"""`make cli`, as a person types it in a clone: from then on kubectl has the plug-in."""

from __future__ import annotations

import os
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import paths, tools
from integration.operator_process import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def scripts() -> Iterator[Path]:
    """Where the console scripts are; gone afterwards, like the gigabytes that they start."""
    # Beside the package cache, to link to it.
    with tempfile.TemporaryDirectory(dir=paths.cache(), prefix="cli-") as folder:
        scripts = Path(folder) / "bin"
        places = {"UV_TOOL_DIR": f"{folder}/tools", "UV_TOOL_BIN_DIR": str(scripts)}
        subprocess.run(["make", "cli"], cwd=ROOT, env={**os.environ, **places}, check=True)
        yield scripts


@pytest.fixture
def kubectl() -> Path:
    return tools.ensure("kubectl")


def test_make_cli_installs_the_plug_in_and_the_trainer(
    scripts: Path, kubectl: Path, tmp_path: Path
) -> None:
    def typed(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{scripts}:{kubectl.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert typed("kubectl", "finetune", "--version").stdout == f"{VERSION}\n"
    # The trainer is beside it: it looks for the model.
    sample = str(ROOT / "manifests" / "samples" / "pvc.yaml")
    claims = [f"--volume={claim}={tmp_path}" for claim in ("models", "datasets")]
    ended = typed("finetune", "run", sample, *claims, "--until=prepare")
    assert ended.stderr.startswith('error: spec.model.source names "qwen2.5-7b-instruct", which')
