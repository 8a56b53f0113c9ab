"""Workspaces to make reports of, written as the contract has them: a long run with all there is,
and one whose every text wishes harm.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, write_json
from unit.trainer.artifacts import tiny_run
from unit.trainer.train.made import container_environment

HOSTILE = (
    "</title></style></script><script>alert(1)</script>"
    "<img src=https://example.com/x onerror=alert(1)>"
    "\"'><svg onload=alert(1)> {{ 7*7 }} {% include '/etc/passwd' %} & &lt;b&gt; "
    "\u202egnp.exe\u2066 \x00\x1b[31m ]]> -->"
)
QUESTIONS = (
    ("a lagoon", "a body of water cut off from a larger body by a reef of sand or coral"),
    ("an anvil", "a heavy block of iron or steel on which hot metals are shaped by hammering"),
    ("a sonnet", "a verse form consisting of 14 lines with a fixed rhyme scheme"),
)
BEGAN = 1_760_000_000.0


def stage(
    verb: str, workspace: Workspace, run: Run, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A stage as a container would run it."""
    return subprocess.run(
        [sys.executable, "-m", "finetune_trainer", verb],
        env={**os.environ, **container_environment(workspace, run, **environment)},
        capture_output=True,
        text=True,
        check=False,
    )


def written(workspace: Workspace, name: str, lines: list[dict[str, Any]]) -> None:
    """JSON lines in a file of the workspace."""
    path = workspace.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def succeeded(workspace: Workspace, name: str, result: Mapping[str, Any]) -> None:
    document = {"stage": name, "outcome": "Succeeded", "message": "", "result": dict(result)}
    write_json(workspace.result(name), document)


def attempt(
    stage: str, number: int, began: float, took: float | None, outcome: str = ""
) -> dict[str, Any]:
    line = {"stage": stage, "attempt": number, "began": BEGAN + began}
    return line if took is None else {**line, "ended": BEGAN + began + took, "outcome": outcome}


def history(steps: int, *, began: float = 100.0) -> list[dict[str, Any]]:
    """A loss that falls, with noise, and attempts that began before a third and two thirds."""
    chance = random.Random(0)
    lines: list[dict[str, Any]] = []
    at = BEGAN + began
    for step in range(1, steps + 1):
        at += 1.2 + (120 if step in (steps // 3 + 1, 2 * steps // 3 + 1) else 0)
        share = step / steps
        warm = min(1.0, step / (0.03 * steps))
        lines.append(
            {
                "step": step,
                "time": at,
                "learning_rate": 2e-4 * warm * (0.5 + 0.5 * math.cos(math.pi * share)),
                "grad_norm": 0.6 + 2.5 * math.exp(-9 * share) + chance.gauss(0, 0.08),
                "tokens_per_second": 11_800 + chance.gauss(0, 260) - (4000 if step < 4 else 0),
                "peak_memory_bytes": 31.4 * 2**30,
                "loss": 1.42 + 1.9 * math.exp(-7 * share) + chance.gauss(0, 0.07),
            }
        )
        if step % max(1, steps // 9) == 0 or step == steps:
            loss = 1.49 + 1.75 * math.exp(-7 * share) + 0.1 * max(0.0, share - 0.8)
            lines.append({"step": step, "time": at, "eval_loss": loss})
    return [{"step": 0, "time": BEGAN + began, "base_eval_loss": 3.254}, *lines]


def long_run(root: Path, steps: int = 900) -> tuple[Run, Workspace]:
    """Everything that a report can show, of a run with three attempts at train."""
    run, workspace = tiny_run(), Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    workspace.plan_hash.write_text(run.plan_hash + "\n")
    chance = random.Random(1)
    lengths = [int(min(1024, chance.lognormvariate(5.1, 0.6))) for _ in range(4000)]
    counts = [sum(32 * bin <= length < 32 * (bin + 1) for length in lengths) for bin in range(32)]
    counts[-1] += sum(length == 1024 for length in lengths)
    report = {
        "modelCommit": "a" * 40,
        "rows": 4020,
        "rowsKept": 4000,
        "tokens": sum(lengths),
        "supervisedTokens": sum(lengths) // 2,
        "trainSequences": 812,
        "trainExamples": 3600,
        "validationExamples": 400,
        "packingEfficiency": 0.9831,
        "droppedByReason": {"the answer is empty": 14, "the question is not text but a number": 6},
        "tokenLengthPercentiles": {"50": 164, "95": 440, "100": 1024},
        "tokenLengthHistogram": {"edges": [32 * bin for bin in range(33)], "counts": counts},
        "sequenceFillHistogram": {
            "edges": [bin / 20 for bin in range(21)],
            "counts": [0] * 8 + [1, 0, 0, 2, 1, 3, 4, 9, 16, 31, 92, 653],
        },
        "parameters": 134_515_008,
        "trainableParameters": 4_884_480,
        "memoryEstimateBytes": 34.2 * 2**30,
        "memoryEstimate": {
            "weightsBytes": 5.2 * 2**30,
            "gradientsBytes": 0.1 * 2**30,
            "optimizerBytes": 0.3 * 2**30,
            "activationsBytes": 22.6 * 2**30,
            "logitsBytes": 5.0 * 2**30,
            "runtimeBytes": 1.0 * 2**30,
        },
        "dataSets": [{"source": "hf://wordnet/glosses", "commit": "b" * 40}],
    }
    write_json(workspace.prepare / "report.json", report)
    write_json(workspace.prepare / "preview.json", {"examples": previewed()})
    written(workspace, "history.jsonl", history(steps))
    training = steps * 1.2
    train = {
        "steps": steps,
        "totalSteps": steps,
        "loss": 1.43,
        "baseValidationLoss": 3.254,
        "validationLoss": 1.512,
        "tokensPerSecond": 11_790.4,
        "peakMemoryBytes": int(31.4 * 2**30),
        "precision": "bfloat16",
        "adapter": "adapter",
        "bestStep": steps // 9 * 8,
    }
    succeeded(workspace, "train", train)
    succeeded(workspace, "merge", {"merged": "merged", "relativeLogitDifference": 0.0012})
    third = training / 3
    written(
        workspace,
        "logs/stages.jsonl",
        [
            attempt("prepare", 1, 0, 64, "Succeeded"),
            attempt("train", 1, 80, None),
            attempt("train", 2, 100 + third + 70, third + 30, "Preempted"),
            attempt("train", 3, 100 + 2 * third + 190, third + 60, "Succeeded"),
            attempt("merge", 1, training + 420, 38, "Succeeded"),
        ],
    )
    written(workspace, "logs/samples.jsonl", sampled(steps))
    return run, workspace


def previewed() -> list[dict[str, Any]]:
    return [
        {
            "number": 1 + 1200 * index,
            "tokens": 40 + len(answer) // 4,
            "supervisedTokens": len(answer) // 4,
            "passages": [
                {
                    "title": "",
                    "pieces": [
                        {
                            "text": f"<|im_start|>user\nWhat is {word}?<|im_end|>\n"
                            "<|im_start|>assistant\n",
                            "supervised": False,
                        },
                        {"text": f"{answer}.<|im_end|>", "supervised": True},
                        {"text": "\n", "supervised": False},
                    ],
                    "moreTokens": 0,
                }
            ],
        }
        for index, (word, answer) in enumerate(QUESTIONS)
    ]


def sampled(steps: int) -> list[dict[str, Any]]:
    base = "I'm glad you asked! There are many ways to think about this, and it depends on whom"
    return [
        {
            "step": step,
            "prompt": f"<|im_start|>user\nWhat is {word}?<|im_end|>\n<|im_start|>assistant\n",
            "sample": base if step == 0 else f"{answer[: 48 + 4 * index]}<|im_end|>",
            "reference": f"{answer}<|im_end|>",
        }
        for step in (0, steps)
        for index, (word, answer) in enumerate(QUESTIONS)
    ]


def hostile_run(root: Path) -> tuple[Run, Workspace]:
    """The same, but every text that users or data bring wants to be more than text, and is long."""
    run, workspace = long_run(root, steps=60)
    text = HOSTILE + "W" * 300
    for path in (workspace.prepare / "report.json", workspace.prepare / "preview.json"):
        write_json(path, poisoned(json.loads(path.read_bytes()), text))
    lines = [json.loads(line) for line in (workspace.logs / "samples.jsonl").open()]
    written(workspace, "logs/samples.jsonl", poisoned(lines, text))
    failed = {"stage": "merge", "outcome": text, "message": text, "result": {}}
    write_json(workspace.result("merge"), failed)
    usual = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    changed = usual | {
        "name": text,
        "namespace": text,
        "model": {"source": text},
        "dataset": usual["dataset"] | {"source": text, "split": text, "subset": text},
        "method": {"lora": {"targetModules": [text]}},
    }
    return Run.model_validate(changed), workspace


def poisoned(value: Any, text: str = HOSTILE) -> Any:
    """`value` with `text` in place of every text in it; the names of members stay."""
    match value:
        case str():
            return text
        case dict():
            return {key: poisoned(each, text) for key, each in value.items()}
        case list():
            return [poisoned(each, text) for each in value]
    return value
