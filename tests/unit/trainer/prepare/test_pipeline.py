"""Rows go through the stage as a stream: more of them take no more memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, write_rows

# 24 MB and more: two of the chunks that the reader takes at a time.
FEW, MANY = 8_000, 24_000
# Held, the rows of the larger would be 48 MB more, and their tokens 8; it may take 2 for counting.
LIMIT_BYTES = 4 << 20
BESIDE = "x" * 3000
# Its tokens fill most of a sequence.
ANSWER = "0123456789" * 8
SCRIPT = """
import sys, tracemalloc
import pyarrow
from finetune_trainer.__main__ import main
from finetune_trainer.prepare.loader import RowSource

def read_and_look(*given):
    rows = read(*given)
    print("peak", tracemalloc.get_traced_memory()[1])
    tracemalloc.reset_peak()  # the reader's chunks would hide what tokenizing takes
    return rows

read, RowSource.read = RowSource.read, read_and_look
tracemalloc.start()
code = main(["prepare"])
print("peak", tracemalloc.get_traced_memory()[1])
print("peak", pyarrow.default_memory_pool().max_memory())
sys.exit(code)
"""


class Peaks(NamedTuple):
    """Most bytes that were allocated at once, of what Python, NumPy and Arrow account for.

    Not what the system counts: that also depends on allocators, threads and the page cache.
    """

    reading: int
    tokenizing: int
    arrow: int


def peaks(count: int, sources: Path, root: Path) -> Peaks:
    """What it takes to read and to tokenize `count` rows."""
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
    return Peaks(*map(int, re.findall(r"^peak (\d+)$", done.stdout, re.MULTILINE)))


@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_rows(sources: Path, tmp_path: Path) -> None:
    few = peaks(FEW, sources, tmp_path / "few")
    many = peaks(MANY, sources, tmp_path / "many")
    for before, after in zip(few, many, strict=True):
        assert after - before < LIMIT_BYTES, (few, many)
