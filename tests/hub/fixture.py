"""The pytest plug-in `hub.fixture`: a Hub in a process of its own for a test session.

Load it with `-p hub.fixture` or `pytest_plugins = ["hub.fixture"]`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WRITE_TOKEN = "hf_write_for_tests"
READ_TOKEN = "hf_read_for_tests"
OUTSIDER_TOKEN = "hf_outsider_for_tests"
TOKENS = {
    WRITE_TOKEN: {"name": "tester", "scope": "write"},
    READ_TOKEN: {"name": "reader", "scope": "read"},
    OUTSIDER_TOKEN: {"name": "outsider", "scope": "write", "orgs": []},
}
START_SECONDS = 20


@dataclass(frozen=True)
class HubServer:
    """A running Hub and what a client needs to talk to it."""

    endpoint: str
    root: Path
    log: Path
    token_file: Path
    pid: int
    write_token: str = WRITE_TOKEN
    read_token: str = READ_TOKEN
    outsider_token: str = OUTSIDER_TOKEN

    def api(self, token: str | bool | None = False) -> HfApi:
        """The real client; without a token it is anonymous, whatever the environment holds."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=token)

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Variables for a child process whose libraries shall talk only to this Hub."""
        variables = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # Else datasets counts each load at a fixed host, whatever HF_ENDPOINT says.
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return variables | ({"HF_TOKEN": token} if token else {})


@contextmanager
def running_hub(folder: Path, *options: str) -> Iterator[HubServer]:
    """Start `python -m hub serve` on a free loopback port; stop it whatever happens."""
    root, log, tokens = folder / "root", folder / "hub.log", folder / "tokens.json"
    tokens.write_text(json.dumps(TOKENS))
    command = [sys.executable, "-m", "hub", "serve", "--root", str(root), "--port", "0"]
    command += ["--tokens", str(tokens), *options]
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
        )
    try:
        yield HubServer(_endpoint(process, log), root, log, tokens, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if match := re.search(r"hub listens on (\S+)", log.read_text()):
            return match.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"the Hub did not start: {log.read_text().strip() or 'no output'}")


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """One Hub for the whole session."""
    with running_hub(tmp_path_factory.mktemp("hub")) as server:
        yield server
