"""Rows go through the stage as a stream: more of them take no more memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, write_rows

# 50 MB and more: the readers' buffers are full, and grow no further.
FEW, MANY = 16_000, 80_000
BESIDE = "x" * 3000
# Its tokens fill most of a sequence.
ANSWER = "0123456789" * 8
SCRIPT = """
import re, sys
from pathlib import Path
from finetune_trainer.__main__ import main

code = main(["prepare"])
# Of this program alone: what getrusage tells has also seen the one that started it. And without
# the pages of libraries, which are fewer where the disk was not read before.
status = Path("/proc/self/status").read_text()
peak, libraries = (
    int(re.search(rf"{name}:\\s+(\\d+) kB", status)[1]) for name in ("VmHWM", "RssFile")
)
print(peak - libraries)
sys.exit(code)
"""


def peak_bytes(count: int, sources: Path, root: Path) -> int:
    """Most memory of the process that reads and tokenizes `count` rows."""
    file = sources / "dataset" / "rows.jsonl"
    rows = ({"question": f"{n}?", "answer": ANSWER, "beside": BESIDE} for n in range(count))
    write_rows(file, rows)
    root.mkdir()
    run = root / "run.json"
    run.write_text(plan().model_dump_json(by_alias=True))
    environment = {
        **os.environ,
        "FINETUNE_RUN_FILE": str(run),
        "FINETUNE_WORKSPACE": str(Workspace(root / "workspace").root),
        "FINETUNE_TERMINATION_LOG": str(root / "termination-log"),
        # One process does it all.
        "FINETUNE_CPUS": "1",
    }
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    file.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((root / "termination-log").read_text())["result"]
    assert (result["rows"], result["rowsKept"]) == (count, count)
    return int(done.stdout.splitlines()[-1]) * 1024


@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_rows(sources: Path, tmp_path: Path) -> None:
    few = peak_bytes(FEW, sources, tmp_path / "few")
    many = peak_bytes(MANY, sources, tmp_path / "many")
    # Held, the rows would be 192 MB more, and their tokens 32. At the same rows peaks differ by 9.
    assert many - few < 13 * 2**20, (few, many)
